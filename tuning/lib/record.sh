# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# What was there before. RECORD/record is a text of one fact a line, its words divided by one space, %XX for blanks and
# percent signs, % alone for nothing; paths are those without ROOT:
#
#   sluice-tuning-record 1             the format's number
#   state applying|applied|reverting   all but "applied" is work cut short
#   profile NAME / connections N       what was applied, for people and for check
#   made PATH                          a directory that was made, parents first
#   dir PATH BEFORE AFTER              a directory's time of change before and after, seconds.nanoseconds; - unknown
#   file PATH N absent|present         what was there lies in RECORD/files/N.before with its mode, owner and times, what
#                                      was written in N.ours
#   value PATH BEFORE WRITTEN TIME     a live value's bytes; TIME is the file's, only in a tree
#   companion PATH BEFORE TIME         one that the kernel may change when another is written
#   base KIND KEY VALUE                what a setting was that has no live value to write
#   end                                the record is whole
#
# A later format must read this one: tests/tuning/data holds a record of each number.

RECORD_FORMAT=1
R_STATE='' R_PROFILE='' R_CONNECTIONS=''
declare -a R_VALUES=() R_FILES=() R_MADE=() R_DIRS=()
declare -A R_BEFORE=() R_WRITTEN=() R_TIME=() R_COMPANION=() R_FILE_NO=() R_FILE_WAS=() R_DIR_BEFORE=() R_DIR_AFTER=() \
    R_BASE=()

record_forget() {
    R_STATE='' R_PROFILE='' R_CONNECTIONS=''
    R_VALUES=() R_FILES=() R_MADE=() R_DIRS=()
    R_BEFORE=() R_WRITTEN=() R_TIME=() R_COMPANION=() R_FILE_NO=() R_FILE_WAS=() R_DIR_BEFORE=() R_DIR_AFTER=() R_BASE=()
}

record_line() {
    local n
    for n in "${!WORDS[@]}"; do
        decode "${WORDS[n]}"
        WORDS[n]=$DECODED
    done
    local name=${WORDS[1]-}
    case ${WORDS[0]}:${#WORDS[@]} in
    state:2) R_STATE=$name ;;
    profile:2) R_PROFILE=$name ;;
    connections:2) R_CONNECTIONS=$name ;;
    made:2) R_MADE+=("$name") ;;
    dir:4)
        R_DIRS+=("$name")
        R_DIR_BEFORE[$name]=${WORDS[2]} R_DIR_AFTER[$name]=${WORDS[3]}
        ;;
    file:4)
        R_FILES+=("$name")
        [[ ${WORDS[2]} =~ ^[0-9]+$ ]] || return 1
        R_FILE_NO[$name]=${WORDS[2]} R_FILE_WAS[$name]=${WORDS[3]}
        ;;
    value:5)
        R_VALUES+=("$name")
        R_BEFORE[$name]=${WORDS[2]} R_WRITTEN[$name]=${WORDS[3]} R_TIME[$name]=${WORDS[4]}
        ;;
    companion:4)
        R_VALUES+=("$name")
        R_BEFORE[$name]=${WORDS[2]} R_WRITTEN[$name]='' R_TIME[$name]=${WORDS[3]} R_COMPANION[$name]=1
        ;;
    base:4) R_BASE["$name ${WORDS[2]}"]=${WORDS[3]} ;;
    *) return 1 ;;
    esac
    # A path out of the record is written to: it is absolute and does not climb.
    case ${WORDS[0]} in
    made | dir | file | value | companion) [[ $name == /* && "$name/" != */../* ]] || return 1 ;;
    esac
}

# record_read: into the R_ variables; empty R_STATE when there is none.
record_read() {
    local lines=() number=0 line whole=0
    record_forget
    [ -e "$RECORD/record" ] || return 0
    [ -r "$RECORD/record" ] || die "$RECORD/record cannot be read"
    mapfile -t lines <"$RECORD/record"
    if [[ ! ${lines[0]-} =~ ^'sluice-tuning-record '([0-9]{1,6})$ ]]; then
        die "$RECORD/record is not a record of this script: left alone"
    fi
    ((10#${BASH_REMATCH[1]} <= RECORD_FORMAT)) ||
        die "$RECORD/record has format ${BASH_REMATCH[1]}, of a later version of this script: use that one"
    for line in "${lines[@]:1}"; do
        number=$((number + 1))
        if [ "$line" = end ]; then whole=1; fi
        [[ $line != '#'* && $line != end ]] || continue
        IFS=' ' read -r -a WORDS <<<"$line"
        record_line || die "$RECORD/record:$((number + 1)): not understood: $line"
    done
    [ "$whole" = 1 ] || die "$RECORD/record is not whole: left alone"
}

# words KIND WORD...: one line of the record, into RECORD_TEXT.
words() {
    local word
    RECORD_TEXT+=$1
    shift
    for word in "$@"; do
        encode "$word"
        RECORD_TEXT+=" $ENCODED"
    done
    RECORD_TEXT+=$'\n'
}

# record_text: what the R_ variables say, into RECORD_TEXT.
record_text() {
    local name
    RECORD_TEXT="sluice-tuning-record $RECORD_FORMAT
# What tune.sh found before it changed anything, and what it wrote. tune.sh revert gives it back. By hand: for each
# line \"value PATH BEFORE WRITTEN\" write BEFORE to PATH (%20 is a blank, %09 a tab, %0A a line's end), the last first;
# for \"file PATH N present\" copy files/N.before to PATH, for \"absent\" remove PATH.
"
    words state "$R_STATE"
    words profile "$R_PROFILE"
    words connections "$R_CONNECTIONS"
    for name in "${R_MADE[@]}"; do words made "$name"; done
    for name in "${R_DIRS[@]}"; do words dir "$name" "${R_DIR_BEFORE[$name]}" "${R_DIR_AFTER[$name]}"; done
    for name in "${R_FILES[@]}"; do words file "$name" "${R_FILE_NO[$name]}" "${R_FILE_WAS[$name]}"; done
    for name in "${R_VALUES[@]}"; do
        if [ -n "${R_COMPANION[$name]-}" ]; then
            words companion "$name" "${R_BEFORE[$name]}" "${R_TIME[$name]}"
        else
            words value "$name" "${R_BEFORE[$name]}" "${R_WRITTEN[$name]}" "${R_TIME[$name]}"
        fi
    done
    for name in "${!R_BASE[@]}"; do words base "${name%% *}" "${name#* }" "${R_BASE[$name]}"; done
    RECORD_TEXT+=$'end\n'
}

# record_write: atomically, and on the disk before anything that it speaks of is changed.
record_write() {
    record_text
    printf '%s' "$RECORD_TEXT" >"$RECORD/record.new" || return 1
    # A tree is for trying things out; its disk may be as slow as it likes.
    [ -n "$ROOT" ] || sync "$RECORD/record.new" 2>/dev/null || true
    mv -f -- "$RECORD/record.new" "$RECORD/record"
}

# time_of PATH...: their times of change into the array TIMES, - for those that are not there.
declare -A TIMES=()
times_of() {
    local line lines=() path
    TIMES=()
    (($# > 0)) || return 0
    for path in "$@"; do TIMES[$path]=-; done
    local n=0 there=()
    for path in "$@"; do
        if [ -e "$ROOT$path/." ] || [ -e "$ROOT$path" ]; then there+=("$path"); fi
    done
    ((${#there[@]} > 0)) || return 0
    mapfile -t lines < <(stat -c %.9Y -- "${there[@]/#/$ROOT}")
    for line in "${lines[@]}"; do
        TIMES[${there[n]}]=$line
        n=$((n + 1))
    done
}

# set_time PATH TIME: gives a file or directory its time of change back, where that is possible.
set_time() {
    [ "$2" != - ] || return 0
    touch -c -d "@$2" -- "$ROOT$1" 2>/dev/null || true
}

# Not in /var/lib/sluice, which belongs to the service's user: who can write the record can have root write anything.
RECORD_PLACE=/var/lib/sluice-tuning

# claim: makes the record's directory with a first record in it, in one step, so that at no moment there is a directory
# of ours of which no record tells; and takes the lock. The time of change of the directory that gets the new entry is
# part of the temporary name, so that even what is cut short here can be undone to the last bit.
claim() {
    local parent=$RECORD_PLACE top made=() time path staging n
    while :; do
        top=$parent
        parent=${parent%/*}
        made=("$top" "${made[@]}")
        [ ! -d "$ROOT$parent/" ] || break
    done
    times_of "$parent/."
    time=${TIMES["$parent/."]}
    staging="$parent/.sluice-tuning.$time.$$"
    record_forget
    R_STATE=applying R_PROFILE=$PROFILE R_CONNECTIONS=$CONNECTIONS
    R_MADE=("${made[@]}")
    R_DIRS=("${parent:-/}")
    R_DIR_BEFORE[${parent:-/}]=$time R_DIR_AFTER[${parent:-/}]=-
    STAGING=$ROOT$staging
    mkdir -m 0755 -- "$STAGING" || die "no record can be kept: $ROOT$parent is not to be written"
    path=$STAGING${RECORD_PLACE#"$top"}
    mkdir -p -- "$path/files"
    record_text
    printf '%s' "$RECORD_TEXT" >"$path/record"
    # A file of its own, which only the owner can open: nobody else can hold us up.
    (umask 077 && : >"$path/lock")
    exec {LOCK}<"$path/lock"
    flock -n "$LOCK"
    mv -T -n -- "$STAGING" "$ROOT$top"
    if [ -d "$STAGING" ]; then
        rm -rf -- "$STAGING"
        STAGING=
        die 'another tune.sh is at work'
    fi
    APPLYING=1 STAGING=
}

# trusted: was the record written by who runs this now?
trusted() {
    [ -O "$RECORD" ] && [ ! -L "$RECORD" ] && [ -O "$RECORD/record" ] || die "$RECORD is another user's: not trusted"
}

# lock: of a record that is there.
lock() {
    trusted
    [ -e "$RECORD/lock" ] || (umask 077 && : >"$RECORD/lock") || die "$RECORD cannot be written"
    exec {LOCK}<"$RECORD/lock" || die "$RECORD/lock cannot be opened"
    flock -n "$LOCK" || die 'another tune.sh is at work'
    [ "$RECORD/lock" -ef "/proc/self/fd/$LOCK" ] || die 'another tune.sh was at work: try again'
}

# remove_staging DIRECTORY PARENT TIME: the last of a record, and the time of change of what it lay in.
remove_staging() {
    rm -rf -- "$1"
    [ "$3" = 0.0 ] || set_time "${2:-/}" "$3"
}

# clean_staging: what a claim or a revert that was cut short left behind.
clean_staging() {
    local parent=$RECORD_PLACE left
    while [ -n "$parent" ]; do
        parent=${parent%/*}
        for left in "$ROOT$parent"/.sluice-tuning.*; do
            [[ -d $left && ! -L $left && $left =~ /\.sluice-tuning\.([0-9]+\.[0-9]+)\.([0-9]+)$ ]] || continue
            # One whose maker lives is still being made.
            if [ "${BASH_REMATCH[2]}" = $$ ] || ! kill -0 "${BASH_REMATCH[2]}" 2>/dev/null; then
                remove_staging "$left" "$parent" "${BASH_REMATCH[1]}"
            fi
        done
    done
}

# drop_record: the record and the directories made for it go, in one step as they came. A directory in which somebody
# else has put something by now stays.
drop_record() {
    local path top=$RECORD_PLACE parent time staging entries
    for path in "${R_MADE[@]}"; do
        [[ $RECORD_PLACE == "$path"/* ]] || continue
        entries=("$ROOT$path"/* "$ROOT$path"/.[!.]*)
        if ((${#entries[@]} == 1)) && [[ $RECORD_PLACE/ == "${entries[0]#"$ROOT"}"/* ]]; then
            top=$path
            break
        fi
    done
    parent=${top%/*}
    time=${R_DIR_BEFORE[${parent:-/}]-0.0}
    [[ $time =~ ^[0-9]+\.[0-9]+$ ]] || time=0.0
    staging=$ROOT$parent/.sluice-tuning.$time.$$
    mv -T -- "$ROOT$top" "$staging"
    remove_staging "$staging" "$parent" "$time"
}
