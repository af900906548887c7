/**
 * LockDomain: what dlmglue needs of a cluster's lock manager (stackglue.c, struct ocfs2_stack_operations). Three modes,
 * VMS style; a lock is granted by an AST, and its holder is asked to give way by a BAST. Implementations: local (every
 * lock is ours), random BASTs for tests, o2cb.
 */
export const NL = 0;
export const PR = 3;
export const EX = 5;
export type LockLevel = typeof NL | typeof PR | typeof EX;

export interface LockCallbacks {
  /** The request that was in flight ended: `status` 0, or a negative errno (-EAGAIN for a refused trylock). */
  ast(status: number): void;
  /** Somebody wants this lock at `level`: give way down to what is compatible with it. */
  bast(level: LockLevel): void;
}

/** One lock of this node in the domain. `lvb` is the lock value block, 64 bytes, valid while `lvb_valid`. */
export interface DomainLock {
  readonly name: string;
  readonly lvb: Uint8Array;
  lvb_valid: boolean;
}

export interface LockDomain {
  readonly name: string;
  /** False for the local domain: no other node exists, so nothing need be given up. */
  readonly clustered: boolean;
  /** A lock at NL, known to nobody yet. */
  newLock(name: string, callbacks: LockCallbacks): DomainLock;
  /** Asks for `level` (up or down); the AST answers. Down-converts from EX hand the LVB on. `trylock`: -EAGAIN instead of waiting. */
  convert(lock: DomainLock, level: LockLevel, options?: { trylock?: boolean }): void;
  /** Drops the lock; `done` when the domain has forgotten it. */
  unlock(lock: DomainLock, done: (status: number) => void): void;
  /** Leaves the domain. */
  leave(done: (status: number) => void): void;
}
