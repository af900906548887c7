/** Directories: OPENDIR, READDIR, READDIRPLUS. */

import {
  FUSE_NO_OPENDIR_SUPPORT,
  FuseDirent,
  FuseEntryOut,
  FuseReadIn,
  fuseDirentplusSize,
  fuseDirentSize,
} from "../format/fuse/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
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

/** A reply to READDIRPLUS: its bytes, and the inodes that it tells of. */
interface Listed {
  readonly len: number;
  readonly told: readonly number[];
}

/** One entry of a directory on its way into a reply. */
interface PlusEntry {
  readonly ino: number;
  readonly at: number;
  readonly dots: boolean;
}

/** One bad inode must not hide its whole directory: its name is listed, and whoever looks at it gets the error. */
function entryAttr(op: Op, ino: number): Attr | undefined {
  try {
    return attrOf(op.osb, iget(op, ino).di);
  } catch (err) {
    if (err instanceof FsError) return undefined;
    throw err;
  }
}

/**
 * The names with their attributes, as if each had been looked up; the inodes that are missing are read, all at the same time. Only where no other node
 * exists (flags.ts): the kernel takes the names and inodes of a reply over one after the other, and may wait in between for a look-up of one of them.
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
    entries.push({ ino, at, dots: isDots(s, name, len) });
    at += bytes;
    return true;
  });
  const wanted = entries.filter((e) => !e.dots);
  for (const e of wanted) osb.cache.prefetch(osb.inodes.get(e.ino), e.ino);
  const told: number[] = [];
  for (const e of wanted) {
    const attr = entryAttr(op, e.ino);
    if (attr === undefined) continue;
    putEntry(dv as DataView, e.at, attr, s.nodeidOf(e.ino), s.timeouts);
    s.tell(op, attr);
    told.push(e.ino);
  }
  return { len: at - first, told };
}

export function readdirplus(s: Session): void {
  const q = FuseReadIn.at(s.dv as DataView, s.body);
  const { offset, size } = q;
  const inode = s.inode(s.nodeid);
  const room = Math.min(size, Session.body_bytes);
  s.run(
    (op) => collectPlus(s, op, inode, offset, room),
    ({ len, told }, unique) => s.replyTellingMany(unique, len, told),
  );
}
