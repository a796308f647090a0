#!/bin/sh
# Two hosts and a router between them, each in a network namespace of its own:
#
#   ws-left                       ws-router                      ws-right
#   10.1.0.2/24  eth0 -------- ws-l        ws-r -------- eth0  10.2.0.2/24
#                gateway 10.1.0.1          gateway 10.2.0.1
#
# The hosts are ordinary Linux. ws-l and ws-r have no address, and the kernel there neither forwards nor answers:
# 10.1.0.1 and 10.2.0.1 belong to the program that opens them (af_packet:ws-l,netns=ws-router).
# Offloads stay on: TCP crosses in packets of up to 64 KiB.
#
#   sudo examples/namespaces.sh up | down | status
set -eu

spaces="ws-left ws-router ws-right"

exists() { ip netns list | grep -q "^$1\( \|\$\)"; }

down() {
    for space in $spaces; do
        if exists "$space"; then
            ip netns del "$space" # its interfaces go with it, and their peers too
        fi
    done
}

# host NAMESPACE ADDRESS GATEWAY ROUTER-INTERFACE
host() {
    ip link add eth0 netns "$1" type veth peer name "$4" netns ws-router
    ip -n "$1" link set lo up
    ip -n "$1" address add "$2" dev eth0
    ip -n "$1" link set eth0 up
    ip netns exec ws-router sh -c "echo 1 > /proc/sys/net/ipv6/conf/$4/disable_ipv6"
    ip -n ws-router link set "$4" arp off up
    ip -n "$1" route add default via "$3"
}

up() {
    down
    for space in $spaces; do
        ip netns add "$space"
        # A new namespace takes this setting over from the host.
        ip netns exec "$space" sh -c "echo 0 > /proc/sys/net/ipv4/ip_forward"
    done
    host ws-left 10.1.0.2/24 10.1.0.1 ws-l
    host ws-right 10.2.0.2/24 10.2.0.1 ws-r
    cat <<'NEXT'
Ready: ws-left (10.1.0.2) and ws-right (10.2.0.2), to be joined by a router in ws-router.
Its ports:
    af_packet:ws-l,netns=ws-router      10.1.0.1/24
    af_packet:ws-r,netns=ws-router      10.2.0.1/24
Once it runs, try (as root):
    ip netns exec ws-left ping -c 3 10.2.0.2
    ip netns exec ws-right iperf3 -s -D -1 && ip netns exec ws-left iperf3 -c 10.2.0.2
    ip netns exec ws-right python3 -m http.server & ip netns exec ws-left curl http://10.2.0.2:8000/
    ip netns exec ws-left traceroute -n 10.2.0.2
Take it all away with:
    examples/namespaces.sh down
NEXT
}

status() {
    for space in $spaces; do
        if exists "$space"; then
            echo "$space:"
            ip -n "$space" -brief address | sed 's/^/    /'
            ip -n "$space" route | sed 's/^/    route /'
        else
            echo "$space: not there (examples/namespaces.sh up)"
        fi
    done
}

if [ "$(id -u)" != 0 ]; then
    echo "namespaces need root: sudo $0 $*" >&2
    exit 1
fi

case "${1:-}" in
    up | down | status) "$1" ;;
    *)
        echo "usage: $0 up | down | status" >&2
        exit 2
        ;;
esac
