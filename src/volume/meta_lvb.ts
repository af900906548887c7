/**
 * The meta lock's value block: an inode's attributes, handed from the last holder at EX to the next holder (dlmglue.c:
 * __ocfs2_stuff_meta_lvb, ocfs2_refresh_inode_from_lvb). With it a stat of a file that another node writes needs no disk read. Only
 * attributes come this way; blocks and the extent map are read anew whatever the LVB says.
 */
import type { Bh } from "../block/buffer_cache.ts";
import { type LockRes, PR } from "../dlmglue/lock_res.ts";
import { Dinode, DYN_FEATURES, I_FLAGS, isBlk, isChr } from "../format/disk/index.ts";
import { MetaLvb, OCFS2_LVB_VERSION, packTime, unpackTime } from "../format/wire/lvb.ts";
import type { Attr } from "./dir/attr.ts";
import { type Inode, inodeChanged } from "./inode.ts";
import type { Op } from "./op.ts";
import type { Osb } from "./osb.ts";

const viewOf = (lvb: Uint8Array): MetaLvb => MetaLvb.at(new DataView(lvb.buffer, lvb.byteOffset, lvb.byteLength), 0);

/** Fills the LVB: the lock is about to leave EX. Version 0 says to the others that they must read the disk. */
export function stuffMetaLvb(osb: Osb, inode: Inode, res: LockRes): void {
  // Nobody used the lock at EX: what came with it is still true.
  if (inode.lvb_fresh) return;
  const lvb = viewOf(res.lvb);
  if (osb.sabotage.has("lvb") && lvb.lvb_version === OCFS2_LVB_VERSION) return;
  const bh = osb.cache.peek(inode, inode.ino);
  if (bh === undefined) {
    lvb.lvb_version = 0;
    return;
  }
  const di = Dinode.at(osb.cache.dv, bh.addr);
  // A deleted inode, one that was never made, or one with a damaged size: others must find that out from the disk.
  if ((di.i_flags & I_FLAGS.VALID) === 0 || !Number.isSafeInteger(di.i_size)) {
    lvb.lvb_version = 0;
    return;
  }
  lvb.lvb_version = OCFS2_LVB_VERSION;
  lvb.lvb_idynfeatures = di.i_dyn_features;
  lvb.lvb_iclusters = di.i_clusters;
  lvb.lvb_iuid = di.i_uid;
  lvb.lvb_igid = di.i_gid;
  lvb.lvb_iatime_packed = packTime(di.i_atime, di.i_atime_nsec);
  lvb.lvb_ictime_packed = packTime(di.i_ctime, di.i_ctime_nsec);
  lvb.lvb_imtime_packed = packTime(di.i_mtime, di.i_mtime_nsec);
  lvb.lvb_isize = di.i_size;
  lvb.lvb_imode = di.i_mode;
  lvb.lvb_inlink = di.i_links_count & 0xffff;
  lvb.lvb_iattr = di.i_attr;
  lvb.lvb_igeneration = di.i_generation;
}

/** True when the LVB is of this version and of this inode (ocfs2_meta_lvb_is_trustable). */
export const lvbIsTrustable = (inode: Inode, res: LockRes): boolean => lvbIsOf(res, inode.generation);

function lvbIsOf(res: LockRes, generation: number): boolean {
  if (res.dl === null || !res.dl.lvb_valid || generation === 0) return false;
  const lvb = viewOf(res.lvb);
  return lvb.lvb_version === OCFS2_LVB_VERSION && lvb.lvb_igeneration === generation;
}

/** The LVB that came with the lock, while nobody here has used the lock at EX since; undefined when it says nothing. */
function freshLvb(inode: Inode): MetaLvb | undefined {
  const res = inode.meta_lockres;
  if (res === null || !inode.lvb_fresh || res.level < PR || !lvbIsTrustable(inode, res)) return undefined;
  return viewOf(res.lvb);
}

export type Times = Pick<Attr, "atime" | "atime_nsec" | "mtime" | "mtime_nsec" | "ctime" | "ctime_nsec">;

/**
 * The times as the LVB has them. They may be later than the block's: a direct write in place on a kernel node moves them in its memory only
 * (file_update_time), from where they come in the LVB. Undefined when only the disk can tell.
 */
export function timesFromLvb(inode: Inode): Times | undefined {
  const lvb = freshLvb(inode);
  return lvb && timesOf(lvb);
}

/**
 * The lock is about to be used at EX, from when on the LVB counts for nothing: later times, which it alone has, go into the block with the operation
 * (ocfs2_refresh_inode_from_lvb; there whatever changes the inode next writes all of it).
 */
export function settleLvb(op: Op, inode: Inode, bh: Bh): void {
  if (!inode.lvb_fresh) return;
  inode.lvb_fresh = false;
  op.onUndo(() => {
    inode.lvb_fresh = true;
  });
  const { osb } = op;
  const res = inode.meta_lockres!;
  const di = Dinode.at(osb.cache.dv, bh.addr);
  // The inode itself may not know its generation yet.
  if (inode.is_system || osb.readonly_reason !== null || !lvbIsOf(res, di.i_generation)) return;
  const t = timesOf(viewOf(res.lvb));
  const mtime = isLater(t.mtime, t.mtime_nsec, di.i_mtime, di.i_mtime_nsec);
  const ctime = isLater(t.ctime, t.ctime_nsec, di.i_ctime, di.i_ctime_nsec);
  const atime = isLater(t.atime, t.atime_nsec, di.i_atime, di.i_atime_nsec);
  if (!mtime && !ctime && !atime) return;
  op.modify(bh);
  inodeChanged(op, inode, false);
  if (mtime) [di.i_mtime, di.i_mtime_nsec] = [t.mtime, t.mtime_nsec];
  if (ctime) [di.i_ctime, di.i_ctime_nsec] = [t.ctime, t.ctime_nsec];
  if (atime) [di.i_atime, di.i_atime_nsec] = [t.atime, t.atime_nsec];
}

/** The LVB has no times before 1970: of such it tells nothing. */
const isLater = (sec: number, nsec: number, than_sec: number, than_nsec: number): boolean =>
  than_sec >= 0 && (sec > than_sec || (sec === than_sec && nsec > than_nsec));

function timesOf(lvb: MetaLvb): Times {
  const [atime, mtime, ctime] = [lvb.lvb_iatime_packed, lvb.lvb_imtime_packed, lvb.lvb_ictime_packed].map(unpackTime);
  return {
    atime: atime!.sec,
    atime_nsec: atime!.nsec,
    mtime: mtime!.sec,
    mtime_nsec: mtime!.nsec,
    ctime: ctime!.sec,
    ctime_nsec: ctime!.nsec,
  };
}

/**
 * The attributes as the LVB has them; undefined when only the disk can tell. The meta lock is held. Device numbers are not in the
 * LVB, and of an indexed directory's links only the lower half.
 */
export function attrFromLvb(
  osb: Osb,
  inode: Inode,
  attrOf: (fields: {
    mode: number;
    size: number;
    clusters: number;
    dyn_features: number;
  }) => Pick<Attr, "blocks" | "blksize">,
  visible_flags: number,
): Attr | undefined {
  const lvb = freshLvb(inode);
  if (lvb === undefined || osb.cache.peek(inode, inode.ino) !== undefined) return undefined;
  const mode = lvb.lvb_imode;
  const dyn_features = lvb.lvb_idynfeatures;
  if (isChr(mode) || isBlk(mode) || (dyn_features & DYN_FEATURES.INDEXED_DIR) !== 0) return undefined;
  const size = lvb.lvb_isize;
  return {
    ino: inode.ino,
    generation: inode.generation,
    mode,
    nlink: lvb.lvb_inlink,
    uid: lvb.lvb_iuid,
    gid: lvb.lvb_igid,
    rdev: 0,
    size,
    ...attrOf({ mode, size, clusters: lvb.lvb_iclusters, dyn_features }),
    ...timesOf(lvb),
    flags: lvb.lvb_iattr & visible_flags,
  };
}
