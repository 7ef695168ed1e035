# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# What apply would do: the files as they should be (P_FILES, P_CONTENT) and the live values (P_VALUES, P_TO, P_NOW), in
# the order in which they are to be written. Both depend on the profile, the machine and what the record says was there.

SYSCTL_FILE=/etc/sysctl.d/60-sluice.conf
UNIT_FILE=/etc/systemd/system/sluice.service.d/60-tuning.conf
UDEV_FILE=/etc/udev/rules.d/60-sluice.rules
TMPFILES_FILE=/etc/tmpfiles.d/sluice-tuning.conf
MODULES_FILE=/etc/modules-load.d/60-sluice.conf

# The kernel zeroes one of these when the other is written, so both are recorded.
declare -A COMPANIONS=([dirty_ratio]=dirty_bytes [dirty_bytes]=dirty_ratio
    [dirty_background_ratio]=dirty_background_bytes [dirty_background_bytes]=dirty_background_ratio
    [overcommit_ratio]=overcommit_kbytes [overcommit_kbytes]=overcommit_ratio)

declare -a P_FILES=() P_VALUES=() P_CANNOT=() P_NOTES=() P_MODULES=() DOCKER_PAIRS=() IRQBALANCE_PAIRS=()
declare -A P_CONTENT=() P_TO=() P_NOW=() P_BASE=() WILL_BE=()

# note_target: remembers what the places of the setting just judged will be.
note_target() {
    local n
    for n in "${!J_PATHS[@]}"; do
        normal "${J_PATHS[n]}" "${J_RAWS[n]}"
        WILL_BE[${J_PATHS[n]}]=${J_TARGETS[n]:-$NORMAL}
    done
}

# line FILE TEXT: one more line of a file that is this script's own.
line() {
    if [ -z "${P_CONTENT[$1]+x}" ]; then
        P_FILES+=("$1")
        P_CONTENT[$1]="# Written by tune.sh apply (profile $PROFILE); tune.sh revert takes it back."$'\n'
        [ -z "${3-}" ] || P_CONTENT[$1]+=$3$'\n'
    fi
    P_CONTENT[$1]+=$2$'\n'
}

# write_value PATH TARGET RAW: a live value, unless it is so already.
write_value() {
    local path=$1 target=$2 raw=$3
    normal "$path" "$target"
    local wanted=$NORMAL
    normal "$path" "$raw"
    [ "$NORMAL" != "$wanted" ] || return 0
    if [ ! -w "$ROOT$path" ]; then
        P_CANNOT+=("$path")
        return 1
    fi
    # Two patterns may meet in one place; the later line counts.
    [ -n "${P_TO[$path]+x}" ] || P_VALUES+=("$path")
    P_TO[$path]=$target P_NOW[$path]=$raw
}

# tmpfiles_path, tmpfiles_value: quoted as tmpfiles.d(5) reads them.
tmpfiles_line() {
    local path=$1 value=$2
    path=${path//%/%%}
    path=${path//\\/\\\\}
    path=${path//\"/\\\"}
    value=${value//%/%%}
    value=${value//\\/\\\\}
    line "$TMPFILES_FILE" "w \"$path\" - - - - $value"
}

plan_places() {
    local i=$1 n path target all=1 first='' key
    for n in "${!J_PATHS[@]}"; do
        path=${J_PATHS[n]} target=${J_TARGETS[n]}
        [ -n "$first" ] || first=${target:-none}
        [ "$target" = "$first" ] || all=0
        if [ -z "$target" ]; then
            # As wanted from the start; what an earlier profile wrote there is taken back.
            give_back "$path" "${J_RAWS[n]}"
            continue
        fi
        KEPT[$path]=1
        write_value "$path" "$target" "${J_RAWS[n]}" || {
            J_TARGETS[n]='' all=0
            continue
        }
        # In the drop-in stands what this script wants; a better value of somebody else's has its own.
    done
    case ${S_KIND[i]}:$all in
    sysctl:*)
        for n in "${!J_PATHS[@]}"; do
            [ -n "${J_TARGETS[n]}" ] || continue
            key=${J_PATHS[n]#/proc/sys/}
            # Slashes first: the name of an interface may hold dots.
            if [[ $key != *.* ]]; then key=${key////.}; fi
            line "$SYSCTL_FILE" "$key = ${J_TARGETS[n]}"
        done
        ;;
    *:1)
        if [[ ${S_KEY[i]} != /sys/class/net/* && $first != none ]]; then
            tmpfiles_line "${S_KEY[i]}" "$first"
        else
            plan_devices
        fi
        ;;
    *) plan_devices ;;
    esac
    if [ -n "$J_MODULE" ]; then
        P_MODULES+=("$J_MODULE")
        line "$MODULES_FILE" "$J_MODULE"
    fi
}

# plan_devices: one rule a device, which also holds for one that comes later than the boot.
plan_devices() {
    local n path target nic
    for n in "${!J_PATHS[@]}"; do
        path=${J_PATHS[n]} target=${J_TARGETS[n]}
        [ -n "$target" ] || continue
        if [[ $path =~ ^/sys/class/net/([A-Za-z0-9_.-]+)/queues/([rt]x-[0-9]+)/([a-z_]+)$ && $target != *\"* ]]; then
            line "$UDEV_FILE" "ACTION==\"add\", SUBSYSTEM==\"queues\", DEVPATH==\"*/net/${BASH_REMATCH[1]}/queues/${BASH_REMATCH[2]}\", ATTR{${BASH_REMATCH[3]}}=\"$target\""
        elif [[ $path =~ ^/sys/class/net/([A-Za-z0-9_.-]+)/([a-z_/]+)$ && $target != *\"* ]]; then
            nic=${BASH_REMATCH[1]}
            line "$UDEV_FILE" "ACTION==\"add\", SUBSYSTEM==\"net\", KERNEL==\"$nic\", ATTR{${BASH_REMATCH[2]}}=\"$target\""
        else
            tmpfiles_line "$path" "$target"
        fi
    done
}

# give_back PATH RAW: a place that this profile does not want changed goes back to what it was, if it is still ours.
give_back() {
    local path=$1 raw=$2
    [ -n "${R_BEFORE[$path]+x}" ] && [ -z "${R_COMPANION[$path]-}" ] || return 0
    same "$path" "$raw" "${R_BEFORE[$path]}" && return 0
    if same "$path" "$raw" "${R_WRITTEN[$path]}"; then
        P_VALUES+=("$path")
        P_TO[$path]=${R_BEFORE[$path]} P_NOW[$path]=$raw
    fi
}

same() {
    normal "$1" "$2"
    local a=$NORMAL
    normal "$1" "$3"
    [ "$a" = "$NORMAL" ]
}

# limit_number TEXT: LIMIT_NUMBER as systemd.exec(5) means it.
limit_number() {
    local -A factor=([K]=1024 [M]=1048576 [G]=1073741824 [T]=1099511627776)
    LIMIT_NUMBER=9223372036854775807
    case $1 in
    infinity | unlimited) ;;
    *[KMGT]) LIMIT_NUMBER=$((${1%?} * ${factor[${1: -1}]})) ;;
    *) LIMIT_NUMBER=$1 ;;
    esac
}

# unit_has KEY SOFT HARD: the unit itself allows as much, so that a drop-in could only lower it.
unit_has() {
    local folder text soft='' hard='' want
    local form='^[[:space:]]*Limit'${1^^}'=([0-9]+[KMGT]?|infinity)(:([0-9]+[KMGT]?|infinity))?[[:space:]]*$'
    for folder in /etc/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
        [ -f "$ROOT$folder/sluice.service" ] || continue
        while IFS= read -r text || [ -n "$text" ]; do
            [[ $text =~ $form ]] && soft=${BASH_REMATCH[1]} hard=${BASH_REMATCH[3]:-${BASH_REMATCH[1]}}
        done <"$ROOT$folder/sluice.service"
        break
    done
    [ -n "$soft" ] || return 1
    limit_number "$2" && want=$LIMIT_NUMBER && limit_number "$soft" && ((LIMIT_NUMBER >= want)) || return 1
    limit_number "$3" && want=$LIMIT_NUMBER && limit_number "$hard" && ((LIMIT_NUMBER >= want))
}

plan_limit() {
    local key=${S_KEY[$1]} soft hard who systemd_soft systemd_hard
    [ -n "$J_TARGET" ] || return 0
    soft=${J_TARGET% *} hard=${J_TARGET#* }
    P_BASE["limit $key"]=$J_BASE
    # The wildcard does not hold for root (limits.conf(5)).
    for who in '*' root; do
        pam_value "$key" "$soft"
        line "$LIMITS_FILE" "$who soft $key $PAM_VALUE"
        pam_value "$key" "$hard"
        line "$LIMITS_FILE" "$who hard $key $PAM_VALUE"
    done
    unit_has "$key" "$soft" "$hard" && return 0
    systemd_soft=${soft/unlimited/infinity} systemd_hard=${hard/unlimited/infinity}
    line "$UNIT_FILE" "Limit${key^^}=$systemd_soft:$systemd_hard" '[Service]'
}

# plan_rings: J_TARGET holds lines of interface and size.
plan_rings() {
    local key=${S_KEY[$1]} nic size tool
    [ -n "$J_TARGET" ] || return 0
    tool=$(command -v ethtool)
    while read -r nic size; do
        line "$UDEV_FILE" "ACTION==\"add\", SUBSYSTEM==\"net\", KERNEL==\"$nic\", RUN+=\"$tool -G $nic $key $size\""
        P_NOTES+=("the rings of $nic change at the next boot; at once, with the link down for a moment: ethtool -G $nic $key $size")
    done <<<"$J_TARGET"
}

# assign TEXT NAME VALUE: TEXT with its last line that sets NAME changed, or one added; into ASSIGNED_TEXT.
assign() {
    local lines=() i at=
    mapfile -t lines <<<"${1%$'\n'}"
    for i in "${!lines[@]}"; do
        [[ ! ${lines[i]} =~ ^[[:space:]]*"$2"= ]] || at=$i
    done
    [ -n "$at" ] || at=${#lines[@]}
    [ -n "$1" ] || at=0
    lines[at]="$2=\"$3\""
    printf -v ASSIGNED_TEXT '%s\n' "${lines[@]}"
}

# plan_shared: the files that are not ours alone. They are made from what was there before.
plan_shared() {
    local name text n
    if ((${#IRQBALANCE_PAIRS[@]} > 0)); then
        before_of "$IRQBALANCE_FILE"
        text=
        ! read_raw "$BEFORE_FILE" || text=$RAW
        for ((n = 0; n < ${#IRQBALANCE_PAIRS[@]}; n += 2)); do
            assign "$text" "${IRQBALANCE_PAIRS[n]}" "${IRQBALANCE_PAIRS[n + 1]}"
            text=$ASSIGNED_TEXT
        done
        P_FILES+=("$IRQBALANCE_FILE")
        P_CONTENT[$IRQBALANCE_FILE]=$text
        P_NOTES+=('irqbalance reads its file when it starts: systemctl restart irqbalance')
    fi
    if ((${#DOCKER_PAIRS[@]} > 0)); then
        before_of "$DOCKER_FILE"
        if text=$(docker_merge "$BEFORE_FILE" "${DOCKER_PAIRS[@]}"); then
            P_FILES+=("$DOCKER_FILE")
            P_CONTENT[$DOCKER_FILE]=$text$'\n'
            P_NOTES+=('Docker reads daemon.json when it starts: systemctl restart docker (containers without live-restore stop)')
        else
            P_CANNOT+=("$DOCKER_FILE")
        fi
    fi
}

# ports_of LIST: 1,3-5 into the set PORTS, whose keys bash keeps in order.
declare -a PORTS=()
ports_of() {
    local part i
    local IFS=$', \t\n'
    for part in $1; do
        [[ $part =~ ^([0-9]{1,5})(-([0-9]{1,5}))?$ ]] || continue
        for ((i = 10#${BASH_REMATCH[1]}; i <= 10#${BASH_REMATCH[3]:-${BASH_REMATCH[1]}}; i++)); do PORTS[i]=1; done
    done
}

# listening LOW HIGH: the ports listened on within, into LISTENING.
listening() {
    local file line lines port
    LISTENING=()
    for file in tcp tcp6; do
        [ -r "$ROOT/proc/net/$file" ] || continue
        mapfile -t lines <"$ROOT/proc/net/$file"
        for line in "${lines[@]}"; do
            [[ $line =~ ^[[:space:]]*[0-9]+:' '[0-9A-F]+:([0-9A-F]{4})' '[0-9A-F]+:[0-9A-F]{4}' 0A ' ]] || continue
            port=$((16#${BASH_REMATCH[1]}))
            if ((port >= $1 && port <= $2)); then LISTENING+=("$port"); fi
        done
    done
}

RANGE_PLACE=/proc/sys/net/ipv4/ip_local_port_range
RESERVED_PLACE=/proc/sys/net/ipv4/ip_local_reserved_ports

# plan_ports: a wider range of ports for outgoing connections must not hand out one that a server listens on, or that
# server cannot start again while the connection lives. Such ports are reserved, before the range is written.
plan_ports() {
    local range=$1 before=$2 port list='' from='' last='' raw
    [[ $range =~ ^([0-9]{1,5})' '([0-9]{1,5})$ ]] || return 0
    listening "$((10#${BASH_REMATCH[1]}))" "$((10#${BASH_REMATCH[2]}))"
    ((${#LISTENING[@]} > 0)) && read_raw "$ROOT$RESERVED_PLACE" || return 0
    raw=$RAW
    PORTS=()
    [[ $before =~ ^([0-9]{1,5})' '([0-9]{1,5})$ ]] || return 0
    local low=$((10#${BASH_REMATCH[1]})) high=$((10#${BASH_REMATCH[2]})) added=0
    ports_of "${R_BEFORE[$RESERVED_PLACE]-$raw}"
    for port in "${LISTENING[@]}"; do
        ((port >= low && port <= high)) || [ -n "${PORTS[port]-}" ] || PORTS[port]=1 added=1
    done
    [ "$added" = 1 ] || return 0
    # In the kernel's own form, so that what is read back is what was written.
    for port in "${!PORTS[@]}" 99999; do
        if [ -n "$from" ] && ((port > last + 1)); then
            list+=${list:+,}$from
            ((from == last)) || list+=-$last
            from=
        fi
        last=$port
        [ -n "$from" ] || from=$port
    done
    write_value "$RESERVED_PLACE" "$list" "$raw" || return 0
    KEPT[$RESERVED_PLACE]=1
    WILL_BE[$RESERVED_PLACE]=$list
    line "$SYSCTL_FILE" "net.ipv4.ip_local_reserved_ports = $list"
    P_NOTES+=("the ports $list are kept out of the wider range, because servers listen there")
}

# rank I: what must come before the others. A limit of files cannot be above fs.nr_open; a queue must be there before
# the algorithm that asks for it.
rank() {
    case ${S_KEY[$1]} in
    fs.nr_open | fs.file-max) RANK=0 ;;
    net.core.default_qdisc) RANK=1 ;;
    *) RANK=2 ;;
    esac
}

# make_plan: all of it.
declare -A KEPT=()
make_plan() {
    local i pass path
    P_FILES=() P_VALUES=() P_CANNOT=() P_NOTES=() P_MODULES=() DOCKER_PAIRS=() IRQBALANCE_PAIRS=()
    P_CONTENT=() P_TO=() P_NOW=() P_BASE=() WILL_BE=() KEPT=() DOCKER_LOADED=0
    for pass in 0 1 2; do
        for i in "${!S_KIND[@]}"; do
            is_setting "$i" || continue
            rank "$i"
            [ "$RANK" = "$pass" ] || continue
            judge "$i"
            [ "$J_STATE" != broken ] || die "${S_FROM[i]}: ${S_KIND[i]} ${S_KEY[i]}: $J_NOTE"
            note_target
            case $J_STATE in ok | finding) plan_setting "$i" ;; esac
        done
    done
    plan_shared
    for path in "${R_VALUES[@]}"; do
        [ -z "${KEPT[$path]+x}" ] && [ -z "${P_TO[$path]+x}" ] && read_raw "$ROOT$path" || continue
        give_back "$path" "$RAW"
    done
    plan_files
}

plan_setting() {
    local i=$1 name n
    [ "${S_ADVICE[i]}" = 0 ] || return 0
    case ${S_KIND[i]} in
    sysctl | sysfs | irq)
        if [ "${J_PATHS[0]-}" = "$RANGE_PLACE" ] && [ -n "${J_TARGETS[0]}" ]; then
            normal "$RANGE_PLACE" "${R_BEFORE[$RANGE_PLACE]-${J_RAWS[0]}}"
            plan_ports "${J_TARGETS[0]}" "$NORMAL"
        fi
        plan_places "$i"
        ;;
    limit) plan_limit "$i" ;;
    ethtool) plan_rings "$i" ;;
    service)
        [ -n "$J_TARGET" ] || return 0
        name=${S_KEY[i]#* }
        [ "$name" != irqbalance ] || name=IRQBALANCE_BANNED_CPULIST
        IRQBALANCE_PAIRS+=("$name" "$J_TARGET")
        ;;
    docker)
        [ -n "$J_TARGET" ] || return 0
        DOCKER_PAIRS+=("${S_KEY[i]}" "$J_TARGET")
        ;;
    esac
}

# plan_files: leaves in P_FILES those that are to be written, and puts into P_BACK those that go back to what they were.
declare -a P_BACK=()
plan_files() {
    local path kept=() directory
    P_BACK=()
    for path in "${P_FILES[@]}"; do
        directory=$ROOT${path%/*}
        while [ ! -e "$directory" ] && [ ! -L "$directory" ]; do directory=${directory%/*}; done
        if [ -L "$ROOT$path" ] || [ -e "$ROOT$path" ] && [ ! -f "$ROOT$path" ]; then
            die "$ROOT$path is not an ordinary file: nothing is done before that is settled"
        elif [ ! -d "$directory/" ]; then
            die "$directory is not a directory: nothing is done before that is settled"
        elif [ ! -w "$directory/" ]; then
            P_CANNOT+=("$path")
            continue
        fi
        if read_raw "$ROOT$path" && [ "$RAW" = "${P_CONTENT[$path]}" ]; then continue; fi
        kept+=("$path")
    done
    P_FILES=("${kept[@]}")
    for path in "${R_FILES[@]}"; do
        [ -z "${P_CONTENT[$path]+x}" ] || continue
        file_is_before "$path" || P_BACK+=("$path")
    done
}

plan_is_empty() { ((${#P_FILES[@]} + ${#P_VALUES[@]} + ${#P_BACK[@]} == 0)); }

# show_file PATH FROM: FROM (a file, or nothing) against what stands on the standard input.
show_file() {
    local path=$1 from=$2
    [ -f "$from" ] || from=/dev/null
    if command -v diff >/dev/null; then
        diff -u --label "$path now" --label "$path" "$from" - || true
    else
        printf '%s:\n' "$path"
        cat
    fi
}

cannot_words() {
    local path word='cannot be written here'
    ((${#P_CANNOT[@]} > 0)) || return 0
    ((EUID == 0)) || [ -n "$ROOT" ] || word='needs root'
    if ((EUID == 0)) && ((VARIABLES[container] == 1)); then word+=' (read-only in this container)'; fi
    for path in "${P_CANNOT[@]}"; do printf '%s: %s\n' "$path" "$word"; done
}

verb_plan() {
    local path now to
    record_read
    load_checked "$PROFILE"
    make_plan
    machine_words
    wrap '' "profile $PROFILE: $MACHINE_WORDS"
    for path in "${P_FILES[@]}"; do
        printf '%s' "${P_CONTENT[$path]}" | show_file "$path" "$ROOT$path"
    done
    for path in "${P_BACK[@]}"; do
        before_of "$path"
        if [ -f "$BEFORE_FILE" ]; then
            show_file "$path" "$ROOT$path" <"$BEFORE_FILE"
        else
            show_file "$path (to be removed)" "$ROOT$path" </dev/null
        fi
    done
    for path in "${P_VALUES[@]}"; do
        trim "${P_NOW[$path]}"
        now=$TRIMMED
        trim "${P_TO[$path]}"
        to=$TRIMMED
        printf '%s: %s -> %s\n' "$path" "$now" "$to"
    done
    for path in "${P_MODULES[@]}"; do say "the module $path is loaded first"; done
    cannot_words
    for path in "${P_NOTES[@]}"; do wrap '' "note: $path"; done
    ! plan_is_empty || say 'nothing to be written'
}
