/** flock(2) on one open file by two threads, as its requests come to a session. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bytesOf } from "../../test/sim/whole/kernel/connection.ts";
import { SessionRig } from "../../test/support/session_rig.ts";
import { haveTool, mkfsImage } from "../../test/support/volume.ts";
import * as F from "../format/fuse/index.ts";
import { Errno } from "../lib/errno.ts";
import { closeHandle } from "./ops_file.ts";

const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const image = haveTool("mkfs.ocfs2") ? mkfsImage(["-J", "size=4M", "-b", "4K", "-C", "4K"], 32) : new Uint8Array(0);

describe.skipIf(image.length === 0)("an open file's flock", () => {
  let rig: SessionRig;
  let nodeid: number;
  let fh: number;
  /** Another node has it: what is asked for is granted by this. */
  let grant: (() => void) | undefined;
  /** Giving it up takes a while, too. */
  let slow: boolean;

  beforeEach(() => {
    rig = new SessionRig(image.slice());
    ({ nodeid, fh } = rig.create("f"));
    grant = undefined;
    slow = false;
    const { domain } = rig.v.osb.glue;
    const convert = domain.convert.bind(domain);
    domain.convert = (lock, level, options) => {
      const go = (): void => convert(lock, level, options);
      if (lock.name.startsWith("F") && (level > 0 || slow)) grant = go;
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
    return rig.askInterruptibly(F.FUSE_SETLKW, nodeid, bytesOf(q));
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

  test("is waited for by two threads: a signal ends the wait of the one whose turn has not come, too", () => {
    const first = flock(F_WRLCK);
    rig.settle(() => grant !== undefined);
    const second = flock(F_WRLCK);
    const third = flock(F_WRLCK);
    rig.settle(() => rig.session.outstanding === 3);
    second.interrupt();
    rig.settle(() => second.reply !== undefined);
    expect([first.reply, second.reply?.error, third.reply]).toEqual([undefined, -Errno.EINTR, undefined]);
    grant!();
    rig.settle(() => third.reply !== undefined);
    expect([first.reply?.error, third.reply?.error, rig.session.interrupts.size]).toEqual([0, 0, 0]);
  });

  test("is asked for anew at another level: a signal ends the wait though the one before is still on its way back", () => {
    const before = flock(F_WRLCK);
    rig.settle(() => grant !== undefined);
    grant!();
    rig.settle(() => before.reply !== undefined);
    grant = undefined;
    slow = true;
    const shared = flock(F_RDLCK);
    rig.settle(() => grant !== undefined);
    slow = false;
    shared.interrupt();
    rig.settle(() => rig.session.counts[F.FUSE_INTERRUPT] === 1);
    grant!();
    rig.settle(() => shared.reply !== undefined);
    expect(shared.reply?.error).toBe(-Errno.EINTR);
  });
});
