# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# Profiles: data files, one setting a line.
#
#   kind key | want | why | effect | source | risk
#
#   kind     sysctl, limit, sysfs, irq, ethtool, service, docker; cmdline and file are advice only; "advise" before any
#            other makes it so. The key is the rest of the field; sysfs and irq take a path that may hold * ? [ ].
#   want     [{guard}] [operator] value. Operators: = (or none), >=, <=, and "in a b c" (any of these; the first that the
#            machine offers is written). >= and <= compare number by number and never make a setting worse. Values are
#            formulas (see formula.sh), words, "quoted text", cpumask(n), cpubit(n), cpulist(from,to). Sizes take K M G.
#            memlock and the other limits of memory are in bytes. In a pattern's value, index is the number that its last * met.
#   guard    a formula, such as {host}, {!container}, {numa_nodes > 1}, {kernel >= 5015}.
#   include NAME takes another profile's lines first. A later line for the same kind and key takes the earlier one's
#   place, unless its guard does not hold. "drop kind key" removes one.
#
# refused.conf:   kind key | the value that folklore repeats | why it is refused | source

KINDS=' sysctl limit sysfs irq ethtool service docker cmdline file '
LIMITS=' as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio sigpending stack '

declare -a S_KIND=() S_KEY=() S_ADVICE=() S_GUARD=() S_OP=() S_VALUE=() S_WHY=() S_EFFECT=() S_SOURCE=() S_RISK=() \
    S_FROM=() S_LINE=() S_HOLDS=() S_RESULT=()
declare -A S_AT=()
declare -a PROFILE_ERRORS=()
declare -A SEEN_HERE=()

# split_fields LINE: at " | " into FIELDS, trimmed at the ends.
declare -a FIELDS=()
split_fields() {
    local line=${1// | /$'\037'} field i
    local IFS=$'\037'
    set -f
    # shellcheck disable=SC2206  # it is to be split
    FIELDS=($line)
    set +f
    for i in "${!FIELDS[@]}"; do
        field=${FIELDS[i]}
        [[ $field == [[:space:]]* || $field == *[[:space:]] ]] || continue
        field=${field#"${field%%[![:space:]]*}"}
        FIELDS[i]=${field%"${field##*[![:space:]]}"}
    done
}

# split_key FIELD: into KIND, KEY, ADVICE; fails with a word in PROBLEM.
PROBLEM=
split_key() {
    local field=$1
    ADVICE=0
    if [[ $field == 'advise '* ]]; then
        ADVICE=1
        field=${field#advise }
    fi
    KIND=${field%%' '*} KEY=${field#* }
    if [[ $KINDS != *" $KIND "* ]]; then
        PROBLEM="'$KIND' is not a kind of setting"
    elif [ "$KEY" = "$field" ] || [ -z "$KEY" ]; then
        PROBLEM="$KIND: there is no key"
    elif [[ $KIND == sysctl && ! $KEY =~ ^[A-Za-z0-9_*][A-Za-z0-9_./*@:-]*$ || $KEY == *..* ]]; then
        PROBLEM="'$KEY' is not a key of sysctl"
    elif [[ $KIND == limit && $LIMITS != *" $KEY "* ]]; then
        PROBLEM="'$KEY' is not a limit"
    elif [[ $KIND == sysfs && $KEY != /sys/* || $KIND == irq && ! $KEY =~ ^/(sys|proc/irq)/ ]]; then
        PROBLEM="$KIND: '$KEY' is not a path below /sys"
    elif [[ $KIND == docker && ! $KEY =~ ^[A-Za-z0-9_.-]+$ ]]; then
        PROBLEM="'$KEY' is not a key of daemon.json"
    else
        # Interrupts that the kernel manages refuse any affinity, and which ones those are is not told beforehand.
        case $KIND:$KEY in
        cmdline:* | file:* | irq:/proc/irq/*) ADVICE=1 ;;
        ethtool:rx | ethtool:tx) ;;
        ethtool:*) ADVICE=1 ;;
        esac
        return 0
    fi
    return 1
}

# split_want FIELD: into GUARD, OP, WANT.
split_want() {
    local field=$1
    GUARD=
    if [[ $field =~ ^\{([^}]*)\}[[:space:]]*(.*)$ && $field != '{"'* ]]; then
        GUARD=${BASH_REMATCH[1]} field=${BASH_REMATCH[2]}
    fi
    OP='='
    if [[ $field =~ ^(>=|<=|=|in[[:space:]])[[:space:]]*(.*)$ ]]; then
        OP=${BASH_REMATCH[1]} WANT=${BASH_REMATCH[2]}
    else
        WANT=$field
    fi
    OP=${OP%%[[:space:]]*}
    [ -n "$WANT" ] || {
        PROBLEM='there is no value'
        return 1
    }
}

wrong() { PROFILE_ERRORS+=("$1:$2: $3"); }

# remember FROM NUMBER: the line that is in FIELDS.
remember() {
    local from=$1 holds=1 id status=0
    split_key "${FIELDS[0]}" || return 1
    split_want "${FIELDS[1]}" || return 1
    id="$KIND $KEY"
    if [ -n "$GUARD" ]; then
        guard_holds "$GUARD" || status=$?
        if ((status == 2)); then
            PROBLEM="{$GUARD}: $FORMULA_ERROR"
            return 1
        fi
        holds=$((status == 0))
    fi
    if [ -n "${SEEN_HERE["$from/$id/$GUARD"]+x}" ]; then
        PROBLEM="$id is here twice"
        return 1
    fi
    SEEN_HERE["$from/$id/$GUARD"]=1
    if [ -n "${S_AT[$id]-}" ] && [ "$holds" = 0 ]; then return 0; fi
    local at=${S_AT[$id]:-${#S_FROM[@]}}
    S_AT[$id]=$at
    S_KIND[at]=$KIND S_KEY[at]=$KEY S_ADVICE[at]=$ADVICE S_GUARD[at]=$GUARD S_OP[at]=$OP S_VALUE[at]=$WANT
    S_WHY[at]=${FIELDS[2]} S_EFFECT[at]=${FIELDS[3]} S_SOURCE[at]=${FIELDS[4]} S_RISK[at]=${FIELDS[5]}
    S_FROM[at]=$from S_LINE[at]=$2 S_HOLDS[at]=$holds
}

# profile_path NAME [FOLDER]: a file of that name beside the one that includes it comes first.
profile_path() {
    if [[ $1 == */* ]]; then
        PROFILE_PATH=$1
    elif [ -n "${2-}" ] && [ -f "$2/$1.conf" ]; then
        PROFILE_PATH=$2/$1.conf
    else
        PROFILE_PATH=$PROFILES/$1.conf
    fi
}

# wrong_profile NAME PATH WHERE: it is not there; WHERE is the line that includes it, if one does.
wrong_profile() {
    local file names=()
    for file in "$PROFILES"/*.conf; do
        file=${file##*/}
        [ "$file" = common.conf ] || names+=("${file%.conf}")
    done
    PROFILE_ERRORS+=("$3$1: there is no such profile ($2); there are: ${names[*]}, or the path of a file")
}

# load_profile NAME [CHAIN FOLDER WHERE]: adds its settings; what is wrong goes to PROFILE_ERRORS.
load_profile() {
    local name=$1 chain=${2-} line number=0 lines=() path short
    profile_path "$name" "${3-}"
    path=$PROFILE_PATH short=${PROFILE_PATH##*/}
    if [[ $chain == *"|$path|"* ]]; then
        PROFILE_ERRORS+=("${4-}$name includes itself")
        return 0
    fi
    [ -f "$path" ] && [ -r "$path" ] || {
        wrong_profile "$name" "$path" "${4-}"
        return 0
    }
    mapfile -t lines <"$path"
    for line in "${lines[@]}"; do
        number=$((number + 1))
        [[ ! $line =~ ^[[:space:]]*(#|$) ]] || continue
        if [[ $line =~ ^include[[:space:]]+([^[:space:]|]+)[[:space:]]*$ ]]; then
            load_profile "${BASH_REMATCH[1]}" "$chain|$path|" "${path%/*}" "$short:$number: "
        elif [[ $line =~ ^drop[[:space:]]+([a-z]+)[[:space:]]+(.*[^[:space:]])[[:space:]]*$ ]]; then
            local id="${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
            local at=${S_AT[$id]-}
            if [ -n "$at" ]; then
                S_KIND[at]=
                S_AT[$id]=
            else
                wrong "$short" "$number" "drop: there is no $id"
            fi
        else
            split_fields "$line"
            if ((${#FIELDS[@]} != 6)); then
                wrong "$short" "$number" "${#FIELDS[@]} fields, not 6: kind key | want | why | effect | source | risk"
            elif [ -z "${FIELDS[2]}" ] || [ -z "${FIELDS[3]}" ] || [ -z "${FIELDS[4]}" ]; then
                wrong "$short" "$number" "why, effect and source are not to be empty"
            else
                remember "$short" "$number" || wrong "$short" "$number" "$PROBLEM"
            fi
        fi
    done
}

# load_checked NAME: the profile, or the end of the program with what is wrong in it.
load_checked() {
    local error
    S_KIND=() S_KEY=() S_FROM=() S_RESULT=() S_AT=() PROFILE_ERRORS=() SEEN_HERE=()
    load_profile "$1"
    ((${#PROFILE_ERRORS[@]} == 0)) || {
        for error in "${PROFILE_ERRORS[@]}"; do complain "$error"; done
        exit 2
    }
    local i
    for i in "${!S_KIND[@]}"; do
        [ -n "${S_KIND[i]}" ] || continue
        wanted "$i" || die "${S_FROM[i]}:${S_LINE[i]}: ${S_KIND[i]} ${S_KEY[i]}: $FORMULA_ERROR"
    done
}

# wanted I: the setting's value for this machine into VALUE. For "in" it stays a list of words.
wanted() {
    local literal=
    if [ -n "${S_RESULT[$1]+x}" ]; then
        VALUE=${S_RESULT[$1]}
        return 0
    fi
    case ${S_KIND[$1]} in cmdline | service | irq) literal=literal ;; esac
    case ${S_OP[$1]} in
    in) VALUE=${S_VALUE[$1]} ;;
    *)
        value_of "${S_VALUE[$1]}" "$literal" || return 1
        if [[ ${S_OP[$1]} != '=' && ! $VALUE =~ ^(unlimited|-?[0-9]+)(' '-?[0-9]+)*$ ]]; then
            FORMULA_ERROR="${S_OP[$1]} needs numbers, not '$VALUE'"
            return 1
        fi
        ;;
    esac
    if [[ ${S_KIND[$1]} == limit && ! $VALUE =~ ^(unlimited|-?[0-9]+)$ ]]; then
        FORMULA_ERROR="a limit is a number or unlimited, not '$VALUE'"
        return 1
    fi
    [[ ${S_VALUE[$1]} == *index* ]] || S_RESULT[$1]=$VALUE
}

# is_setting I: not one that was dropped, nor one that --only leaves out.
is_setting() {
    [ -n "${S_KIND[$1]-}" ] || return 1
    # shellcheck disable=SC2053  # it is a pattern
    [[ -z $ONLY || "${S_KIND[$1]} ${S_KEY[$1]}" == $ONLY || ${S_KEY[$1]} == $ONLY ]]
}
