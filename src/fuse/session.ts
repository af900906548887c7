/**
 * One connection to the kernel: reads requests, runs each as far as it goes, answers. No request waits for another one; one that
 * cannot go on leaves a closure behind and is answered when the closure is called.
 *
 * A request that is answered before its handler returns (its blocks and locks were cached) costs one system call for the
 * answer and the next request together. Everything in the fields `opcode` to `end` is good only until the handler
 * returns or lets something run: a handler takes what it needs out of the request first.
 *
 * This is where an FsError becomes -errno, and where it is logged, once.
 */

import { isDir, isReg, S_IFMT } from "../format/disk/index.ts";
import {
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_NOTIFY_INVAL_INODE,
  FUSE_OPCODE_NAMES,
  FuseInHeader,
  FuseNotifyInvalInodeOut,
  FuseOutHeader,
} from "../format/fuse/index.ts";
import { Errno, errnoName } from "../lib/errno.ts";
import { AssertionFailure, assert, Corruption, FsError } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import type { Attr, InGroup } from "../volume/dir/attr.ts";
import { iget } from "../volume/dir/iget.ts";
import type { Inode } from "../volume/inode.ts";
import type { Op } from "../volume/op.ts";
import type { Osb } from "../volume/osb.ts";
import { Ahead } from "./ahead.ts";
import { CachedNames } from "./cached_names.ts";
import { type FuseChannel, REPLY_FAILED, type Turns } from "./channel.ts";
import { type CachePolicy, openFlags } from "./flags.ts";
import { Handles, mayWrite } from "./handles.ts";
import { HeldRanges } from "./held_ranges.ts";
import { KernelPages } from "./kernel_pages.ts";
import { opTable } from "./op_table.ts";
import { PendingWrites } from "./pending_writes.ts";
import { HELD, type Timeouts } from "./reply.ts";
import { REQUEST_BYTES, requestOf, type Slot, Slots } from "./slots.ts";
import type { ToldNames } from "./told_names.ts";
import type { FileOps } from "./vfs_face.ts";

const OUT = FuseOutHeader.size;
/** Replies without file data are built here: the longest is an xattr, a list of them, or a directory's entries. */
const SCRATCH_BYTES = OUT + (1 << 20) + 4096;
/** Requests of one turn, so that the disk's completions get their share. */
const MAX_BATCH = 64;
const ROOT_ID = 1;
const ECONNABORTED = 103;

export interface SessionOptions {
  readonly policy: CachePolicy;
  /** The newest 7.N to speak. */
  readonly fuse_minor?: number;
  /** Slots with 1 MiB, and with 64 KiB. */
  readonly large_slots?: number;
  readonly small_slots?: number;
  /** Supplementary groups of a thread that waits for an answer. */
  readonly groups_of?: (pid: number) => readonly number[];
}

export class Session {
  readonly osb: Osb;
  readonly vfs: FileOps;
  readonly policy: CachePolicy;
  readonly fuse_minor: number;
  readonly handles = new Handles();
  readonly slots: Slots;
  readonly u8: Uint8Array<ArrayBufferLike>;
  readonly dv: DataView<ArrayBufferLike>;

  // The request that is being handled.
  opcode = 0;
  unique = 0;
  nodeid = 0;
  uid = 0;
  gid = 0;
  pid = 0;
  /** Arena addresses of what follows the header, and of the request's end. */
  body = 0;
  end = 0;

  /** What INIT agreed on. */
  minor = 0;
  /** Names that the kernel has, where only they can make it forget an inode. */
  told_names: ToldNames | null = null;
  init_flags = 0;
  init_flags2 = 0;
  initialized = false;
  /** Called when INIT was answered. */
  onInit: () => void = () => {};
  /** Called once when the kernel has let go of the mount, and nothing is parked any more. */
  onUnmounted: () => void = () => {};

  readonly #channel: FuseChannel;
  readonly #loop: Turns;
  readonly #in: FuseInHeader;
  readonly #out: FuseOutHeader;
  readonly #scratch: number;
  readonly #groups_of: (pid: number) => readonly number[];
  #receive: Slot;
  /** The receive slot went with a request that is parked. */
  #receive_given = false;
  #armed = false;
  #readable = true;
  #dispatching = false;
  /** The answer to the request in hand, to be written together with the next read. */
  #pending_at = 0;
  #pending_len = 0;
  /** What the kernel learns by the answer: forgotten again if it does not get it. */
  #told_ino = 0;
  #told_fh = 0;
  #told_many: readonly number[] | null = null;
  #ended = false;
  #reported = false;

  // Figures.
  requests = 0;
  /** Requests read and not answered yet. */
  outstanding = 0;
  readonly counts = new Uint32Array(64);
  /** Types (S_IFMT) of the inodes that the kernel was told of and that are no regular files; on clustered mounts only. */
  readonly types = new Map<number, number>();
  /** How to give up requests that a signal may end, by their number. */
  readonly interrupts = new Map<number, () => void>();
  /** Requests that hold pages in the kernel until they are answered; on clustered mounts only. */
  readonly held = new HeldRanges();
  readonly pages = new KernelPages();
  readonly writes = new PendingWrites();
  /** How long the kernel may keep what it is told; of names, see `timeoutsIn`. */
  timeouts: Timeouts = HELD;
  /** On clustered mounts only. */
  readonly names: CachedNames;
  /** Null on mounts without other nodes: there it is the disk alone that is waited for. */
  readonly ahead: Ahead | null;

  constructor(osb: Osb, vfs: FileOps, loop: Turns, channel: FuseChannel, options: SessionOptions) {
    this.osb = osb;
    this.vfs = vfs;
    this.#loop = loop;
    this.#channel = channel;
    this.policy = options.policy;
    this.#groups_of = options.groups_of ?? (() => []);
    this.fuse_minor = options.fuse_minor ?? FUSE_KERNEL_MINOR_VERSION;
    this.names = new CachedNames(() => osb.clock.monotonic_ms(), options.policy.names_cool_ms);
    this.ahead = options.policy.clustered ? new Ahead((ino, done) => this.#askAhead(ino, done)) : null;
    this.u8 = osb.arena.u8;
    this.dv = osb.arena.dv;
    this.slots = new Slots(osb.arena, options.large_slots ?? 48, options.small_slots ?? 192);
    this.#scratch = osb.arena.alloc(SCRATCH_BYTES, 4096);
    this.#in = FuseInHeader.at(this.dv as DataView, 0);
    this.#out = FuseOutHeader.at(this.dv as DataView, 0);
    this.#receive = this.slots.takeReceive();
    loop.addWork(() => this.#turn());
    loop.addWork(() => {
      osb.turn();
      return false;
    });
    osb.wakeLoop = () => loop.wake();
  }

  // Reading -----------------------------------------------------------------------------------------------------------
  /** Serves what is there; true when there may be more. */
  #turn(): boolean {
    if (this.slots.waiting > 0) this.slots.runWaiting();
    if (this.#ended) {
      this.#reportEnd();
      return false;
    }
    if (!this.#readable) return false;
    let got = this.#read();
    for (let n = 1; got > 0; n++) {
      this.#dispatch(got);
      if (n >= MAX_BATCH) {
        this.#flushPending();
        this.#renewReceive();
        return true;
      }
      got = this.#next();
    }
    switch (-got) {
      case Errno.EAGAIN:
        this.#arm();
        return false;
      // Taken back before we read it, or a signal: there may be more.
      case Errno.ENOENT:
      case Errno.EINTR:
        return true;
      default:
        // ENODEV: unmounted. ECONNABORTED: aborted through /sys/fs/fuse. Either way nobody asks any more.
        if (-got !== Errno.ENODEV) mlog(ML.NOTICE, `the connection to the kernel ended with ${errnoName(-got)}`);
        this.#ended = true;
        this.#reportEnd();
        return false;
    }
  }

  #read(): number {
    return this.#channel.read(requestOf(this.#receive), REQUEST_BYTES);
  }

  /** Another slot to receive in, when the last one went with a request: what is in it must not be read over. */
  #renewReceive(): void {
    if (!this.#receive_given) return;
    this.#receive_given = false;
    this.#receive = this.slots.takeReceive();
  }

  /** Writes the answer of the request just handled, if there is one, and reads the next request. */
  #next(): number {
    if (this.#receive_given) this.#flushPending();
    this.#renewReceive();
    const len = this.#pending_len;
    if (len === 0) return this.#read();
    this.#pending_len = 0;
    const got = this.#channel.replyAndRead(this.#pending_at, len, requestOf(this.#receive), REQUEST_BYTES);
    if (got > REPLY_FAILED) {
      this.#replyTaken();
      return got;
    }
    this.#replyFailed(REPLY_FAILED - got);
    return this.#read();
  }

  #arm(): void {
    this.#readable = false;
    if (this.#armed) return;
    this.#armed = true;
    this.#channel.whenReadable(() => {
      this.#armed = false;
      this.#readable = true;
      this.#loop.wake();
    });
  }

  #reportEnd(): void {
    if (this.#reported || this.outstanding > 0) return;
    this.#reported = true;
    this.onUnmounted();
  }

  get ended(): boolean {
    return this.#ended;
  }

  // Dispatch ----------------------------------------------------------------------------------------------------------
  #dispatch(got: number): void {
    const at = requestOf(this.#receive);
    const head = this.#in.seek(at);
    this.requests++;
    this.opcode = head.opcode;
    this.unique = head.unique;
    this.nodeid = head.nodeid;
    this.uid = head.uid;
    this.gid = head.gid;
    this.pid = head.pid;
    this.body = at + FuseInHeader.size;
    this.end = at + head.len;
    if (head.len !== got) {
      mlog(ML.ERROR, `a FUSE request of ${head.len} bytes came as ${got}`);
      this.end = at + Math.min(head.len, got);
    }
    const row = opTable[this.opcode];
    if (this.opcode < this.counts.length) this.counts[this.opcode]!++;
    if (mlogOn(ML.FUSE))
      mlog(
        ML.FUSE,
        `${this.unique} ${FUSE_OPCODE_NAMES.get(this.opcode) ?? this.opcode} node ${this.nodeid} pid ${this.pid}`,
      );
    this.#dispatching = true;
    this.outstanding++;
    const { unique } = this;
    try {
      if (row === undefined) this.fail(unique, Errno.ENOSYS);
      else if (this.end - this.body < row.in_bytes) this.fail(unique, Errno.EINVAL);
      else if (!this.initialized && row.name !== "INIT") this.fail(unique, Errno.EIO);
      else row.run(this);
    } catch (err) {
      this.error(unique, err);
    }
    this.#dispatching = false;
  }

  /** The handler takes the receive slot along (a WRITE whose payload is in it); it gives it back to `slots`. */
  keepReceiveSlot(): Slot {
    assert(!this.#receive_given, "the receive slot is given away twice");
    this.#receive_given = true;
    return this.#receive;
  }

  /** The request in hand has an answer that waits for the next read, or needs none. */
  get receiveSlot(): Slot {
    return this.#receive;
  }

  /** For requests that get no reply (FORGET, INTERRUPT). */
  noReply(): void {
    this.outstanding--;
  }

  // Running -----------------------------------------------------------------------------------------------------------
  /** The groups of who made the request in hand: it says only one of them. */
  callersGroups(): InGroup {
    const { uid, gid, pid } = this;
    return (group) => uid === 0 || group === gid || this.#groups_of(pid).includes(group);
  }

  /** Runs an operation and hands its value on; a failure is the reply. */
  run<T>(fn: (op: Op) => T, ok: (value: T, unique: number) => void): void {
    const { unique } = this;
    this.osb.exec(fn, (err, value) => {
      if (err) this.error(unique, err);
      else ok(value as T, unique);
    });
  }

  /**
   * The kernel will count one lookup of the inode that the operation's answer is about. Counted while its lock is held:
   * whoever gives the lock up right afterwards must know that the kernel has something of it. `name` in `parent` is the name it
   * is told of.
   */
  tell(op: Op, attr: Attr, parent?: number, name?: Uint8Array): void {
    op.onSuccess(() => {
      this.osb.inodes.get(attr.ino).nlookup++;
      if (parent !== undefined) this.told_names?.add(parent, name!, attr.ino);
      if (!this.policy.clustered) return;
      if (isReg(attr.mode)) this.types.delete(attr.ino);
      else this.types.set(attr.ino, attr.mode & S_IFMT);
      if (isDir(attr.mode) && parent !== undefined) this.names.heard(attr.ino, parent);
    });
    if (parent !== undefined) this.tellName(op, parent);
  }

  /** The answer is a name in `parent`, or that there is none. */
  tellName(op: Op, parent: number): void {
    if (this.policy.clustered) op.onSuccess(() => this.names.told(parent));
  }

  /** How long the kernel may keep a name in `parent`. */
  timeoutsIn(parent: number): Timeouts {
    return this.policy.clustered && this.timeouts.entry_s > 0 ? this.names.timeouts(parent) : this.timeouts;
  }

  #askAhead(ino: number, done: () => void): void {
    const { osb } = this;
    if (osb.closing || this.#ended) {
      done();
      return;
    }
    // An error is for who asks for it.
    osb.execInBackground((op) => void iget(op, ino), done);
  }

  /** The kernel has forgotten `n` lookups. */
  forget(ino: number, n: number): void {
    this.vfs.forget(this.osb, ino, n);
    const inode = this.osb.inodes.peek(ino);
    if (inode !== undefined && inode.nlookup > 0) {
      // It was dropped while an answer about it is on its way. Before Linux 6.14 (fuse_conn.evict_ctr) the kernel takes that for the newest that it has had.
      this.osb.kernel_caches?.doubtAttributes(inode);
      return;
    }
    if (inode !== undefined) this.osb.inodes.unused(inode);
    this.pages.forget(ino);
    if (this.types.delete(ino)) {
      this.names.forgotten(ino);
      this.ahead?.forgotten(ino);
    }
    this.told_names?.forget(ino);
  }

  ino(nodeid: number): number {
    return nodeid === ROOT_ID ? this.osb.geo.root_blkno : nodeid;
  }

  nodeidOf(ino: number): number {
    return ino === this.osb.geo.root_blkno ? ROOT_ID : ino;
  }

  inode(nodeid: number): Inode {
    return this.osb.inodes.get(this.ino(nodeid));
  }

  /** An open file with these flags may be written through a mapping, without asking: its pages need the lock at EX. */
  writesUnderEx(flags: number): boolean {
    return this.policy.clustered && mayWrite(flags);
  }

  openFlags(flags: number): number {
    return openFlags(this.policy, flags);
  }

  /** The bytes from `at` up to the next NUL: a copy. */
  nameAt(at: number): Uint8Array {
    const { u8 } = this;
    let to = at;
    while (to < this.end && u8[to] !== 0) to++;
    return u8.slice(at, to);
  }

  // Replies -----------------------------------------------------------------------------------------------------------
  /**
   * The kernel asks for the inode's attributes again: before the answer to a request upon which it would not do so by itself. Waits for nothing,
   * as such a request keeps the inode there and no pages are dropped.
   */
  attributesChanged(nodeid: number): void {
    const len = OUT + FuseNotifyInvalInodeOut.size;
    const body = FuseNotifyInvalInodeOut.at(this.dv as DataView, this.bodyOut(FuseNotifyInvalInodeOut.size));
    body.ino = nodeid;
    body.off_ = -1;
    const head = this.#out.seek(this.#scratch);
    head.len = len;
    head.error = FUSE_NOTIFY_INVAL_INODE;
    head.unique = 0;
    this.#channel.write(this.#scratch, len);
  }

  /** Where the body of a reply is built, the first `zeroed` bytes of it zero; then `reply`, before anything else runs. */
  bodyOut(zeroed: number): number {
    // The answer of the request in hand may lie there, when a parked one is answered on the way.
    if (this.#pending_len > 0) this.#flushPending();
    const at = this.#scratch + OUT;
    this.u8.fill(0, at, at + zeroed);
    return at;
  }

  /** Room behind bodyOut. */
  static readonly body_bytes = SCRATCH_BYTES - OUT;

  /** Answers with the first `len` bytes of bodyOut. */
  reply(unique: number, len: number): void {
    this.#send(unique, 0, this.#scratch, OUT + len);
  }

  /** As reply; the kernel will count one lookup of `ino`, and has `fh` open unless that is 0. */
  replyTelling(unique: number, len: number, ino: number, fh: number): void {
    this.#told_ino = ino;
    this.#told_fh = fh;
    this.#send(unique, 0, this.#scratch, OUT + len);
  }

  /** As reply; the kernel will count one lookup of each. */
  replyTellingMany(unique: number, len: number, inos: readonly number[]): void {
    this.#told_many = inos;
    this.#send(unique, 0, this.#scratch, OUT + len);
  }

  /** Answers with `len` bytes of data in a slot's payload; the 16 bytes before it are overwritten. */
  replyPayload(unique: number, payload: number, len: number): void {
    if (this.#pending_len > 0) this.#flushPending();
    this.#send(unique, 0, payload - OUT, OUT + len);
  }

  replyEmpty(unique: number): void {
    if (this.#pending_len > 0) this.#flushPending();
    this.#send(unique, 0, this.#scratch, OUT);
  }

  /** Answers -errno. */
  fail(unique: number, errno: number): void {
    if (this.#pending_len > 0) this.#flushPending();
    this.#send(unique, -errno, this.#scratch, OUT);
  }

  /** Answers what went wrong, and logs what ought to be seen. */
  error(unique: number, err: unknown): void {
    if (err instanceof FsError) {
      if (err instanceof Corruption) this.osb.onCorruption(err);
      if (err.errno === Errno.EIO || err instanceof Corruption) mlog(ML.ERROR, `request ${unique}: ${err.message}`);
      else if (mlogOn(ML.FUSE)) mlog(ML.FUSE, `${unique}: ${err.message}`);
      this.fail(unique, err.errno);
      return;
    }
    mlog(ML.ERROR, `request ${unique}: ${err instanceof Error ? (err.stack ?? err.message) : String(err)}`);
    this.fail(unique, Errno.EIO);
    if (!(err instanceof AssertionFailure)) this.osb.onAssertion(new AssertionFailure(String(err)));
  }

  #send(unique: number, error: number, at: number, len: number): void {
    const out = this.#out.seek(at);
    out.len = len;
    out.error = error;
    out.unique = unique;
    this.outstanding--;
    if (mlogOn(ML.FUSE)) mlog(ML.FUSE, `${unique} -> ${error === 0 ? `${len} bytes` : errnoName(-error)}`);
    if (this.#dispatching && unique === this.unique) {
      this.#pending_at = at;
      this.#pending_len = len;
    } else this.#write(at, len);
  }

  #write(at: number, len: number): void {
    const rc = this.#channel.write(at, len);
    if (rc < 0) this.#replyFailed(-rc);
    else this.#replyTaken();
    if (this.#ended) this.#reportEnd();
  }

  #flushPending(): void {
    if (this.#pending_len === 0) return;
    const len = this.#pending_len;
    this.#pending_len = 0;
    this.#write(this.#pending_at, len);
  }

  #replyTaken(): void {
    this.#told_ino = 0;
    this.#told_fh = 0;
    this.#told_many = null;
  }

  /** The kernel does not have the answer: what it would have counted is taken back. */
  #replyFailed(errno: number): void {
    const ino = this.#told_ino;
    const fh = this.#told_fh;
    const many = this.#told_many;
    this.#replyTaken();
    if (errno !== Errno.ENOENT && errno !== Errno.ENODEV && errno !== ECONNABORTED)
      mlog(ML.ERROR, `a reply was refused with ${errnoName(errno)}`);
    if (fh !== 0) {
      const handle = this.handles.close(fh);
      if (handle !== undefined) this.vfs.release(this.osb, handle.inode, handle.mayWrite);
    }
    if (ino !== 0) this.forget(ino, 1);
    for (const each of many ?? []) this.forget(each, 1);
  }
}
