/** Directories: OPENDIR, READDIR, READDIRPLUS. */

import { PR } from "../dlmglue/lock_res.ts";
import {
  FUSE_NO_OPENDIR_SUPPORT,
  FuseDirent,
  FuseEntryOut,
  FuseReadIn,
  fuseDirentplusSize,
  fuseDirentSize,
} from "../format/fuse/index.ts";
import { Errno } from "../lib/errno.ts";
import { Corruption } from "../lib/fs_error.ts";
import { type Attr, attrOf } from "../volume/dir/attr.ts";
import { iget, lockDir } from "../volume/dir/iget.ts";
import { readdir as readdirOf } from "../volume/dir/readdir.ts";
import type { Inode } from "../volume/inode.ts";
import type { Op } from "../volume/op.ts";
import type { FileHandle } from "./handles.ts";
import { openHandle } from "./ops_file.ts";
import { putEntry, replyOpen } from "./reply.ts";
import { Session } from "./session.ts";

/** Entries of one READDIRPLUS: each one's lock is held until the reply is made. */
const MAX_PLUS = 256;
const NAME_OFF = FuseDirent.fields.name.off;
const PERIOD = 0x2e;

export function opendir(s: Session): void {
  const { unique } = s;
  if ((s.init_flags & FUSE_NO_OPENDIR_SUPPORT) !== 0) {
    s.fail(unique, Errno.ENOSYS);
    return;
  }
  const inode = s.inode(s.nodeid);
  let handle: FileHandle;
  s.run(
    (op) => {
      lockDir(op, inode);
      op.onSuccess(() => {
        handle = openHandle(s, inode, 0);
      });
    },
    () => replyOpen(s, unique, handle.fh, 0),
  );
}

/** Writes a fuse_dirent over any memory; `type` is DT_*. */
function putDirent(
  s: Session,
  at: number,
  ino: number,
  type: number,
  name_addr: number,
  len: number,
  next: number,
): void {
  const out = FuseDirent.at(s.dv as DataView, at);
  out.ino = ino;
  out.off_ = next;
  out.namelen = len;
  out.type = type;
  s.u8.copyWithin(at + NAME_OFF, name_addr, name_addr + len);
  s.u8.fill(0, at + NAME_OFF + len, at + fuseDirentSize(len));
}

export function readdir(s: Session): void {
  const q = FuseReadIn.at(s.dv as DataView, s.body);
  const { offset, size } = q;
  const inode = s.inode(s.nodeid);
  const room = Math.min(size, Session.body_bytes);
  let inos: number[] = [];
  s.run(
    (op) => {
      const first = s.bodyOut(0);
      let at = first;
      inos = [];
      readdirOf(op, inode, offset, (ino, type, name, len, next) => {
        const bytes = fuseDirentSize(len);
        if (at + bytes > first + room) return false;
        putDirent(s, at, ino, type, name, len, next);
        if (s.ahead !== null && !isDots(s, name, len)) inos.push(ino);
        at += bytes;
        return true;
      });
      return at - first;
    },
    (len, unique) => {
      s.ahead?.listed(inode.ino, offset, inos);
      s.reply(unique, len);
    },
  );
}

const isDots = (s: Session, name: number, len: number): boolean =>
  s.u8[name] === PERIOD && (len === 1 || (len === 2 && s.u8[name + 1] === PERIOD));

/** A reply to READDIRPLUS: its bytes, the inodes that it tells of, and all that are in it. */
interface Listed {
  readonly len: number;
  readonly told: readonly number[];
  readonly inos: readonly number[];
}

/** One entry of a directory on its way into a reply. */
interface PlusEntry {
  readonly ino: number;
  readonly at: number;
  readonly dots: boolean;
  /** Bytes of the name. */
  readonly len: number;
}

/**
 * True when the inode can be locked and read without asking another node or the disk, and without waiting: a listing that
 * waited for one would keep the locks of those before it from nodes that want them.
 */
function isCached(op: Op, ino: number): boolean {
  const { osb } = op;
  const inode = osb.inodes.peek(ino);
  const res = inode?.meta_lockres;
  if (inode === undefined || res === undefined || res === null) return false;
  if (inode.exclusive !== null || res.gate_shut || Math.min(res.level, res.compatibleLevel) < PR) return false;
  return osb.cache.peek(inode, ino) !== undefined;
}

/** One bad inode must not hide its whole directory: its name is listed, and whoever looks at it gets the error. */
function entryAttr(op: Op, ino: number): Attr | undefined {
  try {
    return attrOf(op.osb, iget(op, ino).di);
  } catch (err) {
    if (err instanceof Corruption) return undefined;
    throw err;
  }
}

/**
 * The names with their attributes, as if each had been looked up. On one node the inodes that are missing are read, all
 * at the same time; in a cluster those whose locks we do not hold are left out (node id 0): a listing must not take a
 * lock on every file of a directory away from the nodes that work with them.
 */
function collectPlus(s: Session, op: Op, inode: Inode, offset: number, room: number): Listed {
  const { osb, dv } = s;
  const first = s.bodyOut(0);
  const entries: PlusEntry[] = [];
  let at = first;
  readdirOf(op, inode, offset, (ino, type, name, len, next) => {
    const bytes = fuseDirentplusSize(len);
    if (at + bytes > first + room || entries.length === MAX_PLUS) return false;
    s.u8.fill(0, at, at + FuseEntryOut.size);
    putDirent(s, at + FuseEntryOut.size, ino, type, name, len, next);
    entries.push({ ino, at, dots: isDots(s, name, len), len });
    at += bytes;
    return true;
  });
  const wanted = entries.filter((e) => !e.dots && (!s.policy.clustered || isCached(op, e.ino)));
  for (const e of wanted) osb.cache.prefetch(osb.inodes.get(e.ino), e.ino);
  const told: number[] = [];
  for (const e of wanted) {
    const attr = entryAttr(op, e.ino);
    if (attr === undefined) continue;
    putEntry(dv as DataView, e.at, attr, s.nodeidOf(e.ino), s.timeoutsIn(inode.ino));
    if (s.told_names === null) s.tell(op, attr, inode.ino);
    else {
      const name = e.at + FuseEntryOut.size + NAME_OFF;
      s.tell(op, attr, inode.ino, s.u8.slice(name, name + e.len));
    }
    told.push(e.ino);
  }
  const inos = s.ahead === null ? [] : entries.filter((e) => !e.dots).map((e) => e.ino);
  return { len: at - first, told, inos };
}

export function readdirplus(s: Session): void {
  const q = FuseReadIn.at(s.dv as DataView, s.body);
  const { offset, size } = q;
  const inode = s.inode(s.nodeid);
  const room = Math.min(size, Session.body_bytes);
  s.run(
    (op) => collectPlus(s, op, inode, offset, room),
    ({ len, told, inos }, unique) => {
      s.ahead?.listed(inode.ino, offset, inos);
      s.replyTellingMany(unique, len, told);
    },
  );
}
