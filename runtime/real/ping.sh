#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Exchange packets of several sizes with QEMU's own network. The interface stays
# up. Exit status: was one of each size answered?

/bin/busybox --install -s /bin
for device in /sys/class/net/*/device; do
	[ -e "$device" ] || { echo 'no interface'; exit 1; }
	interface=${device%/device}
	interface=${interface##*/}
done

ip link set "$interface" up || exit
ip addr show dev "$interface" | grep -q 10.0.2.15 ||
	ip addr add 10.0.2.15/24 dev "$interface"

# Until the link is there, nothing is answered
tries=10
until ping -q -c 1 -W 1 10.0.2.2 >/dev/null; do
	tries=$((tries - 1))
	[ "$tries" -gt 0 ] || break
done

failed=0
for size in 18 200 1000 1472; do
	answers=$(ping -q -c 3 -i 0.05 -W 1 -s "$size" 10.0.2.2 |
		sed -n 's/.* \([0-9]*\) packets received.*/\1/p')
	echo "$size bytes: ${answers:-0} of 3 answered"
	[ "${answers:-0}" -gt 0 ] || failed=1
done
exit "$failed"
