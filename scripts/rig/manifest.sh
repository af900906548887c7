#!/bin/bash
# Prints all that a program can see of a tree: one line a file of stat fields, then contents, symlinks, extended attributes and
# ACLs. The same script runs in a kernel node and on our mount; equal output means that both see the same volume. Times of access
# are left out (FUSE serves reads from its page cache without telling us).
# usage: manifest.sh DIR
export LC_ALL=C
cd "$1" || exit 1
echo "# ino type mode nlink uid gid size blocks mtime ctime name"
find . -printf '%i %y %m %n %U %G %s %b %T@ %C@ %P -> %l\n' | sort -t ' ' -k 11
echo "# devices"
find . \( -type b -o -type c \) -exec stat -c '%t:%T %n' {} + | sort
echo "# md5"
find . -type f -size -2097152k -print0 | sort -z | xargs -0 -r -n 500 md5sum
echo "# md5 of the last bytes of what is larger than 2 GiB"
find . -type f -size +2097151k | sort | while read -r file; do echo "$(tail -c 4000000 "$file" | md5sum) $file"; done
echo "# xattrs"
find . -print0 | sort -z | xargs -0 -r -n 500 getfattr -h -d -m - -e hex --absolute-names 2>&1
echo "# acls"
find . \( -type f -o -type d \) -print0 | sort -z | xargs -0 -r -n 500 getfacl -s -n -p 2>&1
exit 0
