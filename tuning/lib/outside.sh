# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# Settings that only another program can read: the rings of network interfaces (ethtool) and Docker's daemon.json
# (python3 or jq). Each program is started once, and only when the profile asks and the thing is there.

DOCKER_FILE=/etc/docker/daemon.json

# ring_sizes TEXT: of ethtool -g: the largest and the current ones into RING_MAX_rx, ... as an array.
declare -A RING=()
ring_sizes() {
    local line part='' lines=()
    RING=()
    mapfile -t lines <<<"$1"
    for line in "${lines[@]}"; do
        case $line in
        'Pre-set maximums'*) part=max ;;
        'Current hardware'*) part=now ;;
        *)
            if [[ -n $part && $line =~ ^(RX|TX):[[:space:]]+([0-9]+)[[:space:]]*$ ]]; then
                RING["$part ${BASH_REMATCH[1],,}"]=${BASH_REMATCH[2]}
            fi
            ;;
        esac
    done
}

declare -A RINGS_OF=()
judge_ethtool() {
    local i=$1 key=${S_KEY[$1]} nic path want=$VALUE worst=2 nows=() text
    J_STATE=absent J_NOTE='no interface tells its rings, or ethtool is not installed'
    if [ -n "$ROOT" ]; then
        J_NOTE='ethtool asks the running machine, not a tree'
        return
    fi
    command -v ethtool >/dev/null || return 0
    for path in /sys/class/net/*; do
        nic=${path##*/}
        # The name goes into a rule and a command line.
        [[ -e $path/device && $nic =~ ^[A-Za-z0-9_.-]+$ ]] || continue
        if [ -z "${RINGS_OF[$nic]+x}" ]; then
            RINGS_OF[$nic]=$(ethtool -g "$nic" 2>/dev/null || true)
        fi
        text=${RINGS_OF[$nic]}
        ring_sizes "$text"
        judge_ring "$i" "$nic" "$key" "$want" || continue
    done
    ((${#nows[@]} == 0)) || distinct "${nows[@]}"
    case $worst in
    0) J_STATE=ok ;;
    1) J_STATE=finding ;;
    esac
    belongs_to_host
}

# judge_ring I NIC KEY WANT: one interface's; sets worst, adds to nows and to J_TARGET ("nic value" lines).
judge_ring() {
    local i=$1 nic=$2 key=$3 want=$4 now=${RING["now $3"]-} most=${RING["max $3"]-}
    [ -n "$now" ] || return 1
    nows+=("$now")
    # What the hardware does not have cannot be wanted of it.
    if [[ -n $most && $most != 0 ]] && at_least "$want" "$most"; then want=$most; fi
    if better "${S_OP[i]}" "$want" "$now"; then
        ((worst == 1)) || worst=0
    else
        worst=1 J_TARGET+="${J_TARGET:+$'\n'}$nic $BETTER"
    fi
    if read_raw "$ROOT$UDEV_FILE" && [[ $RAW == *"KERNEL==\"$nic\""*"-G $nic $key $BETTER\""* ]]; then
        worst=0 J_NOTE='written; holds from the next boot on (changing a ring drops the link for a moment)'
        [[ $J_TARGET == *"$nic "* ]] || J_TARGET+="${J_TARGET:+$'\n'}$nic $BETTER"
    fi
}

# What reads and merges daemon.json; arguments: file, then pairs of key and JSON value to set. Prints the new text.
# The keys are paths whose parts are divided by dots.
MERGE_PYTHON='
import json, sys
path, pairs = sys.argv[1], sys.argv[2:]
try:
    with open(path, encoding="utf-8") as f:
        text = f.read()
except FileNotFoundError:
    text = ""
top = json.loads(text) if text.strip() else {}
if not isinstance(top, dict):
    sys.exit("not an object")
for key, value in zip(pairs[::2], pairs[1::2]):
    at = top
    *parents, last = key.split(".")
    for part in parents:
        at = at.setdefault(part, {})
        if not isinstance(at, dict):
            sys.exit(key + ": " + part + " is not an object")
    at[last] = json.loads(value)
print(json.dumps(top, indent=2, ensure_ascii=False))
'
READ_PYTHON='
import json, sys
try:
    with open(sys.argv[1], encoding="utf-8") as f:
        text = f.read()
except FileNotFoundError:
    text = ""
top = json.loads(text) if text.strip() else {}
if not isinstance(top, dict):
    sys.exit("not an object")
for key in sys.argv[2:]:
    at = top
    for part in key.split("."):
        at = at.get(part) if isinstance(at, dict) else None
    print(json.dumps(at, ensure_ascii=True))
'
# shellcheck disable=SC2016  # jq's own variables
MERGE_JQ='
def path_of: split(".");
reduce range(0; ($ARGS.positional | length); 2) as $i
  (if type == "object" then . else error("not an object") end;
   setpath($ARGS.positional[$i] | path_of; $ARGS.positional[$i + 1] | fromjson))
'
# shellcheck disable=SC2016
READ_JQ='. as $top | $ARGS.positional[] | split(".") as $p | ($top | (try getpath($p) catch null)) | tojson'

json_tool() {
    if command -v python3 >/dev/null; then JSON_TOOL=python3; elif command -v jq >/dev/null; then JSON_TOOL=jq; else
        JSON_TOOL=
        return 1
    fi
}

# docker_read FILE KEY...: a JSON value a line; "null" for what is not there.
docker_read() {
    local file=$1
    shift
    case $JSON_TOOL in
    python3) python3 -I -c "$READ_PYTHON" "$file" "$@" 2>/dev/null ;;
    jq) if [ -s "$file" ]; then jq -r "$READ_JQ" "$file" --args "$@" 2>/dev/null; else
        jq -nr "{} | $READ_JQ" --args "$@"
    fi ;;
    esac
}

# docker_merge FILE KEY VALUE ...: the new text.
docker_merge() {
    local file=$1
    shift
    case $JSON_TOOL in
    python3) python3 -I -c "$MERGE_PYTHON" "$file" "$@" ;;
    jq) if [ -s "$file" ]; then jq --indent 2 "$MERGE_JQ" "$file" --args "$@"; else
        jq -n --indent 2 "{} | $MERGE_JQ" --args "$@"
    fi ;;
    esac
}

declare -A DOCKER_NOW=() DOCKER_BASE=()
DOCKER_LOADED=0

# load_docker: all docker keys of the profile at once.
load_docker() {
    local i keys=() lines=()
    [ "$DOCKER_LOADED" = 0 ] || return 0
    DOCKER_LOADED=1 DOCKER_PROBLEM=
    for i in "${!S_KIND[@]}"; do
        if [ "${S_KIND[i]}" = docker ]; then keys+=("${S_KEY[i]}"); fi
    done
    if ! json_tool; then
        DOCKER_PROBLEM='neither python3 nor jq is here to read daemon.json'
        return
    fi
    if [ -e "$ROOT$DOCKER_FILE" ] && [ ! -r "$ROOT$DOCKER_FILE" ]; then
        DOCKER_PROBLEM="$DOCKER_FILE cannot be read without root"
        return
    fi
    mapfile -t lines < <(docker_read "$ROOT$DOCKER_FILE" "${keys[@]}")
    if ((${#lines[@]} != ${#keys[@]})); then
        DOCKER_PROBLEM="$DOCKER_FILE cannot be understood as JSON: left alone"
        return
    fi
    for i in "${!keys[@]}"; do DOCKER_NOW[${keys[i]}]=${lines[i]}; done
    before_of "$DOCKER_FILE"
    if [ "$BEFORE_FILE" != "$ROOT$DOCKER_FILE" ]; then
        mapfile -t lines < <(docker_read "$BEFORE_FILE" "${keys[@]}")
        ((${#lines[@]} == ${#keys[@]})) || lines=()
    fi
    for i in "${!keys[@]}"; do DOCKER_BASE[${keys[i]}]=${lines[i]-null}; done
}

judge_docker() {
    local i=$1 key=${S_KEY[$1]}
    if [ ! -d "$ROOT/etc/docker" ] && [ ! -e "$ROOT/usr/bin/dockerd" ]; then
        J_STATE=absent J_NOTE='Docker is not installed'
        return
    fi
    load_docker
    J_STATE=advice J_NOTE=$DOCKER_PROBLEM
    [ -z "$DOCKER_PROBLEM" ] || return 0
    local want=$VALUE
    # Numbers and truth values as such; all other text as a string, quoted text too: "3" is not 3 to Docker's log drivers.
    if [[ ${S_VALUE[i]} == \"* || ! $VALUE =~ ^(-?[0-9]+|true|false|null|[{[].*)$ ]]; then
        json_text "$VALUE"
        want=$JSON_TEXT
    fi
    J_NOW=${DOCKER_NOW[$key]} J_BASE=${DOCKER_BASE[$key]}
    better "${S_OP[i]}" "$want" "$J_BASE" || J_TARGET=$BETTER
    J_STATE=finding
    ! better "${S_OP[i]}" "$want" "$J_NOW" || J_STATE=ok
    [ "$J_NOW" != null ] || J_NOW='(not set)'
    belongs_to_host
}
