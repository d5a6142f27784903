#!/bin/busybox sh
# Called by udhcpc with the lease in its environment.
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr add "$ip/$mask" dev "$interface" 2>/dev/null
for gateway in $router; do ip route add default via "$gateway" dev "$interface" 2>/dev/null; break; done
for server in $dns; do echo "nameserver $server"; done >>/etc/resolv.conf
echo "CHRONOVA-DHCP $interface $ip" >/dev/console
