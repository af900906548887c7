/** Names: LOOKUP, CREATE, TMPFILE, MKNOD, MKDIR, SYMLINK, LINK, UNLINK, RMDIR, RENAME, RENAME2. */
import { I_FLAGS, isReg } from "../format/disk/index.ts";
import {
  FuseCreateIn,
  FuseLinkIn,
  FuseMkdirIn,
  FuseMknodIn,
  FuseRename2In,
  FuseRenameIn,
} from "../format/fuse/index.ts";
import { Errno } from "../lib/errno.ts";
import { Corruption, estale, FsError } from "../lib/fs_error.ts";
import * as ns from "../vfs/namespace.ts";
import { inVolume } from "../volume/alloc/volume_end.ts";
import { parentOf } from "../volume/dir/ancestry.ts";
import { type Attr, attrOf, linksOf } from "../volume/dir/attr.ts";
import { lockInode } from "../volume/dir/iget.ts";
import { isDots } from "../volume/dir/name.ts";
import { handleLeadsTo, lookIntoAllocators } from "../volume/dir/seen.ts";
import { openLock } from "../volume/inode.ts";
import type { Op } from "../volume/op.ts";
import { type FileHandle, O_ACCMODE, O_TRUNC } from "./handles.ts";
import { killsSuid, openChecked, openHandle, truncateOpened } from "./ops_file.ts";
import { replyCreate, replyEntry, replyNoEntry } from "./reply.ts";
import type { Session } from "./session.ts";

const O_EXCL = 0o200;
const RENAME_EXCHANGE = 2;
const MAY_WRITE = 2;
/** Permission bits that O_RDONLY, O_WRONLY, O_RDWR and 3 ask for (ACC_MODE). */
const NEEDS = [4, MAY_WRITE, 6, 6];

const credOf = (s: Session, umask: number): ns.Cred => ({ uid: s.uid, gid: s.gid, umask });

const staleHandle = (ino: number): never => {
  throw estale("lookup.handle", { ino });
};

/** The directory above one that came by its handle. */
function lookupParent(op: Op, ino: number): Attr {
  let parent: number;
  try {
    parent = parentOf(op, ino);
  } catch (err) {
    if (err instanceof Corruption) staleHandle(ino);
    throw err;
  }
  return lookupSelf(op, parent);
}

/**
 * The inode of a file handle that the kernel no longer has in its cache (open_by_handle_at, NFS): any number may come.
 * The kernel compares the generation of our answer with that of the handle.
 */
function lookupSelf(op: Op, ino: number): Attr {
  const { osb } = op;
  const stale = (): never => staleHandle(ino);
  if (!inVolume(op, osb.blocksToClusters(ino), 1)) stale();
  handleLeadsTo(op, ino);
  const inode = osb.inodes.get(ino);
  try {
    if (!inode.inUse) lookIntoAllocators(op);
    openLock(op, inode);
    const { di } = lockInode(op, inode);
    // mkfs.ocfs2 makes the root a system file, too.
    const is_system = (di.i_flags & I_FLAGS.SYSTEM) !== 0 && ino !== osb.geo.root_blkno;
    if (is_system || (linksOf(di) === 0 && inode.nlookup === 0)) stale();
    if (inode.generation === 0) inode.generation = di.i_generation;
    if (linksOf(di) > 0) inode.maybe_orphaned = false;
    return attrOf(osb, di);
  } catch (err) {
    // What is no inode (any more) says nothing against the volume here.
    if (err instanceof Corruption) stale();
    throw err;
  }
}

export function lookup(s: Session): void {
  const parent = s.ino(s.nodeid);
  const name = s.nameAt(s.body);
  // By these the kernel gets from a file handle to the root: they say nothing of names in `parent`.
  const dots = isDots(name);
  const byHandle = name.length === 1 ? lookupSelf : lookupParent;
  s.run(
    (op) => {
      const attr = dots ? byHandle(op, parent) : ns.lookup(op, parent, name);
      if (attr === undefined) s.tellName(op, parent);
      else if (dots) s.tell(op, attr);
      else s.tell(op, attr, parent, name);
      return attr;
    },
    (attr, unique) => {
      if (attr === undefined) replyNoEntry(s, unique, parent);
      else {
        replyEntry(s, unique, attr, parent);
        if (!dots) s.ahead?.found(parent, attr.ino);
      }
    },
  );
}

/** Runs an operation that makes a name in `parent`, and answers with its entry. */
function making(s: Session, parent: number, name: Uint8Array, make: (op: Op) => Attr, known = false): void {
  s.run(
    (op) => {
      const attr = make(op);
      s.tell(op, attr, parent, name);
      return attr;
    },
    (attr, unique) => replyEntry(s, unique, attr, parent, known),
  );
}

export function mknod(s: Session): void {
  const q = FuseMknodIn.at(s.dv as DataView, s.body);
  const { mode, rdev } = q;
  const cred = credOf(s, q.umask);
  const parent = s.ino(s.nodeid);
  const name = s.nameAt(s.body + FuseMknodIn.size);
  making(s, parent, name, (op) => ns.mknod(op, parent, name, mode, rdev, cred));
}

export function mkdir(s: Session): void {
  const q = FuseMkdirIn.at(s.dv as DataView, s.body);
  const { mode } = q;
  const cred = credOf(s, q.umask);
  const parent = s.ino(s.nodeid);
  const name = s.nameAt(s.body + FuseMkdirIn.size);
  making(s, parent, name, (op) => ns.mkdir(op, parent, name, mode, cred));
}

export function symlink(s: Session): void {
  const parent = s.ino(s.nodeid);
  const name = s.nameAt(s.body);
  const target = s.nameAt(s.body + name.length + 1);
  const cred = credOf(s, 0);
  making(s, parent, name, (op) => ns.symlink(op, parent, name, target, cred));
}

export function link(s: Session): void {
  const ino = s.ino(FuseLinkIn.at(s.dv as DataView, s.body).oldnodeid);
  const parent = s.ino(s.nodeid);
  const name = s.nameAt(s.body + FuseLinkIn.size);
  making(s, parent, name, (op) => ns.link(op, ino, parent, name), true);
}

/** What the answer of an operation will tell of. */
interface Told {
  readonly attr: Attr;
  /** Open flags. */
  readonly flags: number;
  readonly parent?: number;
  readonly name?: Uint8Array;
}

/** Within an operation: the answer will tell of this file, open. */
function openTold(s: Session, op: Op, t: Told, ok: (handle: FileHandle) => void): Attr {
  const { attr, flags } = t;
  s.tell(op, attr, t.parent, t.name);
  op.onSuccess(() => ok(openHandle(s, s.osb.inodes.get(attr.ino), flags)));
  return attr;
}

/** Whether the kernel would let the caller open a file of that kind, as far as can be told without its groups, ACLs and capabilities. */
function ownerMayOpen(attr: Attr, uid: number, flags: number): boolean {
  const wanted = NEEDS[flags & O_ACCMODE]! | ((flags & O_TRUNC) === 0 ? 0 : MAY_WRITE);
  return isReg(attr.mode) && attr.uid === uid && ((attr.mode >> 6) & wanted) === wanted;
}

/**
 * The kernel saw no such name when it asked; another node may have made it meanwhile. Without O_EXCL open(2) is about what is there then. But the
 * kernel takes what we answer for new: it looks neither at its mode (FMODE_CREATED in do_open) nor follows it. So only what the caller may open for
 * certain is opened here. Else the answer is ESTALE, and open(2) looks the whole path up once more (do_filp_open, LOOKUP_REVAL), and finds it.
 * Not always ESTALE: where two nodes make and delete one name over and over, the second time could fail like the first.
 */
export function create(s: Session): void {
  const { unique, osb } = s;
  const q = FuseCreateIn.at(s.dv as DataView, s.body);
  const { flags, mode } = q;
  const kill_suid = killsSuid(s, q.open_flags);
  const cred = credOf(s, q.umask);
  const parent = s.ino(s.nodeid);
  const name = s.nameAt(s.body + FuseCreateIn.size);
  let handle: FileHandle;
  const opened = (h: FileHandle): void => {
    handle = h;
  };
  const make = (): void =>
    osb.exec(
      (op) => openTold(s, op, { attr: ns.create(op, parent, name, mode, cred), flags, parent, name }, opened),
      (err, attr) => {
        const lost = err instanceof FsError && err.errno === Errno.EEXIST && (flags & O_EXCL) === 0;
        if (lost) find();
        else if (err) s.error(unique, err);
        else replyCreate(s, unique, attr!, handle, parent, false);
      },
    );
  const find = (): void =>
    osb.exec(
      (op) => {
        const attr = ns.lookup(op, parent, name, s.writesUnderEx(flags));
        if (attr === undefined) return undefined;
        if (!ownerMayOpen(attr, cred.uid, flags)) throw estale("create", { ino: attr.ino });
        openChecked(s, op, osb.inodes.get(attr.ino), flags, opened);
        s.tell(op, attr, parent, name);
        return attr;
      },
      (err, attr) => {
        if (err) s.error(unique, err);
        else if (attr === undefined) make();
        else
          truncateOpened(
            s,
            handle,
            kill_suid,
            (cut) => replyCreate(s, unique, cut ?? attr, handle, parent, true),
            (why) => {
              s.forget(attr.ino, 1);
              s.error(unique, why);
            },
          );
      },
    );
  make();
}

export function tmpfile(s: Session): void {
  const q = FuseCreateIn.at(s.dv as DataView, s.body);
  const { flags, mode } = q;
  const cred = credOf(s, q.umask);
  const parent = s.ino(s.nodeid);
  let handle: FileHandle;
  s.run(
    (op) =>
      openTold(s, op, { attr: ns.tmpfile(op, parent, mode, cred, (flags & O_EXCL) !== 0), flags }, (h) => {
        handle = h;
      }),
    (attr, unique) => replyCreate(s, unique, attr, handle, parent, false),
  );
}

export function unlink(s: Session): void {
  const parent = s.ino(s.nodeid);
  const name = s.nameAt(s.body);
  s.run(
    (op) => ns.unlink(op, parent, name),
    (_, unique) => {
      s.told_names?.remove(parent, name);
      s.replyEmpty(unique);
    },
  );
}

export function rmdir(s: Session): void {
  const parent = s.ino(s.nodeid);
  const name = s.nameAt(s.body);
  s.run(
    (op) => ns.rmdir(op, parent, name),
    (_, unique) => {
      s.told_names?.remove(parent, name);
      s.replyEmpty(unique);
    },
  );
}

function renaming(s: Session, newdir: number, names: number, flags: number): void {
  const from = s.ino(s.nodeid);
  const to = s.ino(newdir);
  const old_name = s.nameAt(names);
  const new_name = s.nameAt(names + old_name.length + 1);
  s.run(
    (op) => {
      ns.rename(op, from, old_name, to, new_name, flags);
      if (s.policy.clustered) op.onSuccess(() => s.names.moved(from, to));
    },
    (_, unique) => {
      s.told_names?.rename(from, old_name, to, new_name, (flags & RENAME_EXCHANGE) !== 0);
      s.replyEmpty(unique);
    },
  );
}

export function rename(s: Session): void {
  const q = FuseRenameIn.at(s.dv as DataView, s.body);
  renaming(s, q.newdir, s.body + FuseRenameIn.size, 0);
}

export function rename2(s: Session): void {
  const q = FuseRename2In.at(s.dv as DataView, s.body);
  renaming(s, q.newdir, s.body + FuseRename2In.size, q.flags);
}
