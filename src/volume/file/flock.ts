/**
 * flock(2) across the cluster (locks.c: ocfs2_do_flock; dlmglue.c: ocfs2_file_lock). One lock an open file, all with the same name: two
 * files of one node stand against each other as those of two nodes do. It is never cached: with the holder it goes back to NL.
 */
import { EX, LOCK_TYPES, type LockRes, lockName, NL, PR } from "../../dlmglue/lock_res.ts";
import { LockSet } from "../../dlmglue/lock_set.ts";
import { Errno } from "../../lib/errno.ts";
import { FsError } from "../../lib/fs_error.ts";
import { type Task, wait } from "../../lib/task.ts";
import type { Inode } from "../inode.ts";
import type { Osb } from "../osb.ts";

export type FlockKind = "shared" | "exclusive" | "unlock";

/** The lock of one open file; made with the file, `close` with it. */
export class Flock {
  readonly #osb: Osb;
  readonly #inode: Inode;
  #res: LockRes | null = null;
  #locks = new LockSet();
  #interrupted = false;

  constructor(osb: Osb, inode: Inode) {
    this.#osb = osb;
    this.#inode = inode;
  }

  /**
   * Takes or releases the lock. Who has it already keeps it; one that is held otherwise is released first, as flock(2) does when it
   * converts. EAGAIN with `trylock`, EINTR after `interrupt`.
   */
  *set(kind: FlockKind, trylock = false): Task<void> {
    const osb = this.#osb;
    const { glue } = osb;
    this.#interrupted = false;
    const level = kind === "unlock" ? NL : kind === "exclusive" ? EX : PR;
    if (this.#res !== null && this.#locks.level(this.#res) === level) return;
    if (this.#locks.size > 0) yield* this.#release();
    if (level === NL || osb.sabotage.has("flock")) return;
    const { ino, generation } = this.#inode;
    // Without a cluster the name is looked up among this node's own open files by the kernel.
    this.#res ??= glue.newLockRes(lockName(LOCK_TYPES.flock.letter, ino, generation), LOCK_TYPES.flock, null);
    const res = this.#res;
    try {
      const got = yield* wait(
        osb.step((op) => {
          if (this.#interrupted) throw new FsError(Errno.EINTR, "file.flock", { ino });
          if (trylock) return glue.tryLock(op.locks, res, level);
          glue.lock(op.locks, res, level);
          return true;
        }, this.#locks),
      );
      if (!got) throw new FsError(Errno.EAGAIN, "file.flock", { ino });
    } catch (err) {
      // In the queue it would keep out who comes later, though nobody waits for it (ocfs2_flock_handle_signal).
      if (this.#interrupted) yield* glue.cancelTask(res);
      throw err;
    }
  }

  /** A signal: whoever waits in `set` gives up. */
  interrupt(): void {
    this.#interrupted = true;
    this.#locks.withdraw();
    this.#res?.wakeWaiters();
  }

  *#release(): Task<void> {
    this.#locks.releaseAll();
    const res = this.#res;
    while (res !== null && res.dl !== null && (res.level !== NL || res.requested !== null || res.downconverting))
      yield* wait<void>((cb) => res.changed.add(() => cb(null)));
  }

  /** The file is closed: the lock leaves the cluster. */
  *close(): Task<void> {
    this.interrupt();
    this.#locks.releaseAll();
    if (this.#res !== null) yield* this.#osb.glue.dropWhenFree(this.#res);
    this.#res = null;
  }
}
