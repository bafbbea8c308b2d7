#!/bin/sh
# deps.sh GROUP...: installs the Debian packages of the named groups that are missing; says so when it cannot.
# Groups: build (compiler and libraries), test (unit tests, a browser, cross compiler and emulator).
set -u
build="gcc make pkg-config libc6-dev libjansson-dev libyaml-dev libpcre2-dev libutf8proc-dev libsqlite3-dev libssl-dev"
test="libcmocka-dev chromium fonts-dejavu-core gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user sqlite3"
missing=""
for g in "$@"; do
    eval "list=\$$g"
    for p in $list; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
    done
done
[ -n "$missing" ] || exit 0
echo "installing:$missing"
sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
if ! command -v apt-get >/dev/null 2>&1; then
    echo "deps.sh: this is not a Debian or Ubuntu machine; please install the equivalents of:$missing" >&2; exit 5
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq >/dev/null 2>&1
# Chromium is called chromium-browser in Ubuntu, and may be absent: the browser test then says that it was skipped.
for p in $missing; do apt-cache show "$p" >/dev/null 2>&1 || { echo "deps.sh: no package $p here; tests that need it will be skipped" >&2; missing=$(echo " $missing " | sed "s/ $p / /"); }; done
[ -n "$(echo $missing)" ] || exit 0
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null || { echo "deps.sh: apt-get could not install:$missing" >&2; exit 5; }
