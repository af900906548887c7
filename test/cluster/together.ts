/** What two nodes do to the same things at the same time, beyond one acting and the other looking: open files, mappings, free space, one folder. */
import { expect } from "vitest";
import type { Member } from "./members.ts";

const PY = "python3 -c";

/** Waits, in a node's shell, for a name that the other node makes. */
const await_ = (name: string): string => `until [ -e $D/t/${name} ]; do sleep 0.2; done`;

/** `b` has files open while `a` renames, replaces, removes, truncates and appends to them: what b reads through its descriptors. */
export async function openFiles(a: Member, b: Member): Promise<void> {
  await a.run(
    "rm -rf $D/t; mkdir $D/t; cd $D/t; for f in moved over gone short long; do echo $f-1 >$f; done; echo new >n",
  );
  const reader = b.run(
    `cd $D/t; exec 3<moved 4<over 5<gone 6<short 7<long; cat moved over gone short long >/dev/null; touch opened; ${await_("done")}; ` +
      "cat <&3; cat <&4; cat <&5; cat <&6; echo; cat <&7; stat -Lc '%h %s' /proc/self/fd/3 /proc/self/fd/4 /proc/self/fd/5 /proc/self/fd/6 /proc/self/fd/7",
  );
  await a.run(
    `${await_("opened")}; cd $D/t; mv moved elsewhere; mv n over; rm gone; truncate -s 3 short; echo long-2 >>long; echo moved-2 >>elsewhere; touch done`,
  );
  expect(await reader).toBe("moved-1\nmoved-2\nover-1\ngone-1\nsho\nlong-1\nlong-2\n1 16\n0 7\n0 7\n1 3\n1 14\n");
}

/** Writes through descriptors whose names went: nothing of it turns up under the new file of that name. */
export async function writesToTheRemoved(a: Member, b: Member): Promise<void> {
  await a.run("rm -rf $D/t; mkdir $D/t; echo old >$D/t/f");
  const writer = b.run(
    `cd $D/t; exec 3<>f; touch opened; ${await_("done")}; echo lost >&3; sync /proc/self/fd/3; cat f; stat -Lc %h /proc/self/fd/3`,
  );
  await a.run(`${await_("opened")}; cd $D/t; rm f; echo new >f; touch done`);
  expect(await writer).toBe("new\n0\n");
  expect(await a.run("cat $D/t/f")).toBe("new\n");
}

const TURNS = 40;
/** Adds one to a word of a shared mapping whenever its parity is this node's turn; checks that the other's stamp came along. */
const turns = (parity: number, flags: string): string =>
  `${PY} "
import mmap,os,struct,time
m=mmap.mmap(os.open('$D/t/word',os.O_RDWR|${flags}),8192)
end=time.time()+50
for k in range(${parity},${TURNS},2):
    while struct.unpack_from('<Q',m,0)[0]!=k:
        if time.time()>end: raise SystemExit('turn %d never came, it is %d' % (k,struct.unpack_from('<Q',m,0)[0]))
        time.sleep(0.002)
    got=m[4096:8192]
    if got!=bytes([k%251])*4096: raise SystemExit('turn %d: the second page is %r' % (k,got[:8]))
    m[4096:8192]=bytes([(k+1)%251])*4096
    struct.pack_into('<Q',m,0,k+1)
"`;

/**
 * Both have a file mapped, shared and writable, and take turns: what one writes to its memory the other finds in its own. `flags`: of the open that it is
 * mapped through; with O_DIRECT its pages are still the cache's.
 */
export async function sharedMapping(a: Member, b: Member, flags = "0"): Promise<void> {
  await a.run("rm -rf $D/t; mkdir $D/t; head -c 8192 /dev/zero >$D/t/word");
  await Promise.all([a.run(turns(0, flags)), b.run(turns(1, flags))]);
  const look = `${PY} "import struct;d=open('$D/t/word','rb').read();print(struct.unpack_from('<Q',d,0)[0],set(d[4096:])=={${TURNS % 251}})"`;
  for (const m of [a, b]) expect(await m.run(look)).toBe(`${TURNS} True\n`);
}

/** Both say the same of the space that is left, when a node has taken some for its files (beyond what it had set aside before). */
export async function freeSpaceIsOne(a: Member, b: Member): Promise<void> {
  const free = (m: Member): Promise<string> => m.run("stat -f -c '%f of %b, %c names' $D");
  await a.run("rm -rf $D/t; mkdir $D/t; sync -f $D");
  const before = await free(b);
  const took = await a.run(
    "f=$(stat -f -c %f $D); for i in $(seq 25); do [ $(stat -f -c %f $D) = $f ] || break; fallocate -l 8M $D/t/big$i; done; stat -f -c %f $D",
  );
  expect(`${took.trim()} of`).not.toBe(before.slice(0, took.trim().length + 3));
  // What was deleted before may come back in between: a number that did not move on one node is the other's, too.
  for (let i = 0; ; i++) {
    const [one, other, again] = [await free(a), await free(b), await free(a)];
    if (one === again) expect(other).toBe(one);
    if (one === again || i === 20) break;
  }
}

/** Both make, rename and remove names in one folder as fast as they can: all that should be left is, and no more. */
export async function oneFolder(a: Member, b: Member): Promise<void> {
  await a.run("rm -rf $D/t; mkdir $D/t");
  const busy = (m: Member, n: number): Promise<string> =>
    m.run(
      `${PY} "
import os
os.chdir('$D/t')
for i in range(${n}):
    p='${m.name}-%d'%i
    open(p,'w').write(p)
    if i%3==0: os.rename(p,p+'r')
    if i%3==1: os.unlink(p)
    if i%5==0: os.listdir('.')
"`,
    );
  const n = 150;
  await Promise.all([busy(a, n), busy(b, n)]);
  const want = [a, b].flatMap((m) =>
    Array.from({ length: n }, (_, i) => i)
      .filter((i) => i % 3 !== 1)
      .map((i) => (i % 3 === 0 ? `${m.name}-${i}r ${m.name}-${i}` : `${m.name}-${i} ${m.name}-${i}`)),
  );
  const look = `cd $D/t; for f in *; do echo "$f $(<$f)"; done`;
  for (const m of [a, b]) expect((await m.run(look)).trimEnd().split("\n").sort()).toEqual(want.sort());
  // Both at once remove all that is there: each name is removed by one of them.
  const gone = await Promise.all([a, b].map((m) => m.run("cd $D/t; rm -f * 2>&1 | head -3; ls | wc -l")));
  expect(gone).toEqual(["0\n", "0\n"]);
}

export async function together(a: Member, b: Member): Promise<void> {
  for (const [x, y] of [
    [a, b],
    [b, a],
  ] as const) {
    await openFiles(x, y);
    await writesToTheRemoved(x, y);
    await freeSpaceIsOne(x, y);
  }
  await sharedMapping(a, b);
  await sharedMapping(a, b, "os.O_DIRECT");
  await oneFolder(a, b);
}
