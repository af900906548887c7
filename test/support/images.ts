/** Volumes for tests: sparse files made by mkfs.ocfs2, in the option sets that tests go through. */
import { closeSync, ftruncateSync, openSync } from "node:fs";
import { sh } from "./sh.ts";

/** A sparse file of so many MiB. */
export function sparseFile(path: string, size_mib: number): void {
  const fd = openSync(path, "w");
  ftruncateSync(fd, size_mib * 2 ** 20);
  closeSync(fd);
}

/** A local volume made by Debian's mkfs.ocfs2. */
export function mkfs(path: string, size_mib: number, args: readonly string[] = []): void {
  sparseFile(path, size_mib);
  sh(["mkfs.ocfs2", "-q", "-F", "-M", "local", ...args, path]);
}

export interface OptionSet {
  readonly name: string;
  readonly args: readonly string[];
  /** What such a volume must be mounted with. */
  readonly mountOptions?: string;
  /** False for a volume that a kernel node mounts only in a cluster. */
  readonly local?: boolean;
  /** Room that the workload needs on it, where that is more than usual: large clusters. */
  readonly size_mib?: number;
}

/** Option sets that differ in every way that changes the code which is run. */
export const OPTION_SETS: readonly OptionSet[] = [
  { name: "4K blocks, 4K clusters", args: ["-b", "4K", "-C", "4K", "-N", "2"] },
  { name: "1K blocks, 32K clusters", args: ["-b", "1K", "-C", "32K", "-N", "4"] },
  { name: "512 blocks, 4K clusters", args: ["-b", "512", "-C", "4K", "-N", "2"] },
  { name: "2K blocks, 16K clusters, metaecc", args: ["-b", "2K", "-C", "16K", "-N", "1", "--fs-features=metaecc"] },
  { name: "4K blocks, 1M clusters", args: ["-b", "4K", "-C", "1M", "-N", "2"], size_mib: 16384 },
  {
    name: "no inline data, linear directories",
    args: ["-b", "4K", "-C", "4K", "-N", "2", "--fs-features=noinline-data,noindexed-dirs"],
  },
  {
    name: "max-compat (no sparse, no unwritten)",
    args: ["-b", "4K", "-C", "8K", "-N", "2", "--fs-feature-level=max-compat"],
  },
  {
    name: "max-features but quota, metaecc",
    args: ["-b", "4K", "-C", "4K", "-N", "4", "--fs-feature-level=max-features", "--fs-features=nousrquota,nogrpquota"],
  },
  { name: "small journal, 16 slots", args: ["-b", "1K", "-C", "4K", "-N", "16", "-J", "size=4M"] },
  {
    name: "no refcount, no xattr, no discontig",
    args: ["-b", "4K", "-C", "64K", "-N", "2", "--fs-features=norefcount,noxattr,nodiscontig-bg"],
    size_mib: 4096,
  },
  {
    name: "clustered (-o nocluster)",
    args: ["-M", "cluster", "--cluster-stack=o2cb", "--cluster-name=alpha", "-N", "4"],
    mountOptions: "nocluster",
    local: false,
  },
];
