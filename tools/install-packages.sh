#!/bin/sh
# Install the Debian or Ubuntu packages that chronova needs; does nothing when all of them are there.
# usage: tools/install-packages.sh [--hypervisor-only] [--test] [--lists]
#   --hypervisor-only   just QEMU, libvirt and what the guest image is built with
#   --test              also what the whole test suite needs (PostgreSQL, Chromium)
#   --lists             install nothing, but fetch apt's package lists anew
# Asks nothing, uses sudo when not root, works the same with and without /dev/kvm.
set -eu

# libvirt-daemon-system is left out on purpose: it pulls in a firewall, polkit and a running system libvirtd, while
# chronova runs a private libvirtd per host and needs none of them.
hypervisor="libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-utils
    e2fsprogs iproute2 nftables util-linux binutils"
build="gcc git make pkg-config libvirt-dev python3-dev python3-venv ca-certificates"
test="postgresql chromium"

for option in "$@"; do
    case "$option" in
        --hypervisor-only) only=yes ;;
        --test) with_test=yes ;;
        --lists) only_lists=yes ;;
        *) sed -n 's/^# usage: /usage: /p' "$0" >&2; exit 2 ;;
    esac
done

wanted=$hypervisor
[ "${only:-}" ] || wanted="$wanted $build"
[ "${with_test:-}" ] && wanted="$wanted $test"

if ! command -v apt-get >/dev/null 2>&1; then
    echo "error: this machine has no apt-get. Install the equivalents of: $(echo $wanted)" >&2
    exit 1
fi

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }
# Packages differ between releases; one that another name provides counts too.
present() {
    case "$1" in
        chromium) command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 ;;
        postgresql) installed postgresql || ls -d /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ;;
        python3-venv) "${PYTHON:-/usr/bin/python3}" -c 'import ensurepip, venv' 2>/dev/null ;;
        git | make | gcc) command -v "$1" >/dev/null 2>&1 ;;
        *) installed "$1" ;;
    esac
}

missing=
for package in $wanted; do
    present "$package" || missing="$missing $package"
done
[ -n "$missing" ] || [ "${only_lists:-}" ] || exit 0

root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "error: become root, or install sudo, to install:$missing" >&2; exit 1; }
    root=sudo
fi
apt() {
    $root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5 "$@"
}
# A list that did not arrive would make its packages look as if this release had none of them. Another apt may hold the
# lists (a machine that just started updates them), a mirror may be busy; one that stays away is passed over in the end.
lists() {
    for pause in 5 20 60; do
        apt -o APT::Update::Error-Mode=any update && return
        sleep "$pause"
    done
    apt update
}

[ -z "${only_lists:-}" ] || { lists; exit 0; }
echo "Installing packages:$missing"
lists
for package in $missing; do
    if apt-cache policy "$package" | grep -q 'Candidate: [^(]'; then
        available="${available:-} $package"
    else
        echo "note: this release has no package $package; what needs it will say so" >&2
    fi
done
[ -n "${available:-}" ] || exit 0
for pause in 10 30; do
    apt install -y --no-install-recommends $available >/dev/null && exit 0
    sleep "$pause"
done
apt install -y --no-install-recommends $available >/dev/null
