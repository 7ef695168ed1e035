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

# says N: one line.
explain_line() {
    local file=${X_LINE[$1]%% *} line=${X_LINE[$1]#* }
    split_fields "$line"
    if [ "$file" = "${REFUSED_FILE##*/}" ]; then
        wrap '  ' "refused: ${FIELDS[1]}"
        wrap '    ' "why: ${FIELDS[2]-}"
        wrap '    ' "source: ${FIELDS[3]-}"
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

verb_explain() {
    local asked=$1 n found=0 last=''
    load_all
    if [ -z "$asked" ]; then
        explain_list
        return
    fi
    for n in "${!X_KEY[@]}"; do
        case "${X_KIND[n]} ${X_KEY[n]}" in
        "$asked" | *" $asked" | *".$asked" | *"/$asked") ;;
        *) continue ;;
        esac
        if [ "$last" != "${X_KIND[n]} ${X_KEY[n]}" ]; then
            [ "$found" = 0 ] || printf '\n'
            last="${X_KIND[n]} ${X_KEY[n]}"
            say "$last"
            show_now "${X_KIND[n]}" "${X_KEY[n]}"
        fi
        found=1
        explain_line "$n"
    done
    if [ "$found" = 0 ]; then
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
