/**
 * Power cuts while attributes are set, moved between buckets and wiped: after recovery each file has the attributes that it
 * had after some operation, never half of one, and fsck.ocfs2 finds nothing but the orphan being wiped.
 */
import { describe, expect, test } from "vitest";
import { seededRandom } from "../../src/lib/clock.ts";
import { mlogSet } from "../../src/lib/masklog.ts";
import { wait } from "../../src/lib/task.ts";
import { create, lookup, nameOf, unlink } from "../../src/vfs/namespace.ts";
import { getxattr, listxattr, removexattr, setxattr } from "../../src/volume/xattr/index.ts";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../support/volume.ts";
import { expectSound } from "../support/xattr_judge.ts";
import { CrashWalker, FATES, moments } from "./crash_states.ts";
import { RecordingDevice } from "./recording_device.ts";

const CRED = { uid: 0, gid: 0, umask: 0 };
const STATES = 24;
const OPERATIONS = 260;

/** What `file` has, as one text; undefined when it is gone. */
function attributes(v: TestVolume, file: string): string | undefined {
  const found = v.osb.runSync((op) => lookup(op, v.osb.geo.root_blkno, nameOf(file)));
  if (found === undefined) return undefined;
  const inode = v.osb.inodes.get(found.ino);
  const names = v.osb.runSync((op) => listxattr(op, inode)).sort();
  return names
    .map((n) => `${n}=${Buffer.from(v.osb.runSync((op) => getxattr(op, inode, n))!).toString("latin1")}`)
    .join("\n");
}

describe.skipIf(!haveTool("mkfs.ocfs2"))("power cuts while attributes change", () => {
  test.each([
    ["512 blocks, metaecc", ["-b", "512", "-C", "4K", "-J", "size=4M", "-N", "1", "--fs-features=metaecc"]],
    ["4K blocks", ["-b", "4K", "-C", "4K", "-J", "size=4M", "-N", "1"]],
  ])("%s", (_, args) => {
    mlogSet("NOTICE", "off");
    const base = mkfsImage(args, 32);
    const known = fsck(base).findings;
    let device: RecordingDevice | undefined;
    const v = openImage(base.slice(), {}, (arena, data) => (device = new RecordingDevice(arena, data, 3)));
    const now = (): number => device!.now;
    const make = (file: string): number =>
      v.osb.runSync((op) => create(op, v.osb.geo.root_blkno, nameOf(file), 0o644, CRED)).ino;
    const ino = { keep: make("keep"), gone: make("gone") };
    const random = seededRandom(11);
    // The states of "keep" after each operation, and from which moment on at least so many of them are durable.
    const states: (string | undefined)[] = [undefined, ""];
    const floors: { at: number; state: number }[] = [];
    const began: number[] = [0, 0];
    const sync = (): void => {
      v.osb.runTaskSync(wait(v.osb.journal.periodic));
      floors.push({ at: now(), state: states.length - 1 });
    };
    sync();
    const values = new Map<string, string>();
    for (let i = 0; i < OPERATIONS; i++) {
      const name = `user.${random.u32() % 120}${"n".repeat(100)}`;
      const long = random.u32() % 6 === 0;
      const value = String.fromCharCode(33 + (i % 90)).repeat(long ? 600 + (random.u32() % 9000) : random.u32() % 81);
      began.push(now());
      for (const f of ["gone", "keep"] as const) {
        const inode = v.osb.inodes.get(ino[f]);
        if (random.u32() % 4 === 0 && f === "keep" && values.has(name)) {
          v.osb.runSync((op) => removexattr(op, inode, name));
          values.delete(name);
        } else if (f === "gone" || random.u32() % 4 > 0) {
          v.osb.runSync((op) => setxattr(op, inode, name, Buffer.from(value)));
          if (f === "keep") values.set(name, value);
        }
      }
      states.push(
        [...values]
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([n, x]) => `${n}=${x}`)
          .join("\n"),
      );
      if (random.u32() % 12 === 0) sync();
    }
    v.osb.runSync((op) => unlink(op, v.osb.geo.root_blkno, nameOf("gone")));
    while (v.osb.pump());
    v.close();
    expect(device!.races).toEqual([]);

    const all = moments(device!.diary);
    const walker = new CrashWalker(base, device!.diary);
    for (let n = 0; n < STATES; n++) {
      const at = all[Math.floor((all.length * (n + 0.5)) / STATES)]!;
      walker.moveTo(at);
      const fate = FATES[n % FATES.length]!;
      const disk = walker.state(fate, seededRandom(at)).slice();
      const where = `cut at ${at}, ${fate}`;
      const w = openImage(disk);
      while (w.osb.pump());
      const floor = floors.filter((f) => f.at <= at).at(-1)?.state ?? 0;
      const possible = states.filter((_, i) => i >= floor && began[i]! <= at);
      const got = attributes(w, "keep");
      expect(possible.includes(got), `${where}: attributes of no moment: ${got?.slice(0, 200)}`).toBe(true);
      w.close();
      expectSound(disk, known, where);
    }
  });
});
