/**
 * Every request that the kernel may send, one row each: what must lie behind its header, who runs it, and what the answer
 * is. What has no row is answered ENOSYS, and rows with `nosys` say so on purpose: the kernel then does without for good.
 */
import * as F from "../format/fuse/index.ts";
import { Errno } from "../lib/errno.ts";
import * as admin from "./ops_admin.ts";
import * as attr from "./ops_attr.ts";
import * as dir from "./ops_dir.ts";
import * as file from "./ops_file.ts";
import * as ioctl from "./ops_ioctl.ts";
import * as lock from "./ops_lock.ts";
import * as name from "./ops_name.ts";
import * as xattr from "./ops_xattr.ts";
import type { Session } from "./session.ts";

export interface OpRow {
  readonly name: string;
  /** Least bytes behind the header. */
  readonly in_bytes: number;
  readonly run: (s: Session) => void;
  /** The answer's body, for docs/FUSE.md. */
  readonly reply: string;
}

const rows = new Map<number, OpRow>();
const op = (opcode: number, in_bytes: number, run: (s: Session) => void, reply: string): void => {
  rows.set(opcode, { name: F.FUSE_OPCODE_NAMES.get(opcode)!, in_bytes, run, reply });
};
const nosys = (opcode: number, why: string): void =>
  op(opcode, 0, (s) => s.fail(s.unique, Errno.ENOSYS), `ENOSYS: ${why}`);

op(F.FUSE_INIT, 16, admin.init, "fuse_init_out");
op(F.FUSE_DESTROY, 0, admin.destroy, "empty, when everything is on the disk");
op(F.FUSE_FORGET, F.FuseForgetIn.size, admin.forget, "none");
op(F.FUSE_BATCH_FORGET, F.FuseBatchForgetIn.size, admin.batchForget, "none");
op(
  F.FUSE_INTERRUPT,
  F.FuseInterruptIn.size,
  admin.interrupt,
  "none: a wait for an flock ends with EINTR, all else is answered as if nothing had happened",
);
op(F.FUSE_STATFS, 0, admin.statFs, "fuse_statfs_out");
op(F.FUSE_SYNCFS, F.FuseSyncfsIn.size, admin.syncFs, "empty, when everything is on the disk");

op(F.FUSE_LOOKUP, 2, name.lookup, "fuse_entry_out; node id 0 for a name that is not there");
op(F.FUSE_CREATE, F.FuseCreateIn.size + 2, name.create, "fuse_entry_out, fuse_open_out");
op(F.FUSE_TMPFILE, F.FuseCreateIn.size, name.tmpfile, "fuse_entry_out, fuse_open_out");
op(F.FUSE_MKNOD, F.FuseMknodIn.size + 2, name.mknod, "fuse_entry_out");
op(F.FUSE_MKDIR, F.FuseMkdirIn.size + 2, name.mkdir, "fuse_entry_out");
op(F.FUSE_SYMLINK, 4, name.symlink, "fuse_entry_out");
op(F.FUSE_LINK, F.FuseLinkIn.size + 2, name.link, "fuse_entry_out");
op(F.FUSE_UNLINK, 2, name.unlink, "empty");
op(F.FUSE_RMDIR, 2, name.rmdir, "empty");
op(F.FUSE_RENAME, F.FuseRenameIn.size + 4, name.rename, "empty");
op(F.FUSE_RENAME2, F.FuseRename2In.size + 4, name.rename2, "empty");

op(F.FUSE_GETATTR, F.FuseGetattrIn.size, attr.getattr, "fuse_attr_out");
op(F.FUSE_STATX, F.FuseStatxIn.size, attr.statx, "fuse_statx_out");
op(F.FUSE_SETATTR, F.FuseSetattrIn.size, attr.setattr, "fuse_attr_out");
op(F.FUSE_READLINK, 0, attr.readlink, "the target");

op(F.FUSE_OPEN, F.FuseOpenIn.size, file.open, "fuse_open_out");
op(F.FUSE_RELEASE, F.FuseReleaseIn.size, file.release, "empty");
op(F.FUSE_READ, F.FuseReadIn.size, file.read, "data");
op(F.FUSE_WRITE, F.FuseWriteIn.size, file.write, "fuse_write_out");
op(F.FUSE_FSYNC, F.FuseFsyncIn.size, file.fsync, "empty");
op(F.FUSE_LSEEK, F.FuseLseekIn.size, file.lseek, "fuse_lseek_out");
op(F.FUSE_FALLOCATE, F.FuseFallocateIn.size, file.fallocate, "empty");

op(F.FUSE_COPY_FILE_RANGE, F.FuseCopyFileRangeIn.size, file.copyFileRange, "fuse_write_out");
op(F.FUSE_COPY_FILE_RANGE_64, F.FuseCopyFileRangeIn.size, file.copyFileRange64, "fuse_copy_file_range_out");

op(F.FUSE_OPENDIR, F.FuseOpenIn.size, dir.opendir, "ENOSYS where NO_OPENDIR_SUPPORT was agreed on, else fuse_open_out");
op(F.FUSE_READDIR, F.FuseReadIn.size, dir.readdir, "fuse_dirent records");
op(F.FUSE_READDIRPLUS, F.FuseReadIn.size, dir.readdirplus, "fuse_direntplus records");
op(F.FUSE_RELEASEDIR, F.FuseReleaseIn.size, file.release, "empty");
op(F.FUSE_FSYNCDIR, F.FuseFsyncIn.size, file.fsync, "empty");

op(
  F.FUSE_GETXATTR,
  F.FuseGetxattrIn.size + 2,
  xattr.getxattr,
  "the value; fuse_getxattr_out when only its size is asked for",
);
op(F.FUSE_LISTXATTR, F.FuseGetxattrIn.size, xattr.listxattr, "names with a NUL behind each; or fuse_getxattr_out");
op(F.FUSE_SETXATTR, F.FUSE_COMPAT_SETXATTR_IN_SIZE + 2, xattr.setxattr, "empty");
op(F.FUSE_REMOVEXATTR, 2, xattr.removexattr, "empty");
op(F.FUSE_IOCTL, F.FuseIoctlIn.size, ioctl.ioctl, "fuse_ioctl_out and what is copied out");

nosys(F.FUSE_FLUSH, "close() has nothing to wait for; mapped pages are written by the kernel before it would ask");
nosys(F.FUSE_ACCESS, "default_permissions: the kernel checks");
nosys(F.FUSE_BMAP, "no swap files");
nosys(F.FUSE_POLL, "files are always ready");
nosys(F.FUSE_GETLK, "POSIX_LOCKS is not set: the kernel keeps the locks");
op(F.FUSE_SETLK, F.FuseLkIn.size, lock.setlk, "empty; ENOSYS on a local mount: flock is the kernel's there");
op(F.FUSE_SETLKW, F.FuseLkIn.size, lock.setlkw, "as SETLK, after the lock was granted");

const size = Math.max(...rows.keys()) + 1;
/** Rows by opcode. */
export const opTable: readonly (OpRow | undefined)[] = Array.from({ length: size }, (_, i) => rows.get(i));
