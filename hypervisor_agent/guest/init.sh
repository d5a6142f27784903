#!/bin/busybox sh
# PID 1 of the tiny guest. Brings up devices, disk, config drive, network and the guest agent, then says
# CHRONOVA-READY on the console; a power button, `shutdown` and a signal all end in a clean power-off.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
export PATH=/sbin:/usr/sbin:/bin:/usr/bin HOME=/root
mkdir -p /dev/pts /run /tmp /data
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
echo 1 >/proc/sys/kernel/unknown_nmi_panic
while read -r module; do insmod "/lib/modules/$module.ko" 2>/dev/null; done </lib/modules/order

ends() { trap "echo CHRONOVA-$1 >/dev/console; sync; umount /data 2>/dev/null; $2 -f" $3; }
ends POWEROFF poweroff USR1
ends POWEROFF poweroff USR2
ends REBOOT reboot TERM

tries=0
while [ ! -b /dev/vda2 ] && [ $tries -lt 60 ]; do usleep 50000; tries=$((tries + 1)); done
mount -t ext4 -o errors=continue /dev/vda2 /data 2>/dev/null || mount -t tmpfs data /data
mkdir -p /data/etc /data/root
[ -f /data/etc/shadow ] || cp /etc/shadow.dist /data/etc/shadow
boots=$(($(cat /data/boots 2>/dev/null || echo 0) + 1))
echo $boots >/data/boots
ip link set lo up

uuid=$(cat /sys/class/dmi/id/product_uuid 2>/dev/null)
: >/run/meta_data; : >/run/network_data
/sbin/config-drive
hostname=$(awk -F '\t' '$1 == "/hostname" { print $2; exit }' /run/meta_data)
hostname "${hostname:=guest}"
/sbin/network
first_boot() { [ "$(cat /data/etc/instance-id 2>/dev/null)" != "${uuid:-none}" ]; }
if first_boot; then
    mkdir -p /data/root/.ssh
    awk -F '\t' '$1 ~ "^/public_keys/" { print $2 }' /run/meta_data >/data/root/.ssh/authorized_keys
    chmod 700 /data/root/.ssh; chmod 600 /data/root/.ssh/authorized_keys
    password=$(awk -F '\t' '$1 == "/admin_pass" { print $2; exit }' /run/meta_data)
    [ -n "$password" ] && echo "root:$password" | chpasswd
    user_data=/run/config/openstack/latest/user_data
    echo "${uuid:-none}" >/data/etc/instance-id
    [ "$(head -c 2 $user_data 2>/dev/null)" = '#!' ] && cp $user_data /data/etc/user-data && chmod 755 /data/etc/user-data \
        && run_user_data=yes
fi
sync

acpid -f -c /etc/acpi -l /run/acpid.log >/dev/null 2>&1 &
uevent /sbin/hotplug >/dev/null 2>&1 &
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] || continue
    qemu-ga -m virtio-serial -p "/dev/${port##*/}" -t /run -f /run/qga.pid -l /run/qga.log -d
done

memory=$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)
addresses=$(ip -o addr show scope global | awk '{ split($4, part, "/"); printf "%s%s", sep, part[1]; sep = "," }')
nics= disks=
for nic in /sys/class/net/eth*; do [ -e "$nic" ] && nics="$nics ${nic##*/}=$(cat "$nic/address")"; done
for disk in /sys/block/vd*; do [ -e "$disk" ] && disks="$disks ${disk##*/}=$(($(cat "$disk/size") / 2048))M"; done
echo "CHRONOVA-READY uuid=$uuid boots=$boots cpus=$(nproc) mem=${memory}kB host=$hostname ip=${addresses:--}" \
    "disks:$disks nics:$nics image=$(cat /etc/chronova-image)" >/dev/console

if [ -n "$run_user_data" ]; then
    (
        interpreter=$(head -n 1 /data/etc/user-data | cut -c 3- | awk '{ print $1 }')
        if [ -x "$interpreter" ]; then /data/etc/user-data; else sh /data/etc/user-data; fi >/dev/console 2>&1
        echo "CHRONOVA-USERDATA exit=$?" >/dev/console
    ) &
fi
while :; do setsid getty -L 115200 ttyS0 vt100 </dev/ttyS0 >/dev/ttyS0 2>&1; sleep 1; done &
while :; do setsid getty 38400 tty1 linux </dev/tty1 >/dev/tty1 2>&1; sleep 1; done &
while :; do sleep 3600 & wait $!; done
