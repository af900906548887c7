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

/**
 * One lock of this node in the domain. `lvb` is the lock value block, 64 bytes: after a grant it holds what the last holder at EX
 * put there. `lvb_valid` is false where the stack knows that it was lost; o2cb never says so (o2cb_dlm_lvb_valid), there a lost
 * block is all zero.
 */
export interface DomainLock {
  /** Up to 31 bytes, one char code (0 to 255) each: a dentry lock's name ends with a binary inode number. */
  readonly name: string;
  readonly lvb: Uint8Array;
  lvb_valid: boolean;
}

export interface ConvertOptions {
  /** -EAGAIN instead of waiting (DLM_LKF_NOQUEUE). */
  trylock?: boolean;
  /** DLM_LKF_VALBLK: up, the LVB comes with the grant; down from EX, `lvb` is handed to the others. */
  lvb?: boolean;
  /** No other node can know the name yet: master it here without asking (LKM_LOCAL; the rw lock of an inode that is being made). */
  local?: boolean;
}

export interface LockDomain {
  readonly name: string;
  /** False for the local domain: no other node exists, so nothing need be given up. */
  readonly clustered: boolean;
  /** This node's number in the cluster; 0 without one. */
  readonly node_num: number;
  /** A lock at NL, known to nobody yet. */
  newLock(name: string, callbacks: LockCallbacks): DomainLock;
  /** Asks for `level` (up or down); the AST answers. One request of a lock is in flight at a time. */
  convert(lock: DomainLock, level: LockLevel, options?: ConvertOptions): void;
  /**
   * Calls the conversion upwards that is in flight off (dlmunlock with LKM_CANCEL). The AST comes in any case: -ECANCELED, and the lock
   * is at its old level; or 0, when the grant was faster.
   */
  cancel(lock: DomainLock): void;
  /** Drops the lock; `done` when the domain has forgotten it. `lvb`: held at EX, its LVB is handed to the others. */
  unlock(lock: DomainLock, done: (status: number) => void, options?: { lvb?: boolean }): void;
  /** Hears of members of the domain that died (dlm_register_eviction_cb), before any lock that they held is granted anew. */
  onNodeDown: (node_num: number) => void;
  /** Leaves the domain. */
  leave(done: (status: number) => void): void;
}
