#!/bin/busybox sh
# Called by busybox `uevent` for every kernel event; tells the console what came and went.
size() { echo "$(($(cat "/sys$DEVPATH/size") / 2048))M"; }
say() { echo "CHRONOVA-HOTPLUG $*" >/dev/console; }
case "$SUBSYSTEM:$DEVTYPE:$ACTION" in
    block:disk:add) say "add disk ${DEVPATH##*/} $(size) serial=$(cat "/sys$DEVPATH/serial" 2>/dev/null)" ;;
    block:disk:remove) say "remove disk ${DEVPATH##*/}" ;;
    block:disk:change) say "resize disk ${DEVPATH##*/} $(size)" ;;
    net::add) say "add nic $INTERFACE $(cat "/sys$DEVPATH/address")"; /sbin/network "$INTERFACE" ;;
    net::remove) say "remove nic $INTERFACE" ;;
    cpu::add) echo 1 >"/sys$DEVPATH/online" ;;
esac
