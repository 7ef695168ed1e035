#!/usr/bin/env bash
# Tunes the machine for sluice, and takes it back. tuning/lib/*.sh hold the parts; docs/tuning.md says what each setting
# is for, lib/profile.sh how profiles are written, lib/record.sh what is kept for revert.

# shellcheck disable=SC2034,SC2154  # variables that the parts read

set -euo pipefail
shopt -s nullglob extglob
# One byte is one character, and [a-z] means what it says.
LC_ALL=C
export LC_ALL
umask 022

HERE=${BASH_SOURCE[0]}
if [ -L "$HERE" ]; then HERE=$(readlink -f -- "$HERE"); fi
[[ $HERE == */* ]] || HERE=./$HERE
HERE=$(cd -- "${HERE%/*}" && pwd -P)

QUIET=0 VERBOSE=0 JSON=0 FORCE=0 FORGET=0 ROOT='' PROFILE='' CONNECTIONS='' ONLY='' KEY_ASKED='' LOCK='' STAGING=''
WIDTH=80
PROFILES=$HERE/profiles
REFUSED_FILE=$HERE/refused.conf
declare -A WITH=()

for part in text formula machine profile settings outside boot check plan record apply revert explain; do
    # shellcheck source=/dev/null
    . "$HERE/lib/$part.sh"
done

usage() {
    cat <<'TEXT'
usage: tune.sh VERB [OPTIONS]

  check           what each setting is, what it should be, why, and what it does
  plan            what apply would write: files as diffs, values as from -> to
  apply           record what is there, write, read back; undone as a whole if anything is refused
  revert          give back what was there before the first apply
  explain [KEY]   what the profiles say of a key, and which advice about it is refused; without KEY, all keys

  --profile NAME      a file of profiles/, or a path (default: what was applied, else by the machine)
  --connections N     how many connections are expected at once (default: 10000)
  --root DIR          work on the tree in DIR (DIR/proc/sys, DIR/sys, DIR/etc, ...), not on the machine
  --only PATTERN      only settings whose key, or kind and key, fit; for apply this is the whole profile then
  --with NAME=NUMBER  what the formulas see in place of the machine's own: cores, memory_bytes, virtual, ...
  --json              check: for programs
  --verbose           check: why, effect, risk and source of every setting
  --quiet             check: only what is to be changed; other verbs: only what goes wrong
  --force             revert: also what somebody else has changed since; apply: also such files
  --forget            revert: give nothing back, keep all as it is
  --help

exit code: 0 all is well; 1 check found something, or something was refused or left; 2 wrong use, or trouble
TEXT
}

options() {
    while (($# > 0)); do
        case $1 in
        --profile=* | --connections=* | --root=* | --only=* | --with=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
        esac
        fits_verb "$1"
        case $1 in
        --profile | --connections | --root | --only | --with)
            [ -n "${2-}" ] || die "$1 needs a value"
            option_value "$1" "$2"
            shift
            ;;
        --json) JSON=1 ;;
        --verbose | -v) VERBOSE=1 ;;
        --quiet | -q) QUIET=1 ;;
        --force) FORCE=1 ;;
        --forget) FORGET=1 ;;
        --help | -h)
            usage
            exit 0
            ;;
        -*) die "there is no option $1 (--help lists them)" ;;
        *)
            [[ $VERB == explain && -z $KEY_ASKED ]] || die "'$1' is one word too many (--help)"
            KEY_ASKED=$1
            ;;
        esac
        shift
    done
}

# fits_verb OPTION: who says "apply --json" to look, or "revert --only x" to take back a part, would get something else.
fits_verb() {
    case $1:$VERB in
    --json:check | --verbose:check | -v:check | --force:apply | --force:revert | --forget:revert) ;;
    --json:* | --verbose:* | -v:* | --force:* | --forget:*) die "$1 is not for $VERB (--help)" ;;
    --profile:revert | --connections:revert | --only:revert | --with:revert)
        die "$1 is not for revert: it gives back all that was recorded"
        ;;
    esac
}

option_value() {
    case $1 in
    --profile) PROFILE=$2 ;;
    --connections)
        [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || die "--connections needs a number from 1 to 999999999, not '$2'"
        CONNECTIONS=$2
        ;;
    --only) ONLY=$2 ;;
    --with)
        [[ $2 =~ ^([a-z_]+)=([0-9]{1,18})$ ]] || die "--with needs NAME=NUMBER, not '$2'"
        WITH[${BASH_REMATCH[1]}]=$((10#${BASH_REMATCH[2]}))
        ;;
    --root)
        [ -d "$2/" ] || die "--root: $2 is not a directory"
        ROOT=$(cd -- "$2" && pwd -P)
        [ "$ROOT" != / ] || ROOT=
        ;;
    esac
}

# choose_profile: what was applied, or what the machine is.
choose_profile() {
    record_read
    CONNECTIONS=${CONNECTIONS:-${R_CONNECTIONS:-10000}}
    [[ $CONNECTIONS =~ ^[1-9][0-9]{0,8}$ ]] || CONNECTIONS=10000
    read_machine
    if [ -n "$PROFILE" ]; then return 0; fi
    if [ -n "$R_PROFILE" ]; then
        PROFILE=$R_PROFILE
    elif ((VARIABLES[container] == 1)); then
        PROFILE=container
    elif ((VARIABLES[laptop] == 1)); then
        PROFILE=laptop
    else
        PROFILE=api
    fi
}

main() {
    VERB=${1-}
    case $VERB in
    check | plan | apply | revert | explain) shift ;;
    -h | --help | help)
        usage
        exit 0
        ;;
    '')
        usage >&2
        exit 2
        ;;
    *) die "there is no verb '$VERB' (--help lists them)" ;;
    esac
    options "$@"
    if [ -t 1 ]; then
        WIDTH=$(tput cols 2>/dev/null || echo 80)
    elif [[ ${COLUMNS-} =~ ^[0-9]{2,4}$ ]]; then
        WIDTH=$COLUMNS
    fi
    ((WIDTH >= 40)) || WIDTH=40
    ((WIDTH <= 120)) || WIDTH=120
    RECORD=$ROOT$RECORD_PLACE
    # revert needs no profile: it goes by the record alone, whatever became of the profiles since.
    if [ "$VERB" = revert ]; then
        verb_revert
        return
    fi
    choose_profile
    case $VERB in
    check) verb_check ;;
    plan) verb_plan ;;
    apply) verb_apply ;;
    explain) verb_explain "$KEY_ASKED" ;;
    esac
}

# On one line: the shell does not read on in a file that an upgrade may have replaced meanwhile.
main "$@"; exit
