/** What the disk did not take, said by fsync to every open file: each program takes what its own fsync answers for the whole truth. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SessionRig } from "../../test/support/session_rig.ts";
import { fsck, haveTool, mkfsImage } from "../../test/support/volume.ts";
import { Errno } from "../lib/errno.ts";
import { mlogSet } from "../lib/masklog.ts";
import { closeHandle } from "./ops_file.ts";

const PAGE = 4096;
const O_RDWR = 2;
const O_DIRECT = 0o40000;
const image = haveTool("mkfs.ocfs2") ? mkfsImage(["-J", "size=4M", "-b", "4K", "-C", "4K"], 32) : new Uint8Array(0);

describe.skipIf(image.length === 0)("a write-back that fails", () => {
  let rig: SessionRig;
  let data: Uint8Array;
  let nodeid: number;
  let handles: number[];
  /** Writes that the disk does not take. */
  let failing: number;

  beforeEach(() => {
    mlogSet("ERROR", "off");
    data = image.slice();
    rig = new SessionRig(data);
    const { dev } = rig.v;
    const write = dev.write.bind(dev);
    failing = 0;
    dev.write = (addr, len, offset, done, dsync) =>
      failing-- > 0 ? done(-Errno.EIO) : write(addr, len, offset, done, dsync);
    const made = rig.create("f");
    nodeid = made.nodeid;
    handles = [made.fh];
  });

  afterEach(() => {
    for (const fh of handles) closeHandle(rig.session, fh);
    rig.v.close();
    expect(fsck(data).clean).toBe(true);
    mlogSet("ERROR", "allow");
  });

  function open(): number {
    const fh = rig.open(nodeid);
    handles.push(fh);
    return fh;
  }

  const write = (fh: number, flags = O_RDWR): number => rig.write(nodeid, fh, 0, PAGE, flags);
  const fsync = (fh: number): number => rig.fsync(nodeid, fh);

  test("is said to each open file once, whoever asks first", () => {
    const [a] = handles as [number];
    const b = open();
    expect([write(a), fsync(b)]).toEqual([0, 0]);
    expect(write(a)).toBe(0);
    failing = 1;
    expect([fsync(b), fsync(a)]).toEqual([-Errno.EIO, -Errno.EIO]);
    expect([fsync(a), fsync(b)]).toEqual([0, 0]);
  });

  test("is said where a direct write failed that was to take the place of what was not written yet", () => {
    const [a] = handles as [number];
    expect([write(a), fsync(a)]).toEqual([0, 0]);
    failing = 1;
    expect(write(a, O_RDWR | O_DIRECT)).toBe(-Errno.EIO);
    // The direct write's failure is its own: nothing else is lost by it.
    expect([fsync(a), write(a)]).toEqual([0, 0]);
    failing = 1;
    expect(write(a, O_RDWR | O_DIRECT)).toBe(-Errno.EIO);
    expect([fsync(a), fsync(a)]).toEqual([-Errno.EIO, 0]);
  });

  test("is said to who opens the file later if nobody was told", () => {
    const [a] = handles as [number];
    expect([write(a), fsync(a)]).toEqual([0, 0]);
    expect(write(a)).toBe(0);
    failing = 1;
    rig.v.osb.data.flushAll()(() => {});
    expect(failing).toBe(0);
    const [b, c] = [open(), open()];
    expect(fsync(b)).toBe(-Errno.EIO);
    const d = open();
    expect([fsync(d), fsync(c), fsync(a)]).toEqual([0, -Errno.EIO, -Errno.EIO]);
    expect([fsync(a), fsync(b), fsync(c), fsync(d)]).toEqual([0, 0, 0, 0]);
  });
});
