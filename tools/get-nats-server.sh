#!/bin/sh
# Put a nats-server of at least version 2.10 into a directory, without installing anything.
#
#   get-nats-server.sh DEST      afterwards DEST/nats-server runs; safe to repeat
#
# The package comes from the mirror that apt is configured with: the configured release if it is new enough, else
# Debian's later suite (trixie). apt checks it from the archive's signature down to the package's hash, with index and
# cache directories of its own, so neither the package sources nor the installed packages of the machine change.
# DEBIAN_MIRROR and NATS_SUITE override what is found; a machine without both apt and a Debian mirror gets a message.
set -eu

die() {
    echo "get-nats-server: $*" >&2
    exit 1
}

# Is the version $1 (of a package or of a program) 2.10 or newer?
new_enough() {
    dpkg --compare-versions "${1#v}" ge 2.10
}

[ $# -eq 1 ] || die "usage: get-nats-server.sh DEST"
dest=$1
suite=${NATS_SUITE:-trixie}
keyring=${DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
other_ways="put a nats-server of 2.10 or newer on PATH, or name one in NATS_SERVER"

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    die "this machine has no apt: $other_ways"

if [ -x "$dest/nats-server" ]; then
    have=$("$dest/nats-server" --version | sed 's/.* v*//')
    if new_enough "$have"; then
        echo "nats-server $have is in $dest already"
        exit 0
    fi
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/none" "$work/package" "$dest"

fetch_configured() {
    candidate=$(apt-cache policy nats-server 2>/dev/null | sed -n 's/^ *Candidate: *//p')
    case $candidate in '' | '(none)') return 1 ;; esac
    new_enough "$candidate" || return 1
    (cd "$work/package" && apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=5 download nats-server)
}

configured_mirror() {
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian|Debian|//p' | head -n 1
}

fetch_later_suite() {
    mirror=${DEBIAN_MIRROR:-$(configured_mirror)}
    [ -n "$mirror" ] || die "apt has no Debian mirror (is 'apt-get update' due?): set DEBIAN_MIRROR, or $other_ways"
    [ -r "$keyring" ] || die "$keyring is missing: install the package debian-archive-keyring, or $other_ways"
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$work/sources.list"
    cat >"$work/apt.conf" <<CONF
Dir::State::lists "$work/lists";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/none";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$work/none";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "5";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
CONF
    APT_CONFIG=$work/apt.conf
    export APT_CONFIG
    apt-get -qq update
    (cd "$work/package" && apt-get -qq download "nats-server/$suite")
}

fetch_configured || fetch_later_suite
dpkg-deb --extract "$work"/package/nats-server_*.deb "$work/tree"
binary=$(find "$work/tree" -type f -name nats-server -perm -u+x | head -n 1)
[ -n "$binary" ] || die "the package holds no nats-server: $other_ways"
# Renamed into place: whoever looks meanwhile sees no server or a whole one.
install -m 755 "$binary" "$dest/.nats-server.$$"
mv "$dest/.nats-server.$$" "$dest/nats-server"
echo "$("$dest/nats-server" --version) is in $dest"
