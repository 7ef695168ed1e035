# shellcheck shell=bash
# Completion of sluice, sluice-sim and sluice-tune for bash. It needs nothing of bash-completion but to be found by it.

# _sluice_offer WORDS: those that begin as the word under the cursor does.
_sluice_offer() {
    local IFS=$' \t\n'
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "${COMP_WORDS[COMP_CWORD]}")
}

# _sluice_files [SUFFIX...]: folders, and files that end so (all of them, where none is said).
_sluice_files() {
    local word=${COMP_WORDS[COMP_CWORD]} suffix
    compopt -o filenames 2>/dev/null
    if (($# == 0)); then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
    fi
    mapfile -t COMPREPLY < <(
        compgen -d -- "$word"
        for suffix in "$@"; do
            compgen -f -X "!*$suffix" -- "$word"
        done
    )
}

_sluice_folders() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -d -- "${COMP_WORDS[COMP_CWORD]}")
}

_sluice() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        _sluice_offer "serve check demo reference version help --version --help"
        return
    fi
    case ${COMP_WORDS[1]} in
    serve)
        ((COMP_CWORD > 2)) || _sluice_files .yaml .yml .json
        ;;
    check)
        if [[ $before == --root ]]; then
            _sluice_folders
        elif [[ $word == -* ]]; then
            _sluice_offer "--machine --json --strict --root"
        else
            _sluice_files .yaml .yml .json
        fi
        ;;
    demo)
        case $before in
        --port | --admin-port) ;;
        *) _sluice_offer "--port --admin-port" ;;
        esac
        ;;
    esac
}

# What `sluice-sim --help` lists: nothing here can be older than the program.
_sluice_sim() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]/#\~/$HOME}
    COMPREPLY=()
    case $before in
    --profile) _sluice_offer "$("$program" --help 2>/dev/null | sed -n '/^Profiles:/,$s/^  \([^ ]*\) .*/\1/p')" ;;
    --listen) _sluice_offer "127.0.0.1: unix:" ;;
    --fault) _sluice_offer "status= retry-after= slow-tokens= die-after= close-after= stall-after= error-after=" ;;
    --model | --time-scale | --context | --kv-tokens | --sequences | --side-by-side | --ticker-rate | --seed | --cpu) ;;
    *)
        [[ -n $word && $word != -* ]] ||
            _sluice_offer "$("$program" --help 2>/dev/null | sed -n 's/^  \(--[a-z-]*\).*/\1/p')"
        ;;
    esac
    # The colon and the equals sign part words in bash; what follows them is typed behind what is there.
    [[ ${COMPREPLY[*]} != *[:=] ]] || compopt -o nospace 2>/dev/null
}

# Where the profiles are: beside the script that the command is a link to.
_sluice_tune_profiles() {
    local script
    script=$(readlink -f -- "$(type -P -- "${COMP_WORDS[0]/#\~/$HOME}")" 2>/dev/null) || return 0
    compgen -G "${script%/*}/profiles/*.conf" | sed 's|.*/||; s|\.conf$||; /^common$/d'
}

_sluice_tune() {
    local before=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        _sluice_offer "check plan apply revert explain --help"
        return
    fi
    case $before in
    --profile) _sluice_offer "$(_sluice_tune_profiles)" ;;
    --root) _sluice_folders ;;
    --connections | --only | --with) ;;
    *)
        _sluice_offer "--profile --connections --root --only --with --json --verbose --quiet --force --forget --help"
        ;;
    esac
}

complete -F _sluice sluice
complete -F _sluice_sim sluice-sim
complete -F _sluice_tune sluice-tune tune.sh
