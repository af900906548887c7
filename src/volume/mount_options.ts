/** Mount options by the kernel's names (super.c, enum tokens), and ours. */
export interface MountOptions {
  readonly ro: boolean;
  readonly errors: "remount-ro" | "panic" | "continue";
  readonly data: "ordered" | "writeback";
  /** Seconds between commits. */
  readonly commit_s: number;
  /** Size of the local alloc window in MiB; 0: none; -1: chosen from the volume's size (ocfs2_la_default_mb). */
  readonly localalloc_mb: number;
  readonly resv_level: number;
  readonly dir_resv_level: number;
  readonly atime_quantum_s: number;
  readonly noatime: boolean;
  readonly coherency: "full" | "buffered";
  readonly user_xattr: boolean;
  readonly acl: boolean;
  readonly barrier: boolean;
  readonly preferred_slot: number;
  readonly nocluster: boolean;
  /** Asked for; refused where the volume does not have them. */
  readonly usrquota: boolean;
  readonly grpquota: boolean;
  /** Bytes of the metadata cache and of the data cache. */
  readonly cache_bytes: number;
  readonly data_cache_bytes: number;
  /** Inodes that are kept in memory, with their cluster locks; 0: as many as the memory of the machine is good for (where it mounts). */
  readonly cached_inodes: number;
}

export const defaultMountOptions: MountOptions = {
  ro: false,
  errors: "remount-ro",
  data: "ordered",
  commit_s: 5,
  localalloc_mb: -1,
  resv_level: 2,
  dir_resv_level: 2,
  atime_quantum_s: 60,
  noatime: false,
  coherency: "full",
  user_xattr: true,
  acl: true,
  barrier: true,
  preferred_slot: -1,
  nocluster: false,
  usrquota: false,
  grpquota: false,
  cache_bytes: 64 << 20,
  data_cache_bytes: 64 << 20,
  cached_inodes: 100_000,
};
