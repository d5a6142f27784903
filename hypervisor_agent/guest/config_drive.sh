#!/bin/busybox sh
# Find the config drive (iso9660, labelled config-2) and flatten its JSON into /run/meta_data and /run/network_data.
tries=0
while [ $tries -lt 10 ]; do
    for disk in /dev/sr? /dev/vd?; do
        [ -b "$disk" ] || continue
        case "$(dd if="$disk" bs=1 skip=32808 count=8 2>/dev/null)" in config-2 | CONFIG-2) found=$disk; break 2;; esac
    done
    [ -e /sys/block/sr0 ] || ls /sys/class/ata_port >/dev/null 2>&1 || break
    usleep 100000; tries=$((tries + 1))
done
[ -n "$found" ] || exit 0
mkdir -p /run/config
mount -o ro "$found" /run/config || exit 0
for name in meta_data network_data; do
    file=/run/config/openstack/latest/$name.json
    [ -f $file ] && awk -f /sbin/flatten-json $file >/run/$name
done
