#!/bin/sh
# lint.sh: every check of the source that needs no running program.  Goes on after a failure, so
# that one run shows all; exit 1 when any failed.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
n_failed=0
n_passed=0

step() {
    name=$1
    shift
    if "$@"; then
        n_passed=$((n_passed + 1))
    else
        echo "lint: $name failed" >&2
        n_failed=$((n_failed + 1))
    fi
}

files=$("$PYTHON" tools/check_source.py --list) || exit 1

# The files of the project whose names match.
named() {
    echo "$files" | grep -E "$1"
}

check_format() {
    named '\.[ch]$' | xargs -P 2 -n 40 clang-format --dry-run -Werror
}

# Each header in a file of its own, with every warning.
check_headers() {
    named '^src/.*\.h$' | xargs -P 2 -I{} gcc -std=c17 -D_GNU_SOURCE -Isrc -isystem build/proto -Wall -Wextra -Wpedantic \
        -Wconversion -Werror -fsyntax-only -x c {}
}

check_scripts() {
    for f in $(named '\.sh$|^\.ci/run$'); do
        bash -n "$f" || return 1
    done
    for f in $(named '\.py$'); do
        "$PYTHON" -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$f" || return 1
    done
}

step "source text" "$PYTHON" tools/check_source.py
step "format" check_format
step "headers alone" check_headers
step "scripts" check_scripts
[ -f build/compile_commands.json ] || cmake --preset release >/dev/null
step "clang-tidy" "$PYTHON" tools/tidy.py build
echo "lint: $n_passed passed, $n_failed failed"
[ $n_failed = 0 ]
