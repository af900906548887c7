/**
 * Directories that something has damaged: each field of a directory's blocks is set wrong, one at a time, and every
 * operation must answer with an errno or go on. A loop, an assertion or a crash here is what one bad sector would do to a
 * mount. Each operation is undone at its end, so that the next one finds the same damage.
 */
import { describe, expect, test } from "vitest";
import { Dinode, DirBlockTrailer, DirEntry, DxLeaf, DxRootBlock, ExtentBlock } from "../../src/format/disk/index.ts";
import { applyMutation, mutations, revertMutation } from "../../src/format/fuzz.ts";
import type { AnyStruct, ViewBase } from "../../src/format/struct.ts";
import { seededRandom } from "../../src/lib/clock.ts";
import { FsError } from "../../src/lib/fs_error.ts";
import { mlogSet } from "../../src/lib/masklog.ts";
import * as ns from "../../src/vfs/namespace.ts";
import { openDir } from "../../src/volume/dir/dir.ts";
import { readDirBlock } from "../../src/volume/dir/dir_data.ts";
import { trailerOff } from "../../src/volume/dir/dirblock.ts";
import { dxLookupExtent, dxRootOf, readDxRoot } from "../../src/volume/dir/dx_dir.ts";
import { lockDir } from "../../src/volume/dir/iget.ts";
import { nameOf } from "../../src/volume/dir/name.ts";
import type { Op } from "../../src/volume/op.ts";
import { missing } from "../support/sh.ts";
import { mkfsImage, openImage } from "../support/volume.ts";

const cred = { uid: 0, gid: 0, umask: 0o22 };
const UNDO = new FsError(0, "undo");

/** A structure somewhere on the disk. */
interface Target {
  readonly what: string;
  readonly of: AnyStruct;
  readonly at: number;
}

describe.skipIf(missing("mkfs.ocfs2").length > 0)("a damaged directory", () => {
  mlogSet("ERROR", "off");
  const image = mkfsImage(["-J", "size=4M", "-b", "512", "-C", "4K"], 48);
  const v = openImage(image);
  const { osb } = v;
  const { blocksize, root_blkno: root } = osb.geo;
  const mkdir = (name: string): number => osb.runSync((op) => ns.mkdir(op, root, nameOf(name), 0o755, cred)).ino;
  const fill = (dir: number, count: number): void => {
    for (let i = 0; i < count; i++) osb.runSync((op) => ns.mknod(op, dir, nameOf(`name-${i}`), 0o010600, 0, cred));
    osb.runSync((op) => ns.unlink(op, dir, nameOf("name-2")));
  };
  const [inline, small, large] = [mkdir("inline"), mkdir("small"), mkdir("large")];
  fill(inline, 5);
  fill(small, 14);
  fill(large, 3600);
  osb.runTaskSync(
    (function* () {
      yield osb.journal.flush;
    })(),
  );

  /** The directory's structures: its dinode, its index from root to leaf, a block of names with its trailer. */
  function targetsOf(dir: number): Target[] {
    const at = (blkno: number, off = 0): number => blkno * blocksize + off;
    return osb.runSync((op) => {
      const locked = lockDir(op, osb.inodes.get(dir));
      const d = openDir(op, locked.inode, locked.di_bh);
      const out: Target[] = [{ what: "dinode", of: Dinode, at: at(dir) }];
      const entries = (start: number, size: number): void => {
        for (let off = 0, n = 0; off < size && n < 4; n++) {
          out.push({ what: `entry ${n}`, of: DirEntry, at: start + off });
          off += DirEntry.from(image, start + off).rec_len;
        }
      };
      if (d.inline) {
        entries(at(dir, 0xc8), d.size);
        return out;
      }
      const block = readDirBlock(d, 0).blkno;
      entries(at(block), trailerOff(blocksize));
      out.push({ what: "trailer", of: DirBlockTrailer, at: at(block, trailerOff(blocksize)) });
      const root_bh = readDxRoot(d);
      out.push({ what: "dx root", of: DxRootBlock, at: at(root_bh.blkno) });
      const dr = dxRootOf(d, root_bh);
      if (dr.dr_clusters === 0) return out;
      out.push({ what: "dx leaf", of: DxLeaf, at: at(dxLookupExtent(d, root_bh, 0x80000000).blkno) });
      if (dr.dr_list.l_tree_depth > 0)
        out.push({ what: "extent block", of: ExtentBlock, at: at(dr.dr_list.l_recs.at(0).e_blkno) });
      return out;
    });
  }

  function operations(dir: number): [string, (op: Op) => unknown][] {
    const n = nameOf;
    return [
      ["lookup", (op) => ["name-1", "name-4", "none"].map((name) => ns.lookup(op, dir, n(name)))],
      ["readdir", (op) => ns.readdir(op, dir, 0, () => true)],
      ["readdir from the middle", (op) => ns.readdir(op, dir, 40, () => true)],
      ["create", (op) => ["new", "x".repeat(200), "newer"].map((name) => ns.create(op, dir, n(name), 0o600, cred))],
      ["unlink", (op) => ["name-1", "name-0"].map((name) => ns.unlink(op, dir, n(name)))],
      ["rename", (op) => ns.rename(op, dir, n("name-3"), root, n("moved"))],
      ["rename into", (op) => ns.rename(op, root, n("lost+found"), dir, n("moved"))],
      ["rmdir", (op) => ns.rmdir(op, root, n(dir === inline ? "inline" : dir === small ? "small" : "large"))],
    ];
  }

  test.each([
    ["inline", inline],
    ["indexed in the root", small],
    ["indexed", large],
  ])("%s: no field set wrong brings more than an errno", (_name, dir) => {
    const random = seededRandom(dir);
    let tried = 0;
    let refused = 0;
    for (const target of targetsOf(dir)) {
      const view: ViewBase = target.of.from(image, target.at);
      for (const m of mutations(target.of, view, (below) => random.u32() % below, { maxElems: 2 })) {
        applyMutation(view.dv, m);
        for (const [what, fn] of operations(dir)) {
          osb.cache.forget(0, Number.MAX_SAFE_INTEGER);
          for (const inode of osb.inodes.values()) inode.dropCaches();
          osb.readonly_reason = null;
          tried++;
          try {
            osb.runSync((op) => {
              fn(op);
              throw UNDO;
            });
          } catch (err) {
            if (!(err instanceof FsError)) throw new Error(`${what} with ${target.what}: ${m.name}`, { cause: err });
            if (err !== UNDO) refused++;
          }
        }
        revertMutation(view.dv, m);
      }
    }
    expect(tried).toBeGreaterThan(1000);
    expect(refused).toBeGreaterThan(300);
  });
});
