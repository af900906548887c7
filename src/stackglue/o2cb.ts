/**
 * The o2cb stack's LockDomain (stack_o2cb.c): a domain of o2dlm as dlmglue wants it. A lock is known to the domain from its first
 * request on; requests are refused by the AST, and a cancel that comes too early waits until there is something to call off.
 */
import { dlmconvert } from "../dlm/convert.ts";
import type { Dlm, ProtocolVersion } from "../dlm/dlm.ts";
import { joinDomain, leaveDomain } from "../dlm/domain.ts";
import { dlmlock, newLock } from "../dlm/lock.ts";
import { type DlmLock, LOCK_BUSY, LOCK_CANCEL_WANTED, LOCK_CANCELLING, LOCK_SENDING } from "../dlm/lockres.ts";
import { lvbDrop } from "../dlm/lvb.ts";
import type { DlmNode } from "../dlm/node.ts";
import { dlmunlock } from "../dlm/unlock.ts";
import {
  DLM_STATUS,
  dlmStatusName,
  LKM_CANCEL,
  LKM_LOCAL,
  LKM_NLMODE,
  LKM_NOQUEUE,
  LKM_VALBLK,
} from "../format/wire/dlm_constants.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import type { ConvertOptions, DomainLock, LockCallbacks, LockDomain, LockLevel } from "./lock_domain.ts";

/** What ocfs2 speaks in its locks' names, levels and LVBs (ocfs2_locking_protocol). */
export const OCFS2_LOCKING_PROTOCOL: ProtocolVersion = { major: 1, minor: 0 };

/** dlm_status_to_errno, where dlmglue makes a difference. */
function statusToErrno(status: number): number {
  switch (status) {
    case DLM_STATUS.NORMAL:
      return 0;
    case DLM_STATUS.NOTQUEUED:
      return -Errno.EAGAIN;
    case DLM_STATUS.CANCEL:
      return -Errno.ECANCELED;
    case DLM_STATUS.NOLOCKMGR:
      return -Errno.EHOSTDOWN;
    default:
      return -Errno.EINVAL;
  }
}

export class O2cbDomain implements LockDomain {
  readonly dlm: Dlm;
  readonly clustered = true;
  /** What is to be done when the request before has been answered. */
  readonly #queued = new Map<DlmLock, () => void>();
  onNodeDown: (node_num: number) => void = () => {};

  private constructor(dlm: Dlm) {
    this.dlm = dlm;
    dlm.onEviction = (node) => this.onNodeDown(node);
  }

  /**
   * Joins the domain: the volume's UUID in upper-case hexadecimal digits. `done` hears 0, or why not, as a negative errno and in words ("" where
   * there are none).
   */
  static join(
    node: DlmNode,
    name: string,
    done: (err: number, domain: O2cbDomain | null, why: string) => void,
    fs_proto: ProtocolVersion = OCFS2_LOCKING_PROTOCOL,
  ): void {
    joinDomain(node, name, fs_proto, (err, dlm) => done(err, err === 0 ? new O2cbDomain(dlm) : null, dlm.join_refusal));
  }

  get name(): string {
    return this.dlm.name;
  }

  get node_num(): number {
    return this.dlm.node_num;
  }

  newLock(name: string, callbacks: LockCallbacks): DomainLock {
    return newLock(this.dlm, name, callbacks as { ast(status: number): void; bast(level: number): void });
  }

  convert(l: DomainLock, level: LockLevel, options?: ConvertOptions): void {
    const lock = l as DlmLock;
    assert(!(lock.flags & LOCK_BUSY), `${lock.name}: two requests at a time`);
    const current = lock.res === null ? LKM_NLMODE : lock.type;
    // Not a request: the domain would answer without an AST.
    if (level === current) {
      lock.callbacks!.ast(0);
      return;
    }
    let flags = 0;
    if (options !== undefined) {
      if (options.trylock) flags |= LKM_NOQUEUE;
      if (options.lvb) flags |= LKM_VALBLK;
      if (options.local) flags |= LKM_LOCAL;
    }
    lock.flags |= LOCK_BUSY;
    // The last request's AST was faster than the answer to it.
    if (lock.flags & LOCK_SENDING) this.#queued.set(lock, () => this.#request(lock, level, flags));
    else this.#request(lock, level, flags);
  }

  #request(lock: DlmLock, level: LockLevel, flags: number): void {
    lock.flags |= LOCK_SENDING;
    const done = (status: number): void => this.#taken(lock, status);
    if (lock.res === null) dlmlock(this.dlm, lock, level, flags, done);
    else dlmconvert(this.dlm, lock, level, flags & ~LKM_LOCAL, done);
  }

  /** The request was queued, granted or refused. */
  #taken(lock: DlmLock, status: number): void {
    const cancel = (lock.flags & LOCK_CANCEL_WANTED) !== 0;
    lock.flags &= ~(LOCK_SENDING | LOCK_CANCEL_WANTED);
    const next = this.#queued.get(lock);
    if (next !== undefined) {
      this.#queued.delete(lock);
      next();
      return;
    }
    if (status !== DLM_STATUS.NORMAL) {
      lock.flags &= ~(LOCK_BUSY | LOCK_CANCELLING);
      lock.callbacks!.ast(statusToErrno(status));
    } else if (cancel && lock.flags & LOCK_BUSY) this.cancel(lock);
  }

  cancel(l: DomainLock): void {
    const lock = l as DlmLock;
    if (!(lock.flags & LOCK_BUSY) || lock.flags & LOCK_CANCELLING) return;
    if (this.#queued.delete(lock)) {
      lock.flags &= ~LOCK_BUSY;
      lock.callbacks!.ast(-Errno.ECANCELED);
      return;
    }
    if (lock.flags & LOCK_SENDING) {
      lock.flags |= LOCK_CANCEL_WANTED;
      return;
    }
    lock.flags |= LOCK_CANCELLING;
    dlmunlock(this.dlm, lock, LKM_CANCEL, (status) => {
      const pending = (lock.flags & LOCK_CANCELLING) !== 0;
      lock.flags &= ~LOCK_CANCELLING;
      // Otherwise the grant was faster, and its AST has come or comes.
      if (status !== DLM_STATUS.NORMAL || !pending || !(lock.flags & LOCK_BUSY)) return;
      lock.flags &= ~LOCK_BUSY;
      lock.callbacks!.ast(-Errno.ECANCELED);
    });
  }

  unlock(l: DomainLock, done: (status: number) => void, options?: { lvb?: boolean }): void {
    const lock = l as DlmLock;
    assert(!(lock.flags & LOCK_BUSY), `${lock.name} is unlocked while a request is in flight`);
    if (lock.res === null) {
      lvbDrop(lock);
      done(0);
      return;
    }
    if (lock.flags & LOCK_SENDING) {
      this.#queued.set(lock, () => this.unlock(lock, done, options));
      return;
    }
    dlmunlock(this.dlm, lock, options?.lvb ? LKM_VALBLK : 0, (status) => {
      assert(status === DLM_STATUS.NORMAL, `${lock.name}: the unlock is answered with ${dlmStatusName(status)}`);
      done(0);
    });
  }

  leave(done: (status: number) => void): void {
    leaveDomain(this.dlm, () => done(0));
  }
}
