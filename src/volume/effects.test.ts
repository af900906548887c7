/** What begins while an operation takes effect: another node asks for the allocators that it has used, and has them as soon as they are released. */
import { expect, test } from "vitest";
import { DelayedDevice } from "../../test/support/delayed_device.ts";
import { haveTool, mkfsImage, openImage } from "../../test/support/volume.ts";
import { MemoryDevice } from "../block/memory_device.ts";
import { JBD2_COMMIT_BLOCK, JBD2_MAGIC_NUMBER } from "../format/jbd2/index.ts";
import type { Arena } from "../lib/arena.ts";
import { seededRandom } from "../lib/clock.ts";
import { wait } from "../lib/task.ts";
import { EX } from "../stackglue/lock_domain.ts";
import { RandomBastDomain } from "../stackglue/random_bast.ts";
import { fsync, writeFile } from "../vfs/file.ts";
import { create } from "../vfs/namespace.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, fallocateTask } from "./file/fallocate.ts";

const DATA = 0xab;

/** A disk whose writes are heard of before they are done: those of DATA alone, and those of commit blocks. */
function watched(heard: (what: "data" | "commit" | undefined, go: () => void) => void) {
  return (arena: Arena, image: Uint8Array): MemoryDevice => {
    const dev = new MemoryDevice(arena, image);
    const write = dev.write.bind(dev);
    dev.write = (addr, len, offset, done, dsync) => {
      const { dv, u8 } = arena;
      const commit = dv.getUint32(addr) === JBD2_MAGIC_NUMBER && dv.getUint32(addr + 4) === JBD2_COMMIT_BLOCK;
      const data = u8.subarray(addr, addr + len).every((byte) => byte === DATA);
      heard(commit ? "commit" : data ? "data" : undefined, () => write(addr, len, offset, done, dsync));
    };
    return dev;
  };
}

/** A volume on which, from `asked` on, every system inode's lock that an operation has is asked for before that operation ends. */
function volume(args: readonly string[], makeDevice: (arena: Arena, data: Uint8Array) => MemoryDevice) {
  const domain = new RandomBastDomain({ random: seededRandom(1) });
  const v = openImage(
    mkfsImage([...args, "-J", "size=4M", "-N", "1"], 64),
    {},
    (arena, data) => {
      const dev = makeDevice(arena, data);
      const pump = dev.pump.bind(dev);
      dev.pump = () => domain.settle() || pump();
      return dev;
    },
    domain,
  );
  const { osb } = v;
  const cred = { uid: 0, gid: 0, umask: 0o022 };
  const { ino } = osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from("file"), 0o644, cred));
  const inode = osb.inodes.get(ino);
  const addr = osb.arena.alloc(65536, 4096);
  osb.arena.u8.fill(DATA, addr, addr + 65536);
  const write = (offset: number, len: number): number =>
    osb.runTaskSync(wait<number>((cb) => writeFile(osb, inode, { offset, len, addr, direct: false }, cb)));
  const exec = osb.exec.bind(osb);
  const asked = (): void => {
    osb.exec = (fn, done, locks) =>
      exec(
        (op) => {
          const value = fn(op);
          for (const { res } of op.locks.held())
            for (const system of osb.system_inodes.values()) if (system.meta_lockres === res) res.bast(EX);
          return value;
        },
        done,
        locks,
      );
  };
  return { ...v, inode, addr, write, asked };
}

test.skipIf(!haveTool("mkfs.ocfs2"))("the commit that gives one away comes behind the data of the new clusters", () => {
  const diary: string[] = [];
  const { osb, write, asked, close } = volume(
    ["-b", "4096", "-C", "4096"],
    watched((what, go) => {
      if (what !== undefined) diary.push(what);
      go();
    }),
  );
  osb.runTaskSync(wait(osb.journal.flush));
  diary.length = 0;
  asked();
  write(0, 65536);
  while (osb.pump());
  expect(diary).toEqual(["data", "commit"]);
  close();
});

test.skipIf(!haveTool("mkfs.ocfs2"))(
  "the commit that gives one away writes nothing that the same operation frees",
  () => {
    const { osb, inode, write, asked, close } = volume(
      ["-b", "512", "-C", "4096"],
      (arena, data) => new DelayedDevice(arena, data, 1),
    );
    // Every second page: each an extent, in several blocks of extents.
    const extents = 300;
    for (let n = 0; n < extents; n++) {
      write(n * 8192, 4096);
      // The log is in use: the next commit begins with the data.
      if (n === 0) osb.runTaskSync(wait<void>((cb) => fsync(osb, inode, false, cb)));
    }
    expect(inode.dirty_pages).toBeGreaterThan(extents / 2);
    asked();
    // Several are freed in one operation, and a block of extents between two of them.
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    osb.runTaskSync(fallocateTask(osb, inode, mode, 3 * 8192, (extents - 3) * 8192));
    expect(inode.pages?.size).toBe(3);
    close();
  },
);

test.skipIf(!haveTool("mkfs.ocfs2"))(
  "a direct write behind the end of the file, in its last cluster, is there before the size is",
  () => {
    const held: (() => void)[] = [];
    let hold = false;
    let commits = 0;
    const { osb, inode, addr, write, close } = volume(
      ["-b", "4096", "-C", "32768"],
      watched((what, go) => {
        if (what === "commit") commits++;
        if (what === "data" && hold) held.push(go);
        else go();
      }),
    );
    write(0, 4096);
    osb.runTaskSync(wait(osb.journal.flush));
    hold = true;
    commits = 0;
    let answer: unknown;
    writeFile(osb, inode, { offset: 4096, len: 4096, addr, direct: true }, (err, n) => {
      answer = err ?? n;
    });
    osb.journal.startCommit();
    while (osb.pump());
    expect(held.length).toBe(1);
    expect(answer).toBeUndefined();
    expect(commits).toBe(0);
    for (const go of held) go();
    while (osb.pump());
    expect(answer).toBe(4096);
    expect(commits).toBe(1);
    close();
  },
);
