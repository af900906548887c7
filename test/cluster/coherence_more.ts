/** More of the coherence suite: what has structures of its own on the disk or ways of its own through the caches. */
import type { Case } from "./coherence.ts";

const PY = "python3 -c";

/** Sets attributes user.0 to user.N-1 of `len` bytes on $D/t/a. */
const setMany = (n: number, len: number, letter: string): string =>
  `${PY} "import os;[os.setxattr('$D/t/a','user.%d'%i,b'${letter}'*${len}) for i in range(${n})]"`;
/**
 * How many are listed; how many there are, how long together, and of which letters. Not listed by python, whose first try has a buffer too small,
 * and a kernel node puts that into its log.
 */
const lookMany =
  "getfattr --absolute-names -m '^user' $D/t/a | grep -c ^user; " +
  `${PY} "
import os
def value(n):
    try: return os.getxattr('$D/t/a','user.%d'%n)
    except OSError: return b''
v=[x for x in map(value,range(400)) if x]
print(len(v),sum(map(len,v)),bytes(sorted(set(b''.join(v)))).decode())"`;

/** Names that take an index of several leaves, made and removed without a process each. */
const names = (from: number, to: number, how: string): string =>
  `${PY} "import os;os.chdir('$D/t');[${how} for n in ('%060d'%i for i in range(${from},${to}))]"`;
const CREATE = "os.close(os.open(n,os.O_CREAT|os.O_WRONLY,0o644))";

export const MORE_CASES: readonly Case[] = [
  {
    name: "attributes inside the inode",
    before: `: >$D/t/a; ${setMany(2, 20, "a")}`,
    warm: lookMany,
    act: setMany(3, 30, "b"),
    look: lookMany,
    see: "3\n3 90 b\n",
  },
  {
    name: "attributes in a block of their own",
    before: `: >$D/t/a; ${setMany(2, 20, "a")}`,
    warm: lookMany,
    act: setMany(20, 79, "b"),
    look: lookMany,
    see: "20\n20 1580 b\n",
  },
  {
    name: "attributes in buckets",
    before: `: >$D/t/a; ${setMany(20, 79, "a")}`,
    warm: lookMany,
    act: setMany(300, 79, "b"),
    look: lookMany,
    see: "300\n300 23700 b\n",
  },
  {
    name: "attributes in buckets, most of them removed again",
    before: `: >$D/t/a; ${setMany(300, 79, "a")}`,
    warm: lookMany,
    act: `${PY} "import os;[os.removexattr('$D/t/a','user.%d'%i) for i in range(7,300)]"`,
    look: lookMany,
    see: "7\n7 553 a\n",
  },
  {
    name: "an attribute with clusters of its own",
    before: `: >$D/t/a; ${setMany(1, 60000, "a")}`,
    warm: lookMany,
    act: setMany(2, 61000, "b"),
    look: lookMany,
    see: "2\n2 122000 b\n",
  },
  {
    name: "an access control list",
    before: "echo one >$D/t/a",
    warm: "cd $D/t; getfacl -c a",
    act: "setfacl -m u:1000:rwx,g:100:r-x $D/t/a",
    look: "cd $D/t; getfacl -cn a | tr '\\n' ' '",
    see: "user::rw- user:1000:rwx group::r-- group:100:r-x mask::rwx other::r--  ",
  },
  {
    name: "a default list, and what inherits it",
    before: "mkdir $D/t/d",
    warm: "cd $D/t; getfacl -c d; ls d",
    act: "setfacl -d -m u:1000:r $D/t/d; : >$D/t/d/f",
    look: "cd $D/t; getfacl -cn d/f | grep 1000",
    see: "user:1000:r--\n",
  },
  {
    // A kernel node keeps them in its memory, and gives them to others with the lock only.
    name: "times of a direct write in place, on a node that reads the file first",
    before: "head -c 8192 /dev/zero >$D/t/a",
    warm: "cat $D/t/a | wc -c; stat $D/t/a",
    act: "dd if=/dev/zero of=$D/t/a bs=8192 count=1 oflag=direct conv=notrunc status=none; stat -c %.9Y $D/t/a >$D/t/m",
    look: "dd if=$D/t/a of=/dev/null bs=8192 iflag=direct status=none; stat -c %.9Y $D/t/a | diff $D/t/m - && echo same",
    see: "same\n",
  },
  {
    name: "times of a direct write in place, on a node that changes the file first",
    before: "head -c 8192 /dev/zero >$D/t/a",
    warm: "cat $D/t/a | wc -c; stat $D/t/a",
    act: "dd if=/dev/zero of=$D/t/a bs=8192 count=1 oflag=direct conv=notrunc status=none; stat -c %.9Y $D/t/a >$D/t/m",
    look: "chmod 600 $D/t/a; stat -c %.9Y $D/t/a | diff $D/t/m - && echo same",
    see: "same\n",
  },
  {
    name: "a directory that becomes indexed and grows",
    warm: "ls $D/t | wc -l",
    act: names(0, 2500, CREATE),
    look: `ls $D/t | wc -l; ls -U $D/t | md5sum >/dev/null; stat $D/t/$(printf %060d 2499) >/dev/null && test ! -e $D/t/$(printf %060d 2500) && echo there`,
    see: "2500\nthere\n",
  },
  {
    name: "an indexed directory emptied and filled with other names",
    before: names(0, 1500, CREATE),
    warm: `ls $D/t | wc -l; test ! -e $D/t/$(printf %060d 2000)`,
    act: `${names(0, 1490, "os.unlink(n)")}; ${names(2000, 2200, CREATE)}`,
    look: `ls $D/t | wc -l; test -e $D/t/$(printf %060d 2000) && test ! -e $D/t/$(printf %060d 5) && echo right`,
    see: "210\nright\n",
  },
  {
    name: "names renamed in an indexed directory",
    before: names(0, 800, CREATE),
    warm: "ls $D/t | md5sum",
    act: names(0, 800, "os.rename(n,'r'+n)"),
    look: `ls $D/t | grep -c ^r; test -e $D/t/r$(printf %060d 400) && test ! -e $D/t/$(printf %060d 400) && echo right`,
    see: "800\nright\n",
  },
  {
    name: "shared clusters: the copy changed, the other not",
    before: "head -c 1000000 /dev/zero | tr '\\0' o >$D/t/a; sync $D/t/a",
    warm: "md5sum $D/t/a",
    act: "cp --reflink=auto $D/t/a $D/t/b; printf changed | dd of=$D/t/b bs=1 seek=500000 conv=notrunc status=none",
    look: "tr -d o <$D/t/a | wc -c; tr -d o <$D/t/b; stat -c ' %s' $D/t/b",
    see: "0\nchanged 1000000\n",
  },
  {
    name: "shared clusters: the first changed, the copy not",
    before: "head -c 1000000 /dev/zero | tr '\\0' o >$D/t/a; sync $D/t/a; cp --reflink=auto $D/t/a $D/t/b",
    warm: "md5sum $D/t/a $D/t/b",
    act: "printf changed | dd of=$D/t/a bs=1 seek=700000 conv=notrunc status=none; truncate -s 900000 $D/t/b",
    look: "tr -d o <$D/t/a; tr -d o <$D/t/b | wc -c; stat -c %s $D/t/b",
    see: "changed0\n900000\n",
  },
  {
    name: "shared clusters: changed by the node that did not copy",
    before: "head -c 1000000 /dev/zero | tr '\\0' o >$D/t/a; sync $D/t/a; cp --reflink=auto $D/t/a $D/t/b; rm $D/t/a",
    warm: "md5sum $D/t/b",
    act: "cp --reflink=auto $D/t/b $D/t/c; printf X | dd of=$D/t/b bs=1 seek=9 conv=notrunc status=none",
    look: "tr -d o <$D/t/b; tr -d o <$D/t/c | wc -c; ls $D/t | tr '\\n' ' '",
    see: "X0\nb c ",
  },
  {
    name: "a symlink of each kind",
    warm: "ls -l $D/t",
    act: `ln -s short $D/t/l; ${PY} "import os;os.symlink('s/'*1500,'$D/t/m')"`,
    look: "readlink $D/t/l; readlink $D/t/m | wc -c",
    see: "short\n3001\n",
  },
  {
    name: "a hard link in another directory, and the first name gone",
    before: "mkdir $D/t/d; echo one >$D/t/a",
    warm: "stat $D/t/a; ls $D/t/d",
    act: "ln $D/t/a $D/t/d/b; rm $D/t/a",
    look: "stat -c %h $D/t/d/b; cat $D/t/d/b; test -e $D/t/a || echo gone",
    see: "1\none\ngone\n",
  },
  {
    name: "special files",
    warm: "ls $D/t",
    act: "mkfifo -m 600 $D/t/p; mknod $D/t/n c 4 200",
    look: "stat -c '%F %t %T' $D/t/p $D/t/n",
    see: "fifo 0 0\ncharacter special file 4 c8\n",
  },
  {
    name: "a directory's times",
    before: "touch -d @1000 $D/t",
    warm: "stat $D/t",
    act: ": >$D/t/a",
    look: "test $(stat -c %Y $D/t) -gt 1000 && echo later",
    see: "later\n",
  },
  {
    name: "owner and mode of a directory",
    before: "mkdir $D/t/d",
    warm: "stat $D/t/d; ls $D/t/d",
    act: "chown 7:8 $D/t/d; chmod 3710 $D/t/d",
    look: "stat -c '%a %u %g' $D/t/d",
    see: "3710 7 8\n",
  },
  {
    name: "file flags",
    before: "echo one >$D/t/a",
    warm: "lsattr $D/t/a",
    act: "chattr +d $D/t/a",
    look: "lsattr $D/t/a | cut -d' ' -f1 | tr -d -",
    see: "d\n",
  },
  {
    name: "small contents that leave the inode",
    before: "echo one >$D/t/a",
    warm: "cat $D/t/a",
    act: "head -c 5000 /dev/zero | tr '\\0' y >>$D/t/a",
    look: "head -c 4 $D/t/a; tr -dc y <$D/t/a | wc -c",
    see: "one\n5000\n",
  },
  {
    name: "truncated when opened, written anew",
    before: "head -c 200000 /dev/zero >$D/t/a",
    warm: "md5sum $D/t/a",
    act: "echo anew >$D/t/a",
    look: "cat $D/t/a; stat -c %s $D/t/a",
    see: "anew\n5\n",
  },
  {
    name: "far apart writes, holes between",
    before: "echo one >$D/t/a",
    warm: "cat $D/t/a",
    act: "for i in 1 3 9 27 81; do printf $i | dd of=$D/t/a bs=100000 seek=$i conv=notrunc status=none; done",
    look: "tr -d '\\0' <$D/t/a; stat -c ' %s' $D/t/a",
    see: "one\n1392781 8100002\n",
  },
  {
    name: "direct writes seen by direct reads, at the end of the file too",
    before: "head -c 65536 /dev/zero >$D/t/a; sync $D/t/a",
    warm: "dd if=$D/t/a bs=4096 iflag=direct status=none | md5sum",
    act: "head -c 16384 /dev/zero | tr '\\0' z >/tmp/z.$$; dd if=/tmp/z.$$ of=$D/t/a bs=4096 seek=14 oflag=direct conv=notrunc status=none; rm /tmp/z.$$",
    look: "dd if=$D/t/a bs=4096 iflag=direct status=none | tr -dc z | wc -c; stat -c %s $D/t/a",
    see: "16384\n73728\n",
  },
  {
    name: "direct writes seen through a mapping",
    before: "head -c 65536 /dev/zero >$D/t/a; sync $D/t/a",
    warm: "md5sum $D/t/a",
    act: "head -c 4096 /dev/zero | tr '\\0' z >/tmp/z.$$; dd if=/tmp/z.$$ of=$D/t/a bs=4096 seek=3 oflag=direct conv=notrunc status=none; rm /tmp/z.$$",
    look: `${PY} "import mmap;f=open('$D/t/a','rb');m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ);print(m[12287:12290],m[:].count(b'z'))"`,
    see: "b'\\x00zz' 4096\n",
  },
  {
    name: "pages written through a mapping over a hole seen by direct reads",
    before: "truncate -s 65536 $D/t/a",
    warm: "md5sum $D/t/a",
    act: `${PY} "import mmap;f=open('$D/t/a','r+b');m=mmap.mmap(f.fileno(),0);m[20480:20485]=b'mmap!'; m[65535:65536]=b'#'; m.flush()"`,
    look: "dd if=$D/t/a bs=4096 iflag=direct status=none | tr -d '\\0'",
    see: "mmap!#",
  },
];

/** renameat2(2) with RENAME_EXCHANGE. */
const exchange = (a: string, b: string): string =>
  `${PY} "import ctypes,os;c=ctypes.CDLL(None,use_errno=True);r=c.renameat2(-100,b'$D/t/${a}',-100,b'$D/t/${b}',2);assert r==0,os.strerror(ctypes.get_errno())"`;

/** What the kernel's ocfs2 refuses: RENAME_EXCHANGE, O_TMPFILE, FALLOC_FL_ZERO_RANGE. */
export const OUR_CASES: readonly Case[] = [
  {
    name: "two files of two folders exchanged",
    before: "mkdir $D/t/d; echo one >$D/t/a; echo two >$D/t/d/b",
    warm: "cat $D/t/a $D/t/d/b; stat $D/t/a $D/t/d/b",
    act: exchange("a", "d/b"),
    look: "cat $D/t/a $D/t/d/b",
    see: "two\none\n",
  },
  {
    name: "a file and a folder of two folders exchanged",
    before: "mkdir -p $D/t/d/x $D/t/e; echo in >$D/t/d/x/in; echo file >$D/t/e/f",
    warm: "cat $D/t/d/x/in $D/t/e/f; ls -R $D/t",
    act: exchange("d/x", "e/f"),
    look: "cat $D/t/d/x $D/t/e/f/in; cd $D/t/e/f/..; stat -c '%n %h' . ../d",
    see: "file\nin\n. 3\n../d 2\n",
  },
  {
    name: "a file without a name that is given one",
    warm: "cat $D/t/a; ls $D/t",
    act: `${PY} "import os;f=os.open('$D/t',os.O_TMPFILE|os.O_RDWR,0o640);os.write(f,b'one');os.link('/proc/self/fd/%d'%f,'$D/t/a',src_dir_fd=f,follow_symlinks=True)"`,
    look: "cat $D/t/a; stat -c ' %a %h' $D/t/a",
    see: "one 640 1\n",
  },
  {
    name: "a range of zeros",
    before: "head -c 20000 /dev/zero | tr '\\0' x >$D/t/a",
    warm: "md5sum $D/t/a",
    act: "fallocate -z -o 5000 -l 10000 $D/t/a",
    look: "tr -d '\\0' <$D/t/a | wc -c; stat -c %s $D/t/a",
    see: "10000\n20000\n",
  },
];
