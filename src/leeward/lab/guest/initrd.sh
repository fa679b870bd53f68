#!/bin/sh
# First program of the tiny guest: load the disk driver, mount the root (which replays its journal), go there.
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod "/modules/$module"; done
tries=0
while [ ! -b /dev/vda2 ] && [ $tries -lt 500 ]; do sleep 0.02; tries=$((tries + 1)); done
mount -t ext4 -o rw,noatime /dev/vda2 /root && mount -o move /dev /root/dev && exec switch_root /root /sbin/init
echo "LEEWARD-GUEST: cannot mount the root" >/dev/console
exec sh
