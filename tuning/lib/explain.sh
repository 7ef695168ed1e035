# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# explain: what the profiles say about a setting, and what folklore says that is refused.

declare -a X_KIND=() X_KEY=() X_LINE=()

# load_all: every line of every profile and of refused.conf, includes not followed: each is said where it stands.
load_all() {
    local path lines line number
    for path in "$PROFILES"/*.conf "$REFUSED_FILE"; do
        [ -f "$path" ] || continue
        mapfile -t lines <"$path"
        for line in "${lines[@]}"; do
            [[ ! $line =~ ^[[:space:]]*(#|$) && $line == *' | '* ]] || continue
            split_fields "$line"
            split_key "${FIELDS[0]}" || continue
            X_KIND+=("$KIND") X_KEY+=("$KEY") X_LINE+=("${path##*/} $line")
        done
    done
}

# explain_line N: one line.
explain_line() {
    local file=${X_LINE[$1]%% *} line=${X_LINE[$1]#* }
    split_fields "$line"
    if [ "$file" = "${REFUSED_FILE##*/}" ]; then
        wrap '  ' "refused: ${FIELDS[1]}"
        local why=${FIELDS[2]-} source=${FIELDS[3]-}
        wrap '    ' "why: $why"
        if [[ $why =~ ^As\ ([A-Za-z0-9_.-]*[A-Za-z0-9_]) ]]; then explain_other "${BASH_REMATCH[1]}" "$1"; fi
        wrap '    ' "source: $source"
        return
    fi
    wrap '  ' "profile ${file%.conf}: ${FIELDS[1]}"
    wrap '    ' "why: ${FIELDS[2]-}"
    wrap '    ' "effect: ${FIELDS[3]-}"
    wrap '    ' "source: ${FIELDS[4]-}"
    wrap '    ' "risk: ${FIELDS[5]-}"
    split_want "${FIELDS[1]}" || return 0
    if [ -z "$GUARD" ] && [[ $OP != in ]] && value_of "$WANT" literal && [ "$VALUE" != "$WANT" ]; then
        wrap '    ' "here: $VALUE"
    fi
}

# explain_other KEY N: line N says "as KEY": what is said there.
explain_other() {
    local n
    for n in "${!X_KEY[@]}"; do
        [[ $n != "$2" && ${X_LINE[n]} == "${REFUSED_FILE##*/} "* ]] && is_asked "$n" "$1" || continue
        split_fields "${X_LINE[n]#* }"
        wrap '    ' "$1: ${FIELDS[2]-}"
        return
    done
}

# likeness A B: how many threes of letters they share, into LIKENESS, in hundredths of the shorter one's.
likeness() {
    local a=$1 b=$2 i n=0 most
    for ((i = 0; i + 3 <= ${#a}; i++)); do
        [[ $b != *"${a:i:3}"* ]] || n=$((n + 1))
    done
    most=$((${#a} > ${#b} ? ${#a} : ${#b}))
    LIKENESS=$((most > 2 ? n * 100 / (most - 2) : 0))
}

suggest() {
    local asked=${1,,} n key best=() words=() score
    local -A seen=()
    asked=${asked##*[. ]}
    for n in "${!X_KEY[@]}"; do
        key=${X_KEY[n]}
        [ -z "${seen["$key"]+x}" ] || continue
        seen["$key"]=1
        likeness "$asked" "${key##*[./ ]}"
        score=$LIKENESS
        likeness "${1,,}" "$key"
        ((score >= LIKENESS)) || score=$LIKENESS
        ((score < 34)) || best+=("$((1000 - score)) $key")
    done
    ((${#best[@]} > 0)) || return 0
    mapfile -t words < <(printf '%s\n' "${best[@]}" | sort -n | head -n 5)
    say 'did you mean:'
    for key in "${words[@]}"; do say "  ${key#* }"; done
}

explain_list() {
    local n id files
    local -A where=()
    for n in "${!X_KEY[@]}"; do
        id="${X_KIND[n]} ${X_KEY[n]}" files=${X_LINE[n]%%.conf *}
        [[ " ${where["$id"]-} " == *" $files "* ]] || where["$id"]+="${where["$id"]:+ }$files"
    done
    # In the order of the files; each key once.
    for n in "${!X_KEY[@]}"; do
        id="${X_KIND[n]} ${X_KEY[n]}"
        [ -n "${where["$id"]}" ] || continue
        wrap '' "$id: ${where["$id"]}"
        where["$id"]=
    done
}

# general KEY: what is said of one device or of new ones is said of all; into GENERAL.
general() {
    GENERAL=$1
    if [[ $1 =~ ^(net\.ipv[46])\.(conf|neigh)\.[^.]+\.([a-z0-9_]+)$ ]]; then
        local all=all
        [ "${BASH_REMATCH[2]}" = conf ] || all=default
        GENERAL=${BASH_REMATCH[1]}.${BASH_REMATCH[2]}.$all.${BASH_REMATCH[3]}
    fi
}

# is_asked N ASKED: is line N that key, by its whole name or by its last part, or one below it? Programs spell the same word
# pids-limit, pids_limit and podPidsLimit: dashes, underscores and capitals do not count.
is_asked() {
    local key=${X_KEY[$1]//[-_]/} asked=${2//[-_]/}
    case "${X_KIND[$1]} ${key,,}" in
    "${asked,,}" | *" ${asked,,}" | *".${asked,,}" | *"/${asked,,}" | *" ${asked,,}."*) return 0 ;;
    esac
    return 1
}

# mentions ASKED: the lines in whose text its last part stands as a word, into MENTIONS; none where it is an everyday word.
declare -a MENTIONS=()
mentions() {
    local n word=${1##*[./ ]}
    MENTIONS=()
    [[ $word =~ ^[A-Za-z0-9_-]{3,}$ ]] || return 0
    for n in "${!X_LINE[@]}"; do
        [[ ! ${X_LINE[n]#* } =~ (^|[^A-Za-z0-9_-])"$word"($|[^A-Za-z0-9_-]) ]] || MENTIONS+=("$n")
    done
    ((${#MENTIONS[@]} <= 6)) || MENTIONS=()
}

# explain_found N: line N, under its key if that was not the last one's.
LAST_KEY=
explain_found() {
    if [ "$LAST_KEY" != "${X_KIND[$1]} ${X_KEY[$1]}" ]; then
        [ -z "$LAST_KEY" ] || printf '\n'
        LAST_KEY="${X_KIND[$1]} ${X_KEY[$1]}"
        say "$LAST_KEY"
        show_now "${X_KIND[$1]}" "${X_KEY[$1]}"
    fi
    explain_line "$1"
}

verb_explain() {
    local asked=${1%%=*} n found=()
    load_all
    if [ -z "$asked" ]; then
        explain_list
        return
    fi
    [[ $asked != /proc/sys/* ]] || { asked=${asked#/proc/sys/} && asked=${asked//\//.}; }
    general "$asked"
    for n in "${!X_KEY[@]}"; do
        if is_asked "$n" "$asked" || is_asked "$n" "$GENERAL"; then found+=("$n"); fi
    done
    if ((${#found[@]} == 0)); then
        mentions "$asked"
        ((${#MENTIONS[@]} == 0)) || complain "'$asked' has no line of its own; these speak of it:"
        found=("${MENTIONS[@]}")
    fi
    for n in "${found[@]}"; do explain_found "$n"; done
    if ((${#found[@]} == 0)); then
        complain "no profile speaks of '$asked'"
        suggest "$asked"
        return 2
    fi
}

show_now() {
    case $1 in
    sysctl) sysctl_path "$2" ;;
    sysfs | irq) PLACE=$2 ;;
    *) return 0 ;;
    esac
    places_of "$PLACE"
    if ((${#PLACES[@]} > 0)) && read_raw "$ROOT${PLACES[0]}"; then
        normal "${PLACES[0]}" "$RAW"
        wrap '  ' "now: $NORMAL"
    else
        wrap '  ' 'now: not on this machine'
    fi
}
