# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# apply: writes what the plan says, all or nothing. Whatever is to be changed is recorded first; a value that does not
# read back as written, a file that cannot be written, or a signal leads back to how it was before this apply.

declare -a DONE=() NEW_DIRS=() NEW_TIMES=()
APPLYING=0 REFUSED='' FIRST=0

# put PATH TEXT: the bytes into a live value. Never creates one.
put() {
    [ -f "$ROOT$1" ] && { printf '%s' "$2" >"$ROOT$1"; } 2>/dev/null
}

# put_back PATH RAW: exactly these bytes. Where the kernel shows a choice as "always [madvise] never", the choice alone
# is what it takes; in a tree the whole text is then still to be written.
put_back() {
    normal "$1" "$2"
    trim "$2"
    if [ "$TRIMMED" != "$NORMAL" ] && [[ $1 != *_cpus ]]; then
        put "$1" "$NORMAL"$'\n' || true
        ! read_raw "$ROOT$1" || [ "$RAW" != "$2" ] || return 0
    fi
    put "$1" "$2" || true
    read_raw "$ROOT$1" && same "$1" "$RAW" "$2"
}

# put_file PATH: the file on the standard input, in place of the old one, whose mode and owner it takes.
put_file() {
    local path=$ROOT$1
    local new=${path%/*}/.${path##*/}.sluice-new
    cat >"$new" || return 1
    if [ -f "$path" ]; then
        chmod --reference="$path" -- "$new" || return 1
        chown --reference="$path" -- "$new" 2>/dev/null || true
    else
        chmod 0644 -- "$new" || return 1
    fi
    mv -f -T -- "$new" "$path"
}

# restore_file PATH SAVED: a copy with all that belongs to it, in one step.
restore_file() {
    local path=$ROOT$1
    local new=${path%/*}/.${path##*/}.sluice-new
    cp -p -T -- "$2" "$new" && mv -f -T -- "$new" "$path"
}

# inside_root PATH...: with --root no link may lead out of the tree.
inside_root() {
    local real path
    [ -n "$ROOT" ] && (($# > 0)) || return 0
    while IFS= read -r -d '' real; do
        [[ $real == "$ROOT"/* || $real == "$ROOT" ]] || die "a link leads out of $ROOT, to $real: nothing is done"
    done < <(realpath -m -z -- "${@/#/$ROOT}")
}

# companions_of PATH: the record keeps what the kernel changes along with it. Before PATH's own line: put back after it.
record_companion() {
    local name=${1##*/} path
    [ -n "${COMPANIONS[$name]+x}" ] || return 0
    path=${1%/*}/${COMPANIONS[$name]}
    [ -z "${R_BEFORE[$path]+x}" ] || return 0
    read_raw "$ROOT$path" || return 0
    R_VALUES+=("$path")
    R_BEFORE[$path]=$RAW R_WRITTEN[$path]='' R_COMPANION[$path]=1 R_TIME[$path]=-
    NEW_TIMES+=("$path")
}

# record_plan: adds what the plan is about to change to the R_ variables, and saves the files.
record_plan() {
    local path n directory name
    NEW_TIMES=() NEW_DIRS=()
    for path in "${P_VALUES[@]}"; do
        record_companion "$path"
        if [ -z "${R_BEFORE[$path]+x}" ]; then
            R_VALUES+=("$path")
            R_BEFORE[$path]=${P_NOW[$path]} R_TIME[$path]=-
            NEW_TIMES+=("$path")
        elif [ -n "${R_COMPANION[$path]-}" ]; then
            R_COMPANION[$path]=
        fi
        R_WRITTEN[$path]=${P_TO[$path]}
    done
    if [ -n "$ROOT" ]; then
        times_of "${NEW_TIMES[@]}"
        for path in "${NEW_TIMES[@]}"; do R_TIME[$path]=${TIMES[$path]}; done
    fi
    for name in "${!P_BASE[@]}"; do R_BASE[$name]=${P_BASE[$name]}; done
    n=0
    for path in "${R_FILES[@]}"; do
        name=${R_FILE_NO[$path]}
        ((name < n)) || n=$((name + 1))
    done
    for path in "${P_FILES[@]}" "${P_BACK[@]}"; do
        record_directories "${path%/*}"
        if [ -z "${R_FILE_WAS[$path]+x}" ]; then
            R_FILES+=("$path")
            R_FILE_NO[$path]=$n R_FILE_WAS[$path]=absent
            if [ -f "$ROOT$path" ]; then
                R_FILE_WAS[$path]=present
                cp -p -T -- "$ROOT$path" "$RECORD/files/$n.before" || return 1
            fi
            n=$((n + 1))
        fi
        [ ! -f "$ROOT$path" ] || cp -p -T -- "$ROOT$path" "$RECORD/files/${R_FILE_NO[$path]}.undo" || return 1
    done
    for path in "${P_FILES[@]}"; do
        printf '%s' "${P_CONTENT[$path]}" >"$RECORD/files/${R_FILE_NO[$path]}.ours.new" || return 1
    done
    record_times
}

# record_directories PATH: those that are to be made, and the one that gets the new entry.
record_directories() {
    local path=$1 chain=()
    while [ ! -d "$ROOT$path/" ]; do
        [[ " ${NEW_DIRS[*]} " == *" $path "* ]] || chain=("$path" "${chain[@]}")
        path=${path%/*}
    done
    NEW_DIRS+=("${chain[@]}")
    local name
    for name in "${chain[@]}"; do
        is_made "$name" || R_MADE+=("$name")
    done
    path=${path:-/}
    if ! is_made "$path" && [ -z "${R_DIR_BEFORE[$path]+x}" ]; then
        R_DIRS+=("$path")
        R_DIR_BEFORE[$path]='?' R_DIR_AFTER[$path]=-
    fi
}

is_made() {
    local name
    for name in "${R_MADE[@]}"; do [ "$name" != "$1" ] || return 0; done
    return 1
}

# record_times: the directories' times of change before; one that somebody else changed since the last apply is not
# given its old time any more.
declare -A UNDO_TIME=()
record_times() {
    local path
    times_of "${R_DIRS[@]}"
    UNDO_TIME=()
    for path in "${R_DIRS[@]}"; do
        UNDO_TIME[$path]=${TIMES[$path]}
        if [ "${R_DIR_BEFORE[$path]}" = '?' ]; then
            R_DIR_BEFORE[$path]=${TIMES[$path]}
        elif [ "${R_DIR_AFTER[$path]}" != - ] && [ "${R_DIR_AFTER[$path]}" != "${TIMES[$path]}" ]; then
            R_DIR_BEFORE[$path]=-
        fi
        R_DIR_AFTER[$path]=-
    done
    # The directory of the record itself has changed already: what it was is in the record since the claim.
    for path in "${R_DIRS[@]}"; do
        if [ "$FIRST" = 1 ] && [[ $RECORD_PLACE == "${path%/}"/* ]]; then UNDO_TIME[$path]=${R_DIR_BEFORE[$path]}; fi
    done
}

# write_all: fails at the first refusal, with its words in REFUSED.
write_all() {
    local path name
    for name in "${P_MODULES[@]}"; do
        [ -z "$ROOT" ] && command -v modprobe >/dev/null || continue
        modprobe -q -- "$name" || {
            REFUSED="the module $name cannot be loaded"
            return 1
        }
    done
    for path in "${NEW_DIRS[@]}"; do
        DONE+=("d $path")
        mkdir -m 0755 -- "$ROOT$path" || {
            REFUSED="$path cannot be made"
            return 1
        }
    done
    for path in "${P_FILES[@]}"; do
        DONE+=("f $path")
        put_file "$path" <"$RECORD/files/${R_FILE_NO[$path]}.ours.new" && read_raw "$ROOT$path" &&
            [ "$RAW" = "${P_CONTENT[$path]}" ] || {
            REFUSED="$path cannot be written"
            return 1
        }
    done
    for path in "${P_BACK[@]}"; do
        DONE+=("f $path")
        file_to_before "$path" || {
            REFUSED="$path cannot be put back"
            return 1
        }
    done
    for path in "${P_VALUES[@]}"; do
        DONE+=("v $path")
        write_one "$path" || return 1
    done
    # Once more, all of them: one may have changed another.
    for path in "${P_VALUES[@]}"; do
        read_raw "$ROOT$path" && same "$path" "$RAW" "${P_TO[$path]}" || {
            trim "$RAW"
            REFUSED="$path was written, but is $TRIMMED now, not ${P_TO[$path]}"
            return 1
        }
    done
}

write_one() {
    local path=$1 said=''
    if [ "${P_TO[$path]}" = "${R_BEFORE[$path]-}" ]; then
        put_back "$path" "${P_TO[$path]}" || said='not taken back'
    else
        put "$path" "${P_TO[$path]}"$'\n' || said='the kernel refuses it'
    fi
    if [ -z "$said" ]; then
        read_raw "$ROOT$path" && same "$path" "$RAW" "${P_TO[$path]}" || {
            trim "$RAW"
            said="reads back as '$TRIMMED'"
        }
    fi
    [ -z "$said" ] || REFUSED="$path = ${P_TO[$path]}: $said"
    [ -z "$said" ]
}

# undo: back to before this apply. Signals wait.
undo() {
    local n what path no failed=0
    APPLYING=0
    trap '' INT TERM HUP
    for ((n = ${#DONE[@]} - 1; n >= 0; n--)); do
        what=${DONE[n]%% *} path=${DONE[n]#* }
        case $what in
        v)
            if ! read_raw "$ROOT$path" || [ "$RAW" != "${P_NOW[$path]}" ]; then
                put_back "$path" "${P_NOW[$path]}" || failed=1
            fi
            ;;
        f)
            no=${R_FILE_NO[$path]}
            rm -f -- "$ROOT${path%/*}/.${path##*/}.sluice-new"
            if [ -f "$RECORD/files/$no.undo" ]; then
                restore_file "$path" "$RECORD/files/$no.undo" || failed=1
            else
                rm -f -- "$ROOT$path" || failed=1
            fi
            ;;
        d) rmdir -- "$ROOT$path" 2>/dev/null || true ;;
        esac
    done
    undo_rest || failed=1
    if [ "$failed" = 1 ]; then
        complain "not all of it could be undone: 'revert' tries again"
        return
    fi
    if [ "$FIRST" = 1 ]; then
        drop_record
    else
        rm -f -- "$RECORD"/files/*.undo "$RECORD"/files/*.ours.new
        mv -f -- "$RECORD/record.before" "$RECORD/record"
    fi
}

# undo_rest: what changed along with it, and the times.
undo_rest() {
    local path
    for path in "${NEW_TIMES[@]}"; do
        if [ -n "${R_COMPANION[$path]-}" ] && read_raw "$ROOT$path" && [ "$RAW" != "${R_BEFORE[$path]}" ]; then
            put_back "$path" "${R_BEFORE[$path]}" || return 1
        fi
        [ -z "$ROOT" ] || set_time "$path" "${R_TIME[$path]}"
    done
    for path in "${!UNDO_TIME[@]}"; do set_time "$path" "${UNDO_TIME[$path]}"; done
}

on_signal() {
    complain "interrupted: what was written is undone"
    # The way out goes through on_exit.
    exit $((128 + $1))
}

on_exit() {
    local code=$?
    trap - EXIT
    if [ -n "$STAGING" ]; then clean_staging; fi
    if [ "$APPLYING" = 1 ]; then undo; fi
    exit "$code"
}

# begin: everything that is read is read again under the lock.
begin() {
    FIRST=0
    record_read
    if [ -n "$R_STATE" ]; then
        lock
        record_read
    else
        FIRST=1
    fi
    make_plan
    if plan_is_empty; then return 0; fi
    inside_root "${P_VALUES[@]}" "${P_FILES[@]}" "${P_BACK[@]}" "$RECORD_PLACE"
    if [ "$FIRST" = 1 ]; then
        claim
        make_plan
    else
        cp -- "$RECORD/record" "$RECORD/record.before"
        APPLYING=1
        rm -f -- "$RECORD"/files/*.undo "$RECORD"/files/*.ours.new
    fi
}

changed_by_others() {
    local path changed=0
    for path in "${P_FILES[@]}" "${P_BACK[@]}"; do
        [ -n "${R_FILE_NO[$path]+x}" ] || continue
        file_is_ours "$path" || file_is_before "$path" || {
            complain "$path was changed since by somebody else: apply --force replaces it"
            changed=1
        }
    done
    [ "$changed" = 1 ]
}

verb_apply() {
    load_checked "$PROFILE"
    ((EUID == 0)) || [ -n "$ROOT" ] || die "apply needs root; 'plan' shows what it would write"
    command -v flock >/dev/null || die 'flock (util-linux) is needed'
    clean_staging
    finish_interrupted
    # What goes wrong from here on is undone, whatever it is.
    trap on_exit EXIT
    trap 'on_signal 1' HUP
    trap 'on_signal 2' INT
    trap 'on_signal 15' TERM
    begin
    if plan_is_empty; then
        [ "$APPLYING" = 0 ] || undo
        say 'nothing to be written: all that can be is as wanted'
        apply_end
        return
    fi
    if [ "$FORCE" = 0 ] && [ "$FIRST" = 0 ] && changed_by_others; then
        return 1
    fi
    R_STATE=applying R_PROFILE=$PROFILE R_CONNECTIONS=$CONNECTIONS
    record_plan && record_write || die 'the record cannot be written: nothing was changed'
    if ! write_all; then
        complain "$REFUSED"
        complain 'refused: what was written is undone'
        return 1
    fi
    commit
    tell_daemons
    say "${#P_FILES[@]} files and ${#P_VALUES[@]} values written; 'revert' takes them back"
    apply_end
}

# commit: from here on it is applied.
commit() {
    local path
    for path in "${P_FILES[@]}"; do
        mv -f -T -- "$RECORD/files/${R_FILE_NO[$path]}.ours.new" "$RECORD/files/${R_FILE_NO[$path]}.ours"
    done
    times_of "${R_DIRS[@]}"
    for path in "${R_DIRS[@]}"; do R_DIR_AFTER[$path]=${TIMES[$path]}; done
    R_STATE=applied
    record_write
    APPLYING=0
    rm -f -- "$RECORD"/files/*.undo "$RECORD/record.before"
}

apply_end() {
    local note
    cannot_words
    ! plan_is_empty || P_NOTES=()
    for note in "${P_NOTES[@]}"; do [ "$QUIET" = 1 ] || wrap '' "note: $note"; done
    ((${#P_CANNOT[@]} == 0))
}

# tell_daemons: systemd and udev read their files again; nothing is restarted.
tell_daemons() {
    [ -z "$ROOT" ] && [ -d /run/systemd/system ] || return 0
    systemctl daemon-reload 2>/dev/null || true
    udevadm control --reload 2>/dev/null || true
}
