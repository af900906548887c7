#!/bin/bash
# What people do to a file system: a source tree unpacked, copied and thinned out, a git repository cloned, committed to and packed,
# ACLs, and test/support/workload.c. Runs alike on our mount and in a kernel node.
# usage: workload.sh DIR WORKLOAD-PROGRAM TAR REPOSITORY [SEED] [SCALE] [MAX-XATTR-BYTES]
set -e
export LC_ALL=C HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
dir=$1 program=$2 tar=$3 repository=$4 seed=${5:-1} scale=${6:-100} max_xattr=${7:-60000}
cd "$dir"

mkdir tree
tar -C tree -xf "$tar"
cp -a tree copy
find copy -name '*.ts' -delete
find tree -name '*.md' -exec chmod 600 {} +
mkdir tree/moved
mv copy/* tree/moved
rm -rf copy tree/moved/test

if [ -n "$repository" ]; then
  git -c safe.directory='*' clone -q --no-hardlinks "$repository" clone
  cd clone
  git config gc.auto 0
  for i in 1 2 3; do
    echo "line $i" >>README.md
    mkdir -p "new/$i"; echo "$i" >"new/$i/file"
    git add -A; git commit -qm "change $i"
  done
  git branch side HEAD~1
  git gc -q
  git fsck --no-progress
  cd ..
fi

mkdir acl
if setfacl -m u:1000:rwx,g:100:r-x acl 2>/dev/null; then
  setfacl -d -m u::rwx,g::r-x,o::---,u:2000:rw- acl
  mkdir acl/inherits; echo x >acl/inherits/file; echo y >acl/file
  setfacl -m u:3000:r,m::rx acl/file
  for i in $(seq 20); do echo "$i" >"acl/many"; setfacl -m "u:$((4000 + i)):rwx" acl/many; done
  setfacl -x u:4003 acl/many; setfacl -b acl/inherits/file; chmod 750 acl/file
else
  echo "skipped: ACLs"
fi

"$program" -s "$seed" -k "$scale" -x "$max_xattr" "$dir"
sync
