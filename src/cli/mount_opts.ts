/**
 * The text behind `-o`, by the kernel's names (fs/ocfs2/super.c) and ours. What is not known is refused by name: an option
 * that is silently dropped is worse than one that is missing.
 */
import { FUSE_KERNEL_MINOR_VERSION } from "../format/fuse/index.ts";
import { defaultMountOptions, type MountOptions } from "../volume/mount_options.ts";

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** mount(2)'s flags, for root. */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  SYNCHRONOUS: 16,
  REMOUNT: 32,
  DIRSYNC: 128,
  NOATIME: 1024,
  NODIRATIME: 2048,
  RELATIME: 1 << 21,
  STRICTATIME: 1 << 24,
  LAZYTIME: 1 << 25,
} as const;

export interface ParsedOptions {
  readonly volume: MountOptions;
  /** MS_* */
  readonly flags: number;
  readonly config: string;
  readonly node: string | null;
  readonly allow_other: boolean;
  /** Of a mount that is there; what cannot be changed is passed over. */
  readonly remount: boolean;
  readonly writeback_cache: boolean;
  readonly mountpoints: boolean;
  readonly names_cool_ms: number;
  /** flock holds on this node only. */
  readonly local_flocks: boolean;
  /** For tests: locks are called back at random moments, drawn from this seed. */
  readonly random_bast_seed: number | null;
  /** For tests: speak no newer FUSE than 7.N, as beside an older kernel. */
  readonly fuse_minor: number;
}

/** Names of a folder that another node has taken are not cached for so long (fuse/cached_names.ts). */
const NAMES_COOL_MS = 2000;

/** A wrong option: one line for the user. */
export class OptionError extends Error {}

const VFS: Record<string, [set: number, clear: number]> = {
  rw: [0, MS.RDONLY],
  suid: [0, MS.NOSUID],
  nosuid: [MS.NOSUID, 0],
  dev: [0, MS.NODEV],
  nodev: [MS.NODEV, 0],
  exec: [0, MS.NOEXEC],
  noexec: [MS.NOEXEC, 0],
  async: [0, MS.SYNCHRONOUS],
  sync: [MS.SYNCHRONOUS, 0],
  dirsync: [MS.DIRSYNC, 0],
  atime: [0, MS.NOATIME],
  diratime: [0, MS.NODIRATIME],
  nodiratime: [MS.NODIRATIME, 0],
  relatime: [MS.RELATIME, 0],
  norelatime: [0, MS.RELATIME],
  strictatime: [MS.STRICTATIME, 0],
  nostrictatime: [0, MS.STRICTATIME],
  lazytime: [MS.LAZYTIME, 0],
  nolazytime: [0, MS.LAZYTIME],
};

/** Said in /etc/fstab or by mount(8), and no business of the file system. */
const IGNORED = /^(defaults|auto|noauto|user|nouser|users|group|owner|_netdev|nofail|comment=.*|x-.*|X-.*)$/;
/** The kernel's options that change nothing here: signals never interrupt a lock wait, inodes have 64 bits, the volume says which heartbeat it has. */
const ACCEPTED: readonly string[] = [
  "intr",
  "nointr",
  "inode64",
  "cluster_stack=o2cb",
  "heartbeat=local",
  "heartbeat=none",
  "heartbeat=global",
];

/** What /proc/mounts says of a mount, and mount(8) hands over when it is remounted. */
const OF_THE_MOUNT = /^(user_id=\d+|group_id=\d+|default_permissions|max_read=\d+|blksize=\d+|seclabel)$/;

/** The kernel's options that would change what a mount does, and that it does not do. */
const REFUSED: Record<string, string> = {
  journal_async_commit: "the journal keeps the features that mkfs gave it: leave it out",
};

function number(name: string, value: string, min: number, max: number): number {
  const n = Number(value);
  if (!/^\d+$/.test(value) || n < min || n > max)
    throw new OptionError(`${name}=${value} is not a number from ${min} to ${max}`);
  return n;
}

function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const hit = allowed.find((a) => a === value);
  if (hit === undefined) throw new OptionError(`${name}=${value} is none of ${allowed.join(", ")}`);
  return hit;
}

/** "64M" in bytes. */
function size(name: string, value: string): number {
  const m = /^(\d+)([kKmMgG]?)$/.exec(value);
  if (m === null) throw new OptionError(`${name}=${value} is not a size such as 256M`);
  const unit = { "": 1, k: 1 << 10, m: 1 << 20, g: 1 << 30 }[m[2]!.toLowerCase()]!;
  return Number(m[1]) * unit;
}

interface Draft {
  v: Writable<MountOptions>;
  flags: number;
  config: string;
  node: string | null;
  allow_other: boolean;
  remount: boolean;
  writeback_cache: boolean;
  mountpoints: boolean;
  names_cool_ms: number;
  local_flocks: boolean;
  random_bast_seed: number | null;
  fuse_minor: number;
}

/** What a few programs at work have open. */
const MIN_CACHED_INODES = 64;

type Setter = (d: Draft, value: string, name: string) => void;

/** Options without a value. */
const SWITCHES: Record<string, (d: Draft) => void> = {
  ro: (d) => {
    d.v.ro = true;
    d.flags |= MS.RDONLY;
  },
  noatime: (d) => {
    d.v.noatime = true;
    d.flags |= MS.NOATIME;
  },
  acl: (d) => {
    d.v.acl = true;
  },
  noacl: (d) => {
    d.v.acl = false;
  },
  user_xattr: (d) => {
    d.v.user_xattr = true;
  },
  nouser_xattr: (d) => {
    d.v.user_xattr = false;
  },
  nocluster: (d) => {
    d.v.nocluster = true;
  },
  allow_other: (d) => {
    d.allow_other = true;
  },
  remount: (d) => {
    d.remount = true;
  },
  writeback_cache: (d) => {
    d.writeback_cache = true;
  },
  mountpoints: (d) => {
    d.mountpoints = true;
  },
  localflocks: (d) => {
    d.local_flocks = true;
  },
  usrquota: (d) => {
    d.v.usrquota = true;
  },
  grpquota: (d) => {
    d.v.grpquota = true;
  },
};

const VALUES: Record<string, Setter> = {
  errors: (d, v, n) => {
    d.v.errors = oneOf(n, v, ["remount-ro", "panic", "continue"]);
  },
  data: (d, v, n) => {
    d.v.data = oneOf(n, v, ["ordered", "writeback"]);
  },
  commit: (d, v, n) => {
    d.v.commit_s = number(n, v, 0, 3600) || defaultMountOptions.commit_s;
  },
  localalloc: (d, v, n) => {
    d.v.localalloc_mb = number(n, v, 0, 2048);
  },
  resv_level: (d, v, n) => {
    d.v.resv_level = number(n, v, 0, 8);
  },
  dir_resv_level: (d, v, n) => {
    d.v.dir_resv_level = number(n, v, 0, 8);
  },
  atime_quantum: (d, v, n) => {
    d.v.atime_quantum_s = number(n, v, 0, 0xffffffff);
  },
  coherency: (d, v, n) => {
    d.v.coherency = oneOf(n, v, ["full", "buffered"]);
  },
  barrier: (d, v, n) => {
    d.v.barrier = number(n, v, 0, 1) === 1;
  },
  preferred_slot: (d, v, n) => {
    d.v.preferred_slot = number(n, v, 0, 254);
  },
  cache: (d, v, n) => {
    const bytes = size(n, v);
    if (bytes < 16 << 20 || bytes > 2 ** 31) throw new OptionError(`${n}=${v} is not between 16M and 2G`);
    d.v.cache_bytes = Math.floor(bytes / 2);
    d.v.data_cache_bytes = bytes - d.v.cache_bytes;
  },
  cached_inodes: (d, v, n) => {
    d.v.cached_inodes = number(n, v, MIN_CACHED_INODES, 2 ** 24 - 1);
  },
  config: (d, v) => {
    d.config = v;
  },
  node: (d, v) => {
    d.node = v;
  },
  // A volume has one thread, whatever is asked for (docs/ARCHITECTURE.md).
  threads: (_, v, n) => void number(n, v, 1, 64),
  fuse_minor: (d, v, n) => {
    d.fuse_minor = number(n, v, 31, FUSE_KERNEL_MINOR_VERSION);
  },
  namecool: (d, v, n) => {
    d.names_cool_ms = number(n, v, 0, 3_600_000);
  },
  lockdomain: (d, v, n) => {
    const m = /^random:(\d+)$/.exec(v);
    if (m === null) throw new OptionError(`${n}=${v} is not random:SEED`);
    d.random_bast_seed = Number(m[1]);
  },
};

const acceptedValues = (name: string): string[] =>
  ACCEPTED.filter((o) => o.startsWith(`${name}=`)).map((o) => o.slice(name.length + 1));

/** All options, without their values: for the documentation's sake. */
export const mountOptionNames = (): string[] => [
  ...new Set([
    ...Object.keys(VFS),
    ...ACCEPTED.map((o) => o.split("=")[0]!),
    ...Object.keys(SWITCHES),
    ...Object.keys(VALUES),
  ]),
];

function take(d: Draft, option: string): void {
  const eq = option.indexOf("=");
  const name = eq < 0 ? option : option.slice(0, eq);
  const value = eq < 0 ? null : option.slice(eq + 1);
  if (IGNORED.test(option) || ACCEPTED.includes(option)) return;
  const vfs = VFS[option];
  if (vfs !== undefined) {
    d.flags = (d.flags | vfs[0]) & ~vfs[1];
    if (option === "rw") d.v.ro = false;
    if (option === "atime") d.v.noatime = false;
    return;
  }
  const on = SWITCHES[name];
  const set = VALUES[name];
  if (on !== undefined && value === null) on(d);
  else if (set !== undefined && value !== null && value !== "") set(d, value, name);
  else if (on !== undefined) throw new OptionError(`option ${name} takes no value`);
  else if (set !== undefined) throw new OptionError(`option ${name} needs a value: ${name}=...`);
  else if (REFUSED[option] !== undefined) throw new OptionError(`option ${option}: ${REFUSED[option]}`);
  else if (ACCEPTED.some((known) => known.startsWith(`${name}=`))) oneOf(name, value ?? "", acceptedValues(name));
  else if (!d.remount || !OF_THE_MOUNT.test(option)) throw new OptionError(`unknown mount option ${name}`);
}

/** Parses what one or more -o said. Throws OptionError. */
export function parseMountOptions(texts: readonly string[]): ParsedOptions {
  const d: Draft = {
    v: { ...defaultMountOptions, cached_inodes: 0 },
    flags: 0,
    config: "/etc/ocfs2/cluster.conf",
    node: null,
    allow_other: false,
    remount: false,
    writeback_cache: false,
    mountpoints: false,
    names_cool_ms: NAMES_COOL_MS,
    local_flocks: false,
    random_bast_seed: null,
    fuse_minor: FUSE_KERNEL_MINOR_VERSION,
  };
  const options = texts.flatMap((text) => text.split(",")).filter((option) => option !== "");
  d.remount = options.includes("remount");
  for (const option of options) take(d, option);
  if (d.writeback_cache && d.random_bast_seed !== null)
    throw new OptionError("writeback_cache is for mounts without other nodes");
  return {
    volume: d.v,
    flags: d.flags,
    config: d.config,
    node: d.node,
    allow_other: d.allow_other,
    remount: d.remount,
    writeback_cache: d.writeback_cache,
    mountpoints: d.mountpoints,
    names_cool_ms: d.names_cool_ms,
    local_flocks: d.local_flocks,
    random_bast_seed: d.random_bast_seed,
    fuse_minor: d.fuse_minor,
  };
}
