/**
 * A volume that is open in this process, as all parts of the library use it: runs operations and answers promises with
 * node's errors, lends memory that the disk is read into, and knows what must end before the volume can be closed.
 */
import { FileDevice } from "../block/file_device.ts";
import { type Clock, systemClock, systemRandom } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { type AssertionFailure, Corruption, FsError } from "../lib/fs_error.ts";
import { type Callback, runTask, type Task } from "../lib/task.ts";
import { type Cred, reap } from "../vfs/namespace.ts";
import { forgetAll } from "../vfs/teardown.ts";
import type { Inode } from "../volume/inode.ts";
import { defaultMountOptions, type MountOptions } from "../volume/mount_options.ts";
import type { Op } from "../volume/op.ts";
import type { Osb } from "../volume/osb.ts";
import { closeVolume, openVolume, syncVolume } from "../volume/super.ts";
import { createArena } from "../wasm/arena.ts";
import { createKernels } from "../wasm/kernels.ts";
import { asSystemError, type CallInfo, checkOptionNames, codedError, invalidArg } from "./errors.ts";
import { type Place, walk } from "./path.ts";

/** How to open a volume. */
export interface OpenOptions {
  /** Nothing is written. A volume whose journal must be replayed is refused with EROFS. */
  readonly readonly?: boolean | undefined;
  /**
   * Opens a volume of a cluster without the cluster: only when no other node uses it. Two nodes that write without knowing of each
   * other destroy a volume.
   */
  readonly nocluster?: boolean | undefined;
  /** Owner and umask of what is made; those of the process when not given. Nothing checks permissions: the library acts as root. */
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly umask?: number | undefined;
  /** Reading a file leaves its time of access alone. */
  readonly noatime?: boolean | undefined;
  /** Seconds until what was written is on the disk without being asked for; 5 when not given. */
  readonly commitSeconds?: number | undefined;
  /** Memory for metadata, and for data not yet written, each in bytes; 32 MiB when not given. */
  readonly cacheBytes?: number | undefined;
  readonly dataCacheBytes?: number | undefined;
}

/** Timers that do not keep the process alive: a program that is done ends, and `beforeExit` closes the volume. */
const clock: Clock = {
  ...systemClock,
  after(ms, cb) {
    const timer = setTimeout(cb, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

const MIB = 1 << 20;
/** Journal staging, undo, scratch, and the buffers below. */
const OVERHEAD_MIB = 96;
const MIN_CACHE_BYTES = 4 * MIB;
/** Memory lent to reads and writes. Untouched, it costs nothing. */
const BUFFERS = 8;
export const BUFFER_BYTES = MIB;

const open_volumes = new Set<OpenVolume>();

process.on("beforeExit", () => {
  for (const v of open_volumes) v.close().catch((err: unknown) => process.emitWarning(String(err)));
});

const OPTIONS: { readonly [name in keyof Required<OpenOptions>]: "boolean" | "number" } = {
  readonly: "boolean",
  nocluster: "boolean",
  uid: "number",
  gid: "number",
  umask: "number",
  noatime: "boolean",
  commitSeconds: "number",
  cacheBytes: "number",
  dataCacheBytes: "number",
};

/** One that is misspelt, `readOnly` say, must not open a volume for writing. */
function checkOptions(o: OpenOptions): void {
  checkOptionNames(o, Object.keys(OPTIONS));
  for (const [name, value] of Object.entries(o)) {
    const type = OPTIONS[name as keyof OpenOptions];
    if (value === undefined) continue;
    if (typeof value !== type) throw invalidArg(`options.${name}`, `of type ${type}`, value);
    if (type === "number" && !((value as number) >= 0 && Number.isFinite(value)))
      throw codedError("ERR_OUT_OF_RANGE", `options.${name} is ${value}, and must be 0 or more`, RangeError);
  }
}

function mountOptions(o: OpenOptions): MountOptions {
  return {
    ...defaultMountOptions,
    ro: o.readonly ?? false,
    nocluster: o.nocluster ?? false,
    noatime: o.noatime ?? false,
    commit_s: o.commitSeconds ?? defaultMountOptions.commit_s,
    cache_bytes: Math.max(MIN_CACHE_BYTES, o.cacheBytes ?? 32 * MIB),
    data_cache_bytes: Math.max(MIN_CACHE_BYTES, o.dataCacheBytes ?? 32 * MIB),
  };
}

export class OpenVolume {
  readonly osb: Osb;
  readonly path: string;
  readonly cred: Cred;
  readonly #free: number[] = [];
  readonly #waiting: ((addr: number) => void)[] = [];
  /** Operations at work may wait for nothing but a timer of the volume's, and the process must not end under them. */
  #operations = 0;
  readonly #alive = setInterval(() => {}, 1 << 30).unref();
  /** Calls at work; the volume is closed when none is left. */
  #running = 0;
  #idle: (() => void) | null = null;
  #closing: Promise<void> | null = null;
  #closed = false;
  /** Open handles, to be void when the volume is closed. */
  readonly handles = new Set<{ abandon(): void }>();

  private constructor(osb: Osb, path: string, cred: Cred) {
    this.osb = osb;
    this.path = path;
    this.cred = cred;
    const base = osb.arena.alloc(BUFFERS * BUFFER_BYTES, 4096);
    for (let i = BUFFERS - 1; i >= 0; i--) this.#free.push(base + i * BUFFER_BYTES);
    osb.onAssertion = (err) => this.#broken(err);
  }

  /** Opens the volume in a file or on a block device. Rejects with node-like errors: ENOENT, EBUSY (open elsewhere), EINVAL (no volume). */
  static async open(path: string, o: OpenOptions = {}): Promise<OpenVolume> {
    if (typeof path !== "string") throw invalidArg("path", "of type string", path);
    checkOptions(o);
    const options = mountOptions(o);
    const mib = Math.ceil((options.cache_bytes + options.data_cache_bytes) / MIB) + OVERHEAD_MIB;
    const arena = createArena(mib);
    const call = { syscall: "open volume", path };
    let dev: FileDevice | null = null;
    try {
      dev = new FileDevice(arena, path, { readonly: options.ro });
      const parts = { arena, kernels: createKernels(arena), dev, clock, random: systemRandom, options };
      const osb = await runTask(openVolume(parts));
      const cred: Cred = {
        uid: o.uid ?? process.getuid?.() ?? 0,
        gid: o.gid ?? process.getgid?.() ?? 0,
        umask: o.umask ?? process.umask(),
      };
      const v = new OpenVolume(osb, path, cred);
      open_volumes.add(v);
      return v;
    } catch (err) {
      dev?.close();
      const shown = asSystemError(err, call);
      // The reason is the answer here: "no OCFS2 volume", "a clustered volume", "unsupported features".
      if (err instanceof FsError && shown instanceof Error) shown.message += ` (${err.message})`;
      throw shown;
    }
  }

  #refuse(): never {
    throw codedError("ERR_VOLUME_CLOSED", `the volume in ${this.path} is closed`);
  }

  #begin(): void {
    if (this.#operations++ === 0) this.#alive.ref();
  }

  #end(): void {
    if (--this.#operations === 0) this.#alive.unref();
  }

  #leave(): void {
    if (--this.#running === 0) this.#idle?.();
  }

  /** Work of several calls that the volume is not closed in the middle of. */
  async whole<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closing !== null) this.#refuse();
    return this.held(work);
  }

  /** As whole, for what may be a part of work that began before the volume was to be closed. */
  async held<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) this.#refuse();
    this.#running++;
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  get readonly(): boolean {
    return this.osb.readonly_reason !== null;
  }

  /** Throws EROFS on a volume that nothing may be written to. */
  checkWritable(): void {
    const reason = this.osb.readonly_reason;
    if (reason !== null) throw new FsError(Errno.EROFS, "api", { reason });
  }

  /** Counts `start` as work; its callback settles the promise. Errors get node's shape. */
  call<T>(info: CallInfo, start: (done: Callback<T>) => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closed) this.#refuse();
      this.#running++;
      this.#begin();
      const done: Callback<T> = (err, value) => {
        this.#end();
        if (err) {
          if (err instanceof Corruption) this.osb.onCorruption(err);
          reject(asSystemError(err, info));
        } else resolve(value as T);
        this.#leave();
      };
      try {
        start(done);
      } catch (err) {
        done(err);
      }
    });
  }

  /** One operation. */
  run<T>(info: CallInfo, fn: (op: Op) => T): Promise<T> {
    return this.call(info, (done) => this.osb.exec(fn, done));
  }

  /** One operation that changes something. */
  change<T>(info: CallInfo, fn: (op: Op) => T): Promise<T> {
    return this.call(info, (done) => {
      this.checkWritable();
      this.osb.exec(fn, done);
    });
  }

  /**
   * Walks a path in one operation, for `use` to act on its end in others: a lock that the walk holds shared cannot be
   * taken for a change in the same operation. What was found is not wiped meanwhile, so that its number stays its own.
   */
  async at<T>(
    call: CallInfo,
    path: Uint8Array,
    o: { follow?: boolean; names_end?: boolean },
    use: (place: Place) => Promise<T>,
  ): Promise<T> {
    const held: Inode[] = [];
    try {
      const place = await this.run(call, (op) => {
        const place = walk(op, path, o.follow === true, o.names_end === true);
        op.onSuccess(() => {
          held.push(op.osb.inodes.get(place.parent));
          if (place.attr !== undefined) held.push(op.osb.inodes.get(place.attr.ino));
          for (const inode of held) inode.nlookup++;
        });
        return place;
      });
      return await use(place);
    } finally {
      for (const inode of held) {
        inode.nlookup--;
        reap(this.osb, inode);
      }
    }
  }

  /** Lends BUFFER_BYTES of the arena to `use`; waits while all are lent. */
  async withBuffer<T>(use: (addr: number) => Promise<T>): Promise<T> {
    const addr = this.#free.pop() ?? (await new Promise<number>((ok) => this.#waiting.push(ok)));
    try {
      return await use(addr);
    } finally {
      const next = this.#waiting.shift();
      if (next !== undefined) next(addr);
      else this.#free.push(addr);
    }
  }

  /** Everything written is durable. */
  sync(): Promise<void> {
    return this.call({ syscall: "sync" }, (done) => void runTask(syncVolume(this.osb)).then(() => done(null), done));
  }

  /** Nothing of a state that cannot be trusted is written any more. */
  #broken(err: AssertionFailure): void {
    this.osb.readonly_reason ??= err.message;
    if (this.osb.slot_num >= 0) this.osb.journal.abort(err);
  }

  /** Waits for what is at work, wipes what nobody can use any more, writes everything and frees the slot. Once; later calls wait for the first. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await new Promise<void>((ok) => {
      this.#idle = () => {
        this.#closed = true;
        ok();
      };
      if (this.#running === 0) this.#idle();
    });
    for (const h of this.handles) h.abandon();
    open_volumes.delete(this);
    this.#begin();
    const { osb } = this;
    function* end(): Task<void> {
      if (osb.readonly_reason === null) yield* forgetAll(osb, systemClock);
      yield* closeVolume(osb);
    }
    try {
      await runTask(end());
    } catch (err) {
      throw asSystemError(err, { syscall: "close volume", path: this.path });
    } finally {
      clearInterval(this.#alive);
    }
    const aborted = osb.slot_num >= 0 ? osb.journal.aborted : null;
    if (aborted !== null) throw codedError("EIO", `the journal was aborted: ${String(aborted)}`);
  }
}
