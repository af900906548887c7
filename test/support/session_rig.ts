/** A session on a volume in memory, to which a test puts requests as the kernel would send them. */

import * as F from "../../src/format/fuse/index.ts";
import type { CachePolicy } from "../../src/fuse/flags.ts";
import { Session } from "../../src/fuse/session.ts";
import { fileOps } from "../../src/fuse/vfs_face.ts";
import { LocalDomain } from "../../src/stackglue/local.ts";
import type { DomainLock, LockCallbacks, LockDomain } from "../../src/stackglue/lock_domain.ts";
import type { Arena } from "../../src/wasm/arena.ts";
import { bytesOf, FuseConnection, type Reply } from "../sim/whole/kernel/connection.ts";
import { SimClock } from "./sim_cluster.ts";
import { openImage, type TestVolume } from "./volume.ts";

const O_RDWR = 2;

const CLUSTERED: CachePolicy = {
  clustered: true,
  writeback_cache: false,
  mountpoints: false,
  names_cool_ms: 0,
  local_flocks: false,
  acl: true,
};

/** A cluster's node to which every lock is granted at once, and from which none is called off. */
function alone(): LockDomain {
  const local = new LocalDomain();
  const newLock = (name: string, callbacks: LockCallbacks): DomainLock =>
    Object.assign(local.newLock(name, callbacks), { lvb: new Uint8Array(64) });
  return Object.assign(new LocalDomain(), { clustered: true, newLock });
}

export class SessionRig {
  readonly v: TestVolume;
  readonly session: Session;
  readonly #connection: FuseConnection;
  readonly #clock = new SimClock();
  readonly #works: (() => boolean)[] = [];

  constructor(image: Uint8Array) {
    this.v = openImage(image, {}, undefined, alone());
    const clock = this.#clock;
    this.#connection = new FuseConnection({
      arena: this.v.osb.arena as Arena,
      clock,
      delay_ms: () => 0,
      starved_ms: () => 0,
      deliver: (cb) => {
        cb();
        this.#turn();
      },
      log: () => {},
    });
    const turns = {
      addWork: (work: () => boolean) => {
        this.#works.push(work);
        return () => {};
      },
      wake: () => {},
      after: (ms: number, cb: () => void) => clock.after(ms, cb),
    };
    const options = { policy: CLUSTERED, large_slots: 4, small_slots: 4 };
    this.session = new Session(this.v.osb, fileOps, turns, this.#connection, options);
    const init = F.FuseInitIn.alloc();
    init.major = F.FUSE_KERNEL_VERSION;
    init.minor = F.FUSE_KERNEL_MINOR_VERSION;
    this.answerOf(F.FUSE_INIT, 0, 0, bytesOf(init));
  }

  #turn(): void {
    for (let again = true; again; ) again = this.#works.map((work) => work()).some((more) => more);
  }

  /** Until `done` holds, or so long that it never will. */
  settle(done = (): boolean => false): void {
    for (let i = 0; !done() && i < 10_000; i++) {
      this.#clock.step();
      this.#turn();
      this.v.osb.pump();
    }
  }

  /** The request is sent; its reply as soon as there is one. */
  ask(opcode: number, nodeid: number, uid: number, ...parts: Uint8Array[]): { reply?: Reply } {
    const asked: { reply?: Reply } = {};
    this.#connection.ask(opcode, nodeid, Buffer.concat(parts), uid)((_, r) => (asked.reply = r!));
    return asked;
  }

  /** As `ask`, of a program that `interrupt` sends a signal to. */
  askInterruptibly(opcode: number, nodeid: number, body: Uint8Array): { reply?: Reply; interrupt: () => void } {
    const { reply, interrupt } = this.#connection.askInterruptibly(opcode, nodeid, body);
    const asked: { reply?: Reply; interrupt: () => void } = { interrupt };
    reply((_, r) => (asked.reply = r!));
    return asked;
  }

  answerOf(opcode: number, nodeid: number, uid: number, ...parts: Uint8Array[]): Reply {
    const asked = this.ask(opcode, nodeid, uid, ...parts);
    this.settle(() => asked.reply !== undefined);
    return asked.reply!;
  }

  /** A new file in the root, open for reading and writing. */
  create(name: string): { nodeid: number; fh: number } {
    const q = F.FuseCreateIn.alloc();
    [q.flags, q.mode] = [O_RDWR, 0o100644];
    const { body } = this.answerOf(F.FUSE_CREATE, F.FUSE_ROOT_ID, 0, bytesOf(q), Buffer.from(`${name}\0`));
    return { nodeid: F.FuseEntryOut.from(body).nodeid, fh: F.FuseOpenOut.from(body, F.FuseEntryOut.size).fh };
  }

  /** A handle for reading and writing. */
  open(nodeid: number): number {
    const q = F.FuseOpenIn.alloc();
    q.flags = O_RDWR;
    return F.FuseOpenOut.from(this.answerOf(F.FUSE_OPEN, nodeid, 0, bytesOf(q)).body).fh;
  }

  /** Writes so many "x"; the error. */
  write(nodeid: number, fh: number, offset: number, len: number, flags = O_RDWR): number {
    const q = F.FuseWriteIn.alloc();
    [q.fh, q.offset, q.size, q.flags] = [fh, offset, len, flags];
    return this.answerOf(F.FUSE_WRITE, nodeid, 0, bytesOf(q), Buffer.alloc(len, "x")).error;
  }

  /** The error; of no handle's with `fh` 0. */
  fsync(nodeid: number, fh = 0): number {
    const q = F.FuseFsyncIn.alloc();
    q.fh = fh;
    return this.answerOf(F.FUSE_FSYNC, nodeid, 0, bytesOf(q)).error;
  }
}
