/**
 * What mkfs is asked to do, and how it refuses. Everything behind the command line works on these, so that tests and
 * other tools can make volumes without a shell.
 */

/** A refusal: one line for the user that says what is wrong and what to do. Every one ends with exit code 1, as mkfs.ocfs2's. */
export class MkfsError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "MkfsError";
  }
}

export type FsType = "default" | "datafiles" | "mail" | "vmstore";
export type FeatureLevel = "default" | "max-compat" | "max-features";

/** The three feature words of a super block. */
export interface FeatureSet {
  readonly compat: number;
  readonly incompat: number;
  readonly ro_compat: number;
}

/** What the super block says about the cluster that may mount the volume. */
export interface ClusterDesc {
  readonly stack: string;
  readonly name: string;
  /** ci_stackflags */
  readonly flags: number;
}

export interface MkfsParams {
  readonly features: FeatureSet;
  /** Backup super blocks, if the volume is large enough for one. */
  readonly backup_super: boolean;
  readonly fs_type: FsType;
  /** No cluster: one node mounts the volume. */
  readonly local: boolean;
  /** Only a heartbeat region, for the global heartbeat; no node mounts it. */
  readonly heartbeat_device: boolean;
  /** Give a system directory that does not fit its inode an index too; mkfs.ocfs2 does not. */
  readonly index_system_dir: boolean;
  readonly label: string;
  /** 64-bit block numbers in the journal. */
  readonly journal64: boolean;
  readonly cluster: ClusterDesc | undefined;
  /** 16 bytes; random if not given. */
  readonly uuid: Uint8Array | undefined;
  /** Bytes; undefined here and below: figured out from the size of the volume. */
  readonly block_size: number | undefined;
  readonly cluster_size: number | undefined;
  readonly slots: number | undefined;
  readonly journal_bytes: number | undefined;
  /** Blocks that the volume shall have, of those that the device has. */
  readonly blocks: number | undefined;
}

/** What the sizes depend on besides the parameters. */
export interface TargetShape {
  /** How messages call it. */
  readonly name: string;
  readonly size_bytes: number;
  /** Logical sector, 512 for a file. */
  readonly sector_bytes: number;
}

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** log2 of a power of two below 2^31. */
export const log2 = (n: number): number => 31 - Math.clz32(n);
export const ceilDiv = (a: number, b: number): number => Math.ceil(a / b);
