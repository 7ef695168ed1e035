# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# What the formulas and guards may ask about the machine, read from the tree below ROOT without starting a process.

# one FILE: its trimmed text into TRIMMED, or fails.
one() {
    read_raw "$ROOT$1" || return 1
    trim "$RAW"
}

is_container() {
    local mark
    for mark in /.dockerenv /run/.containerenv /run/systemd/container; do
        [ ! -e "$ROOT$mark" ] || return 0
    done
    if read_raw "$ROOT/proc/1/cgroup"; then
        [[ ! $RAW =~ (docker|lxc|kubepods|containerd|libpod) ]] || return 0
    fi
    return 1
}

HYPERVISOR_FLAG=$'(^|\n)flags[^\n]* hypervisor'
is_virtual() {
    local file
    for file in sys_vendor product_name bios_vendor; do
        one "/sys/class/dmi/id/$file" || continue
        [[ ! $TRIMMED =~ (QEMU|KVM|VMware|VirtualBox|innotek|Xen|Amazon EC2|Google|Virtual Machine|OpenStack|DigitalOcean|Hetzner|Bochs|Parallels|Firecracker) ]] ||
            return 0
    done
    [ ! -e "$ROOT/sys/hypervisor/type" ] || return 0
    if read_raw "$ROOT/proc/cpuinfo"; then
        [[ ! $RAW =~ $HYPERVISOR_FLAG ]] || return 0
    fi
    return 1
}

# least NAME VALUE: the variable is at most VALUE.
least() {
    [[ $2 =~ ^[0-9]{1,18}$ ]] || return 0
    local value=$((10#$2))
    ((value == 0 || VARIABLES[$1] <= value)) || VARIABLES[$1]=$value
}

read_cores() {
    if one /sys/devices/system/cpu/online; then
        count_of "$TRIMMED"
    elif read_raw "$ROOT/proc/cpuinfo"; then
        local rest=$RAW
        COUNT=0
        while [[ $rest == *processor* ]]; do
            rest=${rest#*processor}
            COUNT=$((COUNT + 1))
        done
    fi
    VARIABLES[cores]=$((COUNT > 0 ? COUNT : 1))
    if read_raw "$ROOT/proc/self/status" && [[ $RAW =~ Cpus_allowed_list:[[:space:]]*([0-9,-]+) ]]; then
        count_of "${BASH_REMATCH[1]}"
        least cores "$COUNT"
    fi
    # A quota of 1.5 CPUs feeds two threads of which neither is starved for long: rounded up.
    if one /sys/fs/cgroup/cpu.max && [[ $TRIMMED =~ ^([0-9]{1,12})' '([1-9][0-9]{0,11})$ ]]; then
        least cores $(((BASH_REMATCH[1] + BASH_REMATCH[2] - 1) / BASH_REMATCH[2]))
    fi
}

read_memory() {
    local page=4096
    VARIABLES[memory_bytes]=1073741824
    if read_raw "$ROOT/proc/meminfo" && [[ $RAW =~ MemTotal:[[:space:]]*([0-9]{1,15})' kB' ]]; then
        VARIABLES[memory_bytes]=$((10#${BASH_REMATCH[1]} * 1024))
    fi
    ! one /sys/fs/cgroup/memory.max || least memory_bytes "$TRIMMED"
    if read_raw "$ROOT/proc/self/smaps" && [[ $RAW =~ KernelPageSize:[[:space:]]*([0-9]{1,6})' kB' ]]; then
        page=$((10#${BASH_REMATCH[1]} * 1024))
        ((page > 0)) || page=4096
    fi
    VARIABLES[memory_pages]=$((VARIABLES[memory_bytes] / page))
}

read_nics() {
    local nic queue queues
    VARIABLES[nic_queues]=1 VARIABLES[nic_mbps]=0
    for nic in "$ROOT"/sys/class/net/*; do
        [ -e "$nic/device" ] || continue
        queues=0
        for queue in "$nic"/queues/rx-*; do
            [ ! -e "$queue" ] || queues=$((queues + 1))
        done
        ((queues <= VARIABLES[nic_queues])) || VARIABLES[nic_queues]=$queues
        if one "${nic#"$ROOT"}/speed" && [[ $TRIMMED =~ ^[0-9]{1,9}$ ]]; then
            ((10#$TRIMMED <= VARIABLES[nic_mbps])) || VARIABLES[nic_mbps]=$((10#$TRIMMED))
        fi
    done
    # A virtual machine's link often tells no speed: taken for the ordinary one.
    ((VARIABLES[nic_mbps] > 0)) || VARIABLES[nic_mbps]=1000
}

# read_machine: fills VARIABLES. Those given by --with stand.
read_machine() {
    local name
    VARIABLES=([connections]="$CONNECTIONS" [index]=0 [container]=0 [virtual]=0 [laptop]=0 [smt]=0 [systemd]=0
        [numa_nodes]=1 [kernel]=0)
    read_cores
    read_memory
    read_nics
    if one /sys/devices/system/node/online; then
        count_of "$TRIMMED"
        ((COUNT == 0)) || VARIABLES[numa_nodes]=$COUNT
    fi
    if one /sys/devices/system/cpu/smt/active && [ "$TRIMMED" = 1 ]; then VARIABLES[smt]=1; fi
    if one /proc/sys/kernel/osrelease && [[ $TRIMMED =~ ^([0-9]{1,4})\.([0-9]{1,3}) ]]; then
        VARIABLES[kernel]=$((10#${BASH_REMATCH[1]} * 1000 + 10#${BASH_REMATCH[2]}))
    fi
    ! is_container || VARIABLES[container]=1
    ! is_virtual || VARIABLES[virtual]=1
    [ ! -d "$ROOT/run/systemd/system" ] || VARIABLES[systemd]=1
    for name in "$ROOT"/sys/class/power_supply/BAT*; do
        [ ! -e "$name" ] || VARIABLES[laptop]=1
    done
    for name in "${!WITH[@]}"; do
        [ -n "${VARIABLES[$name]+x}" ] ||
            die "--with $name: there is no such variable; there are: ${!VARIABLES[*]} host numa"
        VARIABLES[$name]=${WITH[$name]}
    done
    VARIABLES[host]=$((!VARIABLES[container]))
    VARIABLES[numa]=$((VARIABLES[numa_nodes] > 1))
}

# machine_words: one line about it into MACHINE_WORDS.
machine_words() {
    local mib=$((VARIABLES[memory_bytes] / 1048576))
    MACHINE_WORDS="${VARIABLES[cores]} cores, $mib MiB"
    ((VARIABLES[numa_nodes] == 1)) || MACHINE_WORDS+=", ${VARIABLES[numa_nodes]} NUMA nodes"
    ((VARIABLES[virtual] == 0)) || MACHINE_WORDS+=', virtual'
    ((VARIABLES[container] == 0)) || MACHINE_WORDS+=', in a container'
    ((VARIABLES[laptop] == 0)) || MACHINE_WORDS+=', with a battery'
    MACHINE_WORDS+=", for ${VARIABLES[connections]} connections"
}
