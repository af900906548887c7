/**
 * Notifications to the kernel, from the volume thread's side: built here, sent by notifier threads, answered in a later turn. A
 * notification can block for as long as a request of ours is parked, so there is more than one thread, and the pool
 * grows while all of them are blocked (coherence: exhaustion is a deadlock).
 *
 * What is queued in a turn leaves after the turn's replies were written: a kernel that has not yet seen a LOOKUP's reply
 * does not know the inode that is to be invalidated.
 */
import {
  FUSE_NOTIFY_INC_EPOCH,
  FUSE_NOTIFY_INVAL_ENTRY,
  FUSE_NOTIFY_INVAL_INODE,
  FUSE_NOTIFY_PRUNE,
  FuseNotifyInvalEntryOut,
  FuseNotifyInvalInodeOut,
  FuseNotifyPruneOut,
  FuseOutHeader,
} from "../format/fuse/index.ts";
import { Errno } from "../lib/errno.ts";
import type { NotifierThread, Turns } from "./channel.ts";

/** Node ids in one FUSE_NOTIFY_PRUNE: what a mailbox holds. */
export const PRUNE_MAX = 200;

export const FIRST_THREADS = 2;
/** Each thread that waits has a request of its own to wait for: a WRITE to a part of a page, or one that came in between. With 32 a build stood still. */
const MAX_THREADS = 512;
/** More than were needed at once for so long are ended: each keeps some 8 MiB. */
const REST_MS = 30_000;

/** Bytes, or -errno (-ENOENT: the kernel does not have it). */
export type Notified = (res: number) => void;

/** A notification on its way. */
export interface Notice {
  /** The kernel has it, and waits for something before it answers. */
  readonly waits: boolean;
}

class Job implements Notice {
  readonly message: Uint8Array;
  readonly done: Notified;
  /** Which has it. */
  thread: NotifierThread | null = null;

  constructor(message: Uint8Array, done: Notified) {
    this.message = message;
    this.done = done;
  }

  get waits(): boolean {
    return this.thread?.sleepsInKernel() === true;
  }
}

const NO_NOTICE: Notice = { waits: false };

interface Sender {
  readonly thread: NotifierThread;
  job: Job | null;
}

export class Notifier {
  readonly #start: () => NotifierThread;
  readonly #loop: Turns;
  readonly #threads: Sender[] = [];
  readonly #queue: Job[] = [];
  #stopped = false;
  /** Most threads that were busy at once since somebody looked last. */
  #needed = 0;
  #resting = false;
  sent = 0;

  /** Its work comes behind the session's in each turn; so make it after the session. `start` starts a thread. */
  constructor(start: () => NotifierThread, loop: Turns) {
    this.#start = start;
    this.#loop = loop;
    for (let i = 0; i < FIRST_THREADS; i++) this.#threads.push({ thread: start(), job: null });
    loop.addWork(() => this.#turn());
  }

  #turn(): boolean {
    let ended = false;
    for (const t of this.#threads) {
      if (t.job === null) continue;
      const result = t.thread.finished();
      if (result === undefined) continue;
      const { done } = t.job;
      t.job.thread = null;
      t.job = null;
      ended = true;
      done(result);
    }
    for (const t of this.#threads) {
      if (this.#queue.length === 0) break;
      if (t.job !== null) continue;
      t.job = this.#queue.shift()!;
      t.job.thread = t.thread;
      t.thread.send(t.job.message);
    }
    if (this.#threads.length > FIRST_THREADS) this.#needed = Math.max(this.#needed, this.#busy);
    if (this.#queue.length > 0 && this.#threads.length < MAX_THREADS && !this.#stopped) {
      this.#threads.push({ thread: this.#start(), job: null });
      this.#endLater();
      return true;
    }
    return ended;
  }

  get #busy(): number {
    let n = 0;
    for (const t of this.#threads) if (t.job !== null) n++;
    return n;
  }

  #endLater(): void {
    if (this.#resting) return;
    this.#resting = true;
    this.#loop.after(REST_MS, () => {
      this.#resting = false;
      if (this.#stopped) return;
      const keep = Math.max(FIRST_THREADS, this.#needed);
      this.#needed = this.#busy;
      for (let i = this.#threads.length - 1; i >= 0 && this.#threads.length > keep; i--) {
        if (this.#threads[i]!.job !== null) continue;
        const [idle] = this.#threads.splice(i, 1);
        idle!.thread.stop();
      }
      if (this.#threads.length > FIRST_THREADS) this.#endLater();
    });
  }

  #send(code: number, body: number, fill: (dv: DataView, at: number) => void, done: Notified): Notice {
    if (this.#stopped) {
      this.#loop.wake();
      done(-Errno.ENODEV);
      return NO_NOTICE;
    }
    const message = new Uint8Array(FuseOutHeader.size + body);
    const dv = new DataView(message.buffer);
    const head = FuseOutHeader.at(dv, 0);
    head.len = message.length;
    head.error = code;
    fill(dv, FuseOutHeader.size);
    const job = new Job(message, done);
    this.#queue.push(job);
    this.sent++;
    this.#loop.wake();
    return job;
  }

  /** Attributes and ACLs; with off >= 0 also pages from `off`, `len` bytes or to the end (0). Dirty pages are written first. */
  invalInode(nodeid: number, off: number, len: number, done: Notified): Notice {
    return this.#send(
      FUSE_NOTIFY_INVAL_INODE,
      FuseNotifyInvalInodeOut.size,
      (dv, at) => {
        const out = FuseNotifyInvalInodeOut.at(dv, at);
        out.ino = nodeid;
        out.off_ = off;
        out.len = len;
      },
      done,
    );
  }

  /** One name. Blocks while a lookup or a change of the directory is under way. */
  invalEntry(parent: number, name: Uint8Array, done: Notified): void {
    const size = FuseNotifyInvalEntryOut.size;
    this.#send(
      FUSE_NOTIFY_INVAL_ENTRY,
      size + name.length + 1,
      (dv, at) => {
        const out = FuseNotifyInvalEntryOut.at(dv, at);
        out.parent = parent;
        out.namelen = name.length;
        new Uint8Array(dv.buffer, at + size, name.length).set(name);
      },
      done,
    );
  }

  /** Every name is looked up again before it is used (7.44, Linux 6.16). Waits for nothing. */
  incEpoch(done: Notified): void {
    this.#send(FUSE_NOTIFY_INC_EPOCH, 0, () => {}, done);
  }

  /** Names that lead to these inodes and that nobody uses are dropped, and FORGETs come (7.45, Linux 6.18). At most PRUNE_MAX. */
  prune(nodeids: readonly number[], done: Notified): void {
    const size = FuseNotifyPruneOut.size;
    this.#send(
      FUSE_NOTIFY_PRUNE,
      size + 8 * nodeids.length,
      (dv, at) => {
        FuseNotifyPruneOut.at(dv, at).count = nodeids.length;
        for (const [i, id] of nodeids.entries()) dv.setBigUint64(at + size + 8 * i, BigInt(id), true);
      },
      done,
    );
  }

  stop(): void {
    this.#stopped = true;
    for (const t of this.#threads) {
      t.thread.stop();
      t.job?.done(-Errno.ENODEV);
      t.job = null;
    }
    for (const job of this.#queue.splice(0)) job.done(-Errno.ENODEV);
  }
}
