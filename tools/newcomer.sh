#!/bin/sh
# newcomer.sh: what somebody new goes through, timed, in bare Debian 12 roots made by debootstrap from this
# machine's own mirror:  1. a copy of the source, README's first command (make demo);  2. the .deb of build/,
# `vlmd run` and `vlmd serve`.  Needs root, debootstrap, the network and 3 GB of disk.
# Everything happens in a mount namespace of its own: what is mounted there ends with the process, and nothing of
# the roots is removed while something is mounted in them.
set -eu
cd "$(dirname "$0")/.."
top=$(pwd)

if [ "${1:-}" != inside ]; then
    [ "$(id -u)" = 0 ] || { echo "newcomer: run as root" >&2; exit 1; }
    for tool in debootstrap unshare; do
        command -v $tool >/dev/null || { echo "newcomer: needs $tool" >&2; exit 1; }
    done
    package=$(ls "$top"/build/vlmd_*_*.deb)
    base=$(mktemp -d "${TMPDIR:-/tmp}/vlmd-newcomer.XXXXXX")
    clean() {
        if grep -q " $base" /proc/mounts; then
            echo "newcomer: $base is left: something is mounted in it" >&2
        else
            rm -rf --one-file-system "$base"
        fi
    }
    trap clean EXIT
    trap 'exit 1' INT TERM HUP
    free_kib=$(df --output=avail -k "$base" | tail -n 1)
    [ "$free_kib" -ge 3145728 ] || { echo "newcomer: 3 GB of disk are needed in $base" >&2; exit 1; }
    unshare --mount --propagation private --pid --fork --kill-child "$top/tools/newcomer.sh" inside "$base" "$package"
    exit
fi
base=$2
package=$3

seconds() {
    date +%s.%N
}
# since START TEXT: a line of the result
since() {
    awk -v a="$1" -v b="$(seconds)" -v text="$2" 'BEGIN { printf "%7.2f s  %s\n", b - a, text }' | tee -a "$base/times"
}

# The mirror that this machine uses for Debian itself.
mirror=$(sed -n 's/^URIs: *\(http[^ ]*\/debian\)\/*$/\1/p; s/^deb \(\[[^]]*\] \)*\(http[^ ]*\/debian\)\/* .*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
[ -n "$mirror" ] || { echo "newcomer: no Debian mirror in /etc/apt" >&2; exit 1; }

new_root() {
    cp -a --reflink=auto "$base/bare" "$1"
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    mount -t tmpfs tmpfs "$1/tmp"
    cp /etc/resolv.conf "$1/etc/resolv.conf"
    # Proxies and certificates of this machine's apt, if it has any.
    for conf in $(grep -lis 'acquire::' /etc/apt/apt.conf.d/* /etc/apt/apt.conf); do
        cp "$conf" "$1/etc/apt/apt.conf.d/"
    done
}
inside() {
    root=$1
    shift
    chroot "$root" /usr/bin/env -i HOME=/ PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} sh -euc "$*"
}
fail() {
    echo "newcomer: $1" >&2
    tail -n 30 "$base/log" >&2
    exit 1
}

echo "Debian 12, minbase"
start=$(seconds)
debootstrap --variant=minbase bookworm "$base/bare" "$mirror" >"$base/log" 2>&1 || fail "debootstrap failed"
rm -rf --one-file-system "$base/bare/var/cache/apt/archives"
mkdir -p "$base/bare/var/cache/apt/archives/partial"
since "$start" "debootstrap"

echo "1. the source: make demo"
root=$base/source
new_root "$root"
mkdir "$root/vlmd"
git -c safe.directory='*' ls-files -z -co --exclude-standard | tar -cf - --null -T - | tar -xf - -C "$root/vlmd"
inside "$root" 'apt-get -q update && apt-get -q install -y --no-install-recommends make' >"$base/log" 2>&1 ||
    fail "make could not be installed"
start=$(seconds)
inside "$root" 'cd /vlmd && make demo' >"$base/log" 2>&1 || fail "make demo failed"
since "$start" "make demo: packages, build, server, answer"
grep '^answer:' "$base/log" || fail "no answer"
umount -R "$root/tmp" "$root/dev" "$root/proc"
cp "$root/vlmd/models/demo/examples/three.png" "$base/three.png"
rm -rf --one-file-system "$root"

echo "2. the package: $(basename "$package")"
root=$base/package
new_root "$root"
cp "$package" "$root/opt/vlmd.deb"
start=$(seconds)
inside "$root" 'apt-get -q update && apt-get -q install -y --no-install-recommends /opt/vlmd.deb' >"$base/log" 2>&1 ||
    fail "the package could not be installed"
since "$start" "apt install ./vlmd.deb"
picture=/usr/share/doc/vlmd/examples/three.png
start=$(seconds)
answer=$(inside "$root" "vlmd run demo -i $picture -p 'What is in this picture?'") || fail "vlmd run failed"
since "$start" "vlmd run: $answer"
# A service that a client outside of the root asks.
start=$(seconds)
inside "$root" 'echo $$ >/opt/pid; exec vlmd serve demo --listen 127.0.0.1:0' 2>"$base/serve.log" &
server=$!
url=
while [ -z "$url" ] || ! curl -sf "$url/readyz" >/dev/null; do
    kill -0 $server 2>/dev/null || { cp "$base/serve.log" "$base/log"; fail "vlmd serve ended"; }
    url=$(sed -n 's/.*listening on \(http:[^ ]*\).*/\1/p' "$base/serve.log")
    sleep 0.05
done
since "$start" "vlmd serve demo: ready"
body=$(printf '{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,%s"}},{"type":"text","text":"How many shapes are there?"}]}]}' "$(base64 -w0 "$base/three.png")")
start=$(seconds)
answer=$(printf '%s' "$body" | curl -sf "$url/v1/chat/completions" -H 'Content-Type: application/json' -d @- |
    sed -n 's/.*"content":"\([^"]*\)".*/\1/p')
[ "$answer" = "There are 3 shapes." ] || fail "the server answered '$answer'"
since "$start" "its answer over HTTP: $answer"
start=$(seconds)
page=$(curl -s -o /dev/null -w '%{http_code} %{content_type}' "$url/")
since "$start" "its page /: $page"
kill "$(cat "$root/opt/pid")"
wait $server || fail "vlmd serve did not end in peace"
inside "$root" 'dpkg --purge vlmd' >"$base/log" 2>&1 || fail "the package could not be purged"
for left in usr/bin/vlmd etc/vlmd/vlmd.env lib/systemd/system/vlmd.service; do
    [ ! -e "$root/$left" ] || fail "the purged package left $left"
done
umount -R "$root/tmp" "$root/dev" "$root/proc"
echo
cat "$base/times"
