import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { fsck, haveTool, mkfsImage, openImage, type TestVolume } from "../../test/support/volume.ts";
import { Dinode, JOURNAL_FLAGS, SYSTEM_INODE, type SystemInode } from "../format/disk/index.ts";
import * as J from "../format/jbd2/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { wait } from "../lib/task.ts";
import { fsync, writeFile } from "../vfs/file.ts";
import { create, lookup } from "../vfs/namespace.ts";
import { createArena } from "../wasm/arena.ts";
import { createKernels } from "../wasm/kernels.ts";

const dirty = new URL("../../test/fixtures/volumes/dirty.img.xz", import.meta.url).pathname;

test.skipIf(!existsSync(dirty))("a kernel's dirty journal is replayed, and fsck.ocfs2 finds nothing", () => {
  const image = new Uint8Array(execFileSync("xz", ["-dc", dirty], { maxBuffer: 1 << 28 }));
  expect(fsck(image).clean).toBe(false);
  const v = openImage(image, { ro: true });
  v.close();
  const judged = fsck(image);
  expect(judged.output).not.toMatch(/journal/i);
  expect(judged.clean, judged.output).toBe(true);
});

const noMkfs = !haveTool("mkfs.ocfs2");
const newImage = (): Uint8Array => mkfsImage(["-b", "4096", "-C", "4096", "-J", "size=4M", "-N", "1"], 64);
const CRED = { uid: 0, gid: 0, umask: 0o022 };

/** The journal's superblock in an image. */
function superblockOf(image: Uint8Array): DataView {
  const dv = new DataView(image.buffer, image.byteOffset);
  for (let at = 0; at < image.length; at += 4096)
    if (dv.getUint32(at) === J.JBD2_MAGIC_NUMBER && dv.getUint32(at + 4) === J.JBD2_SUPERBLOCK_V2)
      return new DataView(image.buffer, image.byteOffset + at, BLOCK);
  throw new Error("no journal");
}
const BLOCK = 4096;

function make({ osb }: TestVolume, name: string): void {
  const { ino } = osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from(name), 0o644, CRED));
  osb.runTaskSync(wait<void>((cb) => fsync(osb, osb.inodes.get(ino), false, cb)));
}

/** What is there after a cut now. */
const afterCut = ({ dev }: TestVolume, names: readonly string[]): string[] => mounted(dev.data.slice(), names);

function mounted(image: Uint8Array, names: readonly string[]): string[] {
  const v = openImage(image);
  const { osb } = v;
  const there = names.filter((n) => osb.runSync((op) => lookup(op, osb.geo.root_blkno, Buffer.from(n))) !== undefined);
  v.close();
  return there;
}

test.skipIf(noMkfs)("a transaction that has data and no blocks: what is committed behind it is found", () => {
  const v = openImage(newImage());
  const { journal } = v.osb;
  make(v, "before");
  journal.orderData(v.osb.inodes.get(v.osb.geo.root_blkno));
  v.osb.runTaskSync(wait(journal.commitTid(journal.running_tid)));
  make(v, "behind");
  expect(afterCut(v, ["before", "behind"])).toEqual(["before", "behind"]);
  v.close();
});

test.skipIf(noMkfs)("the number of transactions wraps: the one with number 0 is as good as any other", () => {
  const image = newImage();
  const sb = J.JournalSuperblock.at(superblockOf(image), 0);
  sb.s_start = 0;
  sb.s_sequence = 0xffffffff;
  const v = openImage(image);
  const names = ["last", "zero", "one"];
  for (const name of names) {
    make(v, name);
    expect(afterCut(v, names).at(-1)).toBe(name);
    // What the log alone has stays in memory.
    v.osb.cache.forget(0, Number.MAX_SAFE_INTEGER);
  }
  expect(v.osb.journal.running_tid).toBeLessThan(10);
  v.close();
  expect(fsck(image).findings).toEqual([]);
  expect(afterCut(v, names)).toEqual(names);
});

test.skipIf(noMkfs)(
  "a log that is not marked dirty is wiped: what it held does not come back behind our first transaction",
  () => {
    const v = openImage(newImage());
    for (const name of ["a", "b", "c"]) make(v, name);
    const image = v.dev.data.slice();
    const { ino } = v.osb.sysfile(SYSTEM_INODE.JOURNAL, 0);
    Dinode.at(new DataView(image.buffer), ino * BLOCK).ij_flags = 0;
    const w = openImage(image);
    make(w, "x");
    expect(afterCut(w, ["a", "b", "c", "x"])).toEqual(["x"]);
  },
);

/** What a kernel node refuses: "clean journal with unrecovered local alloc, please run fsck.ocfs2" (ocfs2_load_local_alloc). */
function isRefused({ osb, dev }: TestVolume): boolean {
  const dinode = (type: SystemInode): Dinode =>
    Dinode.at(new DataView(dev.data.buffer), osb.sysfile(type, 0).ino * BLOCK);
  const dirty = dinode(SYSTEM_INODE.JOURNAL).ij_flags & JOURNAL_FLAGS.DIRTY;
  return dirty === 0 && dinode(SYSTEM_INODE.LOCAL_ALLOC).i_total > 0;
}

describe.skipIf(noMkfs)("clusters that a slot has set aside", () => {
  /** A volume with a window. */
  function used(): TestVolume {
    const v = openImage(newImage());
    const { osb } = v;
    make(v, "f");
    const { ino } = osb.runSync((op) => lookup(op, osb.geo.root_blkno, Buffer.from("f")))!;
    const addr = osb.arena.alloc(65536, 4096);
    osb.runTaskSync(wait<number>((cb) => writeFile(osb, osb.inodes.get(ino), { offset: 0, len: 65536, addr }, cb)));
    osb.runTaskSync(wait<void>((cb) => fsync(osb, osb.inodes.get(ino), false, cb)));
    return v;
  }

  /** Mounted again, all is returned. */
  function sound(image: Uint8Array): void {
    const v = openImage(image);
    v.close();
    expect(isRefused(v)).toBe(false);
    expect(fsck(image).findings).toEqual([]);
  }

  test("a read-only mount that has replayed the journal leaves them to the next, a kernel's too", () => {
    const image = used().dev.data.slice();
    const v = openImage(image, { ro: true });
    v.close();
    expect(isRefused(v)).toBe(false);
    sound(image);
  });

  test("a mount that became read-only leaves them to the next, a kernel's too", () => {
    const v = used();
    v.osb.onCorruption(new FsError(Errno.EIO, "test", {}));
    expect(v.osb.readonly_reason).not.toBeNull();
    v.close();
    expect(isRefused(v)).toBe(false);
    sound(v.dev.data);
  });
});

/** crc32c of the parts, one behind the other. */
function crc32c(...parts: Uint8Array[]): number {
  const arena = createArena(16);
  const addr = arena.alloc(BLOCK, 8);
  return parts.reduce((crc, part) => {
    arena.u8.set(part, addr);
    return createKernels(arena).crc32c(crc, addr, part.length);
  }, 0xffffffff);
}

/** Files that are each in a transaction of its own, in a log with these features, after a cut. */
function logged(names: readonly string[], features: { compat?: number; incompat?: number }): Uint8Array {
  const image = newImage();
  const sb = J.JournalSuperblock.at(superblockOf(image), 0);
  sb.s_feature_compat |= features.compat ?? 0;
  sb.s_feature_incompat |= features.incompat ?? 0;
  if (J.hasCsumV2or3(sb.s_feature_incompat)) {
    sb.s_checksum_type = J.JBD2_CRC32C_CHKSUM;
    sb.s_checksum = crc32c(new Uint8Array(sb.dv.buffer, sb.dv.byteOffset, J.JournalSuperblock.size));
  }
  const v = openImage(image);
  for (const name of names) make(v, name);
  return v.dev.data.slice();
}

/** The blocks of this type in the log, in order. */
function logBlocks(image: Uint8Array, type: number): Uint8Array[] {
  const { byteOffset: sb } = superblockOf(image);
  const found: Uint8Array[] = [];
  for (let at = sb + BLOCK; at < sb + (4 << 20); at += BLOCK) {
    const block = new Uint8Array(image.buffer, at, BLOCK);
    const h = J.JournalHeader.at(new DataView(image.buffer, at), 0);
    if (h.h_magic === J.JBD2_MAGIC_NUMBER && h.h_blocktype === type) found.push(block);
  }
  return found;
}

function mountsWith(image: Uint8Array, names: readonly string[]): string[] | string {
  try {
    return mounted(image, names);
  } catch (err) {
    if (err instanceof FsError) return err.message;
    throw err;
  }
}

const NAMES = ["a", "b", "c"];
const V2 = { incompat: J.JBD2_FEATURE_INCOMPAT_CSUM_V2 };
const V3 = { incompat: J.JBD2_FEATURE_INCOMPAT_CSUM_V3 };
const V1 = { compat: J.JBD2_FEATURE_COMPAT_CHECKSUM };
const V1_ASYNC = { ...V1, incompat: J.JBD2_FEATURE_INCOMPAT_ASYNC_COMMIT };
/** Where the first block of a transaction lies: behind its descriptor. */
const IN_FIRST_BLOCK = BLOCK + 2000;
const LOST = /corruption found by journal.replay.*bad checksum/;

describe.skipIf(noMkfs)("a wrong checksum in the log", () => {
  test.each([
    ["v2, a descriptor in the middle", V2, J.JBD2_DESCRIPTOR_BLOCK, 1, 100, LOST],
    ["v3, a descriptor in the middle", V3, J.JBD2_DESCRIPTOR_BLOCK, 1, 100, LOST],
    ["v3, the last descriptor", V3, J.JBD2_DESCRIPTOR_BLOCK, 2, 100, LOST],
    ["v3, a commit block in the middle", V3, J.JBD2_COMMIT_BLOCK, 1, 3000, LOST],
    ["v3, the last commit block: torn", V3, J.JBD2_COMMIT_BLOCK, 2, 3000, ["a", "b"]],
    ["v3, a block in the middle", V3, J.JBD2_DESCRIPTOR_BLOCK, 1, IN_FIRST_BLOCK, LOST],
    ["v1, a block in the middle", V1, J.JBD2_DESCRIPTOR_BLOCK, 1, IN_FIRST_BLOCK, LOST],
    ["v1, a block of the last", V1, J.JBD2_DESCRIPTOR_BLOCK, 2, IN_FIRST_BLOCK, LOST],
    [
      "v1, commit blocks that wait for nothing, a block in the middle",
      V1_ASYNC,
      J.JBD2_DESCRIPTOR_BLOCK,
      1,
      IN_FIRST_BLOCK,
      LOST,
    ],
    [
      "v1, commit blocks that wait for nothing, a block of the last",
      V1_ASYNC,
      J.JBD2_DESCRIPTOR_BLOCK,
      2,
      IN_FIRST_BLOCK,
      ["a", "b"],
    ],
  ])("%s", (_, features, type, nth, at, expected) => {
    const image = logged(NAMES, features);
    expect(mounted(image.slice(), NAMES)).toEqual(NAMES);
    const first = logBlocks(image, type)[nth]!;
    image[first.byteOffset + at]! ^= 1;
    const seen = mountsWith(image, NAMES);
    if (expected instanceof RegExp) expect(seen).toMatch(expected);
    else expect(seen).toEqual(expected);
  });

  test("revoke records that nobody can trust", () => {
    const image = logged(["a"], V3);
    const sb = J.JournalSuperblock.at(superblockOf(image), 0);
    const [commit] = logBlocks(image, J.JBD2_COMMIT_BLOCK);
    const sequence = J.JournalHeader.at(new DataView(image.buffer, commit!.byteOffset), 0).h_sequence + 1;
    const write = (n: number, type: number, crc_at: number): void => {
      const block = image.subarray(commit!.byteOffset + n * BLOCK, commit!.byteOffset + (n + 1) * BLOCK);
      block.fill(0);
      const dv = new DataView(image.buffer, block.byteOffset);
      const h = J.JournalHeader.at(dv, 0);
      h.h_magic = J.JBD2_MAGIC_NUMBER;
      h.h_blocktype = type;
      h.h_sequence = sequence;
      if (type === J.JBD2_REVOKE_BLOCK) J.JournalRevokeHeader.at(dv, 0).r_count = J.JournalRevokeHeader.size;
      else J.CommitHeader.at(dv, 0).h_commit_sec = 2 ** 33;
      dv.setUint32(crc_at, crc32c(sb.s_uuid, block));
    };
    write(1, J.JBD2_REVOKE_BLOCK, BLOCK - 4);
    write(2, J.JBD2_COMMIT_BLOCK, J.CommitHeader.fields.h_chksum.off);
    expect(mounted(image.slice(), ["a"])).toEqual(["a"]);
    image[commit!.byteOffset + BLOCK + 20] = 1;
    expect(mountsWith(image, ["a"])).toMatch(LOST);
  });
});
