/**
 * What the Linux kernel keeps of a FUSE mount between programs and the node: names, attributes, pages; and the locks that it holds while it waits for
 * an answer, which is what notifications wait for. Written after fs/fuse/{dir,file,inode}.c and mm/{filemap,truncate}.c of Linux 6.1, with what is newer up to
 * 6.18: the epoch, pruning, and pages that are under writeback until the answer. One task a system call; between two waits it runs to completion.
 *
 * What it leaves out: several threads in one write (i_rwsem orders those), files that grow through mappings.
 */
import * as F from "../../../../src/format/fuse/index.ts";
import type { Clock } from "../../../../src/lib/clock.ts";
import { Errno } from "../../../../src/lib/errno.ts";
import { assert, FsError } from "../../../../src/lib/fs_error.ts";
import { spawn, type Task, type Thunk, wait } from "../../../../src/lib/task.ts";
import { bytesOf, type FuseConnection, type Reply } from "./connection.ts";
import { Lock, RwSem, Waits } from "./locks.ts";

export const PAGE = 4096;
const O_ACCMODE = 3;
const O_APPEND = 0o2000;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
/** Dirty pages are written at some moment of this time. */
const FLUSH_MS = 1500;
/** Memory is short at some moment of this time, and one of so many pages goes that can. */
const SHORT_MS = 400;
const GOES = 4;

/** struct page in a file's mapping. */
class Page {
  readonly index: number;
  readonly data = new Uint8Array(PAGE);
  readonly lock: Lock;
  uptodate = false;
  /** Uptodate because a WRITE covers it that was not answered: the node may hold no lock for it. */
  unasked = false;
  /** A mapping may write to it without asking. */
  dirty = false;
  /** WRITEs that send it: it stays in memory for them. */
  sent = 0;
  /** What a WRITE put here was written back before the WRITE was sent: others may have seen it. */
  seen_early = false;
  /** It was taken out of the mapping. */
  gone = false;

  constructor(index: number, later: (go: () => void) => void) {
    this.index = index;
    this.lock = new Lock(later);
  }
}

/** struct fuse_inode. */
export class KInode {
  readonly nodeid: number;
  readonly generation: number;
  readonly rwsem = new RwSem();
  readonly pages = new Map<number, Page>();
  readonly waits = new Waits();
  /** Writebacks of a page that were not answered yet, by its index. */
  readonly writeback = new Map<number, number>();
  /** Writebacks that were sent and not answered. */
  writectr = 0;
  nowrite = false;
  readonly queued: (() => void)[] = [];
  nlookup = 0;
  /** Names, open files and system calls that hold it. */
  refs = 0;
  attr_version = 0;
  mode = 0;
  size = 0;
  /** Write-backs that failed, and whether anybody was told of the last (errseq_t). */
  wb_errors = 0;
  wb_told = true;
  /** What of the attributes may not be used: nothing, what a write changes, all (inval_mask). */
  stale: "nothing" | "size" | "all" = "all";

  constructor(nodeid: number, generation: number) {
    this.nodeid = nodeid;
    this.generation = generation;
  }
}

interface Dentry {
  readonly inode: KInode | null;
  /** Good for ever, unless the epoch moves; or to be asked for each time. */
  readonly keep: boolean;
  readonly epoch: number;
}

/** A look-up's answer, and what was known when it was asked for. */
interface Found {
  readonly out: F.FuseEntryOut;
  readonly version: number;
  readonly epoch: number;
}

/** struct file. */
export class File {
  readonly inode: KInode;
  readonly fh: number;
  readonly flags: number;
  /** The node wants it past the cache (FOPEN_DIRECT_IO). */
  readonly direct: boolean;
  /** Of the failed write-backs those that it was told of (f_wb_err). */
  wb_errors: number;
  /** Its flock was asked for. */
  flock = false;
  /** READs ahead under way, which keep it open. */
  reads_ahead = 0;

  constructor(inode: KInode, { fh, open_flags }: F.FuseOpenOut, flags: number) {
    this.inode = inode;
    this.fh = fh;
    this.flags = flags;
    this.direct = (open_flags & F.FOPEN_DIRECT_IO) !== 0;
    // errseq_sample: what nobody was told of yet is said to whoever opens the file next.
    this.wb_errors = inode.wb_told ? inode.wb_errors : inode.wb_errors - 1;
  }
}

const errnoError = (what: string, error: number): FsError => new FsError(-error, what, {});
const nameBytes = (...names: string[]): Uint8Array => new TextEncoder().encode(names.map((n) => `${n}\0`).join(""));
function join(...parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

export class Kernel {
  readonly #c: FuseConnection;
  readonly #clock: Clock;
  readonly #below: (n: number) => number;
  readonly #inodes = new Map<number, KInode>();
  readonly #dentries = new Map<KInode, Map<string, Dentry>>();
  readonly root: KInode;
  #attr_version = 1;
  /** What that was when an inode was dropped last. */
  #evicted = 0;
  #epoch = 0;
  /** Reads more than it is asked for. */
  readahead = false;
  notifications = 0;
  /** Invalidations that met an inode that was not there yet. */
  unknown = 0;
  /**
   * A WRITE goes out with `len` bytes at `off` of a page that was taken out of the mapping while write(2) got the next one, and either others have
   * stored to it before, or there is another page in its place by now.
   */
  onLateWrite: (nodeid: number, off: number, len: number) => void = () => {};
  /** The node did not take what is in this page of the cache, and the kernel does not send it again. `said`: the write(2) hears of it, and no fsync. */
  onLost: (nodeid: number, off: number, said: boolean) => void = () => {};

  constructor(c: FuseConnection, clock: Clock, below: (n: number) => number) {
    this.#c = c;
    this.#clock = clock;
    this.#below = below;
    this.root = new KInode(F.FUSE_ROOT_ID, 0);
    this.root.refs = 1;
    this.#inodes.set(F.FUSE_ROOT_ID, this.root);
  }

  *init(): Task<void> {
    const q = F.FuseInitIn.alloc();
    q.major = F.FUSE_KERNEL_VERSION;
    q.minor = F.FUSE_KERNEL_MINOR_VERSION;
    q.flags = 0xffffffff;
    q.flags2 = 0xffffffff;
    yield* this.#ask(F.FUSE_INIT, 0, bytesOf(q));
    this.#flushLater();
    this.#shrinkLater();
  }

  /** Asks, and throws what the node answers. */
  *#ask(opcode: number, nodeid: number, body: Uint8Array | (() => Uint8Array)): Task<Uint8Array> {
    const { error, body: reply }: Reply = yield* wait(this.#c.ask(opcode, nodeid, body));
    if (error !== 0) throw errnoError(F.FUSE_OPCODE_NAMES.get(opcode) ?? String(opcode), error);
    return reply;
  }

  /** Sends without waiting; the answer is to be waited for. */
  #send(opcode: number, nodeid: number, body: Uint8Array): Thunk<Reply> {
    let reply: Reply | undefined;
    let hear = (_: Reply): void => {};
    this.#c.ask(
      opcode,
      nodeid,
      body,
    )((_, r) => {
      reply = r!;
      hear(r!);
    });
    return (cb) => {
      hear = (r) => cb(null, r);
      if (reply !== undefined) hear(reply);
    };
  }

  /** What a thread does that was woken. */
  readonly #later = (go: () => void): void => void this.#clock.after(0, go);

  /** It has no CPU for a while, here and there. */
  #preempted(): Thunk<void> {
    return (cb) => void this.#clock.after(this.#below(4) === 0 ? this.#below(20) : 0, () => cb(null));
  }

  #pause(): Thunk<void> {
    return (cb) => void this.#clock.after(this.#below(100) / 1000, () => cb(null));
  }

  // Attributes ----------------------------------------------------------------------------------------------------------
  /** fuse_change_attributes: not when they were called back since `version`; 0 for answers that the kernel never doubts. */
  #change(inode: KInode, attr: F.FuseAttr, valid: boolean, version: number): void {
    if (version !== 0 && inode.attr_version > version) return;
    // fuse_conn.evict_ctr, since 6.14: what it knew before it was dropped may have been newer.
    const doubtful = version !== 0 && inode.attr_version === 0 && this.#evicted > version;
    inode.attr_version = ++this.#attr_version;
    inode.mode = attr.mode;
    inode.size = attr.size;
    inode.stale = valid && !doubtful ? "nothing" : "all";
  }

  *stat(inode: KInode, what: "mode" | "size"): Task<number> {
    if (inode.stale === "all" || (inode.stale === "size" && what === "size")) {
      const version = this.#attr_version;
      const out = F.FuseAttrOut.from(yield* this.#ask(F.FUSE_GETATTR, inode.nodeid, bytesOf(F.FuseGetattrIn.alloc())));
      this.#change(inode, out.attr, out.attr_valid > 0, version);
      return out.attr[what];
    }
    return inode[what];
  }

  /** chmod(2), ftruncate(2). */
  *setattr(inode: KInode, change: { readonly mode?: number; readonly size?: number }): Task<void> {
    yield* wait(inode.rwsem.write);
    try {
      const q = F.FuseSetattrIn.alloc();
      if (change.mode !== undefined) {
        q.valid = F.FATTR_MODE;
        q.mode = change.mode;
      }
      const { size } = change;
      if (size !== undefined) {
        q.valid |= F.FATTR_SIZE;
        q.size = size;
        inode.nowrite = true;
        yield* wait(inode.waits.until(() => inode.writectr === 0));
      }
      const out = F.FuseAttrOut.from(yield* this.#ask(F.FUSE_SETATTR, inode.nodeid, bytesOf(q)));
      const old = inode.size;
      this.#change(inode, out.attr, out.attr_valid > 0, 0);
      if (size !== undefined) {
        this.#releaseNowrite(inode);
        if (old !== inode.size) yield* this.#invalidatePages(inode, 0, Number.POSITIVE_INFINITY);
      }
    } finally {
      if (inode.nowrite) this.#releaseNowrite(inode);
      inode.rwsem.writeDone();
    }
  }

  #releaseNowrite(inode: KInode): void {
    inode.nowrite = false;
    for (const go of inode.queued.splice(0)) go();
  }

  // Names ---------------------------------------------------------------------------------------------------------------
  #names(dir: KInode): Map<string, Dentry> {
    let names = this.#dentries.get(dir);
    if (names === undefined) this.#dentries.set(dir, (names = new Map()));
    return names;
  }

  /** fuse_iget. */
  #iget(out: F.FuseEntryOut, version: number): KInode {
    let inode = this.#inodes.get(out.nodeid);
    if (inode !== undefined && inode.generation !== out.generation) {
      // The number was used again; what is left of the old one cannot be reached any more.
      inode = undefined;
    }
    if (inode === undefined) {
      inode = new KInode(out.nodeid, out.generation);
      this.#inodes.set(out.nodeid, inode);
    }
    inode.nlookup++;
    this.#change(inode, out.attr, out.attr_valid > 0, version);
    return inode;
  }

  #setName(dir: KInode, name: string, inode: KInode | null, keep: boolean, epoch: number): void {
    this.#dropName(dir, name);
    if (inode !== null) inode.refs++;
    this.#names(dir).set(name, { inode, keep, epoch });
  }

  #dropName(dir: KInode, name: string): void {
    const names = this.#names(dir);
    const d = names.get(name);
    if (d === undefined) return;
    names.delete(name);
    if (d.inode !== null) this.put(d.inode);
  }

  hold(inode: KInode): KInode {
    inode.refs++;
    return inode;
  }

  /** iput: the last one takes the inode with it. */
  put(inode: KInode): void {
    assert(inode.refs > 0, "an inode that nobody holds is given back");
    if (--inode.refs > 0) return;
    for (const name of [...this.#names(inode).keys()]) this.#dropName(inode, name);
    this.#dentries.delete(inode);
    this.#evicted = ++this.#attr_version;
    if (this.#inodes.get(inode.nodeid) === inode) this.#inodes.delete(inode.nodeid);
    this.#c.forget(inode.nodeid, inode.nlookup);
  }

  *#lookUp(dir: KInode, name: string): Task<Found | undefined> {
    const [version, epoch] = [this.#attr_version, this.#epoch];
    const { error, body }: Reply = yield* wait(this.#c.ask(F.FUSE_LOOKUP, dir.nodeid, nameBytes(name)));
    if (error === -Errno.ENOENT) return undefined;
    if (error !== 0) throw errnoError("LOOKUP", error);
    return { out: F.FuseEntryOut.from(body), version, epoch };
  }

  /** What goes wrong here makes the name doubtful, and is said by the look-up behind it. */
  *#revalidate(dir: KInode, name: string): Task<Found | undefined> {
    try {
      return yield* this.#lookUp(dir, name);
    } catch {
      return undefined;
    }
  }

  /** A step of a path: the inode that `name` leads to, held, or null for none. */
  *lookup(dir: KInode, name: string): Task<KInode | null> {
    const d = this.#names(dir).get(name);
    if (d !== undefined && d.epoch === this.#epoch) {
      if (d.keep) return d.inode === null ? null : this.hold(d.inode);
      if (d.inode !== null) {
        // fuse_dentry_revalidate: nothing is locked while it asks.
        this.hold(d.inode);
        const found = yield* this.#revalidate(dir, name);
        const same =
          found !== undefined && found.out.nodeid === d.inode.nodeid && found.out.generation === d.inode.generation;
        if (found !== undefined && !same && found.out.nodeid !== 0) this.#c.forget(found.out.nodeid, 1);
        if (same) {
          d.inode.nlookup++;
          this.#change(d.inode, found.out.attr, found.out.attr_valid > 0, found.version);
          if (this.#names(dir).get(name) === d)
            this.#setName(dir, name, d.inode, found.out.entry_valid > 0, found.epoch);
          return d.inode;
        }
        this.put(d.inode);
      }
    }
    this.#dropName(dir, name);
    yield* wait(dir.rwsem.read);
    try {
      const found = yield* this.#lookUp(dir, name);
      const inode =
        found === undefined || found.out.nodeid === 0 ? null : this.hold(this.#iget(found.out, found.version));
      if (found !== undefined) this.#setName(dir, name, inode, found.out.entry_valid > 0, found.epoch);
      return inode;
    } finally {
      dir.rwsem.readDone();
    }
  }

  /** open(2) with O_CREAT of a name that was not there when it was looked up. */
  *create(dir: KInode, name: string, flags: number, mode: number): Task<File> {
    yield* wait(dir.rwsem.write);
    try {
      const q = F.FuseCreateIn.alloc();
      q.flags = flags;
      q.mode = mode;
      const epoch = this.#epoch;
      const reply = yield* this.#ask(F.FUSE_CREATE, dir.nodeid, join(bytesOf(q), nameBytes(name)));
      const out = F.FuseEntryOut.from(reply);
      const open = F.FuseOpenOut.from(reply, F.FuseEntryOut.size);
      const inode = this.hold(this.#iget(out, 0));
      this.#setName(dir, name, inode, out.entry_valid > 0, epoch);
      return new File(inode, open, flags);
    } finally {
      dir.rwsem.writeDone();
    }
  }

  /** rename(2) within a directory; the kernel moves its name along. */
  *rename(dir: KInode, from: string, to: string): Task<void> {
    yield* wait(dir.rwsem.write);
    try {
      const q = F.FuseRename2In.alloc();
      q.newdir = dir.nodeid;
      yield* this.#ask(F.FUSE_RENAME2, dir.nodeid, join(bytesOf(q), nameBytes(from, to)));
      const d = this.#names(dir).get(from);
      if (d === undefined) {
        this.#dropName(dir, to);
        return;
      }
      this.#setName(dir, to, d.inode, d.keep, d.epoch);
      this.#dropName(dir, from);
    } finally {
      dir.rwsem.writeDone();
    }
  }

  /** rm. */
  *unlink(dir: KInode, name: string): Task<void> {
    yield* wait(dir.rwsem.write);
    try {
      yield* this.#ask(F.FUSE_UNLINK, dir.nodeid, nameBytes(name));
      this.#dropName(dir, name);
    } finally {
      dir.rwsem.writeDone();
    }
  }

  // Open files ----------------------------------------------------------------------------------------------------------
  *open(inode: KInode, flags: number): Task<File> {
    const q = F.FuseOpenIn.alloc();
    q.flags = flags;
    const out = F.FuseOpenOut.from(yield* this.#ask(F.FUSE_OPEN, inode.nodeid, bytesOf(q)));
    return new File(this.hold(inode), out, flags);
  }

  /** fuse_fsync. */
  *fsync(file: File): Task<void> {
    const { inode } = file;
    yield* wait(inode.rwsem.write);
    try {
      yield* this.#writePages(inode);
      yield* wait(inode.waits.until(() => inode.writeback.size === 0));
      // file_check_and_advance_wb_err.
      if (file.wb_errors !== inode.wb_errors) {
        file.wb_errors = inode.wb_errors;
        inode.wb_told = true;
        throw errnoError("fsync", -Errno.EIO);
      }
      const q = F.FuseFsyncIn.alloc();
      q.fh = file.fh;
      yield* this.#ask(F.FUSE_FSYNC, inode.nodeid, bytesOf(q));
    } finally {
      inode.rwsem.writeDone();
    }
  }

  /** fuse_file_flock; `exclusive` is null to give it up. A signal comes when `signal` calls. */
  *flock(file: File, exclusive: boolean | null, waits: boolean, signal?: (interrupt: () => void) => void): Task<void> {
    const q = F.FuseLkIn.alloc();
    q.fh = file.fh;
    q.lk.type = exclusive === null ? F_UNLCK : exclusive ? F_WRLCK : F_RDLCK;
    q.lk_flags = F.FUSE_LK_FLOCK;
    file.flock = true;
    const opcode = waits ? F.FUSE_SETLKW : F.FUSE_SETLK;
    const { reply, interrupt } = this.#c.askInterruptibly(opcode, file.inode.nodeid, bytesOf(q));
    signal?.(interrupt);
    const { error } = yield* wait(reply);
    if (error !== 0) throw errnoError("flock", error);
  }

  /** close(2) and munmap(2): what was stored in a mapping is written first (fuse_vma_close). */
  *close(file: File): Task<void> {
    if ((file.flags & O_ACCMODE) !== 0) {
      yield* this.#writePages(file.inode);
      yield* wait(file.inode.waits.until(() => file.inode.writeback.size === 0));
    }
    yield* wait(file.inode.waits.until(() => file.reads_ahead === 0));
    const q = F.FuseReleaseIn.alloc();
    q.fh = file.fh;
    q.flags = file.flags;
    if (file.flock) q.release_flags = F.FUSE_RELEASE_FLOCK_UNLOCK;
    yield* this.#ask(F.FUSE_RELEASE, file.inode.nodeid, bytesOf(q));
    this.put(file.inode);
  }

  // Pages ---------------------------------------------------------------------------------------------------------------
  /** The page, locked; made when it is not there. */
  *#grab(inode: KInode, index: number): Task<Page> {
    for (;;) {
      let page = inode.pages.get(index);
      if (page === undefined) {
        page = new Page(index, this.#later);
        page.lock.takeNew();
        inode.pages.set(index, page);
        return page;
      }
      yield* wait(page.lock.take);
      if (!page.gone) return page;
      page.lock.release();
    }
  }

  /** fuse_read_folio, of a page that is locked. */
  *#fill(file: File, page: Page): Task<void> {
    const { inode } = file;
    yield* wait(inode.waits.until(() => !inode.writeback.has(page.index)));
    const q = F.FuseReadIn.alloc();
    q.fh = file.fh;
    q.offset = page.index * PAGE;
    q.size = PAGE;
    q.flags = file.flags;
    const data = yield* this.#ask(F.FUSE_READ, inode.nodeid, bytesOf(q));
    page.data.fill(0);
    page.data.set(data);
    page.uptodate = true;
  }

  /**
   * page_cache_ra_unbounded and fuse_readahead: those of the pages from `from` up to `to` that are not there are made and locked, and each stretch of them is
   * asked for in one READ, up to the end as the kernel knows it. Nobody waits for the answers but who wants such a page.
   */
  *#readAhead(file: File, from: number, to: number): Task<void> {
    const { inode } = file;
    const last = Math.min(to, Math.floor((inode.size - 1) / PAGE));
    for (let index = from; index <= last; ) {
      const stretch: Page[] = [];
      for (; index <= last && !inode.pages.has(index); index++) {
        const page = new Page(index, this.#later);
        page.lock.takeNew();
        inode.pages.set(index, page);
        stretch.push(page);
      }
      if (stretch.length > 0) yield* this.#readStretch(file, stretch);
      else index++;
    }
  }

  *#readStretch(file: File, stretch: readonly Page[]): Task<void> {
    const { inode } = file;
    file.reads_ahead++;
    for (const page of stretch) yield* wait(inode.waits.until(() => !inode.writeback.has(page.index)));
    const q = F.FuseReadIn.alloc();
    q.fh = file.fh;
    q.offset = stretch[0]!.index * PAGE;
    q.size = stretch.length * PAGE;
    q.flags = file.flags;
    this.#send(
      F.FUSE_READ,
      inode.nodeid,
      bytesOf(q),
    )((_, reply) => {
      const { error, body } = reply!;
      // Who wants a page of a READ that failed asks for it alone.
      stretch.forEach((page, i) => {
        if (error === 0) {
          page.data.fill(0);
          page.data.set(body.subarray(i * PAGE, (i + 1) * PAGE));
          page.uptodate = true;
        }
        page.lock.release();
      });
      file.reads_ahead--;
      inode.waits.changed();
    });
  }

  /** Some pages behind the one that is read, and some before one that a mapping wants (do_sync_mmap_readahead). */
  *#ahead(file: File, index: number, mapped: boolean): Task<void> {
    if (!this.readahead) return;
    const from = mapped ? Math.max(0, index - this.#below(3)) : index;
    yield* this.#readAhead(file, from, index + this.#below(4));
  }

  /** The page with what the file has there. It may be gone again at the next wait. */
  *#uptodate(file: File, index: number, mapped: boolean): Task<Page> {
    for (;;) {
      const known = file.inode.pages.get(index);
      if (known?.uptodate === true) return known;
      if (known === undefined) yield* this.#ahead(file, index, mapped);
      const page = yield* this.#grab(file.inode, index);
      try {
        if (!page.uptodate) yield* this.#fill(file, page);
      } finally {
        page.lock.release();
      }
      if (!page.gone) return page;
    }
  }

  /** read(2), or a load from a mapping: `len` bytes of one page. */
  *read(file: File, off: number, len: number): Task<Uint8Array> {
    if (file.direct) return yield* this.#readDirect(file, off, len);
    // fuse_cache_read_iter: no page behind the end as the kernel knows it, which an append of this node would miss.
    while (off + len > file.inode.size && file.inode.stale !== "nothing") yield* this.stat(file.inode, "size");
    const page = yield* this.#uptodate(file, Math.floor(off / PAGE), false);
    // page_cache_async_ra.
    if (this.readahead && this.#below(4) === 0) {
      const bytes = page.data.slice(off % PAGE, (off % PAGE) + len);
      yield* this.#ahead(file, page.index + 1, false);
      return bytes;
    }
    return page.data.slice(off % PAGE, (off % PAGE) + len);
  }

  /**
   * A store to a shared mapping. Gives what is to be waited for until it counts for other nodes: a page that a write(2) covers whole is uptodate before the
   * WRITE is sent (fuse_fill_write_pages), so a store to it asks nobody, and gets to others with the WRITE.
   */
  *store(file: File, off: number, bytes: Uint8Array): Task<Thunk<void>> {
    const index = Math.floor(off / PAGE);
    for (;;) {
      const page = yield* this.#uptodate(file, index, true);
      if (!page.dirty) {
        // page_mkwrite.
        yield* wait(page.lock.take);
        if (!page.gone) yield* wait(file.inode.waits.until(() => !file.inode.writeback.has(index)));
        if (!page.gone) page.dirty = true;
        page.lock.release();
        // It may have been written and taken away since: then the store faults again.
        continue;
      }
      page.data.set(bytes, off % PAGE);
      return file.inode.waits.until(() => !page.unasked);
    }
  }

  /** fuse_direct_io: what is dirty there is written first. */
  *#readDirect(file: File, off: number, len: number): Task<Uint8Array> {
    return yield* this.#ask(F.FUSE_READ, file.inode.nodeid, yield* this.#readRequest(file, off, len));
  }

  *#readRequest(file: File, off: number, len: number): Task<Uint8Array> {
    const { inode } = file;
    const [from, to] = [Math.floor(off / PAGE), Math.ceil((off + len) / PAGE)];
    yield* this.#writePages(inode, from, to);
    yield* wait(inode.waits.until(() => ![...inode.writeback.keys()].some((i) => i >= from && i < to)));
    const q = F.FuseReadIn.alloc();
    q.fh = file.fh;
    q.offset = off;
    q.size = len;
    q.flags = file.flags;
    q.read_flags = F.FUSE_READ_LOCKOWNER;
    return bytesOf(q);
  }

  /** fuse_direct_io: pages of the range go before and, since 6.18, afterwards; an append's range is where the file ends as far as the kernel knows. */
  *#writeDirect(file: File, off: number, bytes: Uint8Array): Task<void> {
    const { inode } = file;
    const [from, to] = [Math.floor(off / PAGE), Math.ceil((off + bytes.length) / PAGE)];
    yield* this.#invalidatePages(inode, from, to);
    yield* wait(this.#preempted());
    yield* this.#ask(F.FUSE_WRITE, inode.nodeid, this.#writeRequest(file, off, bytes));
    yield* this.#invalidatePages(inode, from, to);
  }

  #writeRequest(file: File, off: number, bytes: Uint8Array): Uint8Array {
    const q = F.FuseWriteIn.alloc();
    q.fh = file.fh;
    q.offset = off;
    q.size = bytes.length;
    q.flags = file.flags;
    q.write_flags = F.FUSE_WRITE_LOCKOWNER;
    return join(bytesOf(q), bytes);
  }

  // Asynchronous direct I/O (fuse_direct_IO with FUSE_ASYNC_DIO): the call returns when the request is sent ------------------
  /** The result is to be waited for. */
  *submitRead(file: File, off: number, len: number): Task<Task<Uint8Array>> {
    const reply = this.#send(F.FUSE_READ, file.inode.nodeid, yield* this.#readRequest(file, off, len));
    function* completed(): Task<Uint8Array> {
      const { error, body } = yield* wait(reply);
      if (error !== 0) throw errnoError("READ", error);
      return body;
    }
    return completed();
  }

  /**
   * i_rwsem is held until the request is sent: exclusively, or shared with others by the same way (FOPEN_PARALLEL_DIRECT_WRITES). The pages that go
   * afterwards go then, too.
   */
  *submitWrite(file: File, off: number, bytes: Uint8Array): Task<Task<void>> {
    const { inode } = file;
    const shared = this.#below(2) === 0;
    const [from, to] = [Math.floor(off / PAGE), Math.ceil((off + bytes.length) / PAGE)];
    yield* wait(shared ? inode.rwsem.read : inode.rwsem.write);
    let reply: Thunk<Reply>;
    try {
      yield* this.#invalidatePages(inode, from, to);
      yield* wait(this.#preempted());
      reply = this.#send(F.FUSE_WRITE, inode.nodeid, this.#writeRequest(file, off, bytes));
      yield* this.#invalidatePages(inode, from, to);
    } finally {
      if (shared) inode.rwsem.readDone();
      else inode.rwsem.writeDone();
    }
    const written = (): void => this.#written(inode, off + bytes.length);
    function* completed(): Task<void> {
      const { error } = yield* wait(reply);
      if (error !== 0) throw errnoError("WRITE", error);
      written();
    }
    return completed();
  }

  /** fuse_write_update_attr. */
  #written(inode: KInode, end: number): void {
    inode.size = Math.max(inode.size, end);
    inode.attr_version = ++this.#attr_version;
    if (inode.stale === "nothing") inode.stale = "size";
  }

  /** A write(2): fuse_direct_write_iter, beside cached files under i_rwsem exclusively, or fuse_perform_write. */
  *write(file: File, at_off: number, bytes: Uint8Array): Task<void> {
    const { inode } = file;
    yield* wait(inode.rwsem.write);
    const off = (file.flags & O_APPEND) === 0 ? at_off : inode.size;
    try {
      if (file.direct) yield* this.#writeDirect(file, off, bytes);
      else for (let at = 0; at < bytes.length; ) at += yield* this.#writeSome(file, off + at, bytes.subarray(at));
      this.#written(inode, off + bytes.length);
    } finally {
      inode.rwsem.writeDone();
    }
  }

  /** One request: up to the first page that is not uptodate afterwards, which stays locked until the answer. */
  *#writeSome(file: File, off: number, bytes: Uint8Array): Task<number> {
    const { inode } = file;
    const parts: { page: Page; at: number; n: number }[] = [];
    const unasked: Page[] = [];
    let locked: Page | null = null;
    let len = 0;
    while (len < bytes.length && locked === null) {
      const page = yield* this.#grab(inode, Math.floor((off + len) / PAGE));
      const at = (off + len) % PAGE;
      const n = Math.min(PAGE - at, bytes.length - len);
      page.data.set(bytes.subarray(len, len + n), at);
      if (n === PAGE && !page.uptodate) {
        page.uptodate = true;
        page.unasked = true;
        unasked.push(page);
      }
      page.sent++;
      parts.push({ page, at, n });
      len += n;
      if (page.uptodate) page.lock.release();
      else locked = page;
    }
    try {
      for (const { page } of parts) yield* wait(inode.waits.until(() => !inode.writeback.has(page.index)));
      const q = F.FuseWriteIn.alloc();
      q.fh = file.fh;
      q.offset = off;
      q.size = len;
      q.flags = file.flags;
      const body = (): Uint8Array => {
        const data = join(...parts.map(({ page, at, n }) => page.data.subarray(at, at + n)));
        for (const { page, at, n } of parts) {
          if (!page.gone) continue;
          const [from, to] = [page.index * PAGE + at - off, page.index * PAGE + at + n - off];
          const mixed = Buffer.compare(data.subarray(from, to), bytes.subarray(from, to)) !== 0;
          if (mixed || page.seen_early || inode.pages.has(page.index)) this.onLateWrite(inode.nodeid, off + from, n);
        }
        return join(bytesOf(q), data);
      };
      yield* this.#ask(F.FUSE_WRITE, inode.nodeid, body);
    } catch (err) {
      // What the cache has is not what the file has: it is read anew, and what a mapping has stored goes with it.
      for (const { page } of parts) {
        page.uptodate = false;
        this.onLost(inode.nodeid, page.index * PAGE, true);
      }
      throw err;
    } finally {
      locked?.lock.release();
      for (const { page } of parts) page.sent--;
      for (const page of unasked) page.unasked = false;
      inode.waits.changed();
    }
    return len;
  }

  // Writing back --------------------------------------------------------------------------------------------------------
  /** fuse_writepage_locked: the page is locked and was dirty. */
  #writePage(inode: KInode, page: Page): void {
    page.dirty = false;
    page.seen_early ||= page.sent > 0;
    const data = page.data.slice();
    const { index } = page;
    inode.writeback.set(index, (inode.writeback.get(index) ?? 0) + 1);
    const send = (): void => {
      inode.writectr++;
      const q = F.FuseWriteIn.alloc();
      q.offset = index * PAGE;
      q.size = PAGE;
      q.write_flags = F.FUSE_WRITE_CACHE;
      this.#c.ask(
        F.FUSE_WRITE,
        inode.nodeid,
        join(bytesOf(q), data),
      )((_, reply) => {
        if (reply!.error !== 0) {
          inode.wb_errors++;
          inode.wb_told = false;
          this.onLost(inode.nodeid, index * PAGE, false);
        }
        inode.writectr--;
        const left = inode.writeback.get(index)! - 1;
        if (left === 0) inode.writeback.delete(index);
        else inode.writeback.set(index, left);
        inode.waits.changed();
      });
    };
    if (inode.nowrite) inode.queued.push(send);
    else send();
  }

  *#writePages(inode: KInode, from = 0, to = Number.POSITIVE_INFINITY): Task<void> {
    for (const page of [...inode.pages.values()]) {
      if (!page.dirty || page.index < from || page.index >= to) continue;
      yield* wait(page.lock.take);
      if (!page.gone && page.dirty) {
        yield* wait(inode.waits.until(() => !inode.writeback.has(page.index)));
        this.#writePage(inode, page);
      }
      page.lock.release();
    }
  }

  #flushLater(): void {
    this.#clock.after(1 + this.#below(FLUSH_MS), () => {
      if (this.#c.gone) return;
      const self = this;
      function* all(): Task<void> {
        for (const inode of [...self.#inodes.values()]) yield* self.#writePages(inode);
      }
      spawn(all(), (err) => {
        if (err) throw err;
        this.#flushLater();
      });
    });
  }

  /** shrink_page_list: pages that nobody uses just now. */
  #shrinkLater(): void {
    this.#clock.after(1 + this.#below(SHORT_MS), () => {
      if (this.#c.gone) return;
      for (const inode of this.#inodes.values())
        for (const page of [...inode.pages.values()]) {
          const used = page.lock.held || page.dirty || page.sent > 0 || inode.writeback.has(page.index);
          if (used || this.#below(GOES) > 0) continue;
          page.gone = true;
          inode.pages.delete(page.index);
        }
      this.#shrinkLater();
    });
  }

  /** invalidate_inode_pages2_range: page by page, each one's lock waited for, what is dirty written first. */
  *#invalidatePages(inode: KInode, from: number, to: number): Task<void> {
    for (let at = from; ; ) {
      const left = [...inode.pages.keys()].filter((i) => i >= at && i < to);
      if (left.length === 0) return;
      const index = Math.min(...left);
      at = index + 1;
      const page = inode.pages.get(index)!;
      yield* wait(page.lock.take);
      yield* wait(inode.waits.until(() => page.gone || !inode.writeback.has(index)));
      if (!page.gone && page.dirty) {
        this.#writePage(inode, page);
        yield* wait(inode.waits.until(() => !inode.writeback.has(index)));
      }
      if (!page.gone) {
        page.gone = true;
        inode.pages.delete(index);
      }
      page.lock.release();
    }
  }

  // Notifications -------------------------------------------------------------------------------------------------------
  notify(message: Uint8Array): Thunk<number> {
    this.notifications++;
    return (cb) => spawn(this.#notified(message), cb);
  }

  *#notified(message: Uint8Array): Task<number> {
    if (this.#c.gone) return -Errno.ENODEV;
    const head = F.FuseOutHeader.from(message);
    const body = message.subarray(F.FuseOutHeader.size);
    switch (head.error) {
      case F.FUSE_NOTIFY_INVAL_INODE:
        return yield* this.#invalInode(F.FuseNotifyInvalInodeOut.from(body.slice()));
      case F.FUSE_NOTIFY_INC_EPOCH:
        this.#epoch++;
        return message.length;
      case F.FUSE_NOTIFY_INVAL_ENTRY: {
        const out = F.FuseNotifyInvalEntryOut.from(body.slice());
        const name = new TextDecoder().decode(body.subarray(F.FuseNotifyInvalEntryOut.size, -1));
        return yield* this.#invalEntry(out.parent, name, message.length);
      }
      case F.FUSE_NOTIFY_PRUNE: {
        const { count } = F.FuseNotifyPruneOut.from(body.slice());
        const dv = new DataView(body.slice().buffer);
        for (let i = 0; i < count; i++) this.#prune(Number(dv.getBigUint64(F.FuseNotifyPruneOut.size + 8 * i, true)));
        return message.length;
      }
      default:
        return -Errno.EINVAL;
    }
  }

  *#invalInode({ ino, off_, len }: F.FuseNotifyInvalInodeOut): Task<number> {
    const inode = this.#inodes.get(ino);
    if (inode === undefined) {
      this.unknown++;
      return -Errno.ENOENT;
    }
    this.hold(inode);
    this.#c.options.log(`INVAL_INODE ${ino} ${off_} ${len}`);
    inode.attr_version = ++this.#attr_version;
    inode.stale = "all";
    if (off_ >= 0) {
      yield* wait(this.#pause());
      const end = len <= 0 ? Number.POSITIVE_INFINITY : Math.floor((off_ + len - 1) / PAGE) + 1;
      yield* this.#invalidatePages(inode, Math.floor(off_ / PAGE), end);
    }
    this.#c.options.log(`INVAL_INODE ${ino} ${off_} ${len} ends`);
    this.put(inode);
    return F.FuseOutHeader.size;
  }

  *#invalEntry(parent: number, name: string, done: number): Task<number> {
    const dir = this.#inodes.get(parent);
    if (dir === undefined) return -Errno.ENOENT;
    this.hold(dir);
    yield* wait(dir.rwsem.write);
    const there = this.#names(dir).has(name);
    this.#dropName(dir, name);
    dir.rwsem.writeDone();
    this.put(dir);
    return there ? done : -Errno.ENOENT;
  }

  /** d_prune_aliases: names that nobody uses. */
  #prune(nodeid: number): void {
    const inode = this.#inodes.get(nodeid);
    if (inode === undefined) return;
    for (const [dir, names] of [...this.#dentries])
      for (const [name, d] of [...names]) if (d.inode === inode) this.#dropName(dir, name);
  }

  /** Everything that is dirty is written: before an unmount. */
  *sync(): Task<void> {
    for (const inode of [...this.#inodes.values()]) {
      yield* this.#writePages(inode);
      yield* wait(inode.waits.until(() => inode.writeback.size === 0));
    }
  }
}
