/** What two nodes do to one file at the same time: deleting what the other has open, locks, appends. Both ways between any two members. */
import { expect } from "vitest";
import type { Member } from "./members.ts";

const freeKib = async (m: Member): Promise<number> =>
  Number(await m.run("stat -f -c '%f * %S / 1024' $D | sed 's/ //g' | bc"));

async function until(what: string, limit_ms: number, holds: () => Promise<boolean>): Promise<number> {
  const start_ms = performance.now();
  while (!(await holds())) {
    if (performance.now() - start_ms > limit_ms) throw new Error(`${what}: not within ${limit_ms} ms`);
    await new Promise((ok) => setTimeout(ok, 500));
  }
  return performance.now() - start_ms;
}

/** A file of 20 MiB that `b` has open is deleted by `a`: b reads on, and its space comes back when b closes it. */
export async function deleteWhatTheOtherHasOpen(a: Member, b: Member): Promise<void> {
  await a.run("rm -rf $D/t; mkdir $D/t; head -c 20971520 /dev/zero | tr '\\0' q >$D/t/big; sync -f $D/t");
  const before_kib = await freeKib(a);
  const reader = b.run(
    "exec 3<$D/t/big; touch $D/t/opened; while [ -e $D/t/opened ]; do sleep 0.2; done; head -c 20971520 <&3 | tr -d q | wc -c",
  );
  await until("the file is open", 20_000, async () => (await a.run("ls $D/t")).includes("opened"));
  await a.run("rm $D/t/big; rm $D/t/opened");
  expect(await reader).toBe("0\n");
  await until("space is free again", 30_000, async () => (await freeKib(a)) >= before_kib + 20_000);
}

/** A file that `b` has only looked at is deleted by `a`: its space comes back within 30 s. */
export async function deleteWhatTheOtherHasSeen(a: Member, b: Member): Promise<void> {
  await a.run("rm -rf $D/t; mkdir $D/t; head -c 20971520 /dev/zero >$D/t/big; sync -f $D/t");
  await b.run("cat $D/t/big | wc -c; ls -l $D/t");
  const before_kib = await freeKib(a);
  await a.run("rm $D/t/big");
  await until("space is free again", 30_000, async () => (await freeKib(a)) >= before_kib + 20_000);
}

export async function flockIsClusterWide(a: Member, b: Member): Promise<void> {
  await a.run("rm -rf $D/t; mkdir $D/t; : >$D/t/lock");
  const holder = a.run('flock $D/t/lock sh -c "touch $D/t/held; while [ -e $D/t/held ]; do sleep 0.1; done"');
  await until("the lock is held", 20_000, async () => (await b.run("ls $D/t")).includes("held"));
  expect(await b.run("flock -n $D/t/lock true && echo got || echo refused")).toBe("refused\n");
  expect(await b.run("flock -n -s $D/t/lock true && echo got || echo refused")).toBe("refused\n");
  const waiter = b.run("flock $D/t/lock echo mine");
  await b.run("rm $D/t/held");
  await holder;
  expect(await waiter).toBe("mine\n");
}

/** Both append records to one file with O_APPEND at the same time: none is lost, none torn. */
export async function appendsAreWhole(a: Member, b: Member): Promise<void> {
  await a.run("rm -rf $D/t; mkdir $D/t");
  const append = (m: Member): Promise<string> =>
    m.run(
      `for i in $(seq 1 100); do printf '%s-%04d-%s\\n' ${m.name} $i $(head -c 400 /dev/zero | tr '\\0' x) >>$D/t/log; done`,
    );
  await Promise.all([append(a), append(b)]);
  const text = await a.run("cat $D/t/log");
  const lines = text.trimEnd().split("\n");
  expect(lines.filter((l) => !/^[\w-]+-\d{4}-x{400}$/.test(l))).toEqual([]);
  expect(new Set(lines).size).toBe(200);
}

/** `appends`: not beside a kernel node, which takes the end of the file from an inode that it has not locked yet; two of them tear records too. */
export async function life(a: Member, b: Member, appends: boolean): Promise<void> {
  for (const [x, y] of [
    [a, b],
    [b, a],
  ] as const) {
    await flockIsClusterWide(x, y);
    await deleteWhatTheOtherHasOpen(x, y);
    await deleteWhatTheOtherHasSeen(x, y);
  }
  if (appends) await appendsAreWhole(a, b);
}
