#!/bin/bash
# What each node does in the root that all share: programs of all kinds run from it, what is only this node's goes to /var, which is its own, and
# what is everybody's to /srv. Prints what must be the same on every node.
# usage, in the root: shared_root.sh NODE NODES
set -e
node=$1 nodes=$2
export LC_ALL=C PATH=/usr/bin:/usr/sbin HOME=/root TMPDIR=/var/tmp
mkdir -p /var/log /var/tmp /var/lib
log() { echo "$node $*" | tee -a /var/log/messages >>/srv/log; }
log boot

# A shell, text tools, perl.
perl -e 'srand 7; printf "%08d %s\n", rand 1e8, "x" x rand 60 for 1 .. 20000' >/var/tmp/lines
sort -n /var/tmp/lines >/var/tmp/sorted
awk '{ n += $1 } END { print "sum", n }' /var/tmp/sorted
sort -c -n /var/tmp/sorted && md5sum <"/var/tmp/sorted"
grep -c xxxx /var/tmp/sorted
log sorted

# An archive of a part of the root, and back.
tar -C / -czf /var/tmp/include.tgz usr/include etc/passwd
mkdir /var/tmp/again
tar -C /var/tmp/again -xzf /var/tmp/include.tgz
diff -r /usr/include /var/tmp/again/usr/include && echo "the same again"
find /var/tmp/again -type f | wc -l
log unpacked

# A compiler, and make.
mkdir /var/tmp/build
cd /var/tmp/build
for i in 1 2 3 4; do
  printf '#include <stdio.h>\n#include <stdlib.h>\nint part%d(int n) { return n * %d + 1; }\n' $i $i >part$i.c
done
cat >main.c <<'C'
#include <stdio.h>
int part1(int), part2(int), part3(int), part4(int);
int main(void) { printf("built: %d\n", part4(part3(part2(part1(5))))); return 0; }
C
printf 'prog: main.o part1.o part2.o part3.o part4.o\n\tgcc -o $@ $^\n' >Makefile
make -s CC=gcc
./prog
log built

# An upgrade by the first node, under the others' feet: they run the old one until the new one is there.
if [ "$node" = 1 ]; then
  until [ "$(grep -c ready /srv/log)" -ge $((nodes - 1)) ]; do sleep 0.2; done
  printf '#!/bin/bash\necho version 2\n' >/usr/bin/.upgrade.new
  chmod 755 /usr/bin/.upgrade.new
  mv /usr/bin/.upgrade.new /usr/bin/upgrade
else
  upgrade >>/var/log/versions
  log ready
  until [ "$(upgrade)" = "version 2" ]; do upgrade >>/var/log/versions; sleep 0.2; done
fi
upgrade
log upgraded
find /var -type f | wc -l
