#!/bin/sh
# build.sh PRESET [TARGET...]: configure a preset of CMakePresets.json and build.
set -eu
cd "$(dirname "$0")/.."
preset=$1
shift
folder=build
[ "$preset" = release ] || folder=build-$preset
# Each time, so that a library or cmocka that was installed meanwhile is found.
mkdir -p "$folder"
cmake --preset "$preset" >"$folder/configure.log" 2>&1 || {
    cat "$folder/configure.log" >&2
    exit 1
}
if [ $# = 0 ]; then set -- all; fi
exec cmake --build "$folder" --target "$@"
