/**
 * Writes, reflinks, copies, truncations and unlinks of a few files, several at a time, with every lock called off at random:
 * none waits for ever, and fsck.ocfs2 finds every count right. Contents are the business of reflink.test.ts.
 */
import { describe, expect, test } from "vitest";
import { DelayedDevice } from "../../../test/support/delayed_device.ts";
import { CRED } from "../../../test/support/reflink_bench.ts";
import { fsck, haveTool, mkfsImage, openImage } from "../../../test/support/volume.ts";
import { seededRandom } from "../../lib/clock.ts";
import { Corruption, FsError } from "../../lib/fs_error.ts";
import { asThunk, type Thunk, wait } from "../../lib/task.ts";
import { RandomBastDomain } from "../../stackglue/random_bast.ts";
import { copyFileRange } from "../../vfs/copy_range.ts";
import { fallocate, fsync, readFile, setattr, writeFile } from "../../vfs/file.ts";
import { create, getattr, unlink } from "../../vfs/namespace.ts";
import type { Osb } from "../osb.ts";
import { reflinkTask } from "./index.ts";

const OPS = 300;
const AT_A_TIME = 6;
const BYTES = 100_000;

interface Named {
  readonly name: string;
  readonly ino: number;
}

/** The next operation on files that are there; what it makes or deletes it says to `files`. */
function pick(osb: Osb, files: Named[], below: (n: number) => number, n: number, addr: number): Thunk<unknown> {
  const root = osb.inodes.get(osb.geo.root_blkno);
  const name = Buffer.from(`f${n}`);
  const made = (ino: number): void => void files.push({ name: `f${n}`, ino });
  if (files.length < 3)
    return asThunk(function* () {
      made((yield* wait(osb.step((op) => create(op, root.ino, name, 0o100644, CRED)))).ino);
    });
  const [f, g] = [files[below(files.length)]!, files[below(files.length)]!];
  const [a, b] = [osb.inodes.get(f.ino), osb.inodes.get(g.ino)];
  const [offset, len] = [below(400_000), 1 + below(BYTES)];
  const aligned = (at: number): number => at - (at % osb.geo.clustersize);
  const kind = below(11);
  if (kind < 3) return (cb) => writeFile(osb, a, { offset, len, addr, direct: kind === 0 }, cb);
  if (kind === 3) return (cb) => readFile(osb, a, { offset, len, addr }, cb);
  if (kind < 6 && files.length < 10)
    return asThunk(function* () {
      made((yield* reflinkTask(osb, a, root, name, { preserve: false, cred: CRED })).ino);
    });
  if (kind < 8) return (cb) => copyFileRange(osb, a, aligned(offset), b, aligned(below(300_000)), 3 * len, cb);
  if (kind === 8) return (cb) => fallocate(osb, a, 3, offset, len, cb);
  if (kind === 9) return (cb) => setattr(osb, a, { size: offset }, cb);
  if (files.length < 6) return (cb) => fsync(osb, a, false, cb);
  files.splice(files.indexOf(f), 1);
  return osb.step((op) => void unlink(op, root.ino, Buffer.from(f.name)));
}

describe.skipIf(!haveTool("mkfs.ocfs2"))("many at a time", () => {
  for (const [name, args, seeds] of [
    ["4K blocks, 4K clusters", ["-b", "4K", "-C", "4K"], [2, 14]],
    ["1K blocks, 32K clusters", ["-b", "1K", "-C", "32K"], [5]],
  ] as const) {
    for (const seed of seeds) {
      test(`${name}, seed ${seed}`, () => {
        const image = mkfsImage(args, 128);
        const domain = new RandomBastDomain({ random: seededRandom(seed + 100) });
        const { osb, close } = openImage(
          image,
          {},
          (arena, data) => {
            const dev = new DelayedDevice(arena, data, seed + 7);
            dev.alsoHappens = () => domain.poke();
            return dev;
          },
          domain,
        );
        const random = seededRandom(seed + 1);
        const below = (n: number): number => random.u32() % n;
        const files: Named[] = [];
        const free = Array.from({ length: AT_A_TIME }, () => osb.arena.alloc(BYTES + 4096, 4096));
        let started = 0;
        const settled = (addr: number, err: unknown): void => {
          free.push(addr);
          // A file may be deleted while it is about to be used, a copy may overlap itself; nothing else may fail.
          if (err !== null && (!(err instanceof FsError) || err instanceof Corruption)) throw err;
        };
        for (let turns = 0; started < OPS || free.length < AT_A_TIME; turns++) {
          while (free.length > 0 && started < OPS) {
            const addr = free.pop()!;
            pick(osb, files, below, started++, addr)((err) => settled(addr, err ?? null));
          }
          expect(turns, "operations that wait for each other").toBeLessThan(200_000);
          osb.pump();
        }
        expect(domain.basts).toBeGreaterThan(100);
        for (let i = 0; i < 3000 && osb.pump(); i++);
        for (const { ino } of files) {
          const { size } = osb.runSync((op) => getattr(op, ino));
          osb.runTaskSync(wait((cb) => setattr(osb, osb.inodes.get(ino), { size }, cb)));
        }
        close();
        const judged = fsck(image);
        expect(judged.clean, judged.output).toBe(true);
      });
    }
  }
});
