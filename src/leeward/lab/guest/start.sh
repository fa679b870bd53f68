#!/bin/sh
# The tiny guest's start, run by busybox init. Settings come from the disk itself (see leeward.lab.guest.layout).
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /run/lock /dev/virtio-ports

NAME=guest ADDRESS='' GATEWAY='' INTERVAL_MS=100 AGENT=1 ACPI=1
eval "$(dd if=/dev/vda bs=4096 skip=1 count=1 2>/dev/null | tr -d '\000' | grep -E "^[A-Z_]+='[A-Za-z0-9./_-]*'$")"

hostname "$NAME"
for module in $(cat /modules/order); do insmod "/modules/$module"; done
ip link set lo up
tries=0
while [ ! -e /sys/class/net/eth0 ] && [ $tries -lt 100 ]; do sleep 0.02; tries=$((tries + 1)); done
if [ -n "$ADDRESS" ]; then
    ip addr add "$ADDRESS" dev eth0
    ip link set eth0 up
    # Neighbours may still know this address by another card (an earlier guest, or this one before a failover).
    arping -q -U -c 3 -I eth0 "${ADDRESS%/*}" &
    [ -n "$GATEWAY" ] && ip route add default via "$GATEWAY"
fi

# What a picture of the screen shows; appd fills in rows 5 to 8. \033[?25l: a cursor that blinks never stands still.
# In a shell of its own: this one, as the session's first, would make the screen its terminal, and its end would hang up
# on all that it has started.
read -r release </proc/sys/kernel/osrelease
(
    printf '\033[?25l\033[H\033[2J\033[7m  %-50.50s%26s  \033[0m\r\n\r\n' "$NAME" 'Leeward lab guest'
    printf '  %-16s%s\r\n  %-16s%s\033[10H' 'Address' "${ADDRESS:-none}" 'Kernel' "Linux $release"
) >/dev/tty1

second=''
[ -b /dev/vdb ] && mount -t ext4 -o rw,noatime /dev/vdb /data2 && second=/data2/seq.log
SCREEN=/dev/tty1 appd "$INTERVAL_MS" 80 /data/seq.log $second >/dev/console 2>&1 &

if [ "$ACPI" = 1 ]; then
    for module in $(cat /modules/acpi); do insmod "/modules/$module"; done
    acpid -d >/run/acpid.log 2>&1 &
fi
port=$(ls /sys/class/virtio-ports 2>/dev/null | head -n 1)
if [ "$AGENT" = 1 ] && [ -n "$port" ]; then
    ln -sf "/dev/$port" /dev/virtio-ports/org.qemu.guest_agent.0
    qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 -t /run -f /run/qemu-ga.pid >/run/qemu-ga.log 2>&1 &
fi
