#!/bin/bash
# PID 1 of a kernel node: a User Mode Linux machine whose root is the host's file system, read through hostfs. It loads
# OCFS2, makes itself a small root in memory so that nothing of the host is written, and then takes commands from
# its second console: a line "ID" means "run /box/ID.cmd, its output to /box/ID.out", and the answer is "ID STATUS".
# Without the console as a channel each command would cost a round of polling. Driven by test/support/rig.ts.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
for word in $(</proc/cmdline); do
  case $word in
  O2_CACHE=*) cache=${word#*=} ;; O2_BOX=*) box=${word#*=} ;; O2_CONF=*) conf=${word#*=} ;;
  O2_NODE=*) node=${word#*=} ;; O2_DEAD=*) dead=${word#*=} ;; O2_IDLE=*) idle=${word#*=} ;;
  esac
done
mount -t sysfs sysfs /sys

modules=$cache/usr/lib/uml/modules/$(uname -r)/kernel
for module in crypto/crc32_generic fs/quota/quota_tree fs/configfs/configfs fs/ocfs2/ocfs2_stackglue \
  fs/ocfs2/cluster/ocfs2_nodemanager fs/ocfs2/dlm/ocfs2_dlm fs/ocfs2/ocfs2_stack_o2cb fs/ocfs2/dlmfs/ocfs2_dlmfs \
  fs/ocfs2/ocfs2; do
  if [ -e "$modules/$module.ko" ]; then insmod "$modules/$module.ko"; fi
done
ip link set lo up
mount -t configfs none /sys/kernel/config 2>/dev/null
mount -t debugfs none /sys/kernel/debug 2>/dev/null

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

# A node of a cluster: what "o2cb register-cluster" does, from the same cluster.conf that all nodes have.
if [ -n "$conf" ]; then
  mkdir -p etc/ocfs2 dlm
  cp "$conf" etc/ocfs2/cluster.conf
  echo o2cb >/sys/fs/ocfs2/cluster_stack
  tree=/sys/kernel/config/cluster/$(awk '$1 ~ /:$/ { at = $1 } at == "cluster:" && $1 == "name" { print $3 }' "$conf")
  mkdir "$tree"
  [ -n "$dead" ] && echo "$dead" >"$tree/heartbeat/dead_threshold"
  [ -n "$idle" ] && echo "$idle" >"$tree/idle_timeout_ms"
  grep -q 'heartbeat_mode = global' "$conf" && echo global >"$tree/heartbeat/mode"
  # A node that has to go says so and stops; a reset would boot it again.
  echo panic >"$tree/fence_method"
  awk '$1 ~ /:$/ { if (at == "node:") print v["number"], v["name"], v["ip_address"], v["ip_port"]; at = $1; next }
    NF == 3 { v[$1] = $3 } END { if (at == "node:") print v["number"], v["name"], v["ip_address"], v["ip_port"] }' \
    "$conf" >/mnt/nodes
  while read -r number name address port; do
    dir=$tree/node/$name
    mkdir "$dir"
    echo "$port" >"$dir/ipv4_port"
    echo "$address" >"$dir/ipv4_address"
    echo "$number" >"$dir/num"
    if [ "$number" = "$node" ]; then
      hostname "$name"
      ip addr add "$address/24" dev vec0
      ip link set vec0 up
      echo 1 >"$dir/local"
    fi
  done </mnt/nodes
  mount -t ocfs2_dlmfs none dlm
fi

exec 3<>/dev/tty1
stty -F /dev/tty1 raw -echo
echo ready >&3
while read -r id <&3; do
  [ "$id" = poweroff ] && break
  {
    chroot /mnt /bin/bash "/box/$id.cmd" >"box/$id.out" 2>&1 </dev/null 3<&-
    status=$?
    sync "box/$id.out" 2>/dev/null
    echo "$id $status" >&3
  } &
done
umount o 2>/dev/null
sync
halt -f -p 2>/dev/null || poweroff -f
sleep 10
