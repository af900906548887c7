/** The local LockDomain: no other node, every lock is granted at once (ocfs2_mount_local in dlmglue.c). */
import type { DomainLock, LockCallbacks, LockDomain, LockLevel } from "./lock_domain.ts";

const callbacksOf = new WeakMap<DomainLock, LockCallbacks>();

export class LocalDomain implements LockDomain {
  readonly name = "local";
  readonly clustered = false;
  readonly node_num = 0;
  onNodeDown = (): void => {};

  newLock(name: string, callbacks: LockCallbacks): DomainLock {
    const lock = { name, lvb: new Uint8Array(0), lvb_valid: false };
    callbacksOf.set(lock, callbacks);
    return lock;
  }

  convert(lock: DomainLock, _level: LockLevel): void {
    callbacksOf.get(lock)!.ast(0);
  }

  cancel(_lock: DomainLock): void {}

  unlock(_lock: DomainLock, done: (status: number) => void): void {
    done(0);
  }

  leave(done: (status: number) => void): void {
    done(0);
  }
}
