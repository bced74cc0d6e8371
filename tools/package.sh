#!/bin/sh
# package.sh install PREFIX | deb | tar: install what lies in build/, which `make build` has built ($DESTDIR before
# PREFIX), or make a Debian package or the release tarball of it.  The same sources and compiler give the same bytes: times are those of the last commit.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -c safe.directory='*' log -1 --format=%ct 2>/dev/null || stat -c %Y CMakeLists.txt)
fi
export SOURCE_DATE_EPOCH
umask 022

# install_to PREFIX
install_to() {
    for component in program local; do
        cmake --install build --prefix "$1" --strip --component $component
    done
}

if [ "$1" = install ]; then
    install_to "$2"
    # For `make uninstall`.  A manifest's last line has no end.
    for component in program local; do
        cat build/install_manifest_$component.txt
        echo
    done | sed '/./!d' >build/installed.txt
    exit 0
fi
if [ "$1" = deb ]; then
    cpack --config build/CPackConfig.cmake -G DEB -B build >build/package.log 2>&1 || {
        cat build/package.log >&2
        exit 1
    }
    rm -rf build/_CPack_Packages
    sed -n 's/^CPack: - package: \(.*\) generated.$/\1/p' build/package.log
    exit 0
fi

version=$(build/vlmd version | sed 's/^vlmd //')
name=vlmd-$version-linux-$(uname -m)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
DESTDIR='' install_to "$stage/$name" >build/package.log
cp README.md LICENSE "$stage/$name/"
tar -C "$stage" --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --mode=u=rwX,go=rX -cf - "$name" | gzip -9n >"build/$name.tar.gz"
(cd build && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "build/$name.tar.gz"
