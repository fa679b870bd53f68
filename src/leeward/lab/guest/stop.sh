#!/bin/sh
# The tiny guest's end. busybox init runs this before it kills anything, so what holds files open is ended here.
killall appd qemu-ga acpid 2>/dev/null
tries=0
while killall -0 appd 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.02; tries=$((tries + 1)); done
umount /data2 2>/dev/null
mount -o remount,ro /
sync
