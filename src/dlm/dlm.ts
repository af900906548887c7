/**
 * One lock domain on one node (struct dlm_ctxt): its state, and how its work runs. What the kernel does in threads that sleep are tasks
 * here (lib/task.ts); each runs without interruption to its next wait, so there are no locks. Everything enters through `enter` and
 * `exit`: when the outermost event ends, tasks that were woken run, then the queues of dirty resources are looked at and ASTs go out
 * (dlm_thread). The rules of the protocol are in lock.ts, convert.ts, unlock.ts, ast.ts, master.ts, migrate.ts, recovery.ts, domain.ts.
 */
import { type NodeNum, O2NM_MAX_NODES } from "../cluster/node.ts";
import type { View } from "../format/struct.ts";
import { DLM_STATUS } from "../format/wire/dlm_constants.ts";
import { DLM_MSG, type DlmMessage } from "../format/wire/dlm_messages.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import { spawn, type Task, type Thunk, wait } from "../lib/task.ts";
import { type DlmLock, type DlmLockRes, LockresHash, OWNER_UNKNOWN, RES_BUSY, RES_REDIRTY } from "./lockres.ts";
import type { Mle } from "./mle.ts";
import type { DlmNode } from "./node.ts";
import { NodeMap } from "./node_map.ts";
import { dirtyLockres, runThread, threadHasWork } from "./thread.ts";
import { Waiters } from "./waiters.ts";

export const DLM_CTXT_NEW = 0;
export const DLM_CTXT_JOINED = 1;
export const DLM_CTXT_IN_SHUTDOWN = 2;
export const DLM_CTXT_LEAVING = 3;
export const CTXT_NAMES = ["NEW", "JOINED", "IN_SHUTDOWN", "LEAVING"] as const;

export const RECO_ACTIVE = 1;
export const RECO_FINALIZE = 2;

/** dlm_reco_node_data.state. */
export type RecoNodeState = "dead" | "init" | "requesting" | "requested" | "receiving" | "done";

export interface ProtocolVersion {
  readonly major: number;
  minor: number;
}

export const NO_NODE = O2NM_MAX_NODES;

export interface Answer {
  readonly err: number;
  readonly status: number;
}

/** Not our bug: a node went away under the message (dlm_is_host_down). */
const HOST_DOWN: ReadonlySet<number> = new Set(
  // EBADF EINVAL EPIPE ENOPROTOOPT ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOTCONN ESHUTDOWN ETIMEDOUT ECONNREFUSED
  // EHOSTDOWN EHOSTUNREACH
  [9, 22, 32, 92, 100, 101, 102, 103, 104, 107, 108, 110, 111, 112, 113],
);
export const isHostDown = (err: number): boolean => HOST_DOWN.has(-err);
export const ENOPROTOOPT = 92;
export const ENOTCONN = 107;
export const EFAULT = 14;

/** dlm_err_to_dlm_status. */
export function errToStatus(err: number): number {
  if (err === -Errno.ENOMEM) return DLM_STATUS.SYSERR;
  if (err === -Errno.EINVAL) return DLM_STATUS.BADPARAM;
  if (isHostDown(err)) return DLM_STATUS.NOLOCKMGR;
  if (err === -Errno.ENAMETOOLONG) return DLM_STATUS.IVBUFLEN;
  return DLM_STATUS.BADARGS;
}

export type Handler<F> = (m: View<F>, payload: Uint8Array, from: NodeNum) => number;

export class Dlm {
  readonly node: DlmNode;
  readonly name: string;
  readonly key: number;
  readonly node_num: NodeNum;
  state = DLM_CTXT_NEW;
  readonly fs_proto: ProtocolVersion;
  readonly dlm_proto: ProtocolVersion;

  readonly live_nodes_map = new NodeMap();
  readonly domain_map = new NodeMap();
  readonly exit_domain_map = new NodeMap();
  readonly recovery_map = new NodeMap();
  joining_node: NodeNum = OWNER_UNKNOWN;
  /** No recovery any more: all resources are gone, and the domain is being left. */
  migrate_done = false;
  /** The domain is left, or this node is to die: nothing of it runs any more. */
  gone = false;

  readonly lockres = new LockresHash();
  readonly mles = new Map<string, Mle>();
  /** Those that hear of nodes that join, leave or die. */
  readonly mle_hb_events = new Set<Mle>();
  readonly dirty: DlmLockRes[] = [];
  readonly pending_asts: DlmLock[] = [];
  readonly pending_basts: DlmLock[] = [];
  /** Locks of other nodes that were converted downwards, and whose nodes have not said yet that they have heard it: one for each AST. */
  readonly unheard = new Map<DlmLockRes, DlmLock[]>();
  /** Resources that others are giving to this node, and whose they were, until all have been told. */
  readonly incoming = new Map<DlmLockRes, NodeNum>();
  /** ASTs and BASTs of other masters for us, in the order in which they came. */
  readonly callbacks: (() => void)[] = [];
  purge_head: DlmLockRes | null = null;
  purge_tail: DlmLockRes | null = null;
  purge_count = 0;
  /** The purge list is to be looked at in the event that runs. */
  purge_due = false;
  /** DEREF_LOCKRES messages that were not answered yet. */
  derefs_in_flight = 0;
  cookie_seq = 1;
  mig_cookie = 1;
  /** Locks of ours that programs hold. */
  local_locks = 0;

  readonly reco = {
    resources: new Set<DlmLockRes>(),
    node_data: new Map<NodeNum, RecoNodeState>(),
    new_master: NO_NODE,
    dead_node: NO_NODE,
    state: 0,
    event: new Waiters(),
    /** Resources without a known master, and the old master that died in the middle of their migration. */
    unknown: new Map<DlmLockRes, NodeNum>(),
    /** Resources that were given from one node to another, and the old master, which hears it last, until it has left or is recovered. */
    given: new Map<DlmLockRes, NodeNum>(),
    /** Whose they were: what the last recovery gave to its master, as its first FINALIZE_RECO told us. */
    origin: new Map<DlmLockRes, NodeNum>(),
  };

  readonly join_events = new Waiters();
  readonly reco_thread_wq = new Waiters();
  readonly migration_wq = new Waiters();
  readonly ast_wq = new Waiters();
  readonly purge_wq = new Waiters();

  /** Hears of members that died, before anything of theirs is granted anew (dlm_fire_domain_eviction_callbacks). */
  onEviction: (node: NodeNum) => void = () => {};

  /** Who did not let us join, and why. */
  join_refusal = "";

  /** Messages that were sent, by type. */
  readonly #sent = new Map<number, number>();
  readonly #runq: (() => void)[] = [];
  #depth = 0;
  readonly #work: (() => Task<void>)[] = [];
  #working = false;
  readonly #work_idle = new Waiters();
  readonly #ends: (() => void)[] = [];
  readonly #timers = new Set<() => void>();
  purge_timer: (() => void) | null = null;
  readonly #pumpAfter = (): void => {
    this.enter();
    this.exit();
  };

  constructor(node: DlmNode, name: string, key: number, fs_proto: ProtocolVersion, dlm_proto: ProtocolVersion) {
    this.node = node;
    this.name = name;
    this.key = key;
    this.node_num = node.node_num;
    this.fs_proto = { ...fs_proto };
    this.dlm_proto = { ...dlm_proto };
  }

  /** dlm_domain_fully_joined. */
  get fully_joined(): boolean {
    return this.state === DLM_CTXT_JOINED || this.state === DLM_CTXT_IN_SHUTDOWN;
  }

  /** Whether a master must be asked for among others, or recovered first. */
  get alone(): boolean {
    const others = this.domain_map.next(this.domain_map.first + 1);
    return others === O2NM_MAX_NODES && this.recovery_map.empty && this.mles.size === 0;
  }

  /** In units of 100 ms, for last_used. */
  now(): number {
    return Math.floor(this.node.clock.monotonic_ms() / 100) | 0;
  }

  // How work runs ----------------------------------------------------------------------------------------------------

  enter(): void {
    this.#depth++;
  }

  exit(): void {
    if (--this.#depth > 0) return;
    this.#depth = 1;
    while (!this.gone) {
      if (this.#runq.length > 0) {
        // Taken by index: what runs may wake more.
        for (let i = 0; i < this.#runq.length && !this.gone; i++) this.#runq[i]!();
        this.#runq.length = 0;
      } else if (threadHasWork(this)) runThread(this);
      else break;
    }
    this.#depth = 0;
  }

  wake(waiters: Waiters): void {
    if (waiters.length > 0) for (const cb of waiters.take()) this.#runq.push(cb);
  }

  /** Something about `res` has changed that others wait for. */
  wakeRes(res: DlmLockRes): void {
    if (res.wq !== null) this.wake(res.wq);
    if (res.state & RES_REDIRTY && !(res.state & RES_BUSY)) {
      res.state &= ~RES_REDIRTY;
      dirtyLockres(this, res);
    }
  }

  /** Runs a task of the domain; what it throws is a broken invariant. */
  spawn<T>(task: Task<T>, done: (value: T) => void = () => {}): void {
    this.enter();
    spawn(task, (err, value) => {
      if (err) this.die(err);
      else if (!this.gone) done(value as T);
    });
    this.exit();
  }

  /** Waits until `waiters` are woken, or for `timeout_ms`. */
  *sleepOn(waiters: Waiters, timeout_ms?: number): Task<void> {
    yield* wait<void>((cb) => {
      let off: (() => void) | undefined;
      const remove = waiters.add(() => {
        off?.();
        cb(null);
      });
      if (timeout_ms !== undefined)
        off = this.after(timeout_ms, () => {
          remove();
          cb(null);
        });
    });
  }

  *sleep(ms: number): Task<void> {
    yield* wait<void>((cb) => void this.after(ms, () => cb(null)));
  }

  /** A timer that runs as an event of the domain, and dies with it. */
  after(ms: number, cb: () => void): () => void {
    const off = this.node.clock.after(ms, () => {
      this.#timers.delete(cancel);
      if (this.gone) return;
      this.enter();
      cb();
      this.exit();
    });
    const cancel = (): void => {
      this.#timers.delete(cancel);
      off();
    };
    this.#timers.add(cancel);
    return cancel;
  }

  /** Work that sends messages of its own and so cannot be done in a handler; one item after the other, as in the kernel's dlm_worker. */
  queueWork(work: () => Task<void>): void {
    this.#work.push(work);
    if (this.#working) return;
    this.#working = true;
    this.#runq.push(() =>
      this.spawn(this.#worker(), () => {
        this.#working = false;
        this.wake(this.#work_idle);
      }),
    );
  }

  /** Work that need not wait for other work. */
  background(work: () => Task<void>): void {
    this.#runq.push(() => this.spawn(work()));
  }

  *#worker(): Task<void> {
    for (let work = this.#work.shift(); work !== undefined; work = this.#work.shift()) yield* work();
  }

  /** Waits until the work that was queued is done (flush_workqueue), not that in the background. */
  *flushQueue(): Task<void> {
    while (this.#working) yield* this.sleepOn(this.#work_idle);
  }

  // Messages ---------------------------------------------------------------------------------------------------------

  send(msg: DlmMessage, payload: Uint8Array, to: NodeNum, done: (err: number, status: number) => void): void {
    assert(to !== this.node_num && to < O2NM_MAX_NODES, `${msg.name} to node ${to}`);
    if (mlogOn(ML.DLM)) mlog(ML.DLM, `${this.name}: ${msg.name} to node ${to}`);
    this.#sent.set(msg.type, (this.#sent.get(msg.type) ?? 0) + 1);
    this.node.net.send(msg.type, msg.mod ? this.node.mod_key : this.key, payload, to, (err, status) => {
      if (this.gone) return;
      this.enter();
      // An outcast's answer comes after all that it had was cleared: a mastery that it says it has would be nobody's (see `register`).
      if (msg.mod || this.domain_map.has(to)) done(err, status);
      else done(-ENOTCONN, 0);
      this.exit();
    });
  }

  /** How many messages of each type were sent. */
  sentByName(): Record<string, number> {
    const types = Object.values(DLM_MSG).filter((msg) => this.#sent.has(msg.type));
    return Object.fromEntries(types.map((msg) => [msg.name, this.#sent.get(msg.type)!]));
  }

  /** Sends and waits for the answer. */
  call(msg: DlmMessage, payload: Uint8Array, to: NodeNum): Thunk<Answer> {
    return (cb) => this.send(msg, payload, to, (err, status) => cb(null, { err, status }));
  }

  /** Until all that was registered is found by messages, as an event of the domain. */
  *registered(): Task<void> {
    yield* wait<void>((cb) =>
      this.node.net.whenRegistered(() => {
        if (this.gone) return;
        this.enter();
        cb(null);
        this.exit();
      }),
    );
  }

  /**
   * Registers what answers a message. A short payload is read as if zeros followed. `to_outcast` is what a node hears that is no member: one that
   * was stopped for longer than the dead time and goes on. Others have told us of its death, and what we had of it is cleared, but our heartbeat has not
   * ended its connection yet. What it says would stand here for ever, as nobody clears it a second time.
   */
  register<F>(msg: DlmMessage<F>, to_outcast: number, handler: Handler<F>): void {
    const size = msg.struct.size;
    this.#ends.push(
      this.node.net.register(msg.type, this.key, msg.max_len, (payload, from) => {
        if (this.gone) return -ENOPROTOOPT;
        if (!this.domain_map.has(from)) {
          if (mlogOn(ML.DLM))
            mlog(ML.DLM, `${this.name}: ${msg.name} from node ${from}, which is no member: ${to_outcast}`);
          return to_outcast;
        }
        if (payload.length < size) {
          const whole = new Uint8Array(size);
          whole.set(payload);
          payload = whole;
        }
        this.#depth++;
        const status = handler(msg.struct.from(payload), payload, from);
        this.#depth--;
        if (mlogOn(ML.DLM)) mlog(ML.DLM, `${this.name}: ${msg.name} from node ${from}: ${status}`);
        // ASTs and the like go behind the status.
        if (this.#depth === 0 && (this.#runq.length > 0 || threadHasWork(this)))
          return { status, after: this.#pumpAfter };
        return status;
      }),
    );
  }

  atEnd(end: () => void): void {
    this.#ends.push(end);
  }

  /** Nothing of the domain runs any more. */
  shutdown(): void {
    if (this.gone) return;
    this.gone = true;
    for (const end of this.#ends.splice(0)) end();
    for (const cancel of [...this.#timers]) cancel();
    this.node.forget(this);
  }

  /** A state that must not be: the kernel would BUG. The node must stop, so that others can recover what it held. */
  die(reason: unknown): void {
    if (this.gone) return;
    mlog(ML.ERROR, `${this.name}: ${reason instanceof Error ? reason.message : String(reason)}`);
    this.shutdown();
    this.node.fatal(reason instanceof Error ? reason : new Error(String(reason)));
  }
}

const latin1 = new TextDecoder("latin1");

/** A name of `len` bytes at `off`. TextDecoder's latin1 is windows-1252, so bytes from 0x80 on go one by one. */
export function nameAt(payload: Uint8Array, off: number, len: number): string {
  const bytes = payload.subarray(off, off + len);
  return bytes.every((b) => b < 0x80) ? latin1.decode(bytes) : String.fromCharCode(...bytes);
}

export function putName(bytes: Uint8Array, name: string): void {
  for (let i = 0; i < name.length; i++) bytes[i] = name.charCodeAt(i);
}
