/** /dev/fuse through the addon, in the thread's ring; and worker threads that block in it for notifications (notifier_worker.ts). */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import {
  type ArenaHandle,
  type Bytes,
  fuseRead,
  fuseReplyAndRead,
  fuseWrite,
  POLLERR,
  POLLIN,
  registerArena,
} from "../native/index.ts";
import type { Loop } from "../native/loop.ts";
import type { FuseChannel, NotifierThread } from "./channel.ts";

/** Supplementary groups of a thread; none when it is of another PID namespace. */
export function groupsOf(pid: number): number[] {
  try {
    const [, groups] = /^Groups:\t(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1")) ?? [];
    return groups!
      .split(" ")
      .filter((gid) => gid !== "")
      .map(Number);
  } catch {
    return [];
  }
}

export class DevFuse implements FuseChannel {
  readonly #arena: ArenaHandle;
  readonly #fd: number;
  readonly #loop: Loop;

  constructor(arena: Bytes, fd: number, loop: Loop) {
    this.#arena = registerArena(arena);
    this.#fd = fd;
    this.#loop = loop;
  }

  read(addr: number, len: number): number {
    return fuseRead(this.#arena, this.#fd, addr, len);
  }

  write(addr: number, len: number): number {
    return fuseWrite(this.#arena, this.#fd, addr, len);
  }

  replyAndRead(reply_addr: number, reply_len: number, addr: number, len: number): number {
    return fuseReplyAndRead(this.#arena, this.#fd, reply_addr, reply_len, addr, len);
  }

  whenReadable(cb: () => void): void {
    this.#loop.ring.pollAdd(this.#fd, POLLIN | POLLERR, this.#loop.expect(cb));
  }
}

/** Layout of a mailbox in 32-bit words, the message behind them. */
export const MAILBOX = { STATE: 0, LEN: 1, RESULT: 2, IN_KERNEL: 3, MESSAGE_OFF: 16, BYTES: 2048 } as const;
export const STATE = { IDLE: 0, SEND: 1, DONE: 2, STOP: 3 } as const;

export interface NotifierWorkerData {
  readonly fd: number;
  readonly wakefd: number;
  readonly mailbox: SharedArrayBuffer;
}

export class NotifierWorker implements NotifierThread {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  /** Rejects when it cannot: there are no descriptors left, or no threads. */
  readonly started: Promise<void>;

  constructor(fd: number, loop: Loop) {
    const mailbox = new SharedArrayBuffer(MAILBOX.BYTES);
    this.#words = new Int32Array(mailbox);
    this.#bytes = new Uint8Array(mailbox);
    const workerData: NotifierWorkerData = { fd, wakefd: loop.wakefd, mailbox };
    const worker = new Worker(join(import.meta.dirname, "notifier_worker.js"), { workerData });
    this.started = new Promise((ok, no) => {
      worker.once("error", no);
      worker.once("message", () => {
        worker.off("error", no);
        ok();
      });
    });
    // The volume thread's end does not wait for it.
    worker.unref();
  }

  send(message: Uint8Array): void {
    this.#bytes.set(message, MAILBOX.MESSAGE_OFF);
    Atomics.store(this.#words, MAILBOX.LEN, message.length);
    this.#set(STATE.SEND);
  }

  #set(state: number): void {
    Atomics.store(this.#words, MAILBOX.STATE, state);
    Atomics.notify(this.#words, MAILBOX.STATE);
  }

  /** Whoever waits for a page's lock does so uninterruptibly (folio_lock). */
  sleepsInKernel(): boolean {
    const tid = Atomics.load(this.#words, MAILBOX.IN_KERNEL);
    if (tid === 0) return false;
    const stat = readFileSync(`/proc/self/task/${tid}/stat`, "latin1");
    return stat.startsWith("D", stat.lastIndexOf(")") + 2);
  }

  finished(): number | undefined {
    if (Atomics.load(this.#words, MAILBOX.STATE) !== STATE.DONE) return undefined;
    Atomics.store(this.#words, MAILBOX.STATE, STATE.IDLE);
    return Atomics.load(this.#words, MAILBOX.RESULT);
  }

  stop(): void {
    this.#set(STATE.STOP);
  }
}
