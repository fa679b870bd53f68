#!/bin/sh
# The Debian guest's counterpart of start.sh: settings from the disk (see leeward.lab.guest.layout) become network,
# host name and what /run/leeward tells the other services.
set -eu
NAME=guest ADDRESS='' GATEWAY='' INTERVAL_MS=20 AGENT=1 ACPI=1
eval "$(dd if=/dev/vda bs=4096 skip=1 count=1 2>/dev/null | tr -d '\000' | grep -E "^[A-Z_]+='[A-Za-z0-9./_-]*'$")"

mkdir -p /run/leeward /run/systemd/logind.conf.d
[ "$AGENT" = 1 ] && touch /run/leeward/agent
[ "$ACPI" = 1 ] || printf '[Login]\nHandlePowerKey=ignore\n' >/run/systemd/logind.conf.d/leeward.conf
echo "$NAME" >/proc/sys/kernel/hostname

modprobe virtio_net
tries=0
while [ ! -e /sys/class/net/eth0 ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
if [ -n "$ADDRESS" ]; then
    ip addr add "$ADDRESS" dev eth0
    ip link set eth0 up
    arping -q -U -c 1 -I eth0 "${ADDRESS%/*}" || true
    [ -z "$GATEWAY" ] || ip route add default via "$GATEWAY"
fi

files=/data/seq.log
if [ -b /dev/vdb ] && mount -t ext4 -o rw,noatime /dev/vdb /data2; then files="$files /data2/seq.log"; fi
printf 'INTERVAL_MS=%s\nFILES=%s\n' "$INTERVAL_MS" "$files" >/run/leeward/appd
