#!/bin/sh
# licenses.sh OUT.gz: the licences of the libraries that are linked into the program, as their Debian
# packages bring them.
set -eu
out=$1
for package in libjpeg62-turbo-dev libpng-dev zlib1g-dev libwebp-dev libgif-dev libpcre2-dev libutf8proc-dev \
    libedit-dev libbsd-dev libmd-dev libncurses-dev libuv1-dev libnghttp2-dev libprotobuf-c-dev libssl-dev; do
    file=/usr/share/doc/$package/copyright
    [ -r "$file" ] || continue
    printf '======== %s\n\n' "$package"
    cat "$file"
    echo
done | gzip -9n >"$out"
