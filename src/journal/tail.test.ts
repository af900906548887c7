import { expect, test } from "vitest";
import { haveTool, mkfsImage, openImage } from "../../test/support/volume.ts";
import type { IoDone } from "../block/device.ts";
import { MemoryDevice } from "../block/memory_device.ts";
import { JBD2_MAGIC_NUMBER } from "../format/jbd2/index.ts";
import type { Arena } from "../lib/arena.ts";
import { create } from "../vfs/namespace.ts";

const SUPERBLOCK_V2 = 4;
const S_START = 0x1c;

/** Keeps back, when told to, the writes of the journal's superblock. */
class HeldTail extends MemoryDevice {
  readonly #arena: Arena;
  hold = false;
  readonly held: (() => void)[] = [];
  superblock_off = -1;
  readonly written: [from: number, to: number][] = [];

  constructor(arena: Arena, data: Uint8Array) {
    super(arena, data);
    this.#arena = arena;
  }

  override write(addr: number, len: number, offset: number, done: IoDone, dsync = false): void {
    const { dv } = this.#arena;
    const go = (): void => super.write(addr, len, offset, done, dsync);
    if (dv.getUint32(addr) === JBD2_MAGIC_NUMBER && dv.getUint32(addr + 4) === SUPERBLOCK_V2) {
      this.superblock_off = offset;
      if (this.hold) return void this.held.push(go);
    }
    this.written.push([offset, offset + len]);
    go();
  }

  /** The log block that the tail on the disk points to. */
  get tail(): number {
    return new DataView(this.data.buffer, this.data.byteOffset).getUint32(this.superblock_off + S_START);
  }
}

test.skipIf(!haveTool("mkfs.ocfs2"))("no commit writes where the tail on the disk still points to", () => {
  const bytes = 4096;
  let dev: HeldTail | undefined;
  const image = mkfsImage(["-b", "4096", "-C", "4096", "-J", "size=4M", "-N", "1"], 64);
  const v = openImage(image, {}, (arena, data) => {
    dev = new HeldTail(arena, data);
    return dev;
  });
  const disk = dev!;
  const { osb } = v;
  const { journal } = osb;
  const cred = { uid: 0, gid: 0, umask: 0o022 };
  let files = 0;
  /** A transaction of about 150 blocks, most of them new inodes. */
  const transaction = (): void => {
    while (journal.runningBlocks < 150)
      osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from(`file${files++}`), 0o644, cred));
    journal.startCommit();
  };
  transaction();
  expect(disk.tail).toBeGreaterThan(0);
  const tail = disk.tail;
  disk.hold = true;
  while (disk.held.length === 0) transaction();
  // The checkpoint is done but for the tail. More than the log has room for:
  disk.written.length = 0;
  const before = journal.commits;
  for (let i = 0; i < 8 && journal.runningBlocks === 0; i++) transaction();
  expect(journal.commits).toBeGreaterThan(before);
  const at = disk.superblock_off + tail * bytes;
  expect(disk.written.filter(([from, to]) => from < at + bytes && to > at)).toEqual([]);
  // And all goes on when it is there.
  disk.hold = false;
  for (const go of disk.held.splice(0)) go();
  transaction();
  v.close();
  expect(disk.tail).toBe(0);
});
