#!/bin/bash
# PID 1 of a kernel node: a User Mode Linux machine whose root is the host's file system, read through hostfs. It loads
# OCFS2, makes itself a small root in memory so that nothing of the host is written, and then takes commands from
# its second console: a line "ID" means "run /box/ID.cmd, its output to /box/ID.out", and the answer is "ID STATUS".
# Without the console as a channel each command would cost a round of polling. Driven by test/support/rig.ts.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
for word in $(</proc/cmdline); do
  case $word in O2_CACHE=*) cache=${word#*=} ;; O2_BOX=*) box=${word#*=} ;; esac
done
mount -t sysfs sysfs /sys

modules=$cache/usr/lib/uml/modules/$(uname -r)/kernel
for module in crypto/crc32_generic fs/quota/quota_tree fs/configfs/configfs fs/ocfs2/ocfs2_stackglue \
  fs/ocfs2/cluster/ocfs2_nodemanager fs/ocfs2/dlm/ocfs2_dlm fs/ocfs2/ocfs2_stack_o2cb fs/ocfs2/ocfs2; do
  if [ -e "$modules/$module.ko" ]; then insmod "$modules/$module.ko"; fi
done
ip link set lo up

mount -t tmpfs tmpfs /mnt
cd /mnt || exit 1
mkdir usr etc proc sys dev tmp root run var box host sbin o
for dir in bin lib lib64; do ln -s "usr/$dir" "$dir"; done
mount --rbind /usr usr
mount --bind "$box" box
mount --bind / host
for dir in proc sys dev; do mount --rbind "/$dir" "$dir"; done
cp -s /usr/sbin/* sbin/ 2>/dev/null
cp --remove-destination "$cache"/sbin/* sbin/
cp -r /etc/ld.so* /etc/passwd /etc/group /etc/nsswitch.conf etc/ 2>/dev/null
cp -r /etc/alternatives etc/ 2>/dev/null
ln -s /proc/self/mounts etc/mtab
chmod 1777 tmp

exec 3<>/dev/tty1
stty -F /dev/tty1 raw -echo
echo ready >&3
while read -r id <&3; do
  [ "$id" = poweroff ] && break
  chroot /mnt /bin/bash "/box/$id.cmd" >"box/$id.out" 2>&1 </dev/null 3<&-
  status=$?
  sync "box/$id.out" 2>/dev/null
  echo "$id $status" >&3
done
umount o 2>/dev/null
sync
halt -f -p 2>/dev/null || poweroff -f
sleep 10
