/**
 * What this node and the kernel agree on at INIT and at each OPEN: one row a flag, with what a local and a clustered mount
 * do and why. docs/FUSE.md shows the same rows (doc_tables.ts), so a flag cannot be changed without its reason.
 *
 * "Clustered" is every mount whose LockDomain has other nodes in it, the random one of the tests included.
 */
import * as F from "../format/fuse/index.ts";

/** "yes", "no", or "option": only when the mount option of the same name asks for it. */
type Answer = "yes" | "no" | "option";

export interface FlagRow {
  readonly name: string;
  readonly flag: number;
  readonly local: Answer;
  readonly clustered: Answer;
  readonly why: string;
}

const row = (name: string, flag: number, local: Answer, clustered: Answer, why: string): FlagRow => ({
  name,
  flag,
  local,
  clustered,
  why,
});

export const INIT_FLAGS: readonly FlagRow[] = [
  row("ASYNC_READ", F.FUSE_ASYNC_READ, "yes", "yes", "several readahead requests of one file are in flight at once"),
  row(
    "POSIX_LOCKS",
    F.FUSE_POSIX_LOCKS,
    "no",
    "no",
    "fcntl locks are the kernel's own business on one node; OCFS2 through o2cb does not make them cluster-wide either",
  ),
  row(
    "ATOMIC_O_TRUNC",
    F.FUSE_ATOMIC_O_TRUNC,
    "yes",
    "yes",
    "O_TRUNC comes with OPEN: one request instead of two, and no moment at which the file is open with its old size",
  ),
  row(
    "EXPORT_SUPPORT",
    F.FUSE_EXPORT_SUPPORT,
    "yes",
    "yes",
    'lookups of "." and ".." by node id: open_by_handle_at, NFS export',
  ),
  row("BIG_WRITES", F.FUSE_BIG_WRITES, "yes", "yes", "writes above one page (kernels since 4.20 do not ask)"),
  row(
    "DONT_MASK",
    F.FUSE_DONT_MASK,
    "yes",
    "yes",
    "a default ACL replaces the umask, so the umask is applied by whoever reads the ACL: this node",
  ),
  row("SPLICE_WRITE", F.FUSE_SPLICE_WRITE, "no", "no", "splice gained nothing over one writev in our measurements"),
  row("SPLICE_MOVE", F.FUSE_SPLICE_MOVE, "no", "no", "as SPLICE_WRITE"),
  row("SPLICE_READ", F.FUSE_SPLICE_READ, "no", "no", "as SPLICE_WRITE; requests are read into the arena"),
  row(
    "FLOCK_LOCKS",
    F.FUSE_FLOCK_LOCKS,
    "no",
    "yes",
    "on one node the kernel keeps flock locks; in a cluster they are locks of the DLM, one an open file (not with -o localflocks)",
  ),
  row("HAS_IOCTL_DIR", F.FUSE_HAS_IOCTL_DIR, "no", "no", "what the kernel says of itself; ioctls on directories come"),
  row(
    "AUTO_INVAL_DATA",
    F.FUSE_AUTO_INVAL_DATA,
    "no",
    "no",
    "every stat after a write would show a new mtime and throw the file's pages away",
  ),
  row(
    "DO_READDIRPLUS",
    F.FUSE_DO_READDIRPLUS,
    "yes",
    "no",
    "`ls -l` needs no LOOKUP of each name. Clustered, names and inodes of a reply could come into the kernel's caches behind their invalidation: it takes them over one by one, and waits for look-ups in between",
  ),
  row("READDIRPLUS_AUTO", F.FUSE_READDIRPLUS_AUTO, "yes", "no", "plain READDIR where nobody asks for attributes"),
  row(
    "ASYNC_DIO",
    F.FUSE_ASYNC_DIO,
    "yes",
    "yes",
    "libaio and io_uring clients have more than one direct request in flight",
  ),
  row(
    "WRITEBACK_CACHE",
    F.FUSE_WRITEBACK_CACHE,
    "option",
    "no",
    "it makes the kernel the authority over a file's size, and a cached page is written again without asking; only where no other node exists",
  ),
  row(
    "NO_OPEN_SUPPORT",
    F.FUSE_NO_OPEN_SUPPORT,
    "no",
    "no",
    "OPEN is answered: its reply says direct I/O, and we must know who may write",
  ),
  row(
    "PARALLEL_DIROPS",
    F.FUSE_PARALLEL_DIROPS,
    "yes",
    "yes",
    "lookups and readdirs of one directory at the same time",
  ),
  row("HANDLE_KILLPRIV", F.FUSE_HANDLE_KILLPRIV, "no", "no", "version 2 has the caller's privileges in the request"),
  row("POSIX_ACL", F.FUSE_POSIX_ACL, "yes", "yes", "the kernel checks ACLs and caches them; off with noacl"),
  row(
    "ABORT_ERROR",
    F.FUSE_ABORT_ERROR,
    "yes",
    "yes",
    "an aborted connection reads ECONNABORTED, an unmounted one ENODEV",
  ),
  row("MAX_PAGES", F.FUSE_MAX_PAGES, "yes", "yes", "requests of 1 MiB: 256 pages"),
  row("CACHE_SYMLINKS", F.FUSE_CACHE_SYMLINKS, "yes", "yes", "a symlink's target never changes while its inode lives"),
  row(
    "NO_OPENDIR_SUPPORT",
    F.FUSE_NO_OPENDIR_SUPPORT,
    "yes",
    "no",
    "OPENDIR answers ENOSYS: no OPENDIR and RELEASEDIR, and listings are cached. Clustered, a READDIR reply could fill that cache after its invalidation",
  ),
  row(
    "EXPLICIT_INVAL_DATA",
    F.FUSE_EXPLICIT_INVAL_DATA,
    "yes",
    "yes",
    "only we know when pages are stale: never on one node, at a BAST in a cluster, and then a notification says so",
  ),
  row("MAP_ALIGNMENT", F.FUSE_MAP_ALIGNMENT, "no", "no", "DAX of virtiofs"),
  row("SUBMOUNTS", F.FUSE_SUBMOUNTS, "no", "no", "there are none"),
  row(
    "HANDLE_KILLPRIV_V2",
    F.FUSE_HANDLE_KILLPRIV_V2,
    "yes",
    "yes",
    "setuid and setgid bits fall inside the operation that writes; and the kernel asks for security.capability once a file, not once a write",
  ),
  row("SETXATTR_EXT", F.FUSE_SETXATTR_EXT, "yes", "yes", "says when setting an ACL must clear the setgid bit"),
  row("INIT_EXT", F.FUSE_INIT_EXT, "yes", "yes", "flags above 32 bits"),
  row("SECURITY_CTX", F.FUSE_SECURITY_CTX, "no", "no", "labels of new files are set by a request of their own"),
  row("HAS_INODE_DAX", F.FUSE_HAS_INODE_DAX, "no", "no", "as MAP_ALIGNMENT"),
  row(
    "CREATE_SUPP_GROUP",
    F.FUSE_CREATE_SUPP_GROUP,
    "no",
    "no",
    "the VFS clears setgid of a new file itself since Linux 6.0",
  ),
  row(
    "HAS_EXPIRE_ONLY",
    F.FUSE_HAS_EXPIRE_ONLY,
    "no",
    "no",
    "a revalidation in flight would arm the long time-out again",
  ),
  row(
    "DIRECT_IO_ALLOW_MMAP",
    F.FUSE_DIRECT_IO_ALLOW_MMAP,
    "yes",
    "yes",
    "a file that is open with O_DIRECT can be mapped shared, and stays coherent",
  ),
  row("PASSTHROUGH", F.FUSE_PASSTHROUGH, "no", "no", "there is no file behind a file"),
  row(
    "NO_EXPORT_SUPPORT",
    F.FUSE_NO_EXPORT_SUPPORT,
    "no",
    "no",
    "node ids are inode numbers: handles can always be opened",
  ),
  row(
    "HAS_RESEND",
    F.FUSE_HAS_RESEND,
    "no",
    "no",
    "a server that died is not succeeded by another on the same connection",
  ),
  row("ALLOW_IDMAP", F.FUSE_ALLOW_IDMAP, "no", "no", "not tried"),
  row(
    "OVER_IO_URING",
    F.FUSE_OVER_IO_URING,
    "no",
    "no",
    "no gain with one thread; and parked requests would hold its entries",
  ),
  row("REQUEST_TIMEOUT", F.FUSE_REQUEST_TIMEOUT, "no", "no", "a request may wait for another node's recovery"),
];

export interface FopenRow {
  readonly name: string;
  readonly flag: number;
  readonly local: string;
  readonly clustered: string;
}

/** What the reply to OPEN and CREATE sets (openFlags decides). */
export const FOPEN_ROWS: readonly FopenRow[] = [
  {
    name: "DIRECT_IO",
    flag: F.FOPEN_DIRECT_IO,
    local: "for O_DIRECT, but not with writeback_cache: the end of the file may be in that cache",
    clustered: "for O_DIRECT, and for O_APPEND (the end of the file is known under the lock only)",
  },
  {
    name: "PARALLEL_DIRECT_WRITES",
    flag: F.FOPEN_PARALLEL_DIRECT_WRITES,
    local: "with DIRECT_IO: writes inside of the file do not wait for each other",
    clustered: "as local, but not for O_APPEND",
  },
  {
    name: "KEEP_CACHE",
    flag: F.FOPEN_KEEP_CACHE,
    local: "always: nobody else changes the file",
    clustered: "always: a BAST drops what is stale when it becomes stale",
  },
  { name: "CACHE_DIR", flag: F.FOPEN_CACHE_DIR, local: "by OPENDIR's ENOSYS", clustered: "never" },
  {
    name: "NOFLUSH",
    flag: F.FOPEN_NOFLUSH,
    local: "never: FLUSH answers ENOSYS once instead, so close() still writes mapped pages",
    clustered: "as local",
  },
  { name: "NONSEEKABLE", flag: F.FOPEN_NONSEEKABLE, local: "never", clustered: "never" },
  { name: "STREAM", flag: F.FOPEN_STREAM, local: "never", clustered: "never" },
  { name: "PASSTHROUGH", flag: F.FOPEN_PASSTHROUGH, local: "never", clustered: "never" },
];

export interface CachePolicy {
  readonly clustered: boolean;
  readonly writeback_cache: boolean;
  /** Something may be mounted inside: clustered, the kernel then asks for each name again, for it can forget names only together with mounts. */
  readonly mountpoints: boolean;
  /** How long the names of a folder are not cached after another node has taken it (cached_names.ts). */
  readonly names_cool_ms: number;
  readonly acl: boolean;
  /** flock stays the kernel's in a cluster, too: it holds on this node only. */
  readonly local_flocks: boolean;
}

/** The INIT flags that we set, of those that the kernel offers. */
export function negotiate(policy: CachePolicy, offered: number, offered2: number): { flags: number; flags2: number } {
  const wanted: number[] = [];
  for (const r of INIT_FLAGS) {
    const answer = policy.clustered ? r.clustered : r.local;
    if (answer === "no" || (answer === "option" && !policy.writeback_cache)) continue;
    if (r.flag === F.FUSE_POSIX_ACL && !policy.acl) continue;
    if (r.flag === F.FUSE_FLOCK_LOCKS && policy.local_flocks) continue;
    if (F.hasInitFlag(offered, offered2, r.flag)) wanted.push(r.flag);
  }
  return F.initFlagWords(...wanted);
}

const O_APPEND = 0o2000;
const O_DIRECT = 0o40000;

/** FOPEN flags for an open with O_* `flags`. */
export function openFlags(policy: CachePolicy, flags: number): number {
  let fopen: number = F.FOPEN_KEEP_CACHE;
  // The writeback cache may hold the end of the file, of which we do not know: past it only the kernel knows what a direct read finds.
  if (policy.writeback_cache && !policy.clustered) return fopen;
  const append = policy.clustered && (flags & O_APPEND) !== 0;
  if ((flags & O_DIRECT) !== 0 || append) fopen |= F.FOPEN_DIRECT_IO;
  if ((flags & O_DIRECT) !== 0 && !append) fopen |= F.FOPEN_PARALLEL_DIRECT_WRITES;
  return fopen;
}
