/**
 * IOCTL. A FUSE ioctl is "restricted": its argument is copied by the size and direction in the command's number, and
 * pointers inside of it lead nowhere. So flags come through; what holds pointers cannot (docs/FUSE.md).
 *
 * RESVSP, UNRESVSP and their kin never arrive: the VFS turns them into fallocate(2) first. FICLONE neither: it is
 * refused above FUSE, and copy_file_range shares extents instead.
 */
import { I_ATTR, isDir, OCFS2_FL_MODIFIABLE, OCFS2_FL_VISIBLE } from "../format/disk/index.ts";
import { FuseIoctlIn, FuseIoctlOut } from "../format/fuse/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { spawn } from "../lib/task.ts";
import { trimTask } from "../volume/alloc/suballoc.ts";
import { dinodeOf, type Inode, inodeChanged, inodeLock } from "../volume/inode.ts";
import type { Op } from "../volume/op.ts";
import type { Session } from "./session.ts";

const WRITE = 1;
const READ = 2;
/**
 * The whole number of a command (_IOC). Whoever may change flags the kernel looks at for these alone, whatever a program of 32 bits calls them
 * (ioctl_setflags, compat_ioctl): the same type and number with another size or direction comes here unseen, from anybody who can read the file.
 */
const ioc = (direction: number, type: string, n: number, bytes: number): number =>
  ((direction << 30) | (bytes << 16) | (type.charCodeAt(0) << 8) | n) >>> 0;
const GETFLAGS = ioc(READ, "f", 1, 8);
const SETFLAGS = ioc(WRITE, "f", 2, 8);
const FSGETXATTR = ioc(READ, "X", 31, 28);
const FSSETXATTR = ioc(WRITE, "X", 32, 28);
const FITRIM = ioc(READ | WRITE, "X", 121, 24);
/** From this minor version on (Linux 5.14) FUSE's flags go through fileattr_set, which asks who may change them. */
const FILEATTR_MINOR = 34;

/** struct fsxattr: fsx_xflags first, 28 bytes; what behind it has no counterpart in OCFS2. */
const FSXATTR_BYTES = 28;
/** FS_XFLAG_* and the FS_*_FL that they mean (fileattr_fill_flags). */
const XFLAGS: readonly (readonly [xflag: number, flag: number])[] = [
  [0x08, I_ATTR.IMMUTABLE],
  [0x10, I_ATTR.APPEND],
  [0x20, I_ATTR.SYNC],
  [0x40, I_ATTR.NOATIME],
  [0x80, I_ATTR.NODUMP],
];

const getFlags = (op: Op, inode: Inode): number => (dinodeOf(op, inodeLock(op, inode)).i_attr & OCFS2_FL_VISIBLE) >>> 0;

/** Sets the flags in `mask`, as far as users may (ocfs2_fileattr_set). Who may set immutable the kernel has checked. */
function setFlags(op: Op, inode: Inode, wanted: number, mask: number): void {
  const bh = inodeLock(op, inode, true);
  const di = dinodeOf(op, bh);
  const may = mask & OCFS2_FL_MODIFIABLE;
  let flags = (di.i_attr & ~may) | (wanted & may);
  if (!isDir(di.i_mode)) flags &= ~I_ATTR.DIRSYNC;
  op.modify(bh);
  di.i_attr = flags >>> 0;
  di.i_ctime = op.now.sec;
  di.i_ctime_nsec = op.now.nsec;
  inodeChanged(op, inode, false);
}

const unsupported = (cmd: number): never => {
  throw new FsError(Errno.EOPNOTSUPP, "ioctl", { cmd });
};

interface Ioctl {
  readonly inode: Inode;
  readonly cmd: number;
  /** What the caller handed in, copied. */
  readonly input: DataView;
  readonly out_size: number;
}

/** What is copied out to the caller. */
type Run = (op: Op, q: Ioctl) => Uint8Array;

const NOTHING = new Uint8Array(0);

/** `bytes` long, `word` in front: the kernel asks for 4 or 8 bytes of flags. */
function word(value: number, bytes: number): Uint8Array {
  const out = new Uint8Array(Math.max(4, bytes));
  new DataView(out.buffer).setUint32(0, value, true);
  return out.subarray(0, bytes);
}

const input32 = (q: Ioctl): number => (q.input.byteLength < 4 ? unsupported(q.cmd) : q.input.getUint32(0, true));

const commands: ReadonlyMap<number, Run> = new Map<number, Run>([
  [GETFLAGS, (op, q) => word(getFlags(op, q.inode), q.out_size)],
  [
    SETFLAGS,
    (op, q) => {
      setFlags(op, q.inode, input32(q), OCFS2_FL_MODIFIABLE);
      return NOTHING;
    },
  ],
  [
    FSGETXATTR,
    (op, q) => {
      const flags = getFlags(op, q.inode);
      const xflags = XFLAGS.reduce((x, [xflag, flag]) => (flags & flag ? x | xflag : x), 0);
      const out = new Uint8Array(FSXATTR_BYTES);
      out.set(word(xflags, 4));
      return out;
    },
  ],
  [
    FSSETXATTR,
    (op, q) => {
      const xflags = input32(q);
      const known = XFLAGS.reduce((x, [xflag]) => x | xflag, 0);
      // Extent size hints and projects: OCFS2 has neither.
      for (let at = 4; at + 4 <= q.input.byteLength; at += 4)
        if (at !== 8 && q.input.getUint32(at, true) !== 0) unsupported(q.cmd);
      if ((xflags & ~known) !== 0) unsupported(q.cmd);
      const flags = XFLAGS.reduce((f, [xflag, flag]) => (xflags & xflag ? f | flag : f), 0);
      const mask = XFLAGS.reduce((f, [, flag]) => f | flag, 0);
      setFlags(op, q.inode, flags, mask);
      return NOTHING;
    },
  ],
]);

/** struct fstrim_range: start, len, minlen, 64 bits each. */
const FSTRIM_RANGE_BYTES = 24;

/** FITRIM (ocfs2_ioctl). The kernel behind FUSE does not ask for CAP_SYS_ADMIN, so root it must be. */
function trim(s: Session, input: DataView): void {
  const { unique } = s;
  if (s.uid !== 0) {
    s.fail(unique, Errno.EPERM);
    return;
  }
  if (input.byteLength < FSTRIM_RANGE_BYTES) {
    s.fail(unique, Errno.EINVAL);
    return;
  }
  const u64 = (at: number): number => Math.min(Number.MAX_SAFE_INTEGER, Number(input.getBigUint64(at, true)));
  const start = u64(0);
  const range = { start, len: Math.min(u64(8), Number.MAX_SAFE_INTEGER - start), min_bytes: u64(16) };
  spawn(trimTask(s.osb, range), (err, bytes) => {
    if (err) {
      s.error(unique, err);
      return;
    }
    const to = s.bodyOut(FuseIoctlOut.size + FSTRIM_RANGE_BYTES);
    const out = new DataView(s.u8.buffer, s.u8.byteOffset + to + FuseIoctlOut.size, FSTRIM_RANGE_BYTES);
    out.setBigUint64(0, BigInt(start), true);
    out.setBigUint64(8, BigInt(bytes!), true);
    out.setBigUint64(16, BigInt(range.min_bytes), true);
    s.reply(unique, FuseIoctlOut.size + FSTRIM_RANGE_BYTES);
  });
}

export function ioctl(s: Session): void {
  const { unique } = s;
  const q = FuseIoctlIn.at(s.dv as DataView, s.body);
  const { cmd, in_size, out_size } = q;
  const run = commands.get(cmd);
  const at = s.body + FuseIoctlIn.size;
  const input = s.u8.slice(at, Math.min(at + in_size, s.end));
  if (cmd === FITRIM) {
    trim(s, new DataView(input.buffer, input.byteOffset, input.byteLength));
    return;
  }
  if (run === undefined) {
    s.fail(unique, Errno.ENOTTY);
    return;
  }
  const changes = cmd === SETFLAGS || cmd === FSSETXATTR;
  if (changes && s.minor < FILEATTR_MINOR && s.uid !== 0) {
    s.fail(unique, Errno.EPERM);
    return;
  }
  const { nodeid } = s;
  const request: Ioctl = {
    inode: s.inode(nodeid),
    cmd,
    input: new DataView(input.buffer, input.byteOffset, input.byteLength),
    out_size,
  };
  s.run(
    (op) => run(op, request),
    (out) => {
      // It keeps the ctime of before, otherwise.
      if (changes) s.attributesChanged(nodeid);
      const to = s.bodyOut(FuseIoctlOut.size);
      s.u8.set(out, to + FuseIoctlOut.size);
      s.reply(unique, FuseIoctlOut.size + out.length);
    },
  );
}
