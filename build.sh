#!/usr/bin/env bash
# One verb for each thing a person does with this tree. Each installs what it needs and is missing (cmake/deps.sh).

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=$ROOT/build
cd "$ROOT"
# Debian keeps servers in sbin, which is not on everybody's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# shellcheck source=cmake/deps.sh
. "$ROOT/cmake/deps.sh"

usage() {
    cat <<'EOF'
usage: ./build.sh VERB [ARGUMENTS]

  run [ARGS]        build and start the demo: the gateway in front of a simulated model; Ctrl-C stops it
  build [PRESET]    build the programs into build/PRESET (default: release)
  install [PREFIX]  build and install below PREFIX (default: /usr/local); DESTDIR=DIR puts it all below DIR instead
  package           build the Debian package for this release of Debian into build/package
  test [PRESET]     build and run every test (default: release; debug adds ASan and UBSan, tsan runs the stress tests)
  check             linter, formatting, clang-tidy, cppcheck, shellcheck
  bench [ARGS]      measure against the floors, nginx and haproxy
  load [ARGS]       load the demo, or another server, and write a page with the latencies (docs/load-testing.md)
  fuzz [SECONDS] [TARGET]
                    fuzz each target of tests/fuzz for so long (default: 60)
  format            put the sources into the house's format
  deps [GROUP...]   only install what is missing; groups: build package test check bench fuzz (default: build)
  clean             remove the build folder

Presets: release debug tsan coverage fuzz. JOBS=N limits parallel compilers.
EOF
}

JOBS=${JOBS:-$(nproc 2>/dev/null || echo 2)}

# configure PRESET [OPTION...]
configure() {
    local preset=$1 log=$BUILD/configure-$1.log
    shift
    mkdir -p "$BUILD"
    if ! cmake --preset "$preset" "$@" >"$log" 2>&1; then
        cat "$log" >&2
        die "configuring $preset failed"
    fi
}

# now_and_then: of Ninja's progress one line in five seconds, of all else each. By the shell itself: Debian's awk (mawk)
# reads a pipe in blocks, so that nothing is seen for a minute.
now_and_then() {
    local line next_at=0
    while IFS= read -r line || [ -n "$line" ]; do
        if [[ ! $line =~ ^\[[0-9]+/[0-9]+,\ +([0-9]+) ]]; then
            printf '%s\n' "$line"
        elif ((10#${BASH_REMATCH[1]} >= next_at)); then
            printf '   %s\n' "$line"
            next_at=$((10#${BASH_REMATCH[1]} + 5))
        fi
    done
}

# compile PRESET TARGET...: Ninja's own progress line on a terminal, one line every so often elsewhere.
compile() {
    local preset=$1
    shift
    say "building $preset"
    if [ -t 1 ]; then
        cmake --build "$BUILD/$preset" -j "$JOBS" --target "$@"
    else
        NINJA_STATUS='[%f/%t, %e s] ' cmake --build "$BUILD/$preset" -j "$JOBS" --target "$@" | now_and_then
    fi
}

known_preset() {
    case $1 in
    release | debug | tsan | coverage | fuzz) ;;
    *) die "no preset '$1': release debug tsan coverage fuzz" ;;
    esac
}

verb_build() {
    local preset=${1:-release}
    known_preset "$preset"
    need build
    [ "$preset" != fuzz ] || need fuzz
    configure "$preset"
    compile "$preset" programs
}

verb_run() {
    verb_build release
    exec "$BUILD/release/sluice" demo "$@"
}

verb_install() {
    local prefix=${1:-/usr/local}
    verb_build release
    if [ -w "${DESTDIR:-$prefix}" ] || { [ -n "${DESTDIR:-}" ] && mkdir -p "$DESTDIR"; }; then
        cmake --install "$BUILD/release" --prefix "$prefix"
    else
        as_root env ${DESTDIR:+DESTDIR="$DESTDIR"} cmake --install "$BUILD/release" --prefix "$prefix"
    fi
}

verb_package() {
    need package
    verb_build release
    say "packing"
    rm -rf "$BUILD/package"
    cpack -B "$BUILD/package" --config "$BUILD/release/CPackConfig.cmake" >"$BUILD/package.log" 2>&1 || {
        cat "$BUILD/package.log" >&2
        die "the package could not be made"
    }
    rm -rf "$BUILD/package/_CPack_Packages"
    ls "$BUILD"/package/*.deb
}

verb_test() {
    local preset=release
    case ${1:-} in
    '' | -*) ;;
    *) preset=$1 && shift ;;
    esac
    known_preset "$preset"
    [ "$preset" != fuzz ] || die "the fuzz preset has no tests: ./build.sh fuzz"
    need build test
    configure "$preset" -DSLUICE_WERROR=ON
    compile "$preset" all
    export NODE_PATH=$NPM_DIR/node_modules
    exec "$PYTHON" "$ROOT/tests/run" --preset "$preset" "$@"
}

verb_bench() {
    need build bench
    configure release
    compile release programs bench_programs
    [ -x bench/run ] || die "there is no bench/run"
    exec bench/run "$@"
}

verb_load() {
    need build
    configure release
    compile release programs bench_load
    exec bench/load/run "$@"
}

verb_fuzz() {
    local seconds=${1:-60} only=${2:-} program name dict
    [[ $seconds =~ ^[0-9]+$ ]] || die "not a number of seconds: $seconds"
    need build fuzz
    configure fuzz
    compile fuzz all
    for program in "$BUILD"/fuzz/fuzz_*; do
        [ -x "$program" ] || continue
        name=${program##*/fuzz_}
        [ -z "$only" ] || [ "$only" = "$name" ] || continue
        say "fuzzing $name for $seconds s"
        # New inputs go into the build folder; the kept corpus is only read. What crashes is kept there to be looked at.
        # tests/fuzz/<target>.dict, where there is one, holds the words of the language it reads.
        mkdir -p "$BUILD/fuzz/corpus/$name" "$BUILD/fuzz/crash" "tests/fuzz/corpus/$name"
        dict=()
        [ ! -f "tests/fuzz/$name.dict" ] || dict=("-dict=tests/fuzz/$name.dict")
        "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=1 \
            ${dict[@]+"${dict[@]}"} -artifact_prefix="$BUILD/fuzz/crash/$name-" "$BUILD/fuzz/corpus/$name" "tests/fuzz/corpus/$name" \
            >"$BUILD/fuzz/$name.log" 2>&1 || {
            tail -n 40 "$BUILD/fuzz/$name.log" >&2
            die "$name failed; the input is in build/fuzz/crash/, the log in build/fuzz/$name.log"
        }
        grep -E 'number_of_executed_units|new_units_added' "$BUILD/fuzz/$name.log" | sed 's/^/   /' || true
    done
}

# The C files of the tree; never those of the build folder.
sources() {
    local dir
    for dir in src tests bench cmake; do
        if [ -d "$dir" ]; then
            find "$dir" \( -name '*.c' -o -name '*.h' \) -not -path 'tests/lint/fixtures/*'
        fi
    done | sort
}

verb_format() {
    need format
    sources | xargs -r clang-format -i
}

verb_check() {
    local failed=0 files file
    need build check
    files=$(sources)
    say "linter"
    "$PYTHON" tests/lint/lint.py || failed=1
    say "shellcheck"
    git ls-files | xargs -r grep -lE '^#!.*\b(ba)?sh\b|^# shellcheck shell=' -- 2>/dev/null |
        xargs -r shellcheck -x || failed=1
    say "clang-format ($(clang-format --version | grep -oE '[0-9]+\.[0-9.]+' | head -n 1))"
    for file in $files; do
        if ! clang-format --dry-run -Werror "$file" >/dev/null 2>&1; then
            echo "$file: not in the house's format: ./build.sh format"
            failed=1
        fi
    done
    configure release
    say "cppcheck"
    # Of the architectures only this machine's: the others are an #error by intent. Reads of what was not set are
    # clang's to find, which follows the flow.
    cppcheck --quiet --project="$BUILD/release/compile_commands.json" --enable=warning,portability --inline-suppr \
        --suppress=missingIncludeSystem --suppress=unknownMacro --suppress=uninitvar -D__x86_64__ -D__linux__ \
        --error-exitcode=1 -j "$JOBS" -i "$ROOT/tests" || failed=1
    say "clang-tidy"
    grep '^src/.*\.c$' <<<"$files" | xargs -r -P "$JOBS" -n 4 clang-tidy --quiet -p "$BUILD/release" \
        --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-ignored-optimization-argument 2>/dev/null || failed=1
    [ "$failed" -eq 0 ] || die "check found faults (above)"
    say "check found nothing"
}

verb_deps() {
    need "${@:-build}"
    say "everything is there"
}

verb=${1:-help}
[ $# -eq 0 ] || shift
case $verb in
run | build | install | package | test | check | bench | load | fuzz | format | deps) "verb_$verb" "$@" ;;
clean) rm -rf "$BUILD" ;;
help | -h | --help) usage ;;
*)
    complain "no verb '$verb'"
    usage >&2
    exit 2
    ;;
esac
