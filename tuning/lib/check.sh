# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# check: what is now, what is wanted, why, and what it does.

declare -A MARKS=([ok]='ok' [finding]='!!' [advice]='advice' [absent]='not here' [host]='host' [skipped]='skipped'
    [broken]='??')

# row MARK KEY NOW WANT: one line where it fits, else the key on a line of its own.
row() {
    local mark=$1 key=$2 now=$3 want=$4 width=$((WIDTH - 10 - 34))
    if ((WIDTH >= 76 && ${#key} <= width && ${#now} <= 16 && ${#want} <= 15)); then
        printf '%-9s %-*s %-16s  %s\n' "$mark" "$width" "$key" "$now" "$want"
    else
        printf '%-9s %s\n' "$mark" "$key"
        wrap '          ' "now ${now:--}, wanted $want"
    fi
}

explain_row() {
    local i=$1
    if [ -n "$J_NOTE" ]; then wrap '          ' "note: $J_NOTE"; fi
    case $J_STATE in
    ok | absent | skipped) [ "$VERBOSE" = 1 ] || return 0 ;;
    esac
    wrap '          ' "why: ${S_WHY[i]}"
    wrap '          ' "effect: ${S_EFFECT[i]}"
    if [ "$VERBOSE" = 1 ]; then
        [ -z "${S_RISK[i]}" ] || wrap '          ' "risk: ${S_RISK[i]}"
        wrap '          ' "source: ${S_SOURCE[i]}"
    fi
}

json_row() {
    local i=$1 name text
    printf '%s    {' "$JSON_COMMA"
    JSON_COMMA=$',\n'
    for name in kind:"${S_KIND[i]}" key:"${S_KEY[i]}" state:"$J_STATE" now:"$J_NOW" wanted:"$J_WANT" note:"$J_NOTE" \
        why:"${S_WHY[i]}" effect:"${S_EFFECT[i]}" source:"${S_SOURCE[i]}" risk:"${S_RISK[i]}" profile:"${S_FROM[i]%.conf}"; do
        text=${name#*:} name=${name%%:*}
        json_text "$text"
        [ "$name" = kind ] || printf ', '
        printf '"%s": %s' "$name" "$JSON_TEXT"
    done
    printf '}'
}

verb_check() {
    local i state total=0 order
    local -A counts=([ok]=0 [finding]=0 [advice]=0 [absent]=0 [host]=0 [skipped]=0 [broken]=0)
    record_read
    load_checked "$PROFILE"
    machine_words
    if [ "$JSON" = 1 ]; then
        json_text "$PROFILE"
        printf '{\n  "profile": %s,\n  "machine": {' "$JSON_TEXT"
        state=
        for order in "${!VARIABLES[@]}"; do
            printf '%s"%s": %s' "$state" "$order" "${VARIABLES[$order]}"
            state=', '
        done
        printf '},\n  "settings": [\n'
        JSON_COMMA=
    else
        wrap '' "profile $PROFILE: $MACHINE_WORDS"
        row state setting now wanted
    fi
    for i in "${!S_KIND[@]}"; do
        is_setting "$i" || continue
        total=$((total + 1))
        judge "$i"
        boot_note "$i"
        counts[$J_STATE]=$((counts[$J_STATE] + 1))
        note_target
        if [ "$JSON" = 1 ]; then
            json_row "$i"
        elif [[ $QUIET == 0 || $J_STATE == finding || $J_STATE == broken ]]; then
            row "${MARKS[$J_STATE]}" "${S_KEY[i]}" "$J_NOW" "$J_WANT"
            explain_row "$i"
        fi
    done
    if [ "$JSON" = 1 ]; then
        printf '\n  ],\n  "counts": {'
        state=
        for order in ok finding advice absent host skipped broken; do
            printf '%s"%s": %s' "$state" "$order" "${counts[$order]}"
            state=', '
        done
        printf '}\n}\n'
    else
        check_summary
    fi
    ((counts[broken] == 0)) || return 2
    ((counts[finding] == 0)) || return 1
}

check_summary() {
    wrap '' "$total settings: ${counts[ok]} as wanted, ${counts[finding]} to be changed, ${counts[advice]} advised,\
 ${counts[host]} the host's, ${counts[absent]} not here, ${counts[skipped]} not for this machine"
    if [ -n "$R_STATE" ] && [ "$R_STATE" != applied ]; then
        wrap '' "an apply or revert was cut short: 'revert' or 'apply' finishes it"
    fi
    if ((counts[finding] > 0)); then
        wrap '' "'plan' shows what 'apply' would write"
    fi
}
