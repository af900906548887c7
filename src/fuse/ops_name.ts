/** Names: LOOKUP, CREATE, TMPFILE, MKNOD, MKDIR, SYMLINK, LINK, UNLINK, RMDIR, RENAME, RENAME2. */
import { I_FLAGS, S_IFDIR, S_IFMT, S_IFREG } from "../format/disk/index.ts";
import {
  FUSE_OPEN_KILL_SUIDGID,
  FuseCreateIn,
  FuseLinkIn,
  FuseMkdirIn,
  FuseMknodIn,
  FuseRename2In,
  FuseRenameIn,
} from "../format/fuse/index.ts";
import { Corruption, estale } from "../lib/fs_error.ts";
import { type Attr, attrOf, linksOf } from "../volume/dir/attr.ts";
import { type Cred, type Locked, lockInode } from "../volume/dir/iget.ts";
import {
  createNode,
  link as linkOf,
  lookup as lookupOf,
  mkdir as mkdirOf,
  rmdir as rmdirOf,
  symlink as symlinkOf,
  tmpfile as tmpfileOf,
  unlink as unlinkOf,
} from "../volume/dir/namei.ts";
import { rename as renameOf } from "../volume/dir/rename.ts";
import type { Inode } from "../volume/inode.ts";
import type { Op } from "../volume/op.ts";
import { changeAttr } from "./ops_attr.ts";
import { openHandle } from "./ops_file.ts";
import { replyCreate, replyEntry, replyNoEntry } from "./reply.ts";
import type { Session } from "./session.ts";

const PERIOD = 0x2e;
const O_TRUNC = 0o1000;

const credOf = (s: Session, umask: number): Cred => ({ uid: s.uid, gid: s.gid, umask });
const attrOfLocked = (op: Op, l: Locked): Attr => attrOf(op.osb, l.di);

/**
 * The inode of a file handle that the kernel no longer has in its cache (open_by_handle_at, NFS): any number may come.
 * The kernel compares the generation of our answer with that of the handle.
 */
function lookupSelf(op: Op, inode: Inode): Attr {
  const { osb } = op;
  const { ino } = inode;
  const stale = (): never => {
    throw estale("lookup.handle", { ino });
  };
  if (ino < 2 || ino >= osb.clustersToBlocks(osb.geo.clusters)) stale();
  try {
    const { di } = lockInode(op, inode);
    if ((di.i_flags & I_FLAGS.SYSTEM) !== 0 || (linksOf(di) === 0 && inode.nlookup === 0)) stale();
    if (inode.generation === 0) inode.generation = di.i_generation;
    return attrOf(osb, di);
  } catch (err) {
    // What is no inode (any more) says nothing against the volume here.
    if (err instanceof Corruption) stale();
    throw err;
  }
}

export function lookup(s: Session): void {
  const dir = s.inode(s.nodeid);
  const name = s.nameAt(s.body);
  const self = name.length === 1 && name[0] === PERIOD;
  s.run(
    (op) => {
      if (self) return lookupSelf(op, dir);
      const found = lookupOf(op, dir, name);
      return found && attrOfLocked(op, found);
    },
    (attr, unique) => {
      if (attr === undefined) replyNoEntry(s, unique);
      else replyEntry(s, unique, attr);
    },
  );
}

/** Runs an operation that makes a name, and answers with its entry. */
function making(s: Session, make: (op: Op) => Locked): void {
  s.run(
    (op) => attrOfLocked(op, make(op)),
    (attr, unique) => replyEntry(s, unique, attr),
  );
}

export function mknod(s: Session): void {
  const q = FuseMknodIn.at(s.dv as DataView, s.body);
  const { mode, rdev } = q;
  const cred = credOf(s, q.umask);
  const dir = s.inode(s.nodeid);
  const name = s.nameAt(s.body + FuseMknodIn.size);
  making(s, (op) => createNode(op, dir, name, { mode: (mode & S_IFMT) === 0 ? mode | S_IFREG : mode, rdev }, cred));
}

export function mkdir(s: Session): void {
  const q = FuseMkdirIn.at(s.dv as DataView, s.body);
  const { mode } = q;
  const cred = credOf(s, q.umask);
  const dir = s.inode(s.nodeid);
  const name = s.nameAt(s.body + FuseMkdirIn.size);
  making(s, (op) => mkdirOf(op, dir, name, (mode & ~S_IFMT) | S_IFDIR, cred));
}

export function symlink(s: Session): void {
  const dir = s.inode(s.nodeid);
  const name = s.nameAt(s.body);
  const target = s.nameAt(s.body + name.length + 1);
  const cred = credOf(s, 0);
  making(s, (op) => symlinkOf(op, dir, name, target, cred));
}

export function link(s: Session): void {
  const inode = s.inode(FuseLinkIn.at(s.dv as DataView, s.body).oldnodeid);
  const dir = s.inode(s.nodeid);
  const name = s.nameAt(s.body + FuseLinkIn.size);
  making(s, (op) => linkOf(op, inode, dir, name));
}

/** An open of a file that was just made: the handle comes with the entry. */
function answerCreate(s: Session, unique: number, attr: Attr, flags: number): void {
  const handle = openHandle(s, s.osb.inodes.get(attr.ino), flags);
  replyCreate(s, unique, attr, handle.fh, s.openFlags(flags));
}

/**
 * The kernel saw no such name when it asked; another node may have made it meanwhile. Without O_EXCL the file that is
 * there is opened then (as ocfs2 does through lookup under its locks).
 */
export function create(s: Session): void {
  const { unique } = s;
  const q = FuseCreateIn.at(s.dv as DataView, s.body);
  const { flags, mode, open_flags } = q;
  const cred = credOf(s, q.umask);
  const dir = s.inode(s.nodeid);
  const name = s.nameAt(s.body + FuseCreateIn.size);
  const excl = (flags & 0o200) !== 0 || !s.policy.clustered;
  s.run(
    (op) => {
      const there = excl ? undefined : lookupOf(op, dir, name);
      const locked = there ?? createNode(op, dir, name, { mode: (mode & ~S_IFMT) | S_IFREG }, cred);
      return { attr: attrOfLocked(op, locked), made: there === undefined };
    },
    ({ attr, made }) => {
      if (made || (flags & O_TRUNC) === 0) answerCreate(s, unique, attr, flags);
      else {
        const kill = (open_flags & FUSE_OPEN_KILL_SUIDGID) !== 0;
        changeAttr(s, unique, s.osb.inodes.get(attr.ino), { size: 0 }, kill, (a) => answerCreate(s, unique, a, flags));
      }
    },
  );
}

export function tmpfile(s: Session): void {
  const q = FuseCreateIn.at(s.dv as DataView, s.body);
  const { flags, mode } = q;
  const cred = credOf(s, q.umask);
  const dir = s.inode(s.nodeid);
  const exclusive = (flags & 0o200) !== 0;
  s.run(
    (op) => attrOfLocked(op, tmpfileOf(op, dir, (mode & ~S_IFMT) | S_IFREG, cred, exclusive)),
    (attr, unique) => answerCreate(s, unique, attr, flags),
  );
}

/** An orphan that the kernel never looked up (a file handle, a race) has no FORGET to wait for. */
function removing(s: Session, remove: (op: Op) => Inode | undefined): void {
  s.run(remove, (inode, unique) => {
    s.replyEmpty(unique);
    if (inode?.orphaned === true) s.vfs.forget(s.osb, inode.ino, 0);
  });
}

export function unlink(s: Session): void {
  const dir = s.inode(s.nodeid);
  const name = s.nameAt(s.body);
  removing(s, (op) => unlinkOf(op, dir, name));
}

export function rmdir(s: Session): void {
  const dir = s.inode(s.nodeid);
  const name = s.nameAt(s.body);
  removing(s, (op) => rmdirOf(op, dir, name));
}

function renaming(s: Session, newdir: number, names: number, flags: number): void {
  const from = s.inode(s.nodeid);
  const to = s.inode(newdir);
  const old_name = s.nameAt(names);
  const new_name = s.nameAt(names + old_name.length + 1);
  removing(s, (op) => renameOf(op, from, old_name, to, new_name, flags)?.replaced);
}

export function rename(s: Session): void {
  const q = FuseRenameIn.at(s.dv as DataView, s.body);
  renaming(s, q.newdir, s.body + FuseRenameIn.size, 0);
}

export function rename2(s: Session): void {
  const q = FuseRename2In.at(s.dv as DataView, s.body);
  renaming(s, q.newdir, s.body + FuseRename2In.size, q.flags);
}
