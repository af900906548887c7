/**
 * The kernel's end of a FUSE connection in the simulation: requests wait until the node reads them, replies wake who asked, a little later, as a
 * thread is woken; and threads that bring notifications into the kernel.
 */
import * as F from "../../../../src/format/fuse/index.ts";
import type { FuseChannel, NotifierThread } from "../../../../src/fuse/channel.ts";
import { REPLY_FAILED } from "../../../../src/fuse/channel.ts";
import type { Clock } from "../../../../src/lib/clock.ts";
import { Errno } from "../../../../src/lib/errno.ts";
import type { Callback, Thunk } from "../../../../src/lib/task.ts";
import type { Arena } from "../../../../src/wasm/arena.ts";

export interface Reply {
  /** 0 or a negative errno. */
  readonly error: number;
  readonly body: Uint8Array;
}

interface Request {
  readonly unique: number;
  readonly opcode: number;
  readonly nodeid: number;
  readonly uid: number;
  /** Copied when the node reads the request, as the kernel copies a WRITE's pages. */
  readonly body: () => Uint8Array;
}

export interface ConnectionOptions {
  readonly arena: Arena;
  readonly clock: Clock;
  /** How long a thread of the kernel takes to run once it is woken. */
  readonly delay_ms: () => number;
  /** How long a thread of the node waits for a CPU, or until it has started. */
  readonly starved_ms: () => number;
  /** Into the volume thread. */
  readonly deliver: (cb: () => void) => void;
  /** For a history's lines. */
  readonly log: (text: string) => void;
}

/** What a history's line says of a request. */
function detail(opcode: number, body: Uint8Array): string {
  if (opcode === F.FUSE_READ) return `at ${F.FuseReadIn.from(body).offset}`;
  if (opcode !== F.FUSE_WRITE) return "";
  const q = F.FuseWriteIn.from(body);
  const words = new Uint32Array(body.slice(F.FuseWriteIn.size).buffer);
  const values = [...words.filter((_, i) => i % 256 === 0)];
  return `at ${q.offset} flags ${q.write_flags} values ${values}`;
}

/** A request's or reply's struct that has memory of its own, as the bytes that are sent. */
export const bytesOf = (view: { readonly dv: DataView }): Uint8Array => new Uint8Array(view.dv.buffer);

export class FuseConnection implements FuseChannel {
  readonly options: ConnectionOptions;
  readonly #pending: Request[] = [];
  readonly #answers = new Map<number, Callback<Reply>>();
  #readable: (() => void) | null = null;
  #next = 2;
  #gone = false;
  requests = 0;

  constructor(options: ConnectionOptions) {
    this.options = options;
  }

  get gone(): boolean {
    return this.#gone;
  }

  get outstanding(): number {
    return this.#answers.size;
  }

  #put(opcode: number, nodeid: number, uid: number, body: () => Uint8Array): number {
    const unique = this.#next;
    this.#next += 2;
    this.requests++;
    this.#pending.push({ unique, opcode, nodeid, uid, body });
    this.#wake();
    return unique;
  }

  #wake(): void {
    const cb = this.#readable;
    this.#readable = null;
    if (cb !== null) this.options.clock.after(this.options.delay_ms(), () => this.options.deliver(cb));
  }

  /** Waits for the reply. Never answered once the connection is gone. */
  ask(opcode: number, nodeid: number, body: Uint8Array | (() => Uint8Array), uid = 0): Thunk<Reply> {
    return (cb) => {
      if (this.#gone) return;
      this.#answers.set(this.#put(opcode, nodeid, uid, typeof body === "function" ? body : () => body), cb);
    };
  }

  /** As `ask`, of a program that a signal may reach meanwhile (queue_interrupt). */
  askInterruptibly(opcode: number, nodeid: number, body: Uint8Array): { reply: Thunk<Reply>; interrupt: () => void } {
    let unique = 0;
    const reply: Thunk<Reply> = (cb) => {
      if (this.#gone) return;
      unique = this.#put(opcode, nodeid, 0, () => body);
      this.#answers.set(unique, cb);
    };
    const interrupt = (): void => {
      if (this.#gone || !this.#answers.has(unique)) return;
      const q = F.FuseInterruptIn.alloc();
      q.unique = unique;
      this.#put(F.FUSE_INTERRUPT, 0, 0, () => bytesOf(q));
    };
    return { reply, interrupt };
  }

  forget(nodeid: number, nlookup: number): void {
    const body = F.FuseForgetIn.alloc();
    body.nlookup = nlookup;
    if (!this.#gone) this.#put(F.FUSE_FORGET, nodeid, 0, () => new Uint8Array(body.dv.buffer));
  }

  // The node's side -----------------------------------------------------------------------------------------------------
  read(addr: number, len: number): number {
    const r = this.#pending.shift();
    if (r === undefined) return this.#gone ? -Errno.ENODEV : -Errno.EAGAIN;
    const body = r.body();
    this.options.log(`${r.unique} ${F.FUSE_OPCODE_NAMES.get(r.opcode)} ${r.nodeid} ${detail(r.opcode, body)}`);
    const total = F.FuseInHeader.size + body.length;
    if (total > len) throw new Error(`a request of ${total} bytes`);
    const { u8, dv } = this.options.arena;
    const head = F.FuseInHeader.at(dv as DataView, addr);
    u8.fill(0, addr, addr + F.FuseInHeader.size);
    head.len = total;
    head.opcode = r.opcode;
    head.unique = r.unique;
    head.nodeid = r.nodeid;
    head.uid = r.uid;
    head.pid = 1;
    u8.set(body, addr + F.FuseInHeader.size);
    return total;
  }

  write(addr: number, len: number): number {
    const { u8, dv } = this.options.arena;
    const { unique, error } = F.FuseOutHeader.at(dv as DataView, addr);
    const cb = this.#answers.get(unique);
    if (cb === undefined) return -Errno.ENOENT;
    this.#answers.delete(unique);
    const body = u8.slice(addr + F.FuseOutHeader.size, addr + len);
    this.options.log(`${unique} answered ${error}`);
    this.options.clock.after(this.options.delay_ms(), () => cb(null, { error, body }));
    return len;
  }

  replyAndRead(reply_addr: number, reply_len: number, addr: number, len: number): number {
    const rc = this.write(reply_addr, reply_len);
    return rc < 0 ? REPLY_FAILED + rc : this.read(addr, len);
  }

  whenReadable(cb: () => void): void {
    this.#readable = cb;
    if (this.#pending.length > 0 || this.#gone) this.#wake();
  }

  /** Unmounted, or its node has died. */
  close(): void {
    this.#gone = true;
    this.#wake();
  }
}

/** A thread of the node that is inside the kernel while its notification is. */
export class NotifierInKernel implements NotifierThread {
  readonly #o: ConnectionOptions;
  readonly #notify: (message: Uint8Array) => Thunk<number>;
  readonly #wake: () => void;
  #result: number | undefined;
  #in_kernel = false;

  constructor(o: ConnectionOptions, notify: (message: Uint8Array) => Thunk<number>, wake: () => void) {
    this.#o = o;
    this.#notify = notify;
    this.#wake = wake;
  }

  send(message: Uint8Array): void {
    const { clock, delay_ms, starved_ms, deliver } = this.#o;
    clock.after(delay_ms() + starved_ms(), () => {
      this.#in_kernel = true;
      this.#notify(message)((err, res) => {
        if (err) throw err;
        this.#in_kernel = false;
        clock.after(delay_ms(), () =>
          deliver(() => {
            this.#result = res;
            this.#wake();
          }),
        );
      });
    });
  }

  sleepsInKernel(): boolean {
    return this.#in_kernel;
  }

  finished(): number | undefined {
    const res = this.#result;
    this.#result = undefined;
    return res;
  }

  stop(): void {}
}
