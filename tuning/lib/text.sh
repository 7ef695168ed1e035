# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# Words in and out: messages, wrapped lines, JSON, the record's encoding, reading a file, comparing numbers.
# What is called for each setting starts no process and gives its result in a variable of its own name's first part.

# To the standard error as it was at the start: a signal may come while that of some command is thrown away.
exec {STDERR}>&2
complain() { printf 'tune.sh: %s\n' "$*" >&"$STDERR"; }
die() {
    complain "$@"
    exit 2
}
say() { [ "$QUIET" = 1 ] || printf '%s\n' "$*"; }

# read_raw FILE: every byte up to a NUL into RAW. Fails when the file cannot be read. The subshell-free form of $(<FILE),
# and unlike that it keeps the last newline, so that what is written back later is the same to the byte.
RAW=
read_raw() {
    RAW=
    [ -f "$1" ] && [ -r "$1" ] || return 1
    { IFS= read -r -d '' RAW <"$1"; } 2>/dev/null || true
    # An empty file and one that refuses to be read (a link's speed while it is down) look alike: neither has a value.
    [ -n "$RAW" ]
}

# trim TEXT: runs of blanks become one space, those at the ends go; into TRIMMED.
TRIMMED=
trim() {
    local IFS=$' \t\n'
    set -f
    # shellcheck disable=SC2086  # it is to be split
    set -- $1
    set +f
    IFS=' '
    TRIMMED="$*"
}

# wrap INDENT TEXT: prints TEXT in lines of the terminal's width.
wrap() {
    local indent=$1 line='' word hang='  '
    local IFS=$' \t\n'
    set -f
    # shellcheck disable=SC2086  # it is to be split
    set -- $2
    set +f
    for word in "$@"; do
        if [ -n "$line" ] && ((${#indent} + ${#line} + ${#word} + 1 > WIDTH)); then
            printf '%s%s\n' "$indent" "$line"
            # Later lines hang, so that the words that open each item are found by eye.
            indent+=$hang hang=
            line=$word
        else
            line+=${line:+ }$word
        fi
    done
    [ -z "$line" ] || printf '%s%s\n' "$indent" "$line"
}

# json_text TEXT: TEXT as a JSON string into JSON_TEXT.
JSON_TEXT=
json_text() {
    local s=$1 out='' c i
    s=${s//\\/\\\\}
    s=${s//\"/\\\"}
    s=${s//$'\n'/\\n}
    s=${s//$'\t'/\\t}
    s=${s//$'\r'/\\r}
    if [[ $s == *[$'\001'-$'\037']* ]]; then
        for ((i = 0; i < ${#s}; i++)); do
            c=${s:i:1}
            [[ $c != [$'\001'-$'\037'] ]] || printf -v c '\\u%04x' "'$c"
            out+=$c
        done
        s=$out
    fi
    JSON_TEXT="\"$s\""
}

# encode TEXT: one word for the record, into ENCODED: blanks, newlines and % become %XX. Empty becomes %.
ENCODED=
encode() {
    local s=$1
    s=${s//%/%25}
    s=${s// /%20}
    s=${s//$'\t'/%09}
    s=${s//$'\n'/%0A}
    s=${s//$'\r'/%0D}
    ENCODED=${s:-%}
}

# decode WORD: the reverse, into DECODED.
DECODED=
decode() {
    local s=$1
    [ "$s" != % ] || s=
    s=${s//%0D/$'\r'}
    s=${s//%0A/$'\n'}
    s=${s//%09/$'\t'}
    s=${s//%20/ }
    DECODED=${s//%25/%}
}

UNLIMITED=999999999999999999999999999999

# at_least A B: are these decimal numbers, and A >= B? They may be longer than 64 bits, and "unlimited" is the longest.
at_least() {
    local a=$1 b=$2
    case $a in unlimited | infinity) a=$UNLIMITED ;; esac
    case $b in unlimited | infinity) b=$UNLIMITED ;; esac
    [[ $a =~ ^-?[0-9]+$ && $b =~ ^-?[0-9]+$ ]] || return 1
    if [[ $a == -* || $b == -* ]]; then
        [[ $a == -* ]] || return 0
        [[ $b == -* ]] || return 1
        local swap=${a#-}
        a=${b#-} b=$swap
    fi
    while [[ $a == 0?* ]]; do a=${a#0}; done
    while [[ $b == 0?* ]]; do b=${b#0}; done
    ((${#a} == ${#b})) || { ((${#a} > ${#b})) && return 0 || return 1; }
    # As long as each other, without leading zeros: the order of the texts is that of the numbers.
    # shellcheck disable=SC2071
    [[ $a == "$b" || $a > "$b" ]]
}

# count_of LIST: how many numbers a kernel list such as 0-3,8 names, into COUNT.
COUNT=0
count_of() {
    local part
    local IFS=$', \t\n'
    COUNT=0
    for part in $1; do
        if [[ $part =~ ^([0-9]{1,7})-([0-9]{1,7})$ ]]; then
            COUNT=$((COUNT + 10#${BASH_REMATCH[2]} - 10#${BASH_REMATCH[1]} + 1))
        elif [[ $part =~ ^[0-9]{1,7}$ ]]; then
            COUNT=$((COUNT + 1))
        fi
    done
}
