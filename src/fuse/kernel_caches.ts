/**
 * Giving up what the kernel caches of an inode, when its cluster lock goes: attributes, pages, names. Called inside the lock's
 * downconvert (volume/inode_locks.ts), before data and journal are written.
 *
 * From the first moment the lock's gate is shut: nothing more is answered under it, so nothing is cached behind the
 * notification's back. Exempt is what the notification itself waits for, the kernel's writing back of dirty pages and
 * truncation (LockSet.exempt). A READ or a partial WRITE that waits at the gate holds pages locked in the kernel, and the
 * notification would wait for it: its pages are left out. They are not uptodate and will be filled under the lock's next
 * grant. A request may come between and lock pages in front of a notification that is under way; then a second
 * one goes around it from another thread, and the first is left waiting.
 *
 * A partial WRITE locks its last page only if that is not uptodate; if it is, the page may be dirty through a mapping, and the lock must not go before that is
 * written. We cannot see which. What nothing has filled since pages were called back last is not uptodate (kernel_pages.ts): such a page holds nothing, and is
 * not even told of. Another one is told of by itself and waited for, however long it is being written. Only if the kernel has dropped it since is it not
 * uptodate and locked after all, and nothing comes of it: so it is not waited for any more after SILENT_MS in which nothing was written back.
 */
import type { DlmGlue } from "../dlmglue/dlmglue.ts";
import { EX, type LockLevel, NL } from "../dlmglue/lock_res.ts";
import { S_IFDIR } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import type { Callback, Thunk } from "../lib/task.ts";
import type { Inode } from "../volume/inode.ts";
import type { KernelCaches } from "../volume/inode_locks.ts";
import type { Turns } from "./channel.ts";
import { DroppedNames } from "./dropped_names.ts";
import { HeldRanges, type PageRange } from "./held_ranges.ts";
import { LostNames } from "./lost_names.ts";
import type { Notice, Notifier } from "./notifier.ts";
import type { Session } from "./session.ts";

/** A notification that takes longer than this may be waiting for a request that waits for us. */
const SUSPECT_MS = 2;
/**
 * One for a page that may be uptodate, and dirty, is waited for until nothing was heard for so long of what the kernel does meanwhile: it sleeps over it, and has
 * written nothing back. Then the page was dropped before, for want of memory say, and is held by the WRITE. A thread that has no CPU, or is still to start, does not sleep.
 */
const SILENT_MS = 100;
/** The kernel has our LOOKUP's reply but not yet the inode: it is a matter of microseconds. */
const RETRY_MS = 1;

/**
 * A second notification may never get to its pages: umount(2) waits for the first to come back, and the second behind umount(2) (fuse_conn.killsb). So after this
 * time READs are let in, which the first waits for; what they fill is called back again afterwards. Nobody has the file open for writing then.
 */
const STUCK_MS = 1000;

/** What the kernel was told last of a page. */
interface Told {
  notice: Notice | null;
}

/** For tests: the kernel takes the folder's lock before it looks whether there is such a name. */
const ANY_NAME = new Uint8Array([0x78]);

export class SessionCaches implements KernelCaches {
  readonly #s: Session;
  readonly #notifier: Notifier;
  readonly #loop: Turns;
  readonly #lost: LostNames;
  readonly #dropped: DroppedNames;

  constructor(s: Session, notifier: Notifier, loop: Turns, glue: DlmGlue) {
    assert(glue.domain.clustered, "kernel caches are given up on clustered mounts only");
    this.#s = s;
    this.#notifier = notifier;
    this.#loop = loop;
    this.#dropped = new DroppedNames(s, notifier);
    this.#lost = new LostNames(s, this.#dropped);
  }

  invalidate(inode: Inode, to: LockLevel): Thunk<void> {
    return (cb) => {
      const res = inode.meta_lockres!;
      res.gate_shut = true;
      const held = res.level;
      if (to === NL) this.#lost.suspect(inode);
      this.#whenIoIdle(inode, () => {
        const type = inode.ino === inode.osb.geo.root_blkno ? S_IFDIR : this.#s.types.get(inode.ino);
        if (this.#s.ended || (inode.nlookup === 0 && type !== S_IFDIR)) cb(null);
        else if (type !== undefined) this.#dropAttr(inode, to, type === S_IFDIR, cb);
        else if (to === NL || (held === EX && inode.writer_count > 0)) {
          // What the kernel waits for is let in, and what of it had to wait before this moment looks again.
          res.serving = !inode.osb.sabotage.has("serve_held");
          res.wakeWaiters();
          inode.rw_lockres?.wakeWaiters();
          this.#dropPages(inode, held, (err) => {
            // From here on the data is written: nothing more may become dirty.
            res.serving = false;
            res.serving_reads = false;
            cb(err);
          });
        }
        // EX to PR, and nobody can have made a page dirty: what is cached stays true.
        else cb(null);
      });
    };
  }

  doubtAttributes(inode: Inode): void {
    this.#invalidate(inode, -1, 0, () => {});
  }

  drop(inode: Inode, ranges: readonly { readonly from: number; readonly to: number }[]): Thunk<void> {
    return (cb) => {
      let left = ranges.length;
      for (const { from, to } of ranges)
        this.#invalidate(inode, from, to - from, () => {
          if (--left === 0) cb(null);
        });
    };
  }

  forget(inodes: readonly Inode[]): Thunk<void> {
    return (cb) => {
      const { ended, told_names, types } = this.#s;
      // A folder's name takes all names below it along, used or not, where it is dropped by name.
      const wanted = told_names === null ? inodes : inodes.filter((inode) => types.get(inode.ino) !== S_IFDIR);
      if (ended) cb(null);
      else this.#dropped.drop(wanted, () => cb(null));
    };
  }

  /**
   * Direct I/O, and reads that passed the gate, are answered first: what is outstanding afterwards waits at the gate. Not looked at before the next
   * turn: the operation whose end lets the lock go is answered right after it, and until then what it fills counts as held.
   */
  #whenIoIdle(inode: Inode, go: () => void): void {
    const { osb } = inode;
    const look = (): void => {
      if (inode.io_in_flight > 0) inode.io_idle.add(() => osb.ready(look));
      else go();
    };
    osb.ready(look);
  }

  /**
   * Names are covered by the directory's lock here, and all are looked up again: there is no cheaper call that never waits.
   * A symlink's target stays: it never changes, and a READLINK that waits at the gate holds its page.
   */
  #dropAttr(inode: Inode, to: LockLevel, is_dir: boolean, cb: Callback<void>): void {
    if (to !== NL) {
      cb(null);
      return;
    }
    // Names that are looked up each time need not be forgotten, and forgetting takes mounts away.
    const names = is_dir && this.#s.timeouts.entry_s > 0 && this.#s.names.lost(inode.ino);
    let left = names ? 2 : 1;
    const one = (): void => {
      if (--left === 0) cb(null);
    };
    if (names && inode.osb.sabotage.has("dentry_waits"))
      this.#notifier.invalEntry(this.#s.nodeidOf(inode.ino), ANY_NAME, () => this.#notifier.incEpoch(one));
    else if (names) this.#notifier.incEpoch(one);
    this.#invalidate(inode, -1, 0, one);
  }

  /**
   * What a notification must not wait for. A WRITE of whole pages makes them uptodate before it has its lock, and a mapping may make them dirty: without EX
   * nobody can write that back, and there is nothing else in such a page.
   */
  #leftOut(inode: Inode, level: LockLevel): readonly PageRange[] {
    const { held, writes } = this.#s;
    return level === EX ? held.of(inode.ino) : [...held.of(inode.ino), ...writes.pagesOf(inode.ino)];
  }

  #dropPages(inode: Inode, level: LockLevel, cb: Callback<void>): void {
    const { pages } = this.#s;
    const { ino } = inode;
    const { clock } = inode.osb;
    const res = inode.meta_lockres!;
    const seen = new Set<PageRange>();
    let answered = false;
    let round = 0;
    let since_ms = clock.monotonic_ms();
    /** Notifications that have not come back, of those that must. */
    let outstanding = 0;
    pages.recall(ino);
    /** What READs have filled meanwhile is still to be called back. */
    const again = (): void => {
      round++;
      res.serving_reads = false;
      since_ms = clock.monotonic_ms();
      this.#whenIoIdle(inode, attempt);
    };
    const attempt = (): void => {
      const mine = round;
      const ranges = this.#leftOut(inode, level);
      for (const r of ranges) seen.add(r);
      if (mlogOn(ML.BASTS)) mlog(ML.BASTS, `invalidate ${inode.ino} around ${ranges.length} held ranges`);
      const around = HeldRanges.around(ranges);
      // Of those, what may be there: a page that a WRITE found uptodate is not locked, and goes.
      const doubtful = new Map<PageRange, Told>();
      for (const r of ranges) if (r.fills !== true && pages.mayBeUptodate(ino, r)) doubtful.set(r, { notice: null });
      let left = around.length;
      let suspected = false;
      const settle = (): void => {
        if (left > 0 || (doubtful.size > 0 && !suspected) || answered || res.serving_reads || mine !== round) return;
        answered = true;
        pages.recalled(ino, [...doubtful.keys()]);
        cb(null);
      };
      outstanding += around.length;
      for (const { off, len } of around)
        this.#invalidate(inode, off, len, () => {
          left--;
          if (--outstanding === 0 && res.serving_reads) again();
          else settle();
        });
      // One that stays is locked and not uptodate; then its thread alone waits.
      for (const [r, told] of [...doubtful]) {
        const gone = (): void => {
          doubtful.delete(r);
          settle();
        };
        this.#invalidate(inode, r.from, r.to - r.from, gone, told);
      }
      let silent_ms = 0;
      let { served } = pages;
      const suspect = (): void => {
        // What is dirty is written back and waited for. Without EX nothing can be, and what is in such a page is in the WRITE.
        const heard = pages.serving(ino) || pages.served !== served;
        if (heard) silent_ms = 0;
        else if ([...doubtful.values()].every((told) => told.notice?.waits === true)) silent_ms += SUSPECT_MS;
        ({ served } = pages);
        suspected = level !== EX || silent_ms >= SILENT_MS;
        settle();
        if (answered || mine !== round) return;
        if (left > 0 && !res.serving_reads && inode.writer_count === 0 && clock.monotonic_ms() - since_ms > STUCK_MS) {
          res.serving_reads = true;
          res.wakeWaiters();
        }
        // Requests that came in between and hold pages: the attempt may be waiting for them.
        if (this.#leftOut(inode, level).some((r) => !seen.has(r))) attempt();
        else this.#loop.after(SUSPECT_MS, suspect);
      };
      this.#loop.after(SUSPECT_MS, suspect);
    };
    attempt();
  }

  /**
   * The kernel has no inode for a lookup that is counted as long as it is about to make one, or its FORGET is on the way; requests are read whatever happens
   * (slots.ts), and an answer that it has not taken is not counted (Session.forget). That has an end: it refuses no attributes of ours (volume/dir/attr.ts), which
   * it would not forget; it puts no inode aside for another of the same number (fuse_make_bad), since nobody deletes what a lookup is counted of; and behind
   * umount(2), which sends no FORGETs, the session ends.
   */
  #invalidate(inode: Inode, off: number, len: number, done: () => void, told?: Told): void {
    const nodeid = this.#s.nodeidOf(inode.ino);
    const send = (): void => {
      const notice = this.#notifier.invalInode(nodeid, off, len, (result) => {
        const retry = result === -Errno.ENOENT && inode.nlookup > 0 && !this.#s.ended;
        if (retry && !inode.osb.sabotage.has("reply_order")) this.#loop.after(RETRY_MS, send);
        else done();
      });
      if (told !== undefined) told.notice = notice;
    };
    send();
  }
}
