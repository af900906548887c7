import { expect, test } from "vitest";
import { World } from "../../test/support/dlm_clients.ts";
import { LockSpace } from "./lock_space.ts";

/** Three nodes with a lock space each; the simulated network runs while a promise is waited for. */
function three(): { world: World; spaces: LockSpace[]; run: <T>(p: Promise<T>) => Promise<T> } {
  const world = new World({ seed: 3 });
  for (const n of [1, 2, 3]) world.add(n);
  world.joinAll();
  const spaces = world.alive.map((m) => new LockSpace(m.domain!));
  const run = async <T>(p: Promise<T>): Promise<T> => {
    let done = false;
    p.then(
      () => (done = true),
      () => (done = true),
    );
    while (!done) {
      const happened = world.cluster.clock.step();
      // What the promises have set off.
      await new Promise((ok) => setImmediate(ok));
      if (!happened && !done && !world.cluster.clock.step()) throw new Error("nothing happens any more");
    }
    return p;
  };
  return { world, spaces, run };
}

test("a value goes from one exclusive holder to the next", async () => {
  const { spaces, run } = three();
  for (let i = 0; i < 9; i++) {
    const lock = await run(spaces[i % 3]!.lock("counter", "exclusive"));
    expect(lock.value()[0]).toBe(i);
    lock.setValue(Uint8Array.of(i + 1));
    lock.unlock();
  }
  using shared = await run(spaces[0]!.lock("counter", "shared"));
  expect(shared.value()[0]).toBe(9);
  expect(() => shared.setValue(Uint8Array.of(1))).toThrow("EACCES");
});

test("two share; a third that wants it alone waits, and trylock does not", async () => {
  const { spaces, run } = three();
  const [a, b] = [await run(spaces[0]!.lock("file", "shared")), await run(spaces[1]!.lock("file", "shared"))];
  await expect(run(spaces[2]!.lock("file", "exclusive", { trylock: true }))).rejects.toMatchObject({ code: "EAGAIN" });
  let got = false;
  const waiting = spaces[2]!.lock("file", "exclusive").then((lock) => {
    got = true;
    return lock;
  });
  await expect(run(spaces[0]!.forget("file"))).rejects.toMatchObject({ code: "EBUSY" });
  a.unlock();
  await run(spaces[0]!.lock("other", "exclusive"));
  expect(got).toBe(false);
  b.unlock();
  (await run(waiting)).unlock();
  expect(() => a.unlock()).toThrow("EBADF");
});

test("a name is its UTF-8: each node has the same lock for it, and for another name another one", async () => {
  const { spaces, run } = three();
  const names = ["日本", "\u{1f512}", "é", "\u00c3\u00a9", "e"];
  for (const name of names) {
    const held = await run(spaces[0]!.lock(name, "exclusive", { trylock: true }));
    expect(held.name).toBe(name);
    await expect(run(spaces[1]!.lock(name, "shared", { trylock: true }))).rejects.toMatchObject({ code: "EAGAIN" });
  }
  for (const name of ["", "本".repeat(11)])
    await expect(run(spaces[0]!.lock(name, "shared"))).rejects.toMatchObject({ code: "EINVAL" });
  await expect(LockSpace.join("本".repeat(22))).rejects.toMatchObject({ code: "EINVAL" });
});

test("both go from shared to exclusive, and both get it, one after the other", async () => {
  const { spaces, run } = three();
  const hold = [await run(spaces[0]!.lock("up", "shared")), await run(spaces[1]!.lock("up", "shared"))];
  const both = [spaces[0]!.lock("up", "exclusive"), spaces[1]!.lock("up", "exclusive")];
  for (const h of hold) h.unlock();
  const order: number[] = [];
  await run(
    Promise.all(
      both.map(async (p, i) => {
        const lock = await p;
        order.push(i);
        lock.unlock();
      }),
    ),
  );
  expect(order.sort()).toEqual([0, 1]);
});

test("a mode, an option or a value that there is none of is refused; it was a shared lock, or none at all", async () => {
  const { spaces, run } = three();
  const [space] = spaces as [LockSpace];
  const invalid = { code: "ERR_INVALID_ARG_VALUE" };
  for (const mode of ["Exclusive", "EX", "write", "constructor", undefined])
    await expect(run(space.lock("it", mode as "exclusive"))).rejects.toMatchObject(invalid);
  await expect(run(space.lock("it", "exclusive", { tryLock: true } as object))).rejects.toMatchObject(invalid);
  await expect(run(space.lock(null as unknown as string, "shared"))).rejects.toMatchObject({ code: "EINVAL" });
  await expect(LockSpace.join("things", { Node: "a" } as object)).rejects.toMatchObject(invalid);
  using held = await run(space.lock("it", "exclusive"));
  expect(() => held.setValue("text" as unknown as Uint8Array)).toThrow("Uint8Array");
});

test("all leave", async () => {
  const { spaces, run, world } = three();
  for (const s of spaces) (await run(s.lock("x", "exclusive"))).unlock();
  await run(Promise.all(spaces.map((s) => s.close())));
  expect(world.referee.faults).toEqual([]);
});
