# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# What the next boot will set: the files of sysctl.d(5), of which the one whose name sorts last has the last word. A
# value that is right now and wrong after a boot is the kind of surprise that check is there for.

declare -A BOOT_VALUE=() BOOT_FILE=()
BOOT_LOADED=0

# load_boot: every assignment, by its path below /proc/sys.
load_boot() {
    local folder file name names=() lines line key
    local -A path_of=()
    [ "$BOOT_LOADED" = 0 ] || return 0
    BOOT_LOADED=1
    # The first folder that has a name has it for all.
    for folder in /etc/sysctl.d /run/sysctl.d /usr/local/lib/sysctl.d /usr/lib/sysctl.d; do
        for file in "$ROOT$folder"/*.conf; do
            name=${file##*/}
            [ -z "${path_of["$name"]+x}" ] || continue
            path_of["$name"]=$file
            sorted_in "$name"
        done
    done
    for name in "${names[@]}"; do
        file=${path_of["$name"]}
        [ -f "$file" ] && [ -r "$file" ] || continue
        mapfile -t lines <"$file"
        for line in "${lines[@]}"; do
            [[ $line =~ ^[[:space:]]*-?[[:space:]]*([^#\;=[:space:]][^=[:space:]]*)[[:space:]]*=(.*)$ ]] || continue
            key=${BASH_REMATCH[1]}
            trim "${BASH_REMATCH[2]}"
            sysctl_path "$key"
            BOOT_VALUE[$PLACE]=$TRIMMED BOOT_FILE[$PLACE]=${file#"$ROOT"}
        done
    done
}

# sorted_in NAME: into names, in the order of bytes.
sorted_in() {
    local i
    for ((i = ${#names[@]}; i > 0; i--)); do
        [[ ${names[i - 1]} > "$1" ]] || break
        names[i]=${names[i - 1]}
    done
    names[i]=$1
}

# boot_note I: adds to J_NOTE when the boot will undo what is as wanted now, or what apply would set.
boot_note() {
    local i=$1 path
    [[ ${S_KIND[i]} == sysctl && $J_STATE == ok ]] || return 0
    load_boot
    for path in "${J_PATHS[@]}"; do
        [ -n "${BOOT_VALUE[$path]+x}" ] || continue
        wanted "$i" || return 0
        OFFERED=
        better "${S_OP[i]}" "$VALUE" "${BOOT_VALUE[$path]}" ||
            J_NOTE+="${J_NOTE:+; }at the next boot ${BOOT_FILE[$path]} sets it to ${BOOT_VALUE[$path]}"
    done
}
