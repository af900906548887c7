/**
 * The lock types of OCFS2: their letters, what makes them differ, and how their names are built (ocfs2_lockid.h,
 * ocfs2_build_lock_name, ocfs2_dentry_lock_res_init). A mixed cluster depends on every byte: two nodes that spell a name
 * differently each have a lock of their own.
 */
import { assert } from "../lib/fs_error.ts";

export interface LockType {
  /** First letter of the name. */
  readonly letter: string;
  /** The last holder at EX hands a value on (LOCK_TYPE_USES_LVB). */
  readonly uses_lvb?: true;
  /** What is read under it may be in a dead node's journal: nobody gets it before that was replayed. */
  readonly waits_for_recovery?: true;
  /** Goes back to NL with its last holder (OCFS2_LOCK_NOCACHE). */
  readonly nocache?: true;
}

export const LOCK_TYPES = {
  meta: { letter: "M", uses_lvb: true, waits_for_recovery: true },
  super: { letter: "S" },
  rename: { letter: "R" },
  rw: { letter: "W" },
  dentry: { letter: "N" },
  open: { letter: "O" },
  flock: { letter: "F", nocache: true },
  qinfo: { letter: "Q", uses_lvb: true },
  nfs_sync: { letter: "Y" },
  orphan_scan: { letter: "P", uses_lvb: true },
  refcount: { letter: "T", waits_for_recovery: true },
  trim_fs: { letter: "I", uses_lvb: true, nocache: true },
} as const satisfies Record<string, LockType>;

/** Longest name, without the zero byte that ends it in C (OCFS2_LOCK_ID_MAX_LEN). */
export const LOCK_NAME_BYTES = 31;

/** Letter, "000000", block number in 16 hex digits, generation in 8 (ocfs2_build_lock_name). */
export function lockName(letter: string, blkno: number, generation: number): string {
  return `${letter}000000${blkno.toString(16).padStart(16, "0")}${(generation >>> 0).toString(16).padStart(8, "0")}`;
}

/**
 * A dentry lock's name: "N", the parent's block number in 16 hex digits, a zero byte, the inode's block number in eight
 * bytes, big-endian, and zeros up to the length that all names have (ocfs2_dentry_lock_res_init).
 */
export function dentryLockName(parent: number, ino: number): string {
  let name = `N${parent.toString(16).padStart(16, "0")}\0`;
  const hi = Math.floor(ino / 2 ** 32);
  for (const word of [hi, ino >>> 0])
    for (let shift = 24; shift >= 0; shift -= 8) name += String.fromCharCode((word >>> shift) & 0xff);
  name = name.padEnd(LOCK_NAME_BYTES, "\0");
  assert(name.length === LOCK_NAME_BYTES, `dentry lock's name of ${name.length} bytes`);
  return name;
}

/** The inode that a dentry lock's name speaks of (ocfs2_get_dentry_lock_ino). */
export function dentryLockIno(name: string): number {
  let ino = 0;
  for (let i = 18; i < 26; i++) ino = ino * 256 + name.charCodeAt(i);
  return ino;
}
