/** The shapes of replies that several operations share: attributes, an entry, an open file. */
import { isReg, S_ISGID, S_ISUID } from "../format/disk/index.ts";
import {
  FUSE_ROOT_ID,
  FuseAttr,
  FuseAttrOut,
  FuseEntryOut,
  FuseOpenOut,
  FuseStatx,
  FuseStatxOut,
  STATX_BASIC_STATS,
  STATX_FLAGS,
} from "../format/fuse/index.ts";
import type { Attr } from "../volume/dir/attr.ts";
import type { FileHandle } from "./handles.ts";
import type { Session } from "./session.ts";

/** For good, as far as the kernel's jiffies go. */
const FOR_EVER_S = 2 ** 31;

/** Seconds that the kernel may cache a name, attributes, and that a name does not exist. */
export interface Timeouts {
  readonly entry_s: number;
  readonly attr_s: number;
  readonly negative_s: number;
}

/** Everything that the kernel caches is covered by a lock that this node holds, and is called back when the lock goes. */
export const HELD: Timeouts = { entry_s: FOR_EVER_S, attr_s: FOR_EVER_S, negative_s: FOR_EVER_S };

/** Names are looked up each time. */
export const ASK_AGAIN: Timeouts = { ...HELD, entry_s: 0, negative_s: 0 };

/**
 * Seconds for the attributes of `a`. A write takes setuid and setgid of a file away, and the kernel, which leaves that to us, does not look at the mode
 * anew: the program would be started with what it had. So of such a file it asks each time.
 */
const attrSeconds = (a: Attr, t: Timeouts): number =>
  isReg(a.mode) && (a.mode & (S_ISUID | S_ISGID)) !== 0 ? 0 : t.attr_s;

const views = new WeakMap<
  DataView,
  { attr: FuseAttr; entry: FuseEntryOut; attr_out: FuseAttrOut; open: FuseOpenOut }
>();

/** One view of each shape for each arena, moved to where it is needed. */
function viewsOf(dv: DataView) {
  let v = views.get(dv);
  if (v === undefined) {
    v = {
      attr: FuseAttr.at(dv, 0),
      entry: FuseEntryOut.at(dv, 0),
      attr_out: FuseAttrOut.at(dv, 0),
      open: FuseOpenOut.at(dv, 0),
    };
    views.set(dv, v);
  }
  return v;
}

/** Writes a fuse_attr over zeroed memory. */
export function putAttr(dv: DataView, at: number, a: Attr): void {
  const out = viewsOf(dv).attr.seek(at);
  out.ino = a.ino;
  out.size = a.size;
  out.blocks = a.blocks;
  out.atime = a.atime;
  out.mtime = a.mtime;
  out.ctime = a.ctime;
  out.atimensec = a.atime_nsec;
  out.mtimensec = a.mtime_nsec;
  out.ctimensec = a.ctime_nsec;
  out.mode = a.mode;
  out.nlink = a.nlink;
  out.uid = a.uid;
  out.gid = a.gid;
  out.rdev = a.rdev;
  out.blksize = a.blksize;
}

const ENTRY_ATTR = FuseEntryOut.fields.attr.off;

/** Writes a fuse_entry_out over zeroed memory. */
export function putEntry(dv: DataView, at: number, a: Attr, nodeid: number, t: Timeouts): void {
  const out = viewsOf(dv).entry.seek(at);
  out.nodeid = nodeid;
  // The kernel made the root itself, without one, and would take it for another file (fuse_stale_inode).
  out.generation = nodeid === FUSE_ROOT_ID ? 0 : a.generation;
  out.entry_valid = t.entry_s;
  out.attr_valid = attrSeconds(a, t);
  putAttr(dv, at + ENTRY_ATTR, a);
}

/**
 * Attributes of an inode that the kernel has, in the answer to a change (SETATTR, LINK, CREATE of a file that was there): it takes them over whatever
 * was called back since we sent them, and a thread can be long on its way (fuse_do_setattr, and fuse_iget without a version). So they must not last
 * where another node may take the inode; the next stat asks.
 */
const afterChange = (s: Session, t: Timeouts): Timeouts => (s.policy.clustered ? { ...t, attr_s: 0 } : t);

/** Answers with an entry of folder `parent`; Session.tell has counted the lookup that the kernel counts. */
export function replyEntry(s: Session, unique: number, a: Attr, parent: number, known = false): void {
  const at = s.bodyOut(FuseEntryOut.size);
  const t = s.timeoutsIn(parent);
  putEntry(s.dv as DataView, at, a, s.nodeidOf(a.ino), known ? afterChange(s, t) : t);
  s.replyTelling(unique, FuseEntryOut.size, a.ino, 0);
}

/** "There is no such name in `parent`", which the kernel may remember. */
export function replyNoEntry(s: Session, unique: number, parent: number): void {
  const at = s.bodyOut(FuseEntryOut.size);
  viewsOf(s.dv as DataView).entry.seek(at).entry_valid = s.timeoutsIn(parent).negative_s;
  s.reply(unique, FuseEntryOut.size);
}

/** `changed`: in the answer to a change. */
export function replyAttr(s: Session, unique: number, a: Attr, changed = false): void {
  const at = s.bodyOut(FuseAttrOut.size);
  const t = changed ? afterChange(s, s.timeouts) : s.timeouts;
  viewsOf(s.dv as DataView).attr_out.seek(at).attr_valid = attrSeconds(a, t);
  putAttr(s.dv as DataView, at + FuseAttrOut.fields.attr.off, a);
  s.reply(unique, FuseAttrOut.size);
}

function putOpen(dv: DataView, at: number, fh: number, open_flags: number): void {
  const out = viewsOf(dv).open.seek(at);
  out.fh = fh;
  out.open_flags = open_flags;
}

export function replyOpen(s: Session, unique: number, fh: number, open_flags: number): void {
  putOpen(s.dv as DataView, s.bodyOut(FuseOpenOut.size), fh, open_flags);
  s.replyTelling(unique, FuseOpenOut.size, 0, fh);
}

/** CREATE and TMPFILE: an entry and an open file. `known`: it was there before. */
export function replyCreate(
  s: Session,
  unique: number,
  a: Attr,
  handle: FileHandle,
  parent: number,
  known: boolean,
): void {
  const at = s.bodyOut(FuseEntryOut.size + FuseOpenOut.size);
  const t = s.timeoutsIn(parent);
  putEntry(s.dv as DataView, at, a, s.nodeidOf(a.ino), known ? afterChange(s, t) : t);
  putOpen(s.dv as DataView, at + FuseEntryOut.size, handle.fh, s.openFlags(handle.flags));
  s.replyTelling(unique, FuseEntryOut.size + FuseOpenOut.size, a.ino, handle.fh);
}

/** FS_*_FL of chattr that statx shows. */
const FS_IMMUTABLE_FL = 0x10;
const FS_APPEND_FL = 0x20;
const FS_NODUMP_FL = 0x40;
const STATX_ATTR_MASK = FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL;

/** statx: OCFS2 has no birth time, so what is left of STATX_BTIME in the mask says. */
export function replyStatx(s: Session, unique: number, a: Attr): void {
  const at = s.bodyOut(FuseStatxOut.size);
  const dv = s.dv as DataView;
  FuseStatxOut.at(dv, at).attr_valid = attrSeconds(a, s.timeouts);
  const out = FuseStatx.at(dv, at + FuseStatxOut.fields.stat.off);
  out.mask = STATX_BASIC_STATS & ~STATX_FLAGS.BTIME;
  out.blksize = a.blksize;
  // The bits of STATX_ATTR_* are those of FS_*_FL.
  out.attributes = a.flags & STATX_ATTR_MASK;
  out.attributes_mask = STATX_ATTR_MASK;
  out.nlink = a.nlink;
  out.uid = a.uid;
  out.gid = a.gid;
  out.mode = a.mode;
  out.ino = a.ino;
  out.size = a.size;
  out.blocks = a.blocks;
  const times = [
    [out.atime, a.atime, a.atime_nsec],
    [out.ctime, a.ctime, a.ctime_nsec],
    [out.mtime, a.mtime, a.mtime_nsec],
  ] as const;
  for (const [t, sec, nsec] of times) {
    t.tv_sec = sec;
    t.tv_nsec = nsec;
  }
  // dev_t as the kernel packs it on the wire: 12 bits of major between 8 and 12 of minor.
  out.rdev_major = (a.rdev >>> 8) & 0xfff;
  out.rdev_minor = (a.rdev & 0xff) | ((a.rdev >>> 12) & 0xfff00);
  s.reply(unique, FuseStatxOut.size);
}
