#!/bin/sh
# build.sh PRESET [TARGET...]: configure the preset of CMakePresets.json once and build.
set -eu
cd "$(dirname "$0")/.."
preset=$1
shift
folder=build
[ "$preset" = release ] || folder=build-$preset
# Configured again by Ninja itself when a CMakeLists.txt changes.
[ -f "$folder/build.ninja" ] || cmake --preset "$preset" >"$folder.log" 2>&1 || {
    cat "$folder.log" >&2
    exit 1
}
rm -f "$folder.log"
if [ $# = 0 ]; then set -- all; fi
exec cmake --build "$folder" --target "$@"
