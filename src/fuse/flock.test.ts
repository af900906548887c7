/** flock(2) on one open file by two threads, as its requests come to a session. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bytesOf } from "../../test/sim/whole/kernel/connection.ts";
import { SessionRig } from "../../test/support/session_rig.ts";
import { haveTool, mkfsImage } from "../../test/support/volume.ts";
import * as F from "../format/fuse/index.ts";
import { closeHandle } from "./ops_file.ts";

const F_WRLCK = 1;
const F_UNLCK = 2;
const image = haveTool("mkfs.ocfs2") ? mkfsImage(["-J", "size=4M", "-b", "4K", "-C", "4K"], 32) : new Uint8Array(0);

describe.skipIf(image.length === 0)("an open file's flock", () => {
  let rig: SessionRig;
  let nodeid: number;
  let fh: number;
  /** Another node has it: what is asked for is granted by this. */
  let grant: (() => void) | undefined;

  beforeEach(() => {
    rig = new SessionRig(image.slice());
    ({ nodeid, fh } = rig.create("f"));
    grant = undefined;
    const { domain } = rig.v.osb.glue;
    const convert = domain.convert.bind(domain);
    domain.convert = (lock, level, options) => {
      const go = (): void => convert(lock, level, options);
      if (lock.name.startsWith("F") && level > 0) grant = go;
      else go();
    };
  });

  afterEach(() => {
    closeHandle(rig.session, fh);
    rig.v.close();
  });

  function flock(type: number) {
    const q = F.FuseLkIn.alloc();
    [q.fh, q.lk.type, q.lk_flags] = [fh, type, F.FUSE_LK_FLOCK];
    return rig.ask(F.FUSE_SETLKW, nodeid, 0, bytesOf(q));
  }

  test("may be given up by one thread while another waits for it: the one has nothing to do, the other goes on waiting", () => {
    const taken = flock(F_WRLCK);
    rig.settle(() => grant !== undefined);
    const given_up = flock(F_UNLCK);
    rig.settle(() => given_up.reply !== undefined);
    expect([given_up.reply?.error, taken.reply]).toEqual([0, undefined]);
    grant!();
    rig.settle(() => taken.reply !== undefined);
    expect(taken.reply?.error).toBe(0);
    const last = flock(F_UNLCK);
    rig.settle(() => last.reply !== undefined);
    expect(last.reply?.error).toBe(0);
  });
});
