/**
 * The cluster's locks for programs, without a file system: what dlmfs offers as files. A lock space is a domain of the lock manager; every node that
 * joined it sees the same locks.
 */
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { EX, type LockDomain, PR } from "../stackglue/lock_domain.ts";
import { type HeldLevel, UserLock } from "../stackglue/userdlm.ts";

export type LockMode = "shared" | "exclusive";

export interface LockOptions {
  /** EAGAIN instead of waiting. */
  readonly trylock?: boolean;
}

/** A lock that is held. `using` gives it back. */
export class HeldLock {
  readonly name: string;
  readonly mode: LockMode;
  readonly #lock: UserLock;
  #held = true;

  constructor(lock: UserLock, mode: LockMode) {
    this.name = lock.name;
    this.mode = mode;
    this.#lock = lock;
  }

  #check(): void {
    if (!this.#held) throw new FsError(Errno.EBADF, "lock_space", { name: this.name });
  }

  /** The 64 bytes that the last exclusive holder left; all zero if nobody did, or a node died that may have changed them. */
  value(): Uint8Array {
    this.#check();
    return this.#lock.readLvb();
  }

  /** Up to 64 bytes for the next holder. Needs the lock exclusively. */
  setValue(bytes: Uint8Array): void {
    this.#check();
    if (this.mode !== "exclusive") throw new FsError(Errno.EACCES, "lock_space.setValue", { name: this.name });
    if (bytes.length > 64)
      throw new FsError(Errno.EINVAL, "lock_space.setValue", { name: this.name, len: bytes.length });
    this.#lock.writeLvb(bytes);
  }

  /** True while another node waits for this lock. */
  get isWanted(): boolean {
    this.#check();
    return this.#lock.isWanted;
  }

  /** Settles when another node wants the lock, at once if it does already: a holder that can wait gives it up then. */
  wanted(): Promise<void> {
    this.#check();
    return new Promise((ok, fail) => {
      this.#lock.whenWanted((err) =>
        err === 0 ? ok() : fail(new FsError(-err, "lock_space.wanted", { name: this.name })),
      );
    });
  }

  unlock(): void {
    this.#check();
    this.#held = false;
    this.#lock.unlock(level(this.mode));
  }

  [Symbol.dispose](): void {
    if (this.#held) this.unlock();
  }
}

const level = (mode: LockMode): HeldLevel => (mode === "exclusive" ? EX : PR);

export class LockSpace {
  readonly #domain: LockDomain;
  readonly #locks = new Map<string, UserLock>();

  /** Over a domain that was joined. */
  constructor(domain: LockDomain) {
    this.#domain = domain;
  }

  get name(): string {
    return this.#domain.name;
  }

  /** Waits for the lock; names have 1 to 31 bytes. */
  lock(name: string, mode: LockMode, options: LockOptions = {}): Promise<HeldLock> {
    if (name.length < 1 || name.length > 31 || /[^\0-\xff]/.test(name))
      return Promise.reject(new FsError(Errno.EINVAL, "lock_space.lock", { name }));
    let lock = this.#locks.get(name);
    if (lock === undefined) this.#locks.set(name, (lock = new UserLock(this.#domain, name)));
    const taken = lock;
    return new Promise((ok, fail) => {
      taken.lock(level(mode), options.trylock ?? false, (err) => {
        if (err === 0) ok(new HeldLock(taken, mode));
        else fail(new FsError(-err, "lock_space.lock", { name, mode }));
      });
    });
  }

  /** Gives a lock that nobody here holds back to the cluster (dlmfs: rm). EBUSY while somebody does. */
  forget(name: string): Promise<void> {
    const lock = this.#locks.get(name);
    if (lock === undefined) return Promise.resolve();
    return new Promise((ok, fail) => {
      lock.destroy((err) => {
        if (err < 0) fail(new FsError(-err, "lock_space.forget", { name }));
        else {
          this.#locks.delete(name);
          ok();
        }
      });
    });
  }

  /** Leaves the domain. No lock may be held. */
  async close(): Promise<void> {
    for (const name of [...this.#locks.keys()]) await this.forget(name);
    await new Promise<void>((ok) => this.#domain.leave(() => ok()));
  }
}
