#!/bin/busybox sh
# Give every interface the addresses that the config drive's network_data.json names for its MAC; an interface it does not
# name asks DHCP a few times in the background. usage: network [INTERFACE]
field() { awk -F '\t' -v path="$1" '$1 == path { print $2; exit }' /run/network_data; }
link_of() { awk -F '\t' -v mac="$1" '$1 ~ "^/links/[0-9]+/ethernet_mac_address$" && $2 == mac { split($1, p, "/"); print p[3] }' /run/network_data; }

configure() {
    nic=$1
    mac=$(cat "/sys/class/net/$nic/address") || return
    link=$(link_of "$mac")
    if [ -z "$link" ]; then
        ip link set "$nic" up
        udhcpc -i "$nic" -n -q -t 4 -T 2 -s /sbin/dhcp >/dev/null 2>&1 &
        return
    fi
    mtu=$(field "/links/$link/mtu")
    ip link set "$nic" ${mtu:+mtu $mtu} up
    id=$(field "/links/$link/id")
    n=0
    while network=$(field "/networks/$n/link") && [ -n "$network" ]; do
        if [ "$network" = "$id" ]; then
            address=$(field "/networks/$n/ip_address") netmask=$(field "/networks/$n/netmask")
            case "$address:$netmask" in
                */*|:*) ;;
                *.*) address="$address/$(ipcalc -p "$address" "$netmask" | cut -d= -f2)" ;;
            esac
            [ -n "$address" ] && ip addr add "$address" dev "$nic"
            gateway=$(field "/networks/$n/routes/0/gateway")
            case "$gateway" in
                '') ;;
                *:*) ip -6 route add default via "$gateway" dev "$nic" 2>/dev/null ;;
                *) ip route add default via "$gateway" dev "$nic" 2>/dev/null ;;
            esac
        fi
        n=$((n + 1))
    done
}

if [ -n "$1" ]; then configure "$1"; else
    for path in /sys/class/net/eth*; do [ -e "$path" ] && configure "${path##*/}"; done
    n=0
    while dns=$(field "/services/$n/address") && [ -n "$dns" ]; do echo "nameserver $dns"; n=$((n + 1)); done >/etc/resolv.conf
fi
