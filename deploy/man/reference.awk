# docs/configuration.md, which is made from the table of keys, as the body of sluice.yaml(5). It knows the Markdown that
# config_reference.c writes: headings, paragraphs, one kind of table, fenced blocks; anything else is an error, so that
# nothing is lost unseen. Usage: awk -v version=V -v date=YYYY-MM-DD -f reference.awk docs/configuration.md

function fail(words) {
    print "reference.awk: line " FNR ": " words > "/dev/stderr"
    failed = 1
    exit 1
}

# Text into roff: code and bold in bold, links as their text, nothing read as a request.
function roff(text,    out, at, rest) {
    gsub(/\\\|/, "|", text)
    gsub(/\\/, "\\e", text)
    gsub(/\*\*/, "`", text)
    while (match(text, /\[[^]`]*\]\([^)]*\)/)) {
        rest = substr(text, RSTART + RLENGTH)
        at = substr(text, RSTART + 1, RLENGTH - 1)
        sub(/\]\(.*/, "", at)
        if (at == "Its keys")
            at = "Its keys are below"
        text = substr(text, 1, RSTART - 1) at rest
    }
    gsub(/-/, "\\-", text)
    gsub(/–/, "\\(en", text)
    gsub(/×/, "\\(mu", text)
    gsub(/÷/, "\\(di", text)
    gsub(/…/, "\\&...", text)
    gsub(/~/, "\\(ti", text)
    gsub(/\^/, "\\(ha", text)
    out = ""
    while ((at = index(text, "`")) > 0) {
        rest = substr(text, at + 1)
        if ((RSTART = index(rest, "`")) == 0)
            fail("a ` without its end")
        out = out substr(text, 1, at - 1) "\\fB" substr(rest, 1, RSTART - 1) "\\fP"
        text = substr(rest, RSTART + 1)
    }
    return out text
}

# A line of its own may not begin with a control character.
function line(text) {
    if (text ~ /^[.']/)
        text = "\\&" text
    print text
}

function begin_paragraph() {
    if (!is_under_heading)
        print ".PP"
    is_under_heading = 0
}

function end_paragraph() {
    if (paragraph != "") {
        begin_paragraph()
        line(roff(paragraph))
    }
    paragraph = ""
}

# | `key` | type | default | bounds | what it does |
function row(text,    n, cell, i, about) {
    gsub(/\\\|/, "\001", text)
    n = split(text, cell, /[ ]*\|[ ]*/)
    if (n != 7)
        fail("a row of " n - 2 " cells")
    for (i = 1; i <= n; i++)
        gsub(/\001/, "|", cell[i])
    about = cell[3]
    if (cell[4] == "**required**")
        about = about "; required"
    else if (cell[4] != "")
        about = about "; default " cell[4]
    if (cell[5] != "")
        about = about "; " cell[5]
    print ".TP"
    line(roff(cell[2]) " (" roff(about) ")")
    line(roff(cell[6]))
}

BEGIN {
    print ".\\\" Made from docs/configuration.md"
    print ".TH SLUICE.YAML 5 " date " \"sluice " version "\" \"File formats\"\n.nh\n.ad l"
    print ".SH NAME\nsluice.yaml \\- the configuration of sluice"
    print ".SH SYNOPSIS\n.B /etc/sluice/sluice.yaml"
    print ".SH DESCRIPTION"
    is_under_heading = 1
}

/^```/ {
    end_paragraph()
    if (!in_block)
        begin_paragraph()
    print in_block ? ".EE\n.RE" : ".RS 4\n.EX"
    in_block = !in_block
    next
}
in_block {
    gsub(/\\/, "\\e")
    gsub(/-/, "\\-")
    line($0)
    next
}
/^# / { next }
/^## / {
    end_paragraph()
    sub(/^## /, "")
    if (!has_keys)
        print ".SH KEYS"
    has_keys = 1
    gsub(/`/, "")
    print ".SS \"" roff($0) "\""
    is_under_heading = 1
    next
}
/^\| key \| type \| default \| bounds \| what it does \|$/ || /^\|---/ { end_paragraph(); next }
/^\|/ { row($0); next }
/^This page is made from/ { next }
/^[ ]*$/ { end_paragraph(); next }
/^([-*>+#] |[0-9]+\. |    )/ { fail("unknown Markdown: " $0) }
{ paragraph = paragraph (paragraph == "" ? "" : " ") $0 }

END {
    if (!failed) {
        end_paragraph()
        if (in_block)
            fail("a block without its end")
        print ".SH SEE ALSO\n.BR sluice (1),\n.BR sluice\\-sim (1)"
    }
}
