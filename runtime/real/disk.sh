#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Write to the disk, read back and compare; before that, what the last time has
# written must still be there: the driver may have been loaded anew since.

/bin/busybox --install -s /bin
written=$0.written
size=512	# KB

tries=50
until [ -e /sys/block/sda ]; do
	tries=$((tries - 1))
	[ "$tries" -gt 0 ] || { echo 'no disk'; exit 1; }
	sleep 0.1
done

compare() {
	blockdev --flushbufs /dev/sda
	dd if=/dev/sda of=/read bs=64k count=$((size / 64)) 2>/dev/null || {
		echo "reading fails: $1"
		exit 1
	}
	cmp "$written" /read >/dev/null || {
		echo "data: wrong in $(cmp -l "$written" /read | wc -l) bytes: $1"
		exit 1
	}
	echo "$size KB are right: $1"
}

[ ! -e "$written" ] || compare 'written before'
rm -f "$written"
dd if=/dev/urandom of=/new bs=64k count=$((size / 64)) 2>/dev/null
dd if=/new of=/dev/sda bs=64k conv=fsync 2>/dev/null || {
	echo 'writing fails'
	exit 1
}
mv /new "$written"
compare 'written now'
