# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# What each setting is now, what it should be, and what is to be written. judge I gives:
#
#   J_STATE   ok, finding, advice (not met, but never written), absent (this machine has no such thing), host (not met,
#             and the host's, seen from a container), skipped (its guard does not hold), broken (cannot be understood)
#   J_NOW, J_WANT, J_NOTE      for people
#   J_PATHS, J_RAWS, J_TARGETS the places to write: path without ROOT, its bytes now, the target, which is empty when
#             what was there before this script first wrote is as wanted
#   J_BASE, J_TARGET           the same for what has no place of its own: limits, ethtool, irqbalance, docker
#
# Targets are worked out from what the record says was there before, not from what is there now: then applying twice, or
# another profile, gives the same as applying once to the untouched machine.

declare -a J_PATHS=() J_RAWS=() J_TARGETS=() J_NOWS=()
J_STATE='' J_NOW='' J_WANT='' J_NOTE='' J_BASE='' J_TARGET='' J_MODULE=''

# sysctl_path KEY: into PLACE. As sysctl does it: dots and slashes change places, unless a slash comes first.
PLACE=
sysctl_path() {
    local key=$1 first
    first=${key%%[./]*}
    if [ "${key:${#first}:1}" != / ]; then
        key=${key//./$'\037'}
        key=${key////.}
        key=${key//$'\037'//}
    fi
    PLACE=/proc/sys/$key
}

# normal PATH RAW: the value as it is compared, into NORMAL.
NORMAL=
normal() {
    trim "$2"
    NORMAL=$TRIMMED
    case $1 in
    *_cpus | */smp_affinity)
        NORMAL=${NORMAL//,/}
        while [[ $NORMAL == 0?* ]]; do NORMAL=${NORMAL#0}; done
        NORMAL=${NORMAL,,}
        ;;
    *)
        if [[ $NORMAL =~ (^|' ')\[([^]' ']+)\]('$'|' '|$) ]]; then NORMAL=${BASH_REMATCH[2]}; fi
        ;;
    esac
}

# offers PATH RAW: what can be chosen there, into OFFERED; empty when the kernel does not tell.
OFFERED=
offers() {
    OFFERED=
    trim "$2"
    if [[ $TRIMMED =~ (^|' ')\[[^]' ']+\](' '|$) ]]; then
        OFFERED=${TRIMMED//[\[\]]/}
        return
    fi
    case $1 in
    /proc/sys/net/ipv4/tcp_congestion_control) one /proc/sys/net/ipv4/tcp_available_congestion_control ;;
    */scaling_governor) one "${1%/*}/scaling_available_governors" ;;
    */energy_performance_preference) one "${1%/*}/energy_performance_available_preferences" ;;
    *) return ;;
    esac && OFFERED=$TRIMMED || true
}

# better OP WANT NOW: is NOW as wanted? What should be there is in BETTER either way.
BETTER=
better() {
    local operator=$1 i ok=0
    local IFS=' '
    local wants nows
    read -r -a wants <<<"$2"
    read -r -a nows <<<"$3"
    BETTER=$2
    case $operator in
    '=') [ "$2" = "$3" ] ;;
    in)
        local word
        for word in "${wants[@]}"; do
            [ "$word" != "$3" ] || {
                BETTER=$3
                return 0
            }
        done
        for word in "${wants[@]}"; do
            if [[ -z $OFFERED || " $OFFERED " == *" $word "* ]]; then
                BETTER=$word
                return 1
            fi
        done
        BETTER=${wants[0]}
        return 1
        ;;
    *)
        ((${#wants[@]} == ${#nows[@]})) || return 1
        for i in "${!wants[@]}"; do
            if [ "$operator" = '>=' ]; then
                at_least "${nows[i]}" "${wants[i]}" || {
                    ok=1
                    continue
                }
            else
                at_least "${wants[i]}" "${nows[i]}" || {
                    ok=1
                    continue
                }
            fi
            wants[i]=${nows[i]}
        done
        BETTER="${wants[*]}"
        return "$ok"
        ;;
    esac
}

# The keys that a container has of its own, given its own namespaces; all others are the host's.
is_containers_own() {
    [[ $1 =~ ^(net[./]|kernel[./](shm|msg|sem)|fs[./]mqueue[./]) ]]
}

# module_for ALGORITHM: a congestion control that this kernel can load, into J_MODULE.
module_for() {
    local release file
    one /proc/sys/kernel/osrelease || return 1
    release=$TRIMMED
    [[ $1 =~ ^[a-z0-9_]+$ && $release != */* ]] || return 1
    for file in "$ROOT/lib/modules/$release/kernel/net/ipv4/tcp_$1.ko"*; do
        [ ! -f "$file" ] || {
            J_MODULE=tcp_$1
            return 0
        }
    done
    return 1
}

# judge_place PATH OP: adds to the J_ arrays; 0 when as wanted, 1 when not, 2 when the place has no value, 3 when the
# wanted is not offered.
judge_place() {
    local path=$1 operator=$2 now target='' want=$VALUE ok=0
    read_raw "$ROOT$path" || return 2
    local raw=$RAW
    normal "$path" "$raw"
    now=$NORMAL
    case $path in *_cpus | */smp_affinity)
        normal "$path" "$want"
        want=$NORMAL
        ;;
    esac
    offers "$path" "$raw"
    better "$operator" "$want" "$now" || ok=1
    if [[ $ok == 1 && -n $OFFERED && " $OFFERED " != *" $BETTER "* ]]; then
        [[ $path == */tcp_congestion_control ]] && module_for "$BETTER" || return 3
    fi
    if [ -n "${R_BEFORE[$path]+x}" ]; then
        normal "$path" "${R_BEFORE[$path]}"
        better "$operator" "$want" "$NORMAL" || target=$BETTER
        # Someone has set it to something that is as wanted: that stays.
        if [ "$ok" = 0 ] && [ -n "$target" ]; then
            normal "$path" "${R_WRITTEN[$path]}"
            if [ "$now" != "$NORMAL" ]; then target=$now; fi
        fi
    elif [ "$ok" = 1 ]; then
        target=$BETTER
    fi
    # Compared without the commas, written with them: the kernel takes a mask in words of 32 bits.
    [ "$target" != "$want" ] || [[ $path != *_cpus && $path != */smp_affinity ]] || target=$VALUE
    if [[ $path == */tcp_congestion_control && -n $target ]]; then module_for "$target" || true; fi
    J_PATHS+=("$path") J_RAWS+=("$raw") J_NOWS+=("$now") J_TARGETS+=("$target")
    return "$ok"
}

# places_of PATTERN: the paths it matches below ROOT, without ROOT, into PLACES.
declare -a PLACES=()
places_of() {
    local IFS=
    local found=()
    # shellcheck disable=SC2206  # the key's pattern is to be expanded, and only it
    found=("$ROOT"$1)
    PLACES=("${found[@]#"$ROOT"}")
}

# distinct VALUE...: "a x3, b" into J_NOW.
distinct() {
    local -A times=()
    local value order=() text='' n
    for value in "$@"; do
        [ -n "${times["x$value"]+x}" ] || order+=("$value")
        n=${times["x$value"]-0}
        times["x$value"]=$((n + 1))
    done
    for value in "${order[@]}"; do
        text+="${text:+, }$value"
        [ "${times["x$value"]}" = 1 ] || text+=" x${times["x$value"]}"
    done
    J_NOW=$text
}

# index_of PATTERN PATH ORDINAL: the number in the part of the path that the pattern's last * stands for (tx-3 is 3), or
# else the match's place among the others.
index_of() {
    local tail=${1##*[*?\]]} part
    tail=${tail//[^\/]/}
    part=$2
    while [ -n "$tail" ]; do
        part=${part%/*} tail=${tail#/}
    done
    part=${part##*/}
    part=${part##*[^0-9]}
    if ((${#part} > 0 && ${#part} < 7)); then VARIABLES[index]=$((10#$part)); else VARIABLES[index]=$3; fi
}

judge_places() {
    local i=$1 kind=${S_KIND[$1]} pattern=${S_KEY[$1]} path status worst=2 match=0
    if [ "$kind" = sysctl ]; then
        sysctl_path "$pattern"
        pattern=$PLACE
    fi
    places_of "$pattern"
    for path in "${PLACES[@]}"; do
        index_of "$pattern" "$path" "$match"
        match=$((match + 1))
        wanted "$i" || {
            J_NOTE=$FORMULA_ERROR
            J_STATE=broken
            return
        }
        status=0
        judge_place "$path" "${S_OP[i]}" || status=$?
        case $status:$worst in
        0:2 | 1:* | 3:[02]) worst=$status ;;
        esac
    done
    VARIABLES[index]=0
    ((${#J_NOWS[@]} == 0)) || distinct "${J_NOWS[@]}"
    case $worst in
    0) J_STATE=ok ;;
    1) J_STATE=finding ;;
    2)
        J_STATE=absent J_NOTE='this kernel has no such thing'
        [ "$kind" = sysctl ] || J_NOTE='this machine has no such thing'
        if [ -e "$ROOT${PLACES[0]-/nowhere}" ]; then
            J_NOTE='it has no value here'
            [ -r "$ROOT${PLACES[0]}" ] || J_NOTE='it cannot be read without root'
        fi
        # What is not of this namespace does not show in it.
        if [[ $kind == sysctl && ${VARIABLES[container]} == 1 ]] && is_containers_own "${S_KEY[i]}"; then
            J_NOTE='not in the container: it is the whole host that has it, if its kernel knows it'
        fi
        ;;
    3) J_STATE=absent J_NOTE="this machine offers only: $OFFERED" ;;
    esac
    if [[ $J_STATE == finding && ${VARIABLES[container]} == 1 ]]; then
        if [ "$kind" != sysctl ] || ! is_containers_own "${S_KEY[i]}"; then
            J_STATE=host J_NOTE="it belongs to the host"
        elif [ ! -w "$ROOT${J_PATHS[0]}" ]; then
            J_NOTE="not to be written in here: start the container with --sysctl ${S_KEY[i]}=${J_TARGETS[0]:-$VALUE}"
        fi
    fi
}

declare -A LIMIT_TITLES=([as]='address space' [core]='core file size' [cpu]='cpu time' [data]='data size'
    [fsize]='file size' [locks]='file locks' [memlock]='locked memory' [msgqueue]='msgqueue size'
    [nice]='nice priority' [nofile]='open files' [nproc]='processes' [rss]='resident set'
    [rtprio]='realtime priority' [sigpending]='pending signals' [stack]='stack size')

LIMITS_FILE=/etc/security/limits.d/60-sluice.conf

# pam_value KEY VALUE: in the unit of limits.conf, into PAM_VALUE. The profiles and systemd count memory in bytes.
pam_value() {
    PAM_VALUE=$2
    case $1:$2 in
    *:unlimited | *:infinity) PAM_VALUE=unlimited ;;
    as:* | core:* | data:* | fsize:* | memlock:* | rss:* | stack:*) PAM_VALUE=$((($2 + 1023) / 1024)) ;;
    esac
}

judge_limit() {
    local i=$1 key=${S_KEY[$1]} title ceiling part
    title=${LIMIT_TITLES[$key]}
    if ! read_raw "$ROOT/proc/self/limits" || [[ ! $RAW =~ "Max $title"[[:space:]]+([a-z0-9]+)[[:space:]]+([a-z0-9]+) ]]; then
        J_STATE=absent J_NOTE='this kernel does not tell it'
        return
    fi
    local now="${BASH_REMATCH[1]} ${BASH_REMATCH[2]}" want=$VALUE
    if [[ $key == nofile ]] && at_least "$want" 1; then
        # A service whose limit is above fs.nr_open does not start at all.
        ceiling=${WILL_BE[/proc/sys/fs/nr_open]-}
        if [ -z "$ceiling" ] && one /proc/sys/fs/nr_open; then ceiling=$TRIMMED; fi
        if [[ -n $ceiling ]] && ! at_least "$ceiling" "$want"; then
            want=$ceiling J_NOTE="as far as fs.nr_open goes"
        fi
    fi
    J_BASE=${R_BASE["limit $key"]-$now}
    better "${S_OP[i]}" "$want $want" "$J_BASE" || J_TARGET=$BETTER
    J_NOW=${now/ //}
    [ "${now% *}" != "${now#* }" ] || J_NOW=${now% *}
    if better "${S_OP[i]}" "$want $want" "$now"; then
        J_STATE=ok
        return
    fi
    J_STATE=finding
    pam_value "$key" "${J_TARGET% *}"
    part="* soft $key $PAM_VALUE"
    if [ -n "$J_TARGET" ] && read_raw "$ROOT$LIMITS_FILE" && [[ $'\n'$RAW == *$'\n'"$part"$'\n'* ]]; then
        J_STATE=ok J_NOTE='written; holds from the next login and the next start of the service on'
    elif [[ ${VARIABLES[container]} == 1 && ${VARIABLES[systemd]} == 0 ]]; then
        J_STATE=host J_NOTE="the container is started with it: --ulimit $key=${J_TARGET% *}:${J_TARGET#* }"
    fi
}

judge_cmdline() {
    local i=$1 key=${S_KEY[$1]} word words=() given='' has=1
    one /proc/cmdline || {
        J_STATE=absent J_NOTE='the kernel command line cannot be read'
        return
    }
    local IFS=' '
    read -r -a words <<<"$TRIMMED"
    for word in "${words[@]}"; do
        case $word in
        "$key"=*) given=${word#*=} has=0 ;;
        "$key") given='' has=0 ;;
        esac
    done
    J_STATE=advice J_NOW=${given:-(not given)}
    if [ "$has" = 0 ] && better "${S_OP[i]}" "$VALUE" "$given"; then J_STATE=ok; fi
    J_NOTE='advice: written by hand into the boot loader'
    [[ $J_STATE != advice || ${VARIABLES[container]} == 0 ]] || J_STATE=host J_NOTE='it belongs to the host'
}

# bytes_of TEXT: "4GB", "64mb", "100" as a number into BYTES; what is no size stays as it is.
bytes_of() {
    BYTES=$1
    [[ ${1,,} =~ ^([0-9]{1,12})(k|kb|m|mb|g|gb|t|tb)?$ ]] || return 0
    BYTES=$((10#${BASH_REMATCH[1]}))
    case ${BASH_REMATCH[2]} in
    k*) BYTES=$((BYTES * 1024)) ;;
    m*) BYTES=$((BYTES * 1048576)) ;;
    g*) BYTES=$((BYTES * 1073741824)) ;;
    t*) BYTES=$((BYTES * 1099511627776)) ;;
    esac
}

# judge_file: "file PATH KEY", a neighbour's configuration: the last line that sets KEY counts.
judge_file() {
    local i=$1 pattern=${S_KEY[$1]%%' '*} key=${S_KEY[$1]#*' '} line lines=() now=''
    J_STATE=advice J_NOTE='advice: this script does not write it'
    [[ $pattern == /* ]] || return 0
    places_of "$pattern"
    if ((${#PLACES[@]} == 0)) || [ ! -r "$ROOT${PLACES[0]}" ] || [ ! -f "$ROOT${PLACES[0]}" ]; then
        J_STATE=absent J_NOTE='it is not installed here'
        return
    fi
    mapfile -t lines <"$ROOT${PLACES[0]}"
    for line in "${lines[@]}"; do
        trim "${line%%#*}"
        if [[ $TRIMMED == "$key" || $TRIMMED == "$key "* || $TRIMMED == "$key="* || $TRIMMED == "$key:"* ]]; then
            now=${TRIMMED#"$key"}
            now=${now# }
            now=${now#[=:]}
            now=${now# }
            now=${now#[\"\']}
            now=${now%[\"\']}
        fi
    done
    J_NOW=${now:-(not set)}
    bytes_of "$now"
    local have=$BYTES
    bytes_of "$VALUE"
    ! better "${S_OP[i]}" "$BYTES" "$have" || J_STATE=ok
}

IRQBALANCE_FILE=/etc/default/irqbalance

# judge_service: "service irqbalance [VARIABLE]": a line of /etc/default/irqbalance, the banned CPUs when none is named.
judge_service() {
    local i=$1 service=${S_KEY[$1]%%' '*} name=${S_KEY[$1]#*' '}
    [ "$name" != "$service" ] || name=IRQBALANCE_BANNED_CPULIST
    if [[ $service != irqbalance || ! $name =~ ^[A-Z_]+$ ]]; then
        J_STATE=broken J_NOTE='of services only irqbalance is known'
        return
    fi
    if [ ! -e "$ROOT/usr/sbin/irqbalance" ] && [ ! -e "$ROOT$IRQBALANCE_FILE" ]; then
        J_STATE=absent J_NOTE='irqbalance is not installed'
        return
    fi
    assigned "$ROOT$IRQBALANCE_FILE" "$name"
    J_NOW=${ASSIGNED:-(not set)}
    before_of "$IRQBALANCE_FILE"
    local now=$ASSIGNED
    assigned "$BEFORE_FILE" "$name"
    OFFERED=
    J_BASE=$ASSIGNED
    better "${S_OP[i]}" "$VALUE" "$ASSIGNED" || J_TARGET=$BETTER
    J_STATE=finding
    ! better "${S_OP[i]}" "$VALUE" "$now" || J_STATE=ok
    belongs_to_host
}

# assigned FILE NAME: what NAME= is set to, into ASSIGNED; empty when it is not.
assigned() {
    local line lines=()
    ASSIGNED=
    [ -f "$1" ] && [ -r "$1" ] || return 0
    mapfile -t lines <"$1"
    for line in "${lines[@]}"; do
        [[ ! $line =~ ^[[:space:]]*$2=[\"\']?([^\"\']*) ]] || ASSIGNED=${BASH_REMATCH[1]}
    done
}

belongs_to_host() {
    [[ $J_STATE != finding || ${VARIABLES[container]} == 0 ]] || J_STATE=host J_NOTE='it belongs to the host'
}

# before_of PATH: where the bytes lie that were there before the first apply, into BEFORE_FILE.
before_of() {
    BEFORE_FILE=$ROOT$1
    if [ -n "${R_FILE_WAS[$1]+x}" ]; then
        BEFORE_FILE=$RECORD/files/${R_FILE_NO[$1]}.before
    fi
}

# judge I: see the head.
judge() {
    local i=$1
    J_PATHS=() J_RAWS=() J_TARGETS=() J_NOWS=()
    J_STATE=broken J_NOW='' J_NOTE='' J_BASE='' J_TARGET='' J_MODULE='' OFFERED=''
    wanted "$i" || {
        J_NOTE=$FORMULA_ERROR
        return 0
    }
    J_WANT="${S_OP[i]} $VALUE"
    [ "${S_OP[i]}" != '=' ] || J_WANT=$VALUE
    if [ "${S_HOLDS[i]}" = 0 ]; then
        J_STATE=skipped J_NOTE="only where: ${S_GUARD[i]}"
        return 0
    fi
    case ${S_KIND[i]} in
    sysctl | sysfs | irq) judge_places "$i" ;;
    limit) judge_limit "$i" ;;
    cmdline) judge_cmdline "$i" ;;
    file) judge_file "$i" ;;
    service) judge_service "$i" ;;
    ethtool) judge_ethtool "$i" ;;
    docker) judge_docker "$i" ;;
    esac
    if [[ ${S_ADVICE[i]} == 1 && $J_STATE == finding ]]; then
        J_STATE=advice
        J_NOTE=${J_NOTE:-advice: this script does not write it}
    fi
    return 0
}
