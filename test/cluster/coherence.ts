/**
 * The coherence suite: one node does something, another one sees it at once. Before each case the other node has looked, so that its caches
 * are warm; what it must not do is believe them.
 */
import { expect } from "vitest";
import { MORE_CASES } from "./coherence_more.ts";
import type { Member } from "./members.ts";

export interface Case {
  readonly name: string;
  /** Prepares, on the node that acts. */
  readonly before?: string;
  /** Warms the caches of the node that looks. */
  readonly warm: string;
  readonly act: string;
  readonly look: string;
  readonly see: string;
}

const PY = "python3 -c";

export const CASES: readonly Case[] = [
  {
    name: "a new file",
    warm: "ls $D/t; cat $D/t/a 2>/dev/null; true",
    act: "echo one >$D/t/a",
    look: "cat $D/t/a",
    see: "one\n",
  },
  {
    name: "new contents of the same size",
    before: "echo one >$D/t/a",
    warm: "cat $D/t/a",
    act: "echo two >$D/t/a",
    look: "cat $D/t/a",
    see: "two\n",
  },
  {
    name: "an append",
    before: "echo one >$D/t/a",
    warm: "cat $D/t/a; stat $D/t/a",
    act: "echo two >>$D/t/a",
    look: "cat $D/t/a; stat -c %s $D/t/a",
    see: "one\ntwo\n8\n",
  },
  {
    name: "an overwrite in the middle of a large file",
    before: "head -c 3000000 /dev/zero >$D/t/a",
    warm: "md5sum $D/t/a",
    act: "printf X | dd of=$D/t/a bs=1 seek=1500000 conv=notrunc status=none",
    look: "dd if=$D/t/a bs=1 skip=1500000 count=1 status=none; stat -c ' %s' $D/t/a",
    see: "X 3000000\n",
  },
  {
    name: "truncation",
    before: "echo 0123456789 >$D/t/a",
    warm: "cat $D/t/a",
    act: "truncate -s 4 $D/t/a",
    look: "cat $D/t/a; stat -c ' %s' $D/t/a",
    see: "0123 4\n",
  },
  {
    name: "extension",
    before: "echo -n 01 >$D/t/a",
    warm: "cat $D/t/a",
    act: "truncate -s 100000 $D/t/a; echo end >>$D/t/a",
    look: "tail -c 4 $D/t/a; stat -c %s $D/t/a; head -c 4 $D/t/a | od -An -c | tr -d ' '",
    see: "end\n100004\n01\\0\\0\n",
  },
  {
    name: "a removed file",
    before: "echo one >$D/t/a",
    warm: "cat $D/t/a; ls $D/t",
    act: "rm $D/t/a",
    look: "ls $D/t; test -e $D/t/a || echo gone",
    see: "gone\n",
  },
  {
    name: "a name that was looked for in vain",
    warm: "ls $D/t/neg 2>/dev/null; test ! -e $D/t/neg",
    act: "echo now >$D/t/neg",
    look: "cat $D/t/neg",
    see: "now\n",
  },
  {
    name: "a new directory with contents",
    warm: "ls -R $D/t",
    act: "mkdir -p $D/t/d/e; echo deep >$D/t/d/e/f",
    look: "cat $D/t/d/e/f; stat -c %h $D/t/d",
    see: "deep\n3\n",
  },
  {
    name: "a removed directory",
    before: "mkdir -p $D/t/d/e",
    warm: "ls -R $D/t",
    act: "rmdir $D/t/d/e",
    look: "ls $D/t/d; stat -c %h $D/t/d",
    see: "2\n",
  },
  {
    name: "a file renamed",
    before: "echo one >$D/t/a",
    warm: "cat $D/t/a",
    act: "mv $D/t/a $D/t/b",
    look: "cat $D/t/b; ls $D/t",
    see: "one\nb\n",
  },
  {
    name: "a file renamed over another",
    before: "echo one >$D/t/a; echo two >$D/t/b",
    warm: "cat $D/t/a $D/t/b",
    act: "mv $D/t/a $D/t/b",
    look: "cat $D/t/b; ls $D/t",
    see: "one\nb\n",
  },
  {
    name: "a file renamed into another directory",
    before: "mkdir $D/t/d; echo one >$D/t/a",
    warm: "ls -R $D/t",
    act: "mv $D/t/a $D/t/d/",
    look: "ls $D/t $D/t/d | grep -c a$; cat $D/t/d/a",
    see: "1\none\n",
  },
  {
    name: "a directory renamed, and what is in it",
    before: "mkdir $D/t/d $D/t/e; echo one >$D/t/d/a",
    warm: "cat $D/t/d/a; ls $D/t/e",
    act: "mv $D/t/d $D/t/e/f",
    look: "cat $D/t/e/f/a; ls $D/t; cd $D/t/e/f && ls ..",
    see: "one\ne\nf\n",
  },
  {
    name: "the inode stays through a rename",
    before: "echo one >$D/t/a",
    warm: "stat -c %i $D/t/a >/tmp/ino.$$; cat $D/t/a",
    act: "mv $D/t/a $D/t/b; echo more >>$D/t/b",
    look: "cat $D/t/b",
    see: "one\nmore\n",
  },
  {
    name: "a hard link",
    before: "echo one >$D/t/a",
    warm: "stat $D/t/a",
    act: "ln $D/t/a $D/t/b; echo two >>$D/t/b",
    look: "cat $D/t/a; stat -c %h $D/t/a",
    see: "one\ntwo\n2\n",
  },
  {
    name: "a link less",
    before: "echo one >$D/t/a; ln $D/t/a $D/t/b",
    warm: "stat $D/t/a $D/t/b",
    act: "rm $D/t/a",
    look: "stat -c %h $D/t/b; ls $D/t",
    see: "1\nb\n",
  },
  {
    name: "a symlink made anew",
    before: "ln -s one $D/t/l",
    warm: "readlink $D/t/l",
    act: "ln -sfn two $D/t/l",
    look: "readlink $D/t/l",
    see: "two\n",
  },
  {
    name: "mode and owner",
    before: "echo one >$D/t/a",
    warm: "stat $D/t/a",
    act: "chmod 4751 $D/t/a; chown 12:34 $D/t/a; chmod 4751 $D/t/a",
    look: "stat -c '%a %u %g' $D/t/a",
    see: "4751 12 34\n",
  },
  {
    name: "times",
    before: "echo one >$D/t/a",
    warm: "stat $D/t/a",
    act: "touch -d '2001-02-03 04:05:06.123456789 UTC' $D/t/a",
    look: "TZ=UTC stat -c %y $D/t/a",
    see: "2001-02-03 04:05:06.123456789 +0000\n",
  },
  {
    name: "an extended attribute",
    before: "echo one >$D/t/a",
    warm: `${PY} "import os;print(os.listxattr('$D/t/a'))"`,
    act: `${PY} "import os;os.setxattr('$D/t/a','user.x',b'value')"`,
    look: `${PY} "import os;print(os.getxattr('$D/t/a','user.x'))"`,
    see: "b'value'\n",
  },
  {
    name: "an extended attribute changed and one removed",
    before: `echo one >$D/t/a; ${PY} "import os;os.setxattr('$D/t/a','user.x',b'1');os.setxattr('$D/t/a','user.y',b'2')"`,
    warm: `${PY} "import os;print(os.getxattr('$D/t/a','user.x'))"`,
    act: `${PY} "import os;os.setxattr('$D/t/a','user.x',b'v'*3000);os.removexattr('$D/t/a','user.y')"`,
    look: `${PY} "import os;print(len(os.getxattr('$D/t/a','user.x')),os.listxattr('$D/t/a'))"`,
    see: "3000 ['user.x']\n",
  },
  {
    name: "direct writes seen by buffered reads",
    before: "head -c 65536 /dev/zero >$D/t/a; sync $D/t/a",
    warm: "md5sum $D/t/a",
    act: "tr '\\0' 'z' </dev/zero | head -c 8192 >/tmp/z.$$; dd if=/tmp/z.$$ of=$D/t/a bs=4096 seek=2 oflag=direct conv=notrunc status=none; rm /tmp/z.$$",
    look: "head -c 8194 $D/t/a | tail -c 2 | od -An -c | tr -d ' '; tail -c +16384 $D/t/a | head -c 2 | od -An -c | tr -d ' '",
    see: "zz\nz\\0\n",
  },
  {
    name: "buffered writes seen by direct reads",
    before: "head -c 65536 /dev/zero >$D/t/a",
    warm: "dd if=$D/t/a bs=4096 iflag=direct status=none | md5sum",
    act: "printf hello | dd of=$D/t/a bs=1 seek=4096 conv=notrunc status=none",
    look: "dd if=$D/t/a bs=4096 skip=1 count=1 iflag=direct status=none | head -c 5",
    see: "hello",
  },
  {
    name: "a hole punched",
    before: "tr '\\0' 'x' </dev/zero | head -c 65536 >$D/t/a",
    warm: "md5sum $D/t/a",
    act: "fallocate -p -o 8192 -l 8192 $D/t/a",
    look: "tr -d '\\0' <$D/t/a | wc -c",
    see: "57344\n",
  },
  {
    name: "space set aside",
    before: "echo one >$D/t/a",
    warm: "stat $D/t/a",
    act: "fallocate -l 1000000 $D/t/a",
    look: "stat -c %s $D/t/a; head -c 4 $D/t/a",
    see: "1000000\none\n",
  },
  {
    name: "a page written through a mapping",
    before: "head -c 16384 /dev/zero >$D/t/a",
    warm: "md5sum $D/t/a",
    act: `${PY} "import mmap;f=open('$D/t/a','r+b');m=mmap.mmap(f.fileno(),0);m[5000:5005]=b'mmap!'; m.flush()"`,
    look: "dd if=$D/t/a bs=1 skip=5000 count=5 status=none",
    see: "mmap!",
  },
  {
    name: "many names",
    warm: "ls $D/t | wc -l",
    act: "cd $D/t; for i in $(seq 1 300); do : >name-$i; done",
    look: "ls $D/t | wc -l; test -e $D/t/name-299 && echo there",
    see: "300\nthere\n",
  },
  {
    name: "many names gone",
    before: "cd $D/t; for i in $(seq 1 300); do : >name-$i; done",
    warm: "ls -l $D/t | wc -l",
    act: "cd $D/t; rm -f name-*5 name-1*",
    look: "ls $D/t | wc -l",
    see: String(0),
  },
  {
    name: "the same name again, another file",
    before: "echo one >$D/t/a",
    warm: "cat $D/t/a; stat $D/t/a",
    act: "rm $D/t/a; mkdir $D/t/a; echo in >$D/t/a/x",
    look: "cat $D/t/a/x",
    see: "in\n",
  },
];

const oneLine = (text: string): string => text.replaceAll("\n", "\\n");

/** How many names-1* and name-*5 leave of 300. */
const left = (): number => {
  let n = 0;
  for (let i = 1; i <= 300; i++) if (!`${i}`.endsWith("5") && !`${i}`.startsWith("1")) n++;
  return n;
};

/** For one command of a case: a kernel node on a machine that has much to do takes its time over thousands of names. */
const LIMIT_MS = 180_000;

/** Runs every case with `a` acting and `b` looking. Returns what went wrong, one line a case. */
export async function coherence(
  a: Member,
  b: Member,
  cases: readonly Case[] = [...CASES, ...MORE_CASES],
): Promise<string[]> {
  const wrong: string[] = [];
  // Said at once, too: the rest takes minutes.
  const say = (what: string): void => {
    console.log(what);
    wrong.push(what);
  };
  for (const c of cases) {
    const see = c.name === "many names gone" ? `${left()}\n` : c.see;
    try {
      await a.run(`rm -rf $D/t && mkdir $D/t && { ${c.before ?? "true"}; }`, LIMIT_MS);
      await b.run(`${c.warm}; true`, LIMIT_MS);
      await a.run(c.act, LIMIT_MS);
      const seen = await b.run(c.look, LIMIT_MS);
      if (seen !== see) say(`${a.name} to ${b.name}: ${c.name}: saw "${oneLine(seen)}" for "${oneLine(see)}"`);
    } catch (err) {
      say(`${a.name} to ${b.name}: ${c.name}: ${err instanceof Error ? err.message : String(err)}`);
    }
  }
  return wrong;
}

/** Both ways. */
export async function coherenceBothWays(a: Member, b: Member, cases?: readonly Case[]): Promise<void> {
  expect([...(await coherence(a, b, cases)), ...(await coherence(b, a, cases))]).toEqual([]);
}
