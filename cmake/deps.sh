# shellcheck shell=bash
# What the build, the tests and the tools need, how each is recognised, and how it is got.
# Sourced by build.sh, which sets ROOT and BUILD.
#
# A need is recognised by what it provides (a command, a pkg-config module, a header, a Python module), never by the
# name of a package, so that the same list serves every distribution; only installing knows Debian. When nothing is
# missing this asks no network and no root, and takes a fraction of a second.

# group | recognised by | Debian package          (° = taken from Debian 13 on a Debian 12 machine)
# make is gcc's: with it, it optimises across files on all cores at link time.
NEEDS='
build | cmd:cc                   | gcc libc6-dev
build | cmd:cmake                | cmake
build | cmd:ninja                | ninja-build
build | cmd:make                 | make
build | cmd:pkg-config           | pkg-config
build | pc:liburing>=2.9         | liburing-dev°
build | include:linux/blkdev.h  | linux-libc-dev°
build | pc:libllhttp>=9.2        | libllhttp-dev°
build | pc:yyjson                | libyyjson-dev°
build | pc:mbedcrypto            | libmbedtls-dev°
build | pc:yaml-0.1              | libyaml-dev
build | pc:libxxhash             | libxxhash-dev
build | pc:jemalloc              | libjemalloc-dev
build | pc:hwloc                 | libhwloc-dev
build | pc:sqlite3>=3.37         | libsqlite3-dev
package| cmd:dpkg-shlibdeps      | dpkg-dev
package| cmd:file                | file
test  | pc:criterion             | libcriterion-dev
test  | py:pytest                | python3-pytest
test  | py:httpx                 | python3-httpx
test  | py:h11                   | python3-h11
test  | cmd:curl                 | curl
test  | cmd:wrk                  | wrk
test  | cmd:nginx                | nginx-light
test  | openai:                  | python3-openai
test  | cmd:dpkg-shlibdeps       | dpkg-dev
test  | cmd:file                 | file
test  | cmd:systemd-analyze      | systemd
test  | cmd:mandoc               | mandoc
test  | py:yaml                  | python3-yaml
test  | cmd:promtool             | prometheus
test  | cmd:objdump              | binutils
bench | cmd:nginx                | nginx-light
bench | cmd:haproxy              | haproxy
bench | cmd:wrk                  | wrk
bench | cmd:gnuplot              | gnuplot-nox
bench | py:                      | python3
bench | pc:liburcu-qsbr          | liburcu-dev
check | cmd:clang-format         | clang-format
check | cmd:clang-tidy           | clang-tidy
check | cmd:cppcheck             | cppcheck
check | cmd:shellcheck           | shellcheck
check | py:                      | python3
format| cmd:clang-format         | clang-format
fuzz  | cmd:clang                | clang
fuzz  | clangrt:fuzzer           | libclang-rt-dev
fuzz  | cmd:llvm-symbolizer      | llvm
'

# Exactly these come from Debian 13 when the machine runs Debian 12; they ask nothing newer of libc.
# (linux-libc-dev: liburing.h includes a header that the kernel's own grew in 6.11.)
FROM_DEBIAN_13='linux-libc-dev liburing-dev liburing2 libllhttp-dev libllhttp9.2 libyyjson-dev libyyjson0 libmbedtls-dev libmbedcrypto16 libmbedtls21 libmbedx509-7'

# Debian's own: its packages are for this one, whatever comes first on PATH.
PYTHON=/usr/bin/python3
[ -x "$PYTHON" ] || PYTHON=$(command -v python3 || echo "$PYTHON")

# The client of the npm registry that Debian 12 gets in place of python3-openai.
OPENAI_NPM=openai@4.104.0
NPM_DIR=$BUILD/npm

DEBIAN_ID='' DEBIAN_CODENAME='' DEBIAN_LIKE=''
if [ -r /etc/os-release ]; then
    # shellcheck disable=SC1091
    DEBIAN_ID=$(. /etc/os-release && echo "${ID:-}")
    # shellcheck disable=SC1091
    DEBIAN_CODENAME=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    # shellcheck disable=SC1091
    DEBIAN_LIKE=$(. /etc/os-release && echo "${ID:-} ${ID_LIKE:-}")
fi

say() { printf '== %s\n' "$*"; }
complain() { printf 'build.sh: %s\n' "$*" >&2; }
die() {
    complain "$@"
    exit 1
}

# step TEXT COMMAND...: runs the command with its output in a log, and shows that it is alive. When it fails, its last
# lines are shown. Ctrl-C lets it come to its end first: half an install is worse than a wait, and the machine's
# services may not start in the meantime (forbid_services).
step() {
    local text=$1 log=$BUILD/install.log start=$SECONDS pid shown=0 status=0 interrupted=no
    shift
    mkdir -p "$BUILD"
    say "$text"
    trap 'interrupted=yes; complain "stopping after this step"' INT TERM
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        if [ $((SECONDS - start - shown)) -ge 5 ]; then
            shown=$((SECONDS - start))
            printf '   %3d s  %.90s\n' "$shown" "$(tail -n 1 "$log" | tr -d '\r')"
        fi
    done
    wait "$pid" || status=$?
    trap - INT TERM
    [ "$interrupted" = no ] || exit 130
    if [ "$status" -ne 0 ]; then
        tail -n 15 "$log" | sed 's/^/   | /' >&2
    fi
    return "$status"
}

# ---- what is missing

have_python_modules() { "$PYTHON" - "$@" 2>/dev/null <<'EOF'
import sys, importlib.util
sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1:]))
EOF
}

provided() {
    local kind=${1%%:*} what=${1#*:}
    case $kind in
    cmd) command -v "$what" >/dev/null ;;
    pc) command -v pkg-config >/dev/null && pkg-config --exists "${what/>=/ >= }" ;;
    include) echo "#include <$what>" | cc -E -x c - >/dev/null 2>&1 ;;
    py) [ -x "$PYTHON" ] && { [ -z "$what" ] || have_python_modules "$what"; } ;;
    clangrt) command -v clang >/dev/null && [ -n "$(compgen -G "$(clang -print-resource-dir)/lib/*/libclang_rt.${what}*.a")" ] ;;
    openai) [ -d "$NPM_DIR/node_modules/openai" ] || { [ -x "$PYTHON" ] && have_python_modules openai; } ;;
    esac
}

# missing GROUP...: sets MISSING (what is not there) and PACKAGES (Debian's names for it).
missing() {
    local group probe packages name line wanted=" $* "
    MISSING=() PACKAGES=()
    while IFS='|' read -r group probe packages; do
        group=${group// /} probe=${probe// /}
        if [ -z "$group" ] || [[ $wanted != *" $group "* ]] || provided "$probe"; then
            continue
        fi
        line=${probe#*:}
        MISSING+=("${line:-${packages// /}}")
        for name in $packages; do
            [[ " ${PACKAGES[*]-} " == *" $name "* ]] || PACKAGES+=("$name")
        done
    done <<<"$NEEDS"
}

# ---- getting it

is_debian_12() { [ "$DEBIAN_ID" = debian ] && [ "$DEBIAN_CODENAME" = bookworm ]; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -- "$@"
    fi
}

# The debs' own start-up scripts would start nginx and haproxy, which nobody asked for: Debian's hook for that is a
# policy file, put there for the time of the install if the machine has none.
POLICY=/usr/sbin/policy-rc.d
POLICY_IS_OURS=no
forbid_services() {
    if [ ! -e "$POLICY" ]; then
        as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$POLICY && chmod 755 $POLICY"
        POLICY_IS_OURS=yes
    fi
}
allow_services() {
    if [ "$POLICY_IS_OURS" = yes ]; then
        as_root rm -f "$POLICY"
        POLICY_IS_OURS=no
    fi
}

RETRIES=2
apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -y -o Dpkg::Use-Pty=0 \
        -o DPkg::Lock::Timeout=120 -o "Acquire::Retries=$RETRIES" "$@"
}

apt_install() {
    local service disable=()
    for service in nginx haproxy prometheus; do
        command -v "$service" >/dev/null || disable+=("$service")
    done
    forbid_services
    trap allow_services EXIT
    step "installing $*" apt_get install --no-install-recommends "$@" || return 1
    # Neither do they start at the next boot, unless they were here before.
    for service in ${disable[@]+"${disable[@]}"}; do
        if command -v "$service" >/dev/null && command -v update-rc.d >/dev/null; then
            as_root update-rc.d "$service" disable >/dev/null 2>&1 || true
        fi
    done
    allow_services
    trap - EXIT
}

# Prints "URI<tab>keyring" for each apt source that may be Debian's main archive for this release: both forms of
# sources, without updates, security and backports, which are other suites. Those that look like Debian's come first.
debian_sources() {
    local etc=$1 files=() file
    for file in "$etc"/sources.list "$etc"/sources.list.d/*.list "$etc"/sources.list.d/*.sources; do
        [ -r "$file" ] && files+=("$file")
    done
    [ ${#files[@]} -gt 0 ] || return 0
    awk -v codename="$DEBIAN_CODENAME" '
        function has(list, word) { return index(" " list " ", " " word " ") > 0 }
        function offer(uris, suites, components, keyring,    n, i, part) {
            if (!has(components, "main") || !(has(suites, codename) || has(suites, "stable") || has(suites, "oldstable")))
                return
            n = split(uris, part, " ")
            for (i = 1; i <= n; i++)
                if (part[i] !~ /^cdrom:/)
                    print (part[i] ~ /\/debian\/?$/ ? 0 : 1) "\t" part[i] "\t" keyring
        }
        function end_stanza() {
            if (has(f["types"], "deb") && f["enabled"] != "no")
                offer(f["uris"], f["suites"], f["components"], f["signed-by"] ~ /^ *\// ? f["signed-by"] : "")
            split("", f); key = ""
        }
        FNR == 1 { end_stanza(); deb822 = FILENAME ~ /\.sources$/ }
        /^[ \t]*#/ { next }
        deb822 && /^[ \t]*$/ { end_stanza(); next }
        deb822 && /^[ \t]/ { if (key != "") f[key] = f[key] " " $0; next }
        deb822 {
            key = tolower(substr($0, 1, index($0, ":") - 1))
            f[key] = substr($0, index($0, ":") + 1)
            gsub(/[ \t]+/, " ", f[key]); sub(/^ /, "", f[key])
            next
        }
        $1 == "deb" {
            line = $0; keyring = ""
            if (match(line, /\[[^]]*\]/)) {
                options = substr(line, RSTART + 1, RLENGTH - 2)
                line = substr(line, 1, RSTART - 1) substr(line, RSTART + RLENGTH)
                if (match(options, /signed-by=[^ ]+/)) keyring = substr(options, RSTART + 10, RLENGTH - 10)
            }
            n = split(line, word, /[ \t]+/); rest = ""
            for (i = 4; i <= n; i++) rest = rest " " word[i]
            offer(word[2], word[3], rest, keyring)
        }
        END { end_stanza() }
    ' "${files[@]}" | sort -s -k1,1 | cut -f2- | awk '!seen[$0]++'
}

DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# The few packages that Debian 12 has too old, from Debian 13, through an apt state of our own in the build folder:
# the machine's sources and lists stay as they are. A pin leaves apt nothing else to take from there.
install_from_debian_13() {
    local state=$BUILD/apt uri keyring sources options
    sources=$(debian_sources /etc/apt)
    [ -n "$sources" ] || die "found no source of Debian's main archive in /etc/apt to take these from Debian 13: $*"
    if [ ! -e /usr/share/keyrings/debian-archive-trixie-stable.gpg ]; then
        step "updating Debian's archive keys, to know Debian 13's" apt_get install --only-upgrade debian-archive-keyring
    fi

    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    printf 'Package: *\nPin: release *\nPin-Priority: -1\n\nPackage: %s\nPin: release n=trixie\nPin-Priority: 990\n' \
        "$FROM_DEBIAN_13" >"$state/preferences"
    # The download runs as root: apt's own user may not be able to enter the checkout.
    options=(-o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::Etc::Preferences=$state/preferences" -o Dir::Etc::PreferencesParts=/dev/null
        -o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache" -o APT::Sandbox::User=root
        -o APT::Update::Error-Mode=any)
    while IFS=$'\t' read -r uri keyring; do
        [ -n "$keyring" ] || keyring=$DEBIAN_KEYRING
        [ -e "${keyring%% *}" ] || continue
        printf 'deb [signed-by=%s] %s trixie main\n' "${keyring// /,}" "$uri" >"$state/sources.list"
        if step "reading the package list of Debian 13" apt_get "${options[@]}" update; then
            forbid_services
            trap allow_services EXIT
            if step "installing from Debian 13: $*" \
                apt_get "${options[@]}" install --no-install-recommends "$@"; then
                allow_services
                trap - EXIT
                as_root rm -rf "$state"
                return 0
            fi
        fi
    done <<<"$sources"
    return 1
}

install_openai_from_npm() {
    mkdir -p "$NPM_DIR"
    step "installing the npm package $OPENAI_NPM into the build folder" \
        npm install --prefix "$NPM_DIR" --no-audit --no-fund --no-save --loglevel=error "$OPENAI_NPM"
}

# Says what is missing and the command that gets it, for who cannot or will not install it from here.
explain_missing() {
    local groups=$1 why=$2 names=${PACKAGES[*]} later=''
    complain "$why"
    complain "missing: ${MISSING[*]}"
    if [[ $DEBIAN_LIKE == *debian* ]]; then
        names=${names//°/}
        if is_debian_12; then
            later=" (as root; ./build.sh takes from Debian 13 what Debian 12 has too old)"
        fi
        complain "to get it: ./build.sh deps $groups$later"
        complain "Debian's packages: $names"
    else
        complain "to get it: install what provides these with this system's package manager;"
        complain "           Debian's names for them: ${names//°/}"
    fi
}

# need GROUP...: returns when everything in these groups is there, and installs what is not.
need() {
    local name older=() newer=() openai=no
    missing "$@"
    [ ${#MISSING[@]} -gt 0 ] || return 0

    if [[ $DEBIAN_LIKE != *debian* ]] || ! command -v apt-get >/dev/null; then
        explain_missing "$*" "this is not a Debian system, so nothing was installed."
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            explain_missing "$*" "installing needs root, and there is no sudo."
            exit 1
        fi
        if ! sudo -n true 2>/dev/null; then
            if [ ! -t 0 ] || ! sudo -v; then
                explain_missing "$*" "installing needs root, and sudo did not let us."
                exit 1
            fi
        fi
    fi

    say "missing: ${MISSING[*]}"
    if ! step "reading the package lists" apt_get -o APT::Update::Error-Mode=any update; then
        complain "not every package list could be read; going on with what is there"
        RETRIES=0
    fi
    for name in "${PACKAGES[@]}"; do
        if [ "$name" = python3-openai ] && ! apt-cache show python3-openai >/dev/null 2>&1; then
            openai=npm
            command -v npm >/dev/null || older+=(nodejs npm)
        elif [[ $name == *° ]] && is_debian_12; then
            newer+=("${name%°}")
        else
            older+=("${name%°}")
        fi
    done
    if [ ${#older[@]} -gt 0 ] && ! apt_install "${older[@]}"; then
        explain_missing "$*" "the packages could not be installed (above is what apt says; no network?)."
        exit 1
    fi
    if [ ${#newer[@]} -gt 0 ] && ! install_from_debian_13 "${newer[@]}"; then
        explain_missing "$*" "the packages could not be taken from Debian 13 (above is what apt says; no network?)."
        exit 1
    fi
    if [ "$openai" = npm ]; then
        install_openai_from_npm || complain "going on without the openai client: the tests that use it are skipped"
    fi

    [ -x "$PYTHON" ] || PYTHON=$(command -v python3 || echo "$PYTHON")
    hash -r
    missing "$@"
    for name in ${MISSING[@]+"${MISSING[@]}"}; do
        [ "$name" = python3-openai ] || {
            explain_missing "$*" "still missing after the install (this system's packages are too old?)."
            exit 1
        }
    done
}
