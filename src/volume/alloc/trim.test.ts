/** FITRIM while files are written and removed: on a disk that turns what it is told to forget into rubbish, when it gets to it. */
import { describe, expect, test } from "vitest";
import { simImage } from "../../../test/sim/volumes.ts";
import { SimCluster } from "../../../test/support/cluster.ts";
import { DelayedDevice } from "../../../test/support/delayed_device.ts";
import { Bench, pattern } from "../../../test/support/reflink_bench.ts";
import { fsck, haveTool, mkfsImage, openImage } from "../../../test/support/volume.ts";
import type { IoDone } from "../../block/device.ts";
import { NL } from "../../dlmglue/lock_res.ts";
import type { Arena } from "../../lib/arena.ts";
import { seededRandom } from "../../lib/clock.ts";
import { Errno } from "../../lib/errno.ts";
import { spawn } from "../../lib/task.ts";
import { RandomBastDomain } from "../../stackglue/random_bast.ts";
import { trimTask } from "./suballoc.ts";

class ForgettingDevice extends DelayedDevice {
  forgotten = 0;

  override discard(offset: number, len: number, done: IoDone): void {
    this.forgotten += len;
    // At a time of its own, as a flush is.
    super.flush(() => {
      this.data.fill(0xdd, offset, offset + len);
      done(0);
    });
  }
}

const WHOLE = { start: 0, len: Number.MAX_SAFE_INTEGER, min_bytes: 0 };

describe.skipIf(!haveTool("mkfs.ocfs2"))("a trim", () => {
  for (const locks of [false, true]) {
    test(`${locks ? "with locks called off at random" : "on one node"} forgets nothing that a file has, and all that is free`, () => {
      const image = mkfsImage(["-b", "1K", "-C", "4K", "-N", "1", "-J", "size=4M"], 64);
      const domain = locks ? new RandomBastDomain({ random: seededRandom(5) }) : undefined;
      let dev!: ForgettingDevice;
      const makeDevice = (arena: Arena, data: Uint8Array): ForgettingDevice => {
        dev = new ForgettingDevice(arena, data, 7);
        if (domain !== undefined) dev.alsoHappens = () => domain.poke();
        return dev;
      };
      const b = new Bench(openImage(image, {}, makeDevice, domain));
      const { osb } = b.v;
      const random = seededRandom(11);
      let trims = 0;
      let running = false;
      let trimmed = 0;
      let failure: unknown = null;
      for (let i = 0; i < 60; i++) {
        if (!running) {
          running = true;
          spawn(trimTask(osb, { ...WHOLE, min_bytes: (i % 3) * 8192 }), (err, bytes) => {
            running = false;
            failure ??= err;
            trims++;
            trimmed = bytes ?? 0;
          });
        }
        const f = b.files.length < 6 ? b.create() : b.files[random.u32() % b.files.length]!;
        if (random.u32() % 4 === 0 && b.files.length > 3) b.remove(f);
        else b.write(f, random.u32() % 500_000, pattern(1 + (random.u32() % 200_000), i), random.u32() % 2 === 0);
        for (let n = random.u32() % 20; n > 0; n--) osb.pump();
      }
      for (let n = 0; running && n < 100_000; n++) osb.pump();
      expect([failure, running]).toEqual([null, false]);
      b.check("after the trims");
      expect(trims).toBeGreaterThan(2);
      expect(trimmed).toBeGreaterThan(1 << 20);
      expect(dev.forgotten).toBeGreaterThanOrEqual(trimmed);
      b.close();
      const judged = fsck(image);
      expect(judged.clean, judged.output).toBe(true);
      const again = new Bench(openImage(image));
      again.files = b.files;
      again.check("after remount");
      again.close();
    });
  }

  test("is refused where it makes no sense, and says so when the device cannot", () => {
    const v = openImage(mkfsImage(["-b", "4K", "-C", "4K"], 64), {}, (arena, data) => {
      const dev = new DelayedDevice(arena, data, 1);
      dev.discard = (_offset, _len, done) => done(-Errno.EOPNOTSUPP);
      return dev;
    });
    const errno = (range: typeof WHOLE): unknown => {
      try {
        return v.osb.runTaskSync(trimTask(v.osb, range));
      } catch (err) {
        return (err as { errno: number }).errno;
      }
    };
    expect(errno({ ...WHOLE, len: 100 })).toBe(Errno.EINVAL);
    expect(errno({ ...WHOLE, start: 1 << 30, len: 1 << 20 })).toBe(Errno.EINVAL);
    expect(errno(WHOLE)).toBe(Errno.EOPNOTSUPP);
    // Nothing is that long.
    expect(errno({ ...WHOLE, min_bytes: 1 << 30 })).toBe(0);
    v.close();
  });
});

describe("trims of two nodes at once", () => {
  /** What each node gets for its trim, and how often each told its device to forget something. */
  function trims(ranges: readonly [typeof WHOLE, typeof WHOLE]): { bytes: (number | undefined)[]; told: number[] } {
    const c = new SimCluster({ seed: 3, image: simImage(0).image });
    const nodes = [c.mount(1), c.mount(2)];
    const told = [0, 0];
    const bytes: (number | undefined)[] = [undefined, undefined];
    for (const [i, { osb }] of nodes.entries()) {
      const device = osb.dev as unknown as { discard: (offset: number, len: number, done: IoDone) => void };
      device.discard = (_offset, _len, done) => {
        told[i]!++;
        c.clock.after(5, () => done(0));
      };
      spawn(trimTask(osb, ranges[i]!), (err, n) => {
        bytes[i] = err ? -1 : n;
      });
    }
    c.run(() => bytes.every((n) => n !== undefined));
    // Not at the same time, when the lock has been given back, too: done again.
    c.run(() =>
      nodes.every(({ osb }) => osb.glue.trim_fs_lockres.dl === null || osb.glue.trim_fs_lockres.level === NL),
    );
    const before = told[0]!;
    c.task(nodes[0]!, trimTask(nodes[0]!.osb, ranges[0]));
    expect(told[0]).toBeGreaterThan(before);
    for (const node of nodes) c.umount(node);
    c.dispose();
    told[0] = before;
    return { bytes, told };
  }

  test("the same: one does it, the other has its result", () => {
    const { bytes, told } = trims([WHOLE, WHOLE]);
    expect(bytes[0]).toBeGreaterThan(1 << 20);
    expect(bytes[1]).toBe(bytes[0]);
    expect(Math.min(...told)).toBe(0);
    expect(Math.max(...told)).toBeGreaterThan(0);
  });

  test("different ones: one after the other", () => {
    const { bytes, told } = trims([WHOLE, { ...WHOLE, min_bytes: 65536 }]);
    expect(bytes.every((n) => n! > 0)).toBe(true);
    expect(told.every((n) => n > 0)).toBe(true);
  });
});
