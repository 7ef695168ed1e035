#!/usr/bin/env bash
# Where cmake/deps.sh takes Debian 13's packages from: it has to find Debian's main archive in whatever form a machine
# names it, and to take nothing else for it. Prints one line a case that fails, then the counts.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034  # deps.sh reads it
BUILD=$ROOT/build
# shellcheck source=cmake/deps.sh
. "$ROOT/cmake/deps.sh"
# shellcheck disable=SC2034  # so does debian_sources this
DEBIAN_CODENAME=bookworm

ETC=$(mktemp -d)
trap 'rm -rf "$ETC"' EXIT
mkdir "$ETC/sources.list.d"
passed=0 failed=0

# finds NAME EXPECTED FILE TEXT: with TEXT in FILE, debian_sources prints EXPECTED ("uri keyring", one a line).
finds() {
    local found
    rm -rf "$ETC"/sources.list "$ETC"/sources.list.d/*
    printf '%b' "$4" >"$ETC/$3"
    found=$(debian_sources "$ETC" | sed 's/\t/ /; s/ $//')
    if [ "$found" = "$(printf '%b' "$2")" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s: found [%s]\n' "$1" "$found"
    fi
}

finds 'one line' 'http://a/debian' sources.list \
    'deb http://a/debian bookworm main contrib\n'
finds 'one line with options' 'http://a/debian/ /k.gpg' sources.list \
    'deb [arch=amd64 signed-by=/k.gpg] http://a/debian/ bookworm main\n'
finds 'a comment and a source' 'http://a/debian' sources.list \
    '# deb http://b/debian bookworm main\ndeb-src http://c/debian bookworm main\n\ndeb http://a/debian stable main\n'
finds 'other suites are not it' '' sources.list \
    'deb http://a/debian bookworm-updates main\ndeb http://a/security bookworm-security main\ndeb http://a/debian bookworm-backports main\n'
finds 'other components are not it' '' sources.list.d/x.list 'deb http://a/linux/debian bookworm stable\n'
finds 'a CD is not it' '' sources.list 'deb cdrom:[Debian]/ bookworm main\n'
finds "what looks like Debian's comes first" 'http://a/debian\nhttp://vendor/apt' sources.list \
    'deb http://vendor/apt bookworm main\ndeb http://a/debian bookworm main\n'
finds 'deb822' 'http://a/debian /k.gpg' sources.list.d/debian.sources \
    'Types: deb\nURIs: http://a/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\nTypes: deb\nURIs: http://a/security\nSuites: bookworm-security\nComponents: main\n'
finds 'deb822, folded and commented' 'http://a/debian' sources.list.d/debian.sources \
    '# a\nTypes: deb deb-src\nURIs:\n http://a/debian\nSuites: bookworm\n# b\nComponents: main\n  contrib\n'
finds 'deb822, switched off' '' sources.list.d/debian.sources \
    'Enabled: no\nTypes: deb\nURIs: http://a/debian\nSuites: bookworm\nComponents: main\n'
finds 'deb822, only sources' '' sources.list.d/debian.sources \
    'Types: deb-src\nURIs: http://a/debian\nSuites: bookworm\nComponents: main\n'
finds 'deb822, a mirror list' 'mirror+file:/etc/apt/mirrors/debian.list' sources.list.d/debian.sources \
    'Types: deb\nURIs: mirror+file:/etc/apt/mirrors/debian.list\nSuites: bookworm\nComponents: main\n'
finds 'deb822, a key in the stanza is not a file' 'http://a/debian' sources.list.d/debian.sources \
    'Types: deb\nURIs: http://a/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n xx\n'

echo "apt sources: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
