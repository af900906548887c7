/**
 * The typed face of the Rust addon (native/): system calls that Node has no face for, and nothing that decides.
 *
 * Conventions. Memory crosses once, as an arena; afterwards only byte offsets into it do. What the kernel answers comes
 * back as a number, negative errno for a failure (`check` of lib/fs_error.ts turns it into an FsError). Only a wrong call of
 * ours throws: bytes outside of the arena, an unknown handle. Rings and arenas belong to the thread that made them;
 * descriptors and leases to the process, so their numbers may be sent to another thread.
 */
import { constants, existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { Errno } from "../lib/errno.ts";
import { assert, FsError } from "../lib/fs_error.ts";

declare const arenaHandle: unique symbol;
/** A registered arena, of this thread. */
export type ArenaHandle = number & { readonly [arenaHandle]: true };

/** Memory that can be registered: over a WebAssembly.Memory, a SharedArrayBuffer or an ArrayBuffer. */
export type Bytes = Uint8Array<ArrayBufferLike>;

interface Addon {
  arenaRegister(bytes: Bytes): ArenaHandle;
  arenaMisalign(arena: ArenaHandle): number;
  arenaLockOnFault(arena: ArenaHandle): number;
  arenaDontFork(arena: ArenaHandle): number;

  leaseAlloc(): number;
  leaseFree(lease: number): void;
  leaseSet(lease: number, deadline_ms: number): void;
  leaseGet(lease: number): number;
  fenceTrigger(path: string, byte: number): number;
  fenceNow(): void;
  killSelfIn(after_ms: number): number;
  abortRegister(connection: number): number;
  abortGuard(number: number): number;
  abortForget(number: number): void;

  heartbeatStart(options: HeartbeatOptions, onBeat: () => void): number;
  heartbeatSetSlots(id: number, first: number, last: number): void;
  heartbeatArm(id: number): boolean;
  heartbeatExtend(id: number): void;
  heartbeatProve(id: number): void;
  heartbeatShut(id: number): void;
  heartbeatTake(id: number, bytes: Bytes): boolean;
  heartbeatAgeMs(id: number): number;
  heartbeatStop(id: number, leave: boolean): void;
  heartbeatEnded(id: number): boolean;

  ringCreate(entries: number, arena: ArenaHandle, records: Bytes, completions: Int32Array, lease: number): number;
  ringEnter(ring: number, count: number, min: number, timeout_ms: number): number;
  ringReap(ring: number): number;
  ringInFlight(ring: number): number;
  ringClose(ring: number): number;

  openFile(path: string, flags: number, mode: number): number;
  closeFd(fd: number): number;
  preadSync(arena: ArenaHandle, fd: number, addr: number, len: number, offset: number): number;
  pwriteSync(arena: ArenaHandle, fd: number, addr: number, len: number, offset: number): number;
  fdatasyncSync(fd: number): number;
  ftruncateSync(fd: number, len: number): number;
  fallocateSync(fd: number, mode: number, offset: number, len: number): number;
  blkDiscard(fd: number, offset: number, len: number): number;
  blkZeroout(fd: number, offset: number, len: number): number;
  fdMode(fd: number): number;
  fdSize(fd: number): number;
  blkLogicalSize(fd: number): number;
  blkReadonly(fd: number): number;
  dioOffsetAlign(fd: number): number;
  ofdTryLock(fd: number, exclusive: boolean): number;
  ofdUnlock(fd: number): number;

  eventfdCreate(): number;
  eventfdWake(fd: number): number;
  eventfdDrain(fd: number): number;

  fuseOpen(): number;
  fuseRead(arena: ArenaHandle, fd: number, addr: number, len: number): number;
  fuseWrite(arena: ArenaHandle, fd: number, addr: number, len: number): number;
  fuseWritev(arena: ArenaHandle, fd: number, addr1: number, len1: number, addr2: number, len2: number): number;
  fuseReplyAndRead(
    arena: ArenaHandle,
    fd: number,
    reply_addr: number,
    reply_len: number,
    buf_addr: number,
    buf_len: number,
  ): number;
  fuseNotify(fd: number, message: Bytes): number;

  mount2(source: string, target: string, fstype: string, flags: number, data: string): number;
  umount2(target: string, flags: number): number;
  fusermountMount(mountpoint: string, options: string): number;
  fusermountUmount(mountpoint: string, lazy: boolean): number;

  leaseClockMs(): number;
  monotonicNs(): number;
  setIoFlusher(on: boolean): number;

  crc32Le(arena: ArenaHandle, addr: number, len: number, seed: number): number;
  crc32c(arena: ArenaHandle, addr: number, len: number, seed: number): number;
}

/** As require would load it, without the milliseconds that Node's loader takes. */
function addonAt(path: string): Addon {
  const module: { exports: Partial<Addon> } = { exports: {} };
  process.dlopen(module, path);
  return module.exports as Addon;
}

/** Finds native/ocfs2.node in a folder above this file, which is in src/native/ or, bundled, in dist/. */
function load(): Addon {
  for (let dir = import.meta.dirname; ; dir = dirname(dir)) {
    const path = join(dir, "native", "ocfs2.node");
    if (existsSync(path)) return addonAt(path);
    if (dir === dirname(dir)) throw new Error("native/ocfs2.node is missing: run npm run setup");
  }
}

const addon = load();
/** The addon again, for what has a file of its own (net.ts). */
export const loaded: unknown = addon;

/**
 * For the addon to call. What `f` throws ends the process, as from anywhere else: of an exception that comes to Node-API node only warns (DEP0168), and the
 * process goes on with what is half done.
 */
export const fatalCallback = (f: () => void) => (): void => {
  try {
    f();
  } catch (err) {
    queueMicrotask(() => {
      throw err;
    });
  }
};

// ---- arena ----

const registered = new WeakMap<ArrayBufferLike, ArenaHandle>();

/**
 * Registers memory whose base does not move, for the life of this thread; each thread registers for itself. The same
 * memory gives the same handle. `bytes` covers its buffer from the start, so that an address is an offset in the buffer.
 */
export function registerArena(bytes: Bytes): ArenaHandle {
  assert(bytes.byteOffset === 0 && bytes.length === bytes.buffer.byteLength, "an arena covers the whole of its buffer");
  let handle = registered.get(bytes.buffer);
  if (handle === undefined) registered.set(bytes.buffer, (handle = addon.arenaRegister(bytes)));
  return handle;
}

/**
 * How far the base is past a page boundary, in bytes. 0 for a Wasm memory; a plain ArrayBuffer mostly has 16, and then a page-aligned
 * address is of no use for O_DIRECT (-EINVAL).
 */
export const arenaMisalign = addon.arenaMisalign;
/** mlock2(MLOCK_ONFAULT): pages that were touched stay in memory. 0 or -errno (-ENOMEM, -EPERM: RLIMIT_MEMLOCK). */
export const arenaLockOnFault = addon.arenaLockOnFault;
/** MADV_DONTFORK: children do not share the pages, so memory under device I/O is never copied on write. 0 or -errno. */
export const arenaDontFork = addon.arenaDontFork;

// ---- the write gate (native/src/fence.rs) ----

/** The lease of what is not fenced: local mounts, and the heartbeat itself. */
export const LEASE_OPEN = 0;
/** Takes a lease of the process, shut until leaseSet. Its number, or -ENOSPC. */
export const leaseAlloc = addon.leaseAlloc;
/** Gives a lease back; its rings must be closed. */
export const leaseFree = addon.leaseFree;
/** Allows writes until `deadline_ms` of leaseClockMs(); Infinity: always, 0: never. From any thread, at once. */
export const leaseSet = addon.leaseSet;
/** The deadline in ms of leaseClockMs(). */
export const leaseGet = addon.leaseGet;
/**
 * This process's mounts are aborted now, and it gets SIGKILL in `after_ms`, from a thread that waits for nothing else; what the block layer has by
 * then still completes. 0 or -errno.
 */
export const killSelfIn = addon.killSelfIn;
/** fenceNow, and a heartbeat that is too late, write this byte there before they end the process; byte 0: the process only. 0 or -errno. */
export const fenceTrigger = addon.fenceTrigger;
/** This node must not go on. Does not return. */
export const fenceNow = addon.fenceNow;

// ---- the mounts of a process that ends (native/src/abort.rs) ----

/** killSelfIn, fenceNow and a late heartbeat abort this FUSE connection (the minor number of its device). A number for abortForget, or -errno. */
export const abortRegister = addon.abortRegister;
/** The calling thread's end, by whatever, aborts the connection with this number too: a small process sees to it. 0 or -errno. */
export const abortGuard = addon.abortGuard;
export const abortForget = addon.abortForget;

// ---- the disk heartbeat's thread (native/src/heartbeat.rs; native/heartbeat.ts reads its samples) ----

export interface HeartbeatOptions {
  readonly path: string;
  readonly offset: number;
  readonly slotBytes: number;
  readonly node: number;
  readonly generationLo: number;
  readonly generationHi: number;
  readonly deadMs: number;
  readonly intervalMs: number;
  readonly leaseMs: number;
  readonly fenceMs: number;
  readonly lease: number;
  readonly global: boolean;
  readonly first: number;
  readonly last: number;
}
/** Opens the device with O_DIRECT and starts a region's thread; its number or -errno. `onBeat` (a fatalCallback) runs after each beat, and once it has ended. */
export const heartbeatStart = addon.heartbeatStart;
/** Which slots are read. */
export const heartbeatSetSlots = addon.heartbeatSetSlots;
/** Deadlines begin; false: no write has completed and been found again yet. */
export const heartbeatArm = addon.heartbeatArm;
/** The process does not end before fenceMs from now; the lease stays as it is. Too late already, it ends. */
export const heartbeatExtend = addon.heartbeatExtend;
/** After a write that was later than fenceMs the lease does not move until this is called: nobody has declared us dead. */
export const heartbeatProve = addon.heartbeatProve;
/** Shuts the lease for good, while the heartbeat goes on. */
export const heartbeatShut = addon.heartbeatShut;
/** Copies the oldest sample; false when there is none. */
export const heartbeatTake = addon.heartbeatTake;
/** Ms since the submission of the last completed write. */
export const heartbeatAgeMs = addon.heartbeatAgeMs;
/** Ends the thread; `leave` writes generation 0. */
export const heartbeatStop = addon.heartbeatStop;
/** True once the thread has ended; its number is free then. */
export const heartbeatEnded = addon.heartbeatEnded;

// ---- ring ----

/** Operations of a record: the kernel's IORING_OP_*. */
const Op = {
  READV: 1,
  WRITEV: 2,
  FSYNC: 3,
  POLL_ADD: 6,
  TIMEOUT: 11,
  TIMEOUT_REMOVE: 12,
  ASYNC_CANCEL: 14,
  FALLOCATE: 17,
  READ: 22,
  WRITE: 23,
} as const;

/** Layout of a record in u32 units; native/src/ring.rs, `Record`, is its other half. */
const RECORD = { OP: 0, FD: 1, ADDR: 2, LEN: 3, OFFSET_F64: 2, FLAGS: 6, USER_DATA: 7, UNITS: 8 } as const;

/** Write flag: durable when it completes (RWF_DSYNC). */
export const RWF_DSYNC = 2;
/** Poll events. */
export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLERR = 8;
export const POLLHUP = 16;
/** fallocate modes. */
export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_ZERO_RANGE = 16;

/** Why there is no ring, and what to do. */
const NO_RING: Readonly<Record<number, string>> = {
  [Errno.EPERM]:
    'io_uring is forbidden here: allow it with "sysctl kernel.io_uring_disabled=0"; in a container also by its seccomp profile (docker run --security-opt seccomp=FILE)',
  [Errno.ENOSYS]:
    "there is no io_uring here that can be used: it takes Linux 5.11 or newer with CONFIG_IO_URING, and in a container a seccomp profile that lets it through",
  [Errno.ENOMEM]:
    "there is no memory for io_uring: before Linux 5.12 it is locked memory; raise that limit (ulimit -l)",
  [Errno.EMFILE]: "too many files are open: raise the limit of the process (ulimit -n)",
};

/**
 * An io_uring over one arena, for one thread: its only wait.
 *
 * Queueing (read, write, ...) only stores a record; submit and submitAndWait hand all of them to the kernel in one call
 * (a full queue is submitted by itself). Completions come in any order: reap() fills `cq` with pairs of user_data and
 * result (bytes, or -errno), which stay until the next reap(). user_data is a u32 of the caller's; read it back
 * as `cq[2 * i]! >>> 0` if it uses the top bit. Offsets, lengths and addresses are bytes.
 *
 * Writes (write, writev, fallocate) are under `lease`: once it has passed they complete with -ESHUTDOWN and never reach
 * the kernel, while reads and fsyncs go on.
 *
 * A thread that waits here hears neither worker.terminate() nor process.exit(): wake it through an eventfd in the ring first.
 */
export class Ring {
  /** The completions of the last reap(): user_data at 2i, result at 2i + 1. */
  readonly cq: Int32Array;
  readonly #id: number;
  readonly #arena_len: number;
  readonly #capacity: number;
  readonly #u32: Uint32Array;
  readonly #f64: Float64Array;
  #queued = 0;

  /** Throws FsError, for what there is a remedy with that in `found`: ENOSYS without a usable io_uring (Linux 5.11), EPERM where it is forbidden. */
  constructor(entries: number, arena: Bytes, lease: number = LEASE_OPEN) {
    const records = new ArrayBuffer(entries * RECORD.UNITS * 4);
    this.#u32 = new Uint32Array(records);
    this.#f64 = new Float64Array(records);
    this.#capacity = entries;
    this.#arena_len = arena.length;
    this.cq = new Int32Array(entries * 8);
    this.#id = addon.ringCreate(entries, registerArena(arena), new Uint8Array(records), this.cq, lease);
    if (this.#id < 0) throw new FsError(-this.#id, "native.ring", { entries, found: NO_RING[-this.#id] });
  }

  /** Records queued and not handed to the kernel yet. */
  get queued(): number {
    return this.#queued;
  }

  /** Operations that the kernel has and whose completions were not reaped. */
  get inFlight(): number {
    return addon.ringInFlight(this.#id);
  }

  #inside(addr: number, len: number): void {
    // Written so that NaN fails.
    if (!(addr >= 0 && len >= 0 && addr + len <= this.#arena_len)) {
      throw new RangeError(`${len} bytes at ${addr} are outside of the arena of ${this.#arena_len} bytes`);
    }
  }

  #push(op: number, fd: number, addr: number, len: number, offset: number, flags: number, user_data: number): void {
    if (this.#queued === this.#capacity) this.submit();
    const at = this.#queued++ * RECORD.UNITS;
    const u32 = this.#u32;
    u32[at + RECORD.OP] = op;
    u32[at + RECORD.FD] = fd;
    u32[at + RECORD.ADDR] = addr;
    u32[at + RECORD.LEN] = len;
    this.#f64[(at >>> 1) + RECORD.OFFSET_F64] = offset;
    u32[at + RECORD.FLAGS] = flags;
    u32[at + RECORD.USER_DATA] = user_data;
  }

  /** Reads into the arena. Also for eventfds (8 bytes, offset 0). Throws RangeError outside of the arena, as all of these do. */
  read(fd: number, addr: number, len: number, offset: number, user_data: number): void {
    this.#inside(addr, len);
    this.#push(Op.READ, fd, addr, len, offset, 0, user_data);
  }

  /** Writes from the arena; `flags` is 0 or RWF_DSYNC. */
  write(fd: number, addr: number, len: number, offset: number, user_data: number, flags = 0): void {
    this.#inside(addr, len);
    this.#push(Op.WRITE, fd, addr, len, offset, flags, user_data);
  }

  /** Reads into `count` pieces: a table of [addr, len] u32 pairs at `table` in the arena, read when it is submitted (at most 1024). */
  readv(fd: number, table: number, count: number, offset: number, user_data: number): void {
    this.#inside(table, count * 8);
    this.#push(Op.READV, fd, table, count, offset, 0, user_data);
  }

  /** Writes from `count` pieces, as readv. */
  writev(fd: number, table: number, count: number, offset: number, user_data: number, flags = 0): void {
    this.#inside(table, count * 8);
    this.#push(Op.WRITEV, fd, table, count, offset, flags, user_data);
  }

  /** Flushes the file or device: makes durable what completed before this was submitted. Not ordered after writes in flight. */
  fsync(fd: number, datasync: boolean, user_data: number): void {
    this.#push(Op.FSYNC, fd, 0, 0, 0, datasync ? 1 : 0, user_data);
  }

  /** fallocate(2) with a FALLOC_FL_* mode; on block devices PUNCH_HOLE | KEEP_SIZE and ZERO_RANGE. Counts as a write. */
  fallocate(fd: number, mode: number, offset: number, len: number, user_data: number): void {
    this.#push(Op.FALLOCATE, fd, len % 0x1_0000_0000, Math.floor(len / 0x1_0000_0000), offset, mode, user_data);
  }

  /** Completes once when the descriptor has one of `events` (result: the events). Arm it again after each completion. */
  pollAdd(fd: number, events: number, user_data: number): void {
    this.#push(Op.POLL_ADD, fd, 0, 0, 0, events, user_data);
  }

  /** Completes with -ETIME after `ms`. */
  timeout(ms: number, user_data: number): void {
    this.#push(Op.TIMEOUT, -1, 0, 0, ms, 0, user_data);
  }

  /** Takes the timeout with user_data `target` back: it completes with -ECANCELED, this with 0 or -ENOENT. */
  timeoutRemove(target: number, user_data: number): void {
    this.#push(Op.TIMEOUT_REMOVE, -1, target, 0, 0, 0, user_data);
  }

  /** Cancels the operation with user_data `target`: this completes with 0, -ENOENT (done already) or -EALREADY (running). Device I/O cannot be cancelled. */
  cancel(target: number, user_data: number): void {
    this.#push(Op.ASYNC_CANCEL, -1, target, 0, 0, 0, user_data);
  }

  /** Hands the queue to the kernel and does not wait. The number of records taken. */
  submit(): number {
    return this.submitAndWait(0);
  }

  /**
   * Hands the queue to the kernel and waits until `min` completions can be reaped, at most `timeout_ms` (-1: for good). The number
   * of records taken. Throws FsError when the kernel refuses for good, and Error when nothing is in flight that could complete.
   */
  submitAndWait(min: number, timeout_ms = -1): number {
    const count = this.#queued;
    // First, so that a throw for a bad record does not submit the good ones before it twice.
    this.#queued = 0;
    const taken = addon.ringEnter(this.#id, count, min, timeout_ms);
    if (taken === count) return taken;
    if (taken < 0) throw new FsError(-taken, "native.ring.enter", { count, min });
    this.#u32.copyWithin(0, taken * RECORD.UNITS, count * RECORD.UNITS);
    this.#queued = count - taken;
    return taken;
  }

  /** Fills `cq` with what has completed; how many. When that is cq.length / 2 there may be more. */
  reap(): number {
    return addon.ringReap(this.#id);
  }

  /** Cancels what can be cancelled, waits for the rest and closes. The operations that did not end within 5 s. */
  close(): number {
    return addon.ringClose(this.#id);
  }
}

// ---- files and block devices ----

/** Flags of openFile; O_CLOEXEC is always added. EXCL without CREAT on a block device: -EBUSY when it is mounted or held. */
export const O = {
  RDONLY: constants.O_RDONLY,
  WRONLY: constants.O_WRONLY,
  RDWR: constants.O_RDWR,
  CREAT: constants.O_CREAT,
  EXCL: constants.O_EXCL,
  TRUNC: constants.O_TRUNC,
  DIRECT: constants.O_DIRECT,
  DSYNC: constants.O_DSYNC,
  SYNC: constants.O_SYNC,
  NONBLOCK: constants.O_NONBLOCK,
  DIRECTORY: constants.O_DIRECTORY,
  NOFOLLOW: constants.O_NOFOLLOW,
} as const;

/** open(2): a descriptor or -errno (-EINVAL: the file system has no O_DIRECT). */
export const openFile = addon.openFile;
/** close(2): 0 or -errno. */
export const closeFd = addon.closeFd;
/** Blocking read into the arena, until `len` bytes or the end of the file: bytes or -errno. For tools. */
export const preadSync = addon.preadSync;
/** Blocking write from the arena, whole: bytes or -errno. For tools; NOT under a lease, so never on a mounted volume. */
export const pwriteSync = addon.pwriteSync;
/** fdatasync(2), blocking: 0 or -errno. */
export const fdatasyncSync = addon.fdatasyncSync;
/** ftruncate(2): 0 or -errno. */
export const ftruncateSync = addon.ftruncateSync;
/** fallocate(2), blocking: 0 or -errno. */
export const fallocateSync = addon.fallocateSync;
/** BLKDISCARD, bytes: 0 or -errno (-EOPNOTSUPP, -ENOTTY for a file). */
export const blkDiscard = addon.blkDiscard;
/** BLKZEROOUT, bytes: 0 or -errno (-ENOTTY for a file). */
export const blkZeroout = addon.blkZeroout;
/** st_mode or -errno. */
export const fdMode = addon.fdMode;
/** Bytes of a block device or a file, or -errno. */
export const fdSize = addon.fdSize;
/** Logical block size of a block device in bytes (BLKSSZGET), or -errno (-ENOTTY for a file). */
export const blkLogicalSize = addon.blkLogicalSize;
export const blkReadonly = addon.blkReadonly;
/** Alignment in bytes that O_DIRECT needs of offsets and lengths; 0: no O_DIRECT; -EOPNOTSUPP: unknown (before Linux 6.1, or a file system that does not say). */
export const dioOffsetAlign = addon.dioOffsetAlign;
/** Open-file-description lock on the whole file, without waiting: 0, -EAGAIN when held by another open, or -errno. */
export const ofdTryLock = addon.ofdTryLock;
/** Gives that lock up: 0 or -errno. */
export const ofdUnlock = addon.ofdUnlock;

// ---- wake-ups ----

/** An eventfd to poll in a ring: a descriptor or -errno. */
export const eventfdCreate = addon.eventfdCreate;
/** Makes it readable, from any thread: 0 or -errno. */
export const eventfdWake = addon.eventfdWake;
/** Takes the wake-ups back: how many, 0 for none, or -errno. */
export const eventfdDrain = addon.eventfdDrain;

// ---- /dev/fuse ----

/** Opens /dev/fuse nonblocking: a descriptor or -errno. */
export const fuseOpen = addon.fuseOpen;
/** One request into the arena: its bytes, or -errno. -EAGAIN: none; -ENOENT: taken back, try again; -ENODEV: unmounted; -ECONNABORTED: aborted. */
export const fuseRead = addon.fuseRead;
/** One reply out of the arena: its bytes, or -errno. -ENOENT: nobody waits for it (interrupted). */
export const fuseWrite = addon.fuseWrite;
/** As fuseWrite, in two pieces: header and payload. */
export const fuseWritev = addon.fuseWritev;
/** Results of fuseReplyAndRead at or below this tell of the reply: its errno is REPLY_FAILED - result, and nothing was read. */
export const REPLY_FAILED = -0x10000;
/** fuseWrite, then fuseRead, in one call: the bytes read or -errno of the read; see REPLY_FAILED for the reply's. */
export const fuseReplyAndRead = addon.fuseReplyAndRead;
/** Sends a notification from ordinary memory and blocks until the kernel is done with it: only on the notifier thread. Bytes or -errno (-ENOENT: not cached). */
export const fuseNotify = addon.fuseNotify;

// ---- mounting ----

export const MNT_FORCE = 1;
export const MNT_DETACH = 2;
/** mount(2): 0 or -errno. */
export const mount2 = addon.mount2;
/** umount2(2) with MNT_* flags: 0 or -errno. */
export const umount2 = addon.umount2;
/** Mounts through fusermount3 -o `options`: the nonblocking /dev/fuse descriptor, -ENOENT without fusermount3, -EPERM when it refused (its words are on stderr). */
export const fusermountMount = addon.fusermountMount;
/** Unmounts through fusermount3: 0, -ENOENT, or -EPERM when it refused. */
export const fusermountUmount = addon.fusermountUmount;

// ---- clocks and threads ----

/** The clock of leases in ms, with fractions: CLOCK_BOOTTIME, which counts a suspend, and what that misses while a hypervisor stops the machine. */
export const leaseClockMs = addon.leaseClockMs;
/** CLOCK_MONOTONIC in ns. */
export const monotonicNs = addon.monotonicNs;
/** PR_SET_IO_FLUSHER for this thread and those it starts: 0, or -EPERM without CAP_SYS_RESOURCE. */
export const setIoFlusher = addon.setIoFlusher;

// ---- checksums ----

/** The kernel's crc32_le(seed, bytes) over the arena, without inversions. An unsigned number. */
export const crc32Le = addon.crc32Le;
/** The kernel's crc32c(seed, bytes) over the arena, without inversions. An unsigned number. */
export const crc32c = addon.crc32c;
