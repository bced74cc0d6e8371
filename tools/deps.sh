#!/bin/sh
# deps.sh [--check] GROUP...: install the Debian packages of the groups in tools/packages.txt, as
# root or through sudo.  Quick when all are there.  --check only says which are missing (exit 1).
set -eu
here=$(dirname "$0")
check=no
if [ "${1:-}" = --check ]; then
    check=yes
    shift
fi
if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "deps: not a Debian system; needed are the equivalents of tools/packages.txt" >&2
    exit 0
fi

missing=
for group in "$@"; do
    for package in $(sed -n "s/^$group //p" "$here/packages.txt"); do
        status=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | head -n 1)
        [ "$status" = installed ] || missing="$missing $package"
    done
done
[ -n "$missing" ] || exit 0

if [ $check = yes ]; then
    echo "missing packages:$missing" >&2
    echo "'make deps' installs them" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || {
        echo "deps: install as root:$missing" >&2
        exit 1
    }
    as_root=sudo
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of words, on purpose
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 update -q
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -o Acquire::Retries=3 install -q -y --no-install-recommends $missing
