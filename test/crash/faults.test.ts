/**
 * A disk that fails under a mounted volume: once, for good, or by going away. Programs get an errno and nothing else; what was
 * acknowledged before is there when the disk works again; and fsck.ocfs2 finds nothing that recovery has left.
 */
import { describe, expect, test } from "vitest";
import type { IoDone } from "../../src/block/device.ts";
import { MemoryDevice } from "../../src/block/memory_device.ts";
import { SYSTEM_INODE } from "../../src/format/disk/index.ts";
import type { Arena } from "../../src/lib/arena.ts";
import { Errno } from "../../src/lib/errno.ts";
import { FsError } from "../../src/lib/fs_error.ts";
import { mlogSet } from "../../src/lib/masklog.ts";
import { wait } from "../../src/lib/task.ts";
import { copyFileRange } from "../../src/vfs/copy_range.ts";
import { fsync, readFile, setattr, writeFile } from "../../src/vfs/file.ts";
import { create, lookup, mkdir, rename, unlink } from "../../src/vfs/namespace.ts";
import { dinodeOf, type Inode, inodeLock } from "../../src/volume/inode.ts";
import { syncVolume } from "../../src/volume/super.ts";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../support/volume.ts";

/** Fails what `fails` says; counts transfers. */
class FailingDevice extends MemoryDevice {
  transfers = 0;
  fails: (n: number, write: boolean) => boolean = () => false;

  #run(write: boolean, done: IoDone, go: () => void): void {
    if (this.fails(this.transfers++, write)) done(-Errno.EIO);
    else go();
  }

  override read(addr: number, len: number, offset: number, done: IoDone): void {
    this.#run(false, done, () => super.read(addr, len, offset, done));
  }

  override write(addr: number, len: number, offset: number, done: IoDone, dsync?: boolean): void {
    this.#run(true, done, () => super.write(addr, len, offset, done, dsync));
  }

  override flush(done: IoDone): void {
    this.#run(true, done, () => super.flush(done));
  }
}

const CRED = { uid: 0, gid: 0, umask: 0o22 };
const name = (text: string): Uint8Array => Buffer.from(text);
const content = (i: number): Uint8Array => new Uint8Array(500 + ((i * 7919) % 30_000)).map((_, n) => (n * 7 + i) & 255);

/** What failed with an errno that a program may see; anything else is a failure of ours. */
const ALLOWED: readonly number[] = [Errno.EIO, Errno.EROFS, Errno.ENOENT];

class Program {
  readonly v: TestVolume;
  readonly addr: number;
  readonly acknowledged = new Map<string, number>();
  readonly errnos = new Set<number>();

  constructor(v: TestVolume) {
    this.v = v;
    this.addr = v.osb.arena.alloc(1 << 16, 4096);
  }

  #try<T>(fn: () => T): T | undefined {
    try {
      return fn();
    } catch (err) {
      if (!(err instanceof FsError) || !ALLOWED.includes(err.errno)) throw err;
      this.errnos.add(err.errno);
      return undefined;
    }
  }

  #do<T>(start: (cb: (err: unknown, value?: T) => void) => void): T {
    return this.v.osb.runTaskSync(wait<T>(start as never));
  }

  /** Files are made, written and fsynced; others are made to be renamed, cut and removed. */
  run(steps: number): void {
    const { osb } = this.v;
    const root = osb.geo.root_blkno;
    for (let i = 0; i < steps; i++) {
      const made = this.#try(() => osb.runSync((op) => create(op, root, name(`kept${i}`), 0o100644, CRED)));
      if (made !== undefined) {
        const bytes = content(i);
        const inode = osb.inodes.get(made.ino);
        osb.arena.u8.set(bytes, this.addr);
        const direct = i % 3 === 0;
        const done = this.#try(() => {
          const n = this.#do<number>((cb) =>
            writeFile(osb, inode, { offset: 0, len: bytes.length, addr: this.addr, direct }, cb),
          );
          this.#do<void>((cb) => fsync(osb, inode, i % 2 === 0, cb));
          return n;
        });
        if (done === bytes.length) this.acknowledged.set(`kept${i}`, i);
      }
      this.#try(() => osb.runSync((op) => create(op, root, name(`loose${i}`), 0o100644, CRED)));
      this.#try(() => osb.runSync((op) => mkdir(op, root, name(`dir${i}`), 0o40755, CRED)));
      if (i > 2) {
        this.#try(() => osb.runSync((op) => rename(op, root, name(`loose${i - 1}`), root, name(`moved${i}`), 0)));
        this.#try(() => osb.runSync((op) => unlink(op, root, name(`loose${i - 2}`))));
        const other = this.#try(() => osb.runSync((op) => lookup(op, root, name(`moved${i}`))));
        if (other !== undefined)
          this.#try(() => this.#do((cb) => setattr(osb, osb.inodes.get(other.ino), { size: 100_000 }, cb)));
      }
      osb.pump();
    }
  }

  /** Unmounts as far as the device lets it. */
  close(): void {
    this.#try(() => {
      for (let i = 0; i < 1000 && this.v.osb.pump(); i++);
      this.v.close();
    });
  }
}

/** Opens what the disk has, and looks for everything that was acknowledged. */
function recovered(image: Uint8Array, acknowledged: ReadonlyMap<string, number>): string[] {
  const v = openImage(image);
  const { osb } = v;
  const addr = osb.arena.alloc(1 << 16, 4096);
  const missing: string[] = [];
  for (const [file, i] of acknowledged) {
    const attr = osb.runSync((op) => lookup(op, osb.geo.root_blkno, name(file)));
    const want = content(i);
    const got =
      attr === undefined
        ? new Uint8Array(0)
        : (() => {
            const req = { offset: 0, len: 1 << 16, addr };
            const n = osb.runTaskSync(wait<number>((cb) => readFile(osb, osb.inodes.get(attr.ino), req, cb)));
            return osb.arena.u8.slice(addr, addr + n);
          })();
    if (Buffer.compare(got, want) !== 0) missing.push(file);
  }
  for (let i = 0; i < 1000 && osb.pump(); i++);
  v.close();
  return missing;
}

const KINDS: [string, (at: number) => (n: number, write: boolean) => boolean][] = [
  ["goes away", (at) => (n) => n >= at],
  ["takes no more writes", (at) => (n, write) => write && n >= at],
  ["fails one transfer", (at) => (n) => n === at],
];

describe.skipIf(!haveTool("mkfs.ocfs2"))("a disk that", () => {
  const base = haveTool("mkfs.ocfs2")
    ? mkfsImage(["-b", "4K", "-C", "4K", "-N", "1", "-J", "size=4M"], 24)
    : new Uint8Array();

  for (const [kind, plan] of KINDS) {
    test(`${kind}: an errno, nothing acknowledged is lost, and the volume is whole`, () => {
      mlogSet("ERROR", "off");
      let failed = 0;
      let kept = 0;
      for (let after = 1; after < 110; after += 12) {
        const image = base.slice();
        let dev!: FailingDevice;
        const v = openImage(image, {}, (arena: Arena, data) => (dev = new FailingDevice(arena, data)));
        dev.fails = plan(dev.transfers + after);
        const p = new Program(v);
        p.run(14);
        if (p.errnos.size > 0) failed++;
        kept += p.acknowledged.size;
        // A device that is gone is not told good-bye; one that failed once may be.
        p.close();
        dev.fails = () => false;
        expect(recovered(image, p.acknowledged), `after ${after}`).toEqual([]);
        const judged = fsck(image);
        expect(judged.clean, `after ${after}: ${judged.output}`).toBe(true);
      }
      expect(failed).toBeGreaterThan(4);
      expect(kept).toBeGreaterThan(20);
    });
  }

  test("loses file data: sync says so, once, and after the journal was aborted always", () => {
    mlogSet("ERROR", "off");
    let dev!: FailingDevice;
    const v = openImage(base.slice(), {}, (arena: Arena, data) => (dev = new FailingDevice(arena, data)));
    const { osb } = v;
    const { ino } = osb.runSync((op) => create(op, osb.geo.root_blkno, name("file"), 0o100644, CRED));
    const addr = osb.arena.alloc(8192, 4096);
    const sync = (): string => {
      try {
        osb.runTaskSync(syncVolume(osb));
        return "ok";
      } catch (err) {
        return (err as FsError).code;
      }
    };
    const write = (): unknown =>
      osb.runTaskSync(wait<number>((cb) => writeFile(osb, osb.inodes.get(ino), { offset: 0, len: 8192, addr }, cb)));
    write();
    expect(sync()).toBe("ok");
    write();
    const first = dev.transfers;
    dev.fails = (n, is_write) => is_write && n === first;
    expect([sync(), sync()]).toEqual(["EIO", "ok"]);
    osb.runSync((op) => create(op, osb.geo.root_blkno, name("more"), 0o100644, CRED));
    dev.fails = (_n, is_write) => is_write;
    expect([sync(), sync()]).toEqual(["EIO", "EIO"]);
  });

  test("fails a direct write to new clusters: nothing shows what the disk held before", () => {
    const image = mkfsImage(["-b", "4K", "-C", "4K", "-N", "1", "-J", "size=4M"], 64);
    let dev!: FailingDevice;
    const v = openImage(image, {}, (arena: Arena, data) => (dev = new FailingDevice(arena, data)));
    const { osb } = v;
    const addr = osb.arena.alloc(65536, 4096);
    const make = (text: string) =>
      osb.inodes.get(osb.runSync((op) => create(op, osb.geo.root_blkno, name(text), 0o100644, CRED)).ino);
    const task = <T>(start: (cb: (err: unknown, value?: T) => void) => void): T =>
      osb.runTaskSync(wait<T>(start as never));
    const direct = (inode: Inode, offset: number): unknown =>
      task<number>((cb) => writeFile(osb, inode, { offset, len: 65536, addr, direct: true }, cb));
    const [file, clone] = [make("file"), make("clone")];
    osb.arena.u8.fill(1, addr, addr + 65536);
    direct(file, 0);
    task<number>((cb) => copyFileRange(osb, file, 0, clone, 0, 65536, cb));
    const DELETED = 0x55;
    osb.runSync((op) => {
      const { i_total, i_lab } = dinodeOf(op, inodeLock(op, osb.sysfile(SYSTEM_INODE.LOCAL_ALLOC, 0)));
      const { la_bm_off } = i_lab;
      for (let bit = 0; bit < i_total; bit++)
        if ((osb.cache.u8[i_lab.la_bitmap_off(0) + (bit >> 3)]! & (1 << (bit & 7))) === 0)
          image.fill(DELETED, (la_bm_off + bit) * 4096, (la_bm_off + bit + 1) * 4096);
    });
    osb.arena.u8.fill(2, addr, addr + 65536);
    let once = true;
    dev.fails = (_n, is_write) => is_write && once && !(once = false);
    expect(() => direct(file, 65536)).toThrow(FsError);
    once = true;
    expect(() => direct(clone, 0)).toThrow(FsError);
    dev.fails = () => false;
    for (const inode of [file, clone]) {
      const n = task<number>((cb) =>
        readFile(osb, inode, { offset: 65536 * (inode === file ? 1 : 0), len: 65536, addr }, cb),
      );
      expect(n).toBe(65536);
      expect(osb.arena.u8.subarray(addr, addr + n).every((byte) => byte === 0)).toBe(true);
    }
    v.close();
    const again = openImage(image);
    const at = again.osb.arena.alloc(131_072, 4096);
    const n = again.osb.runTaskSync(
      wait<number>((cb) =>
        readFile(again.osb, again.osb.inodes.get(file.ino), { offset: 0, len: 131_072, addr: at }, cb),
      ),
    );
    expect(again.osb.arena.u8.subarray(at, at + n).includes(DELETED)).toBe(false);
    expect(again.osb.arena.u8.subarray(at, at + 65536).every((byte) => byte === 1)).toBe(true);
    again.close();
    expect(fsck(image).findings).toEqual([]);
  });
});
