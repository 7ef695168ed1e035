# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# revert: gives back what the record says, and nothing that somebody else has changed since.

# file_is_before PATH: is the file as it was before the first apply?
file_is_before() {
    if [ "${R_FILE_WAS[$1]}" = absent ]; then
        [ ! -e "$ROOT$1" ] && [ ! -L "$ROOT$1" ]
    else
        [ -f "$ROOT$1" ] && [ ! -L "$ROOT$1" ] && cmp -s -- "$ROOT$1" "$RECORD/files/${R_FILE_NO[$1]}.before"
    fi
}

file_is_ours() {
    [ -f "$ROOT$1" ] && [ ! -L "$ROOT$1" ] && cmp -s -- "$ROOT$1" "$RECORD/files/${R_FILE_NO[$1]}.ours"
}

file_to_before() {
    rm -f -- "$ROOT${1%/*}/.${1##*/}.sluice-new"
    if [ "${R_FILE_WAS[$1]}" = absent ]; then
        rm -f -- "$ROOT$1"
    else
        restore_file "$1" "$RECORD/files/${R_FILE_NO[$1]}.before"
    fi
}

# revert_value PATH: 0 given back, 1 left as it is.
revert_value() {
    local path=$1 now
    if ! read_raw "$ROOT$path" && [ ! -f "$ROOT$path" ]; then
        say "$path is not here any more"
        return 0
    fi
    now=$RAW
    if [ "$now" != "${R_BEFORE[$path]}" ]; then
        # No byte at all is what a write leaves that was cut short in a tree.
        if [ "$UNFINISHED" = 0 ] && [ -n "$now" ] && [ "$FORCE" = 0 ] && [ -z "${R_COMPANION[$path]-}" ] &&
            ! same "$path" "$now" "${R_WRITTEN[$path]}" && ! same "$path" "$now" "${R_BEFORE[$path]}"; then
            trim "$now"
            complain "$path is $TRIMMED now: somebody else changed it since, so it stays"
            return 1
        fi
        put_back "$path" "${R_BEFORE[$path]}" || {
            complain "$path cannot be given back"
            return 1
        }
    fi
    [ -z "$ROOT" ] || set_time "$path" "${R_TIME[$path]}"
}

# revert_file PATH: as above.
revert_file() {
    local path=$1
    if ! file_is_before "$path"; then
        if [ "$UNFINISHED" = 0 ] && [ "$FORCE" = 0 ] && ! file_is_ours "$path"; then
            complain "$path was changed since by somebody else, so it stays"
            return 1
        fi
    fi
    # Also when the bytes are the same: mode, owner and time belong to it.
    [ -d "$ROOT${path%/*}" ] || return 0
    file_to_before "$path" || {
        complain "$path cannot be given back"
        return 1
    }
}

# revert_directories: those that were made go if nobody uses them; the others get their times of change back.
revert_directories() {
    local n path
    for ((n = ${#R_MADE[@]} - 1; n >= 0; n--)); do
        path=${R_MADE[n]}
        [[ $RECORD_PLACE/ != "$path"/* ]] || continue
        rmdir -- "$ROOT$path" 2>/dev/null || [ ! -d "$ROOT$path" ] || say "$path stays, there is something in it"
    done
    for path in "${R_DIRS[@]}"; do
        set_time "$path" "${R_DIR_BEFORE[$path]}"
    done
}

# revert_all: the record is read and locked. Fails when something is left.
revert_all() {
    local path n left_values=() left_files=() UNFINISHED=0
    [ "$R_STATE" != applying ] || UNFINISHED=1
    inside_root "${R_VALUES[@]}" "${R_FILES[@]}" "${R_MADE[@]}" "${R_DIRS[@]}"
    if [ "$R_STATE" = applied ]; then
        # What follows changes the directories' times itself, so those that somebody else changed are noted first.
        times_of "${R_DIRS[@]}"
        for path in "${R_DIRS[@]}"; do
            [ "${TIMES[$path]}" = "${R_DIR_AFTER[$path]}" ] || R_DIR_BEFORE[$path]=-
        done
        R_STATE=reverting
        record_write || complain 'the record cannot be written; going on'
    fi
    for ((n = ${#R_VALUES[@]} - 1; n >= 0; n--)); do
        revert_value "${R_VALUES[n]}" || left_values=("${R_VALUES[n]}" "${left_values[@]}")
    done
    for ((n = ${#R_FILES[@]} - 1; n >= 0; n--)); do
        revert_file "${R_FILES[n]}" || left_files=("${R_FILES[n]}" "${left_files[@]}")
    done
    revert_directories
    if ((${#left_values[@]} + ${#left_files[@]} == 0)); then
        drop_record
        return 0
    fi
    R_VALUES=("${left_values[@]}") R_FILES=("${left_files[@]}") R_STATE=applied
    times_of "${R_DIRS[@]}"
    for path in "${R_DIRS[@]}"; do R_DIR_AFTER[$path]=${TIMES[$path]}; done
    record_write
    return 1
}

# finish_interrupted: what an apply or revert left half done goes back to how it was before the first apply.
finish_interrupted() {
    record_read
    if [ -z "$R_STATE" ] || [ "$R_STATE" = applied ]; then return 0; fi
    say 'an earlier run was cut short: its work is undone first'
    lock
    record_read
    revert_all || complain 'the rest of it is undone'
    exec {LOCK}<&-
}

verb_revert() {
    ((EUID == 0)) || [ -n "$ROOT" ] || die 'revert needs root'
    command -v flock >/dev/null || die 'flock (util-linux) is needed'
    clean_staging
    record_read
    if [ -z "$R_STATE" ]; then
        say 'nothing to be given back: no record is here'
        return 0
    fi
    lock
    record_read
    if [ "$FORGET" = 1 ]; then
        [ "$R_STATE" = applied ] || die 'a run was cut short: revert without --forget first'
        drop_record
        say 'forgotten: all stays as it is now'
        return 0
    fi
    local values=${#R_VALUES[@]} files=${#R_FILES[@]} status=0
    revert_all || status=1
    tell_daemons
    if [ "$status" = 0 ]; then
        say "$values values and $files files given back"
    else
        wrap '' "the rest is given back; 'revert --force' gives back these too, 'revert --forget' leaves them for good"
    fi
    return "$status"
}
