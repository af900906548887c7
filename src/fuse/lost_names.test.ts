/** Looking after inodes whose lock went: most of them the kernel has forgotten by then. */
import { expect, test } from "vitest";
import { SimClock } from "../../test/support/sim_cluster.ts";
import type { Inode } from "../volume/inode.ts";
import type { DroppedNames } from "./dropped_names.ts";
import { LostNames } from "./lost_names.ts";
import type { Session } from "./session.ts";

test("a hundred thousand that are forgotten before anybody looks", () => {
  const clock = new SimClock();
  const looked: number[] = [];
  const osb = {
    geo: { root_blkno: 1 },
    clock,
    closing: false,
    wakeLoop: () => {},
    ready: (go: () => void) => go(),
    execInBackground: (_: unknown, done: (err: unknown, none: boolean) => void) => done(looked.push(1) && null, false),
  };
  const lost = new LostNames({ osb, ended: false } as unknown as Session, {} as DroppedNames);
  const inodes = Array.from({ length: 100_000 }, (_, ino) => ({ ino: ino + 2, nlookup: 1 }) as Inode);
  for (const inode of inodes) lost.suspect(inode);
  for (const inode of inodes.slice(1)) inode.nlookup = 0;
  expect(() => {
    while (looked.length === 0) clock.step();
  }).not.toThrow();
});
