/**
 * reflink: a new file that shares all clusters of another one (refcounttree.c: ocfs2_reflink, what OCFS2_IOC_REFLINK does).
 *
 * The new inode begins in the orphan directory and gets its name last: a crash before that leaves an orphan that
 * the next mount deletes. Differs from the kernel: attributes are set anew instead of sharing the clusters of long
 * values, so attributes written by us never are in a refcount tree; and an inline file gets no tree, for it has nothing to share.
 */
import { LockSet } from "../../dlmglue/lock_set.ts";
import {
  type Dinode,
  DYN_FEATURES,
  EXT_FLAGS,
  I_ATTR,
  I_FLAGS,
  isReg,
  maxInlineDataWithXattr,
  modeToFileType,
} from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { assert, FsError } from "../../lib/fs_error.ts";
import { ML, mlog } from "../../lib/masklog.ts";
import { type Task, wait } from "../../lib/task.ts";
import { checkMayChange, secondsOf, setLinks, stamp } from "../dir/attr.ts";
import { addEntry, findEntry, openDir } from "../dir/dir.ts";
import { type Cred, checkAlive, type Locked, lockDir, lockInode, newInode } from "../dir/iget.ts";
import { inode_hooks } from "../dir/inode_hooks.ts";
import { checkNewName, type Name } from "../dir/name.ts";
import { nameError } from "../dir/namei.ts";
import { orphanAdd, orphanDelete } from "../dir/orphan.ts";
import { wipeInode } from "../dir/wipe.ts";
import { getClusters } from "../extents/extent_map.ts";
import { inlineRoom, isInline, waitIoIdle } from "../file/file_io.ts";
import { type Inode, inodeChanged, inodeExclusive, inodeRelease, rwLock } from "../inode.ts";
import type { Op } from "../op.ts";
import type { Osb } from "../osb.ts";
import { boundedRun } from "./counts.ts";
import { commonTree, flushSource, type Side, shareClusters } from "./share.ts";
import { checkRefcountFeature } from "./tree.ts";
import { copyXattrs } from "./xattrs.ts";

export interface ReflinkOptions {
  /** A snapshot: owner, mode, mtime, ACLs and security attributes as the source has them. Who may ask for that the caller knows. */
  readonly preserve: boolean;
  readonly cred: Cred;
}

/** Extents that one operation shares. */
const EXTENTS_PER_STEP = 8;
/** Counts that one operation raises in one extent. */
const RECS_PER_EXTENT = 4;

function checkSource(inode: Inode, di: Dinode): void {
  const bad = (errno: number): never => {
    throw new FsError(errno, "reflink", { ino: inode.ino, mode: di.i_mode, i_attr: di.i_attr });
  };
  if (!isReg(di.i_mode) || (di.i_attr & (I_ATTR.IMMUTABLE | I_ATTR.APPEND)) !== 0) bad(Errno.EPERM);
  if ((di.i_flags & I_FLAGS.SYSTEM) !== 0) bad(Errno.EINVAL);
}

/** A directory that may get the name, which is free. */
function openParent(op: Op, dir: Inode, name: Name): Locked {
  const d = lockDir(op, dir, true);
  checkAlive(d);
  checkMayChange(d.di, false);
  if (findEntry(openDir(op, dir, d.di_bh), name) !== undefined) throw nameError(Errno.EEXIST, "reflink", dir, name);
  return d;
}

function makeOrphan(op: Op, dir: Inode, name: Name, mode: number, cred: Cred): Inode {
  const child = newInode(op, openParent(op, dir, name), cred, { mode, rdev: 0, nlink: 0 });
  orphanAdd(op, child);
  const { inode } = child;
  op.onSuccess(() => {
    inode.task_count++;
  });
  return inode;
}

/** Both inodes under their locks, the source's first: nobody else can want the new one. */
function lockBoth(op: Op, src: Inode, dst: Inode): [Locked, Locked] {
  return [lockInode(op, src, true), lockInode(op, dst, true)];
}

const side = ({ inode, di_bh }: Locked): Side => ({ inode, bh: di_bh });

function copyInline(op: Op, from: Locked, to: Locked): void {
  op.modify(to.di_bh);
  const { geo, cache } = op.osb;
  const { u8 } = cache;
  const size = from.di.i_size;
  const { addr: from_addr } = inlineRoom(op.osb, from.di);
  to.di.i_dyn_features |= DYN_FEATURES.INLINE_DATA;
  u8.fill(0, to.di.i_data.off, to.di_bh.addr + geo.blocksize);
  to.di.i_data.id_count = maxInlineDataWithXattr(geo.blocksize, to.di);
  const room = inlineRoom(op.osb, to.di);
  assert(size <= room.bytes, `inline data of ${size} bytes does not fit an empty inode`);
  u8.copyWithin(room.addr, from_addr, from_addr + size);
  to.di.i_size = size;
  inodeChanged(op, to.inode);
}

/** Shares some extents from `cpos` on; where to go on, undefined at the end (ocfs2_attach_refcount_tree, ocfs2_duplicate_extent_list). */
function shareStep(op: Op, src: Inode, dst: Inode, cpos: number): number | undefined {
  const { osb } = op;
  const [from, to] = lockBoth(op, src, dst);
  if (isInline(from.di)) return undefined;
  // What lies behind the end of the file was allocated for later, and stays the source's.
  const end = osb.clustersForBytes(from.di.i_size);
  let at = cpos;
  for (let shared = 0; at < end && shared < EXTENTS_PER_STEP; ) {
    const ext = getClusters(op, src, at);
    let n = Math.min(ext.clusters, end - at);
    if (ext.p_cluster !== 0) {
      const t = commonTree(op, side(from), side(to));
      if ((ext.flags & EXT_FLAGS.REFCOUNTED) !== 0) n = boundedRun(op, t, ext.p_cluster, n, RECS_PER_EXTENT);
      else {
        op.modify(from.di_bh);
        stamp(op, from.di, false);
      }
      shareClusters(op, t, side(from), at, side(to), at, { ...ext, clusters: n });
      shared++;
    }
    at += n;
  }
  return at < end ? at : undefined;
}

/** The new file becomes what the source is, but for number, links and ctime (ocfs2_complete_reflink). */
function complete(op: Op, src: Inode, dst: Inode, preserve: boolean): void {
  const [from, to] = lockBoth(op, src, dst);
  op.modify(to.di_bh);
  to.di.i_size = from.di.i_size;
  to.di.i_attr = from.di.i_attr;
  stamp(op, to.di, !preserve);
  if (preserve) {
    to.di.i_uid = from.di.i_uid;
    to.di.i_gid = from.di.i_gid;
    to.di.i_mode = from.di.i_mode;
    to.di.i_mtime = secondsOf(from.di.i_mtime);
    to.di.i_mtime_nsec = from.di.i_mtime_nsec;
  }
  inodeChanged(op, dst);
}

/** Out of the orphan directory, into the one that was asked for (ocfs2_mv_orphaned_inode_to_new). */
function giveName(op: Op, dir: Inode, name: Name, dst: Inode, o: ReflinkOptions): void {
  const d = openParent(op, dir, name);
  const child = lockInode(op, dst, true);
  orphanDelete(op, child);
  op.modify(child.di_bh);
  setLinks(child.di, 1);
  if (!o.preserve) {
    const { i_mode } = child.di;
    const with_acl = inode_hooks.inheritAcl(op, dir, d.di_bh, dst, child.di_bh, i_mode);
    child.di.i_mode = with_acl ?? i_mode & ~(o.cred.umask & 0o777);
  }
  addEntry(openDir(op, dir, d.di_bh), name, dst.ino, modeToFileType(child.di.i_mode));
  inodeChanged(op, dst);
  op.onSuccess(() => {
    dst.orphaned = false;
  });
}

function* fill(osb: Osb, src: Inode, dst: Inode, preserve: boolean): Task<void> {
  const locks = new LockSet();
  try {
    const check = (op: Op): void => {
      rwLock(op, src, true);
      checkSource(src, lockInode(op, src, true).di);
      inodeExclusive(src, locks);
      waitIoIdle(src);
    };
    yield* flushSource(osb, src, check, locks);
    yield* wait(
      osb.step((op) => {
        const [from, to] = lockBoth(op, src, dst);
        inodeExclusive(dst, locks);
        if (isInline(from.di)) copyInline(op, from, to);
      }, locks),
    );
    // Attributes take what inline data leaves of the dinode, but come before extents.
    yield* copyXattrs(osb, src, dst, preserve, locks);
    for (let next: number | undefined = 0; next !== undefined; ) {
      const from: number = next;
      next = yield* wait(osb.step((op) => shareStep(op, src, dst, from), locks));
    }
    yield* wait(osb.step((op) => complete(op, src, dst, preserve), locks));
  } finally {
    inodeRelease(src, locks);
    inodeRelease(dst, locks);
    locks.releaseAll();
  }
}

/**
 * Makes `name` in `dir` a reflink of the regular file `src`. Returns the new inode. EOPNOTSUPP (the volume lacks the feature), EPERM (no
 * regular file, immutable, append-only), EEXIST, ENOENT (the directory was removed), ENOSPC.
 */
export function* reflinkTask(osb: Osb, src: Inode, dir: Inode, name: Name, o: ReflinkOptions): Task<Inode> {
  checkRefcountFeature(osb);
  checkNewName(name);
  const mode = yield* wait(
    osb.step((op) => {
      const { di } = lockInode(op, src);
      checkSource(src, di);
      return di.i_mode;
    }),
  );
  const dst = yield* wait(osb.step((op) => makeOrphan(op, dir, name, mode, o.cred)));
  src.task_count++;
  let done = false;
  try {
    yield* fill(osb, src, dst, o.preserve);
    yield* wait(osb.step((op) => giveName(op, dir, name, dst, o)));
    done = true;
    return dst;
  } finally {
    src.task_count--;
    dst.task_count--;
    if (!done) yield* discard(osb, dst);
  }
}

/** The orphan of a reflink that failed; what cannot be deleted now is at the next mount. */
function* discard(osb: Osb, dst: Inode): Task<void> {
  try {
    yield* wipeInode(osb, dst);
  } catch (err) {
    mlog(ML.ERROR, `reflink: orphan ${dst.ino}:`, err instanceof Error ? err.message : String(err));
  }
}
