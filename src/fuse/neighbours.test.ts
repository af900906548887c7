/** Files that are written one after another, as by tar: side by side on the disk, in few writes, and each with its own failures. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SessionRig } from "../../test/support/session_rig.ts";
import { fsck, haveTool, mkfsImage } from "../../test/support/volume.ts";
import { Errno } from "../lib/errno.ts";
import { mlogSet } from "../lib/masklog.ts";
import { wait } from "../lib/task.ts";
import { getClusters } from "../volume/extents/extent_map.ts";
import { inodeLock } from "../volume/inode.ts";
import { closeHandle } from "./ops_file.ts";

const PAGE = 4096;
const FILES = 8;
const image = haveTool("mkfs.ocfs2") ? mkfsImage(["-J", "size=4M", "-b", "4K", "-C", "4K"], 32) : new Uint8Array(0);

describe.skipIf(image.length === 0)("files written one after another", () => {
  let rig: SessionRig;
  let data: Uint8Array;
  /** Pages of each write to the disk. */
  let writes: number[];
  /** This page cannot be written. */
  let bad: number;

  beforeEach(() => {
    mlogSet("ERROR", "off");
    data = image.slice();
    rig = new SessionRig(data);
    const { dev } = rig.v;
    const write = dev.write.bind(dev);
    const writev = dev.writev.bind(dev);
    writes = [];
    bad = -1;
    dev.write = (addr, len, offset, done, dsync) => {
      writes.push(len / PAGE);
      if (bad >= offset && bad < offset + len) done(-Errno.EIO);
      else write(addr, len, offset, done, dsync);
    };
    dev.writev = (iov, offset, done) => {
      const before = writes.length;
      writev(iov, offset, done);
      writes.splice(before, writes.length, iov.reduce((sum, n, i) => (i % 2 === 1 ? sum + n : sum), 0) / PAGE);
    };
  });

  afterEach(() => {
    rig.v.close();
    expect(fsck(data).clean).toBe(true);
    mlogSet("ERROR", "allow");
  });

  function append(nodeid: number, fh: number, at: number, pages: number): void {
    expect(rig.write(nodeid, fh, at * PAGE, pages * PAGE)).toBe(0);
  }

  function make(name: string): number {
    const { nodeid, fh } = rig.create(name);
    append(nodeid, fh, 0, 2);
    closeHandle(rig.session, fh);
    return nodeid;
  }

  const commit = (): void => rig.v.osb.runTaskSync(wait(rig.v.osb.journal.periodic));

  const place = (nodeid: number, cpos: number): number =>
    rig.v.osb.runSync((op) => {
      const inode = rig.v.osb.inodes.get(nodeid);
      inodeLock(op, inode);
      return getClusters(op, inode, cpos).p_cluster;
    });

  test("lie side by side, and their data is one write", () => {
    const made = Array.from({ length: FILES }, (_, i) => make(`f${i}`));
    const [first] = made as [number];
    expect(made.map((nodeid) => place(nodeid, 0) - place(first, 0))).toEqual(made.map((_, i) => 2 * i));
    writes = [];
    commit();
    expect(writes.filter((pages) => pages === 2 * FILES)).toHaveLength(1);
  });

  test("and a page that the disk does not take is the misfortune of its own file", () => {
    const made = Array.from({ length: FILES }, (_, i) => make(`f${i}`));
    bad = place(made[3]!, 1) * PAGE;
    commit();
    bad = -1;
    expect(made.map((nodeid) => rig.fsync(nodeid))).toEqual(made.map((_, i) => (i === 3 ? -Errno.EIO : 0)));
    const at = place(made[4]!, 0) * PAGE;
    expect(Buffer.from(data.subarray(at, at + 2 * PAGE)).equals(Buffer.alloc(2 * PAGE, "x"))).toBe(true);
  });

  test("and opened again and again to be made longer are in few pieces all the same", () => {
    const made = [make("a"), make("b")];
    for (let at = 2; at < 40; at++)
      for (const nodeid of made) {
        const fh = rig.open(nodeid);
        append(nodeid, fh, at, 1);
        closeHandle(rig.session, fh);
      }
    for (const nodeid of made) {
      const pieces = Array.from({ length: 39 }, (_, at) => place(nodeid, at + 1) !== place(nodeid, at) + 1);
      expect(pieces.filter(Boolean).length).toBeLessThan(6);
    }
  });
});
