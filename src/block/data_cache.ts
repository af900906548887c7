/**
 * The data cache: pages of file data that are dirty, being written, or were written a short while ago. A page is 4 KiB of
 * the disk (never across clusters), keyed by its place on the disk, so every file that maps the place sees the same bytes.
 * Reads of data that is not here go straight from the disk into the reply (volume/file/read.ts).
 *
 * Blocks that are freed must leave here first (`invalidate` waits for a write in flight): a late write would land in the
 * block's next life.
 */
import type { Arena } from "../lib/arena.ts";
import { Errno } from "../lib/errno.ts";
import { errseqSet, type WritesBack } from "../lib/errseq.ts";
import { assert, Corruption, FsError } from "../lib/fs_error.ts";
import type { Thunk } from "../lib/task.ts";
import { WaitQueue, waitOn } from "../lib/wait.ts";
import { CacheSlots } from "./cache_slots.ts";
import type { BlockDevice } from "./device.ts";

export const PAGE_BYTES = 4096;
/** Pages in one device write: 1 MiB. */
const MAX_RUN = 256;

/** What is written is one file's: another one that comes for the same place was given it by a damaged tree. */
const crossLinked = (page: Page): Corruption =>
  new Corruption("data_cache", { page: page.pno, found: "data of another file, not yet written" });

/** Whose data a page is: an Inode. */
export interface DataOwner extends WritesBack {
  pages: Set<Page> | null;
  dirty_pages: number;
  pages_in_flight: number;
  /** Writes that the device had done (Durability.written) with the last of this file's data: it is durable once as many are. */
  data_written: number;
}

export class Page {
  /** Byte offset on the disk / 4096. */
  readonly pno: number;
  readonly addr: number;
  owner: DataOwner;
  uptodate = false;
  reading = false;
  dirty = false;
  writing = false;
  old = false;
  /** Its lock went while it was being read: what the read brings counts for nothing. */
  stale = false;
  /** Errno of a read that failed. */
  failed = 0;
  constructor(pno: number, addr: number, owner: DataOwner) {
    this.pno = pno;
    this.addr = addr;
    this.owner = owner;
  }
}

export class DataCache {
  readonly #dev: BlockDevice;
  readonly #pages = new Map<number, Page>();
  readonly #slots: CacheSlots<Page>;
  readonly #low_water: number;
  readonly u8: Uint8Array<ArrayBufferLike>;
  dirty_pages = 0;
  pages_in_flight = 0;
  /** Ranges of pages that are being written on the device past this cache. */
  readonly #written_past = new Set<{ readonly pno: number; readonly count: number }>();
  /** Woken when a write-back or a direct write ended or slots became free. */
  readonly progress = new WaitQueue();
  /** Who waits for the last page in flight of an owner: a commit has thousands of them, and each write that ends is news to one. */
  readonly #owner_idle = new Map<DataOwner, WaitQueue>();
  /** Owners with dirty pages. */
  readonly dirty_owners = new Set<DataOwner>();
  /** Hears of each page that could not be written. */
  onWriteError: (owner: DataOwner, errno: number, pno: number) => void = () => {};

  constructor(arena: Arena, dev: BlockDevice, cache_bytes: number) {
    this.#dev = dev;
    this.u8 = arena.u8;
    this.#slots = new CacheSlots(arena, Math.max(2048, Math.floor(cache_bytes / PAGE_BYTES)), PAGE_BYTES);
    this.#low_water = Math.max(512, this.#slots.count >> 5);
  }

  get size(): number {
    return this.#pages.size;
  }

  /** The page if it is in memory with its contents. */
  peek(pno: number): Page | undefined {
    const page = this.#pages.get(pno);
    return page?.uptodate === true ? page : undefined;
  }

  /**
   * A page that the caller is going to fill as a whole in the same run, once nothing can throw any more: no read. Until
   * `filled` its contents count for nothing. Throws Wait when memory is short.
   */
  reserve(owner: DataOwner, pno: number): Page {
    let page = this.#pages.get(pno);
    if (page?.reading === true) waitOn(this.progress);
    page ??= this.#insert(owner, pno);
    if (page.owner !== owner) this.#adopt(page, owner);
    page.old = false;
    return page;
  }

  /** The page holds what the file has: new contents that the disk has not. */
  filled(page: Page): void {
    page.uptodate = true;
    this.markDirty(page);
  }

  /** The page with the disk's contents, read if need be (a write of a part of it). Throws Wait, or FsError EIO. */
  read(owner: DataOwner, pno: number): Page {
    let page = this.#pages.get(pno);
    page ??= this.#insert(owner, pno);
    if (!page.uptodate && !page.reading) {
      if (page.failed !== 0) {
        const errno = page.failed;
        this.#drop(page);
        throw new FsError(errno, "data_cache.read", { page: pno });
      }
      this.#startRead(page);
    }
    if (page.reading || !page.uptodate) waitOn(this.progress);
    if (page.owner !== owner) this.#adopt(page, owner);
    page.old = false;
    return page;
  }

  #startRead(page: Page): void {
    page.reading = true;
    this.#dev.read(page.addr, PAGE_BYTES, page.pno * PAGE_BYTES, (res) => {
      this.#readEnded(page, res === PAGE_BYTES ? 0 : res < 0 ? -res : Errno.EIO);
      this.progress.wakeAll();
    });
  }

  #readEnded(page: Page, errno: number): void {
    page.reading = false;
    if (page.stale) this.#drop(page);
    else if (errno === 0) page.uptodate = true;
    else page.failed = errno;
  }

  /**
   * Starts reading the pages of a range that are not in memory, in runs, and returns at once: before `readShared` of each.
   * Stops where memory is short.
   */
  prefetch(owner: DataOwner, pno: number, count: number): void {
    for (let n = pno; n < pno + count; ) {
      const run: Page[] = [];
      while (n < pno + count && run.length < MAX_RUN && this.#slots.free > 0 && this.#mayInsert(n))
        run.push(this.#insert(owner, n++));
      if (run.length > 0) this.#readRun(run);
      else if (this.#pages.has(n)) n++;
      else return;
    }
  }

  #readRun(run: Page[]): void {
    const iov: number[] = [];
    for (const page of run) {
      page.reading = true;
      const n = iov.length;
      if (n > 0 && iov[n - 2]! + iov[n - 1]! === page.addr) iov[n - 1]! += PAGE_BYTES;
      else iov.push(page.addr, PAGE_BYTES);
    }
    const done = (res: number): void => {
      const errno = res === run.length * PAGE_BYTES ? 0 : res < 0 ? -res : Errno.EIO;
      for (const page of run) this.#readEnded(page, errno);
      this.progress.wakeAll();
    };
    const at = run[0]!.pno * PAGE_BYTES;
    if (iov.length === 2) this.#dev.read(iov[0]!, iov[1]!, at, done);
    else this.#dev.readv(iov, at, done);
  }

  /**
   * As `read`, for contents that are only copied: the page stays with the owner that it has. Clusters that several files
   * share never have dirty pages.
   */
  readShared(owner: DataOwner, pno: number): Page {
    const known = this.#pages.get(pno);
    if (known?.dirty === true || known?.writing === true) throw crossLinked(known);
    return this.read(known?.owner ?? owner, pno);
  }

  /**
   * A page of a cluster that the running operation has just claimed, to be given contents in the same run: others in this
   * run read it from now on. `filled` makes it last; `unstage` forgets it when the run is undone.
   */
  stage(owner: DataOwner, pno: number): Page {
    const page = this.reserve(owner, pno);
    page.uptodate = true;
    return page;
  }

  unstage(page: Page): void {
    if (this.#pages.get(page.pno) === page && !page.dirty && !page.writing && !page.reading) this.#drop(page);
  }

  markDirty(page: Page): void {
    assert(page.uptodate, "a page without contents is marked dirty");
    if (page.dirty) return;
    page.dirty = true;
    page.owner.dirty_pages++;
    this.dirty_pages++;
    this.dirty_owners.add(page.owner);
  }

  #adopt(page: Page, owner: DataOwner): void {
    if (page.dirty || page.writing) throw crossLinked(page);
    page.owner.pages?.delete(page);
    page.owner = owner;
    (owner.pages ??= new Set()).add(page);
  }

  #mayInsert(pno: number): boolean {
    return !this.#pages.has(pno) && !this.#isWrittenPast(pno, 1);
  }

  #insert(owner: DataOwner, pno: number): Page {
    this.waitWrittenPast(pno, 1);
    const addr = this.#slots.take();
    if (addr === undefined) {
      this.#starved = true;
      waitOn(this.progress);
    }
    const page = new Page(pno, addr, owner);
    this.#pages.set(pno, page);
    this.#slots.hold(page);
    (owner.pages ??= new Set()).add(page);
    return page;
  }

  #drop(page: Page): void {
    if (page.dirty) this.#clean(page);
    page.uptodate = false;
    this.#pages.delete(page.pno);
    page.owner.pages?.delete(page);
    if (page.owner.pages?.size === 0) page.owner.pages = null;
    this.#slots.release(page);
  }

  #clean(page: Page): void {
    page.dirty = false;
    page.owner.dirty_pages--;
    this.dirty_pages--;
    if (page.owner.dirty_pages === 0) this.dirty_owners.delete(page.owner);
  }

  /** Some operation waits for a free page. */
  #starved = false;

  get needsReclaim(): boolean {
    return this.#starved || this.#slots.free < this.#low_water || this.pressure;
  }

  /** Drops clean pages that were not used lately, writes some if too many are dirty. Call only while no operation runs. */
  reclaim(): void {
    if (this.pressure || this.#slots.free === 0) this.writeback(this.#slots.count >> 2);
    // Whoever waits for a page may be the only one at work, and nobody else would come by to go on from here: every page gets its second look.
    let passes = this.#slots.count * 2;
    if (!this.#starved) passes = Math.min(passes, 8192);
    const want = this.#low_water * 2;
    while (this.#slots.free < want && passes-- > 0) {
      const page = this.#slots.next();
      if (page === null || page.dirty || page.writing || page.reading) continue;
      if (page.old || !page.uptodate) this.#drop(page);
      else page.old = true;
    }
    if (this.#starved && this.#slots.free >= this.#low_water) {
      this.#starved = false;
      this.progress.wakeAll();
    }
  }

  /** True when write-back should run though nobody asked for it. */
  get pressure(): boolean {
    return this.dirty_pages > this.#slots.count >> 2;
  }

  /** Starts writing dirty pages, about `pages` of them, oldest owners first; does not wait. */
  writeback(pages: number): void {
    let left = pages;
    const owners: DataOwner[] = [];
    for (const owner of this.dirty_owners) {
      if (left <= 0) break;
      left -= owner.dirty_pages;
      owners.push(owner);
    }
    this.writeOwners(owners);
    this.#dev.submit();
  }

  #writeOwner(owner: DataOwner, durable = false): void {
    const batch = this.#toWrite([owner]);
    if (durable && batch.length === 1) this.#writeRun(batch, true);
    else this.#write(batch);
  }

  /** Starts writing the dirty pages of all these: what lies side by side on the disk goes in one write, whosever it is. */
  writeOwners(owners: Iterable<DataOwner>): void {
    this.#write(this.#toWrite(owners));
  }

  /** Their dirty pages, but for those that are being written. */
  #toWrite(owners: Iterable<DataOwner>): Page[] {
    const batch: Page[] = [];
    for (const owner of owners) {
      if (owner.pages === null || owner.dirty_pages === 0) continue;
      for (const page of owner.pages) if (page.dirty && !page.writing) batch.push(page);
    }
    return batch;
  }

  /** Writes pages in runs that are contiguous on the disk. A page written to meanwhile is dirty again afterwards. */
  #write(batch: Page[]): void {
    batch.sort((a, b) => a.pno - b.pno);
    for (let i = 0; i < batch.length; ) {
      let j = i + 1;
      while (j < batch.length && j - i < MAX_RUN && batch[j]!.pno === batch[j - 1]!.pno + 1) j++;
      this.#writeRun(batch.slice(i, j));
      i = j;
    }
  }

  #writeRun(run: Page[], dsync = false): void {
    for (const page of run) {
      page.writing = true;
      page.owner.pages_in_flight++;
      this.pages_in_flight++;
      this.#clean(page);
    }
    this.#sendRun(run, dsync);
  }

  #sendRun(run: readonly Page[], dsync = false): void {
    const iov: number[] = [];
    for (const page of run) {
      const n = iov.length;
      if (n > 0 && iov[n - 2]! + iov[n - 1]! === page.addr) iov[n - 1]! += PAGE_BYTES;
      else iov.push(page.addr, PAGE_BYTES);
    }
    const first = run[0]!.pno;
    const done = (res: number): void => {
      const errno = res < 0 ? -res : res < run.length * PAGE_BYTES ? Errno.EIO : 0;
      // Only that file hears of it whose own page it is.
      const mixed = errno === 0 ? 0 : run.findIndex((page) => page.owner !== run[0]!.owner);
      if (mixed > 0) {
        this.#sendRun(run.slice(0, mixed));
        this.#sendRun(run.slice(mixed));
        this.#dev.submit();
        return;
      }
      for (const page of run) {
        page.writing = false;
        page.owner.pages_in_flight--;
        this.pages_in_flight--;
        if (!dsync) page.owner.data_written = this.#dev.durability.written;
        if (errno !== 0) this.#writeFailed(page.owner, errno, first);
      }
      for (const page of run) this.#ownerIdle(page.owner);
      this.progress.wakeAll();
    };
    if (iov.length === 2) this.#dev.write(iov[0]!, iov[1]!, first * PAGE_BYTES, done, dsync);
    else this.#dev.writev(iov, first * PAGE_BYTES, done);
  }

  #whenIdle(owner: DataOwner, cb: () => void): void {
    let queue = this.#owner_idle.get(owner);
    if (queue === undefined) this.#owner_idle.set(owner, (queue = new WaitQueue()));
    queue.add(cb);
  }

  #ownerIdle(owner: DataOwner): void {
    if (owner.pages_in_flight > 0) return;
    const queue = this.#owner_idle.get(owner);
    if (queue === undefined) return;
    this.#owner_idle.delete(owner);
    queue.wakeAll();
  }

  /**
   * All pages of `owner` that are dirty now are written (not yet flushed on the device, but for a single one with `durable`) when it
   * answers. A failed write is kept in owner.wb_err for fsync.
   */
  flushOwner(owner: DataOwner, durable = false): Thunk<void> {
    return (cb) => {
      const round = (): void => {
        if (owner.dirty_pages > 0) this.#writeOwner(owner, durable);
        this.#dev.submit();
        if (owner.pages_in_flight > 0) this.#whenIdle(owner, settle);
        else cb(null);
      };
      // Pages that were being written when they became dirty again need a second round; more would chase a writer.
      let rounds = 0;
      const settle = (): void => {
        if (owner.pages_in_flight > 0) this.#whenIdle(owner, settle);
        else if (owner.dirty_pages > 0 && rounds++ < 1) round();
        else cb(null);
      };
      if (owner.pages_in_flight > 0 && owner.dirty_pages > 0) settle();
      else round();
    };
  }

  /** Everything that is dirty now is written when it answers. */
  flushAll(): Thunk<void> {
    return (cb) => {
      const owners = [...this.dirty_owners];
      this.writeOwners(owners);
      this.#dev.submit();
      const settle = (): void => {
        if (this.pages_in_flight > 0) this.progress.add(settle);
        else if (this.dirty_pages > 0 && rounds++ < 2) {
          this.writeOwners([...this.dirty_owners]);
          this.#dev.submit();
          settle();
        } else cb(null);
      };
      let rounds = 0;
      settle();
    };
  }

  /** True when a page of the range is being read or written; wait for `progress`. */
  busyIn(pno: number, count: number): boolean {
    if (this.pages_in_flight === 0 && this.#pages.size === 0) return false;
    return this.#some(pno, count, (p) => p.writing || p.reading);
  }

  /** Throws Wait while a page of the range is under I/O. Call before freeing the range, in the same run. */
  waitIdle(pno: number, count: number): void {
    if (this.busyIn(pno, count)) waitOn(this.progress);
  }

  /**
   * A direct write to a range begins, of whose pages none is under I/O: they are forgotten, and until the result is called with what became of it (0 or an
   * errno) nobody gets one. What is read from the disk meanwhile may be of before the write, and would outlast it here.
   */
  writePast(pno: number, count: number): (errno: number) => void {
    const replaced = this.invalidate(pno, count);
    const range = { pno, count };
    this.#written_past.add(range);
    return (errno) => {
      this.#written_past.delete(range);
      // What was dirty is not on the disk, and nothing is in its place.
      if (errno !== 0 && replaced !== null) this.#writeFailed(replaced, errno, pno);
      this.progress.wakeAll();
    };
  }

  #writeFailed(owner: DataOwner, errno: number, pno: number): void {
    owner.wb_err = errseqSet(owner.wb_err, errno);
    this.onWriteError(owner, errno, pno);
  }

  /** Throws Wait while a direct write to a part of the range is under way. */
  waitWrittenPast(pno: number, count: number): void {
    if (this.#isWrittenPast(pno, count)) waitOn(this.progress);
  }

  #isWrittenPast(pno: number, count: number): boolean {
    for (const r of this.#written_past) if (pno < r.pno + r.count && r.pno < pno + count) return true;
    return false;
  }

  /** Forgets pages whose place on the disk was freed; dirty data in them is gone. Answers whose that was, null for nobody's. */
  invalidate(pno: number, count: number): DataOwner | null {
    const victims: Page[] = [];
    let of: DataOwner | null = null;
    this.#some(pno, count, (p) => {
      victims.push(p);
      return false;
    });
    for (const p of victims) {
      assert(!p.writing && !p.reading, `page ${p.pno} is forgotten while under I/O`);
      if (p.dirty) of = p.owner;
      this.#drop(p);
    }
    if (victims.length > 0) this.progress.wakeAll();
    return of;
  }

  /** Drops the clean pages of an owner whose lock is given up. Its dirty pages were flushed before. */
  dropOwner(owner: DataOwner): void {
    if (owner.pages === null) return;
    for (const page of [...owner.pages]) {
      assert(
        !page.dirty && !page.writing,
        `page ${page.pno} is dropped with its lock, ${page.dirty ? "dirty" : "being written"}; ${owner.dirty_pages} dirty, ${owner.pages_in_flight} in flight`,
      );
      if (page.reading) page.stale = true;
      else this.#drop(page);
    }
  }

  #some(pno: number, count: number, test: (p: Page) => boolean): boolean {
    if (this.#pages.size === 0) return false;
    if (count <= this.#pages.size) {
      for (let n = pno; n < pno + count; n++) {
        const page = this.#pages.get(n);
        if (page !== undefined && test(page)) return true;
      }
      return false;
    }
    for (const page of this.#pages.values()) if (page.pno >= pno && page.pno < pno + count && test(page)) return true;
    return false;
  }
}
