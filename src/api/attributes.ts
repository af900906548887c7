/** What is known of a file besides its data: stat, mode, owner, times, size, access, and extended attributes. */
import { constants } from "node:fs";
import { isDir, isReg } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { type AttrChanges, setattr, statfs as volumeStatFs } from "../vfs/file.ts";
import type { Attr } from "../vfs/namespace.ts";
import type { Inode } from "../volume/inode.ts";
import type { Op } from "../volume/op.ts";
import * as xattrs from "../volume/xattr/index.ts";
import { type CallInfo, systemError } from "./errors.ts";
import { integerOf, lengthOf } from "./numbers.ts";
import type { OpenVolume } from "./open_volume.ts";
import { find, type PathLike, pathBytes, pathText } from "./path.ts";
import { BigIntStats, bigintStatsFs, Stats, type StatsFs, statsFs } from "./stats.ts";

/** The attributes of what a path leads to. */
export function attrOfPath(v: OpenVolume, path: PathLike, follow: boolean, syscall: string): Promise<Attr> {
  const bytes = pathBytes(path);
  return v.run({ syscall, path: pathText(path) }, (op) => find(op, bytes, follow));
}

export async function stat(v: OpenVolume, path: PathLike, follow: boolean, bigint: boolean) {
  const attr = await attrOfPath(v, path, follow, follow ? "stat" : "lstat");
  const dev = v.osb.geo.uuid_hash;
  return bigint ? new BigIntStats(attr, dev) : new Stats(attr, dev);
}

/** What a caller wants to be different. */
export type Changes = Pick<AttrChanges, "mode" | "atime" | "mtime"> | Owner;

/** Undefined: as it is. */
interface Owner {
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

/** The library acts as root: of every group. */
const ofAllGroups = (): boolean => true;

const isTime = (time: AttrChanges["atime"]): boolean =>
  time === undefined || time === "now" || Number.isSafeInteger(time.sec);

function changesFor(c: Changes): AttrChanges {
  if ("uid" in c)
    return {
      ...(c.uid !== undefined && { uid: c.uid }),
      ...(c.gid !== undefined && { gid: c.gid }),
      kill_suid: ofAllGroups,
    };
  // A Date that is none.
  if (!isTime(c.atime) || !isTime(c.mtime)) throw new FsError(Errno.EINVAL, "api.utimes");
  return c;
}

/** Changes attributes of an inode in hand. */
export async function changeAttr(v: OpenVolume, call: CallInfo, inode: Inode, c: Changes): Promise<void> {
  await v.call<Attr>(call, (done) => {
    v.checkWritable();
    setattr(v.osb, inode, changesFor(c), done);
  });
}

/** Finds what a path leads to and hands it, held, to `use`. ENOENT when there is nothing. */
function withInode<T>(
  v: OpenVolume,
  call: CallInfo,
  path: PathLike,
  follow: boolean,
  use: (inode: Inode, attr: Attr) => Promise<T>,
): Promise<T> {
  return v.at(call, pathBytes(path), { follow }, async ({ attr }) => {
    if (attr === undefined) throw systemError(Errno.ENOENT, call);
    return use(v.osb.inodes.get(attr.ino), attr);
  });
}

/** Changes attributes of what a path leads to. */
export async function changePath(
  v: OpenVolume,
  path: PathLike,
  follow: boolean,
  syscall: string,
  c: Changes,
): Promise<void> {
  const call = { syscall, path: pathText(path) };
  await withInode(v, call, path, follow, (inode) =>
    v.call<Attr>(call, (done) => {
      v.checkWritable();
      setattr(v.osb, inode, changesFor(c), done);
    }),
  );
}

/** Sets the size of a regular file. EISDIR, EINVAL for what is none. */
export async function truncate(v: OpenVolume, path: PathLike, len: number): Promise<void> {
  const call = { syscall: "open", path: pathText(path) };
  const size = lengthOf(len);
  await withInode(v, call, path, true, (inode, attr) => {
    if (isDir(attr.mode)) throw systemError(Errno.EISDIR, call);
    if (!isReg(attr.mode)) throw systemError(Errno.EINVAL, call);
    return v.call<Attr>(call, (done) => {
      v.checkWritable();
      setattr(v.osb, inode, { size }, done);
    });
  });
}

/** As access(2) for root: what is there may be read and written; executed, if anybody may. */
export async function access(v: OpenVolume, path: PathLike, how?: number): Promise<void> {
  const bytes = pathBytes(path);
  const mode = integerOf(how ?? constants.F_OK, "mode", 0, constants.R_OK | constants.W_OK | constants.X_OK);
  await v.run({ syscall: "access", path: pathText(path) }, (op) => {
    const attr = find(op, bytes, true);
    if ((mode & constants.W_OK) !== 0 && v.readonly) throw new FsError(Errno.EROFS, "api.access", { ino: attr.ino });
    if ((mode & constants.X_OK) !== 0 && !isDir(attr.mode) && (attr.mode & 0o111) === 0)
      throw new FsError(Errno.EACCES, "api.access", { ino: attr.ino });
  });
}

export async function statfs(v: OpenVolume, path: PathLike, bigint: boolean): Promise<StatsFs | StatsFs<bigint>> {
  const bytes = pathBytes(path);
  const s = await v.run({ syscall: "statfs", path: pathText(path) }, (op) => {
    find(op, bytes, true);
    return volumeStatFs(op);
  });
  return bigint ? bigintStatsFs(statsFs(s)) : statsFs(s);
}

// Extended attributes -------------------------------------------------------------------------------------------------

const inodeAt = (op: Op, path: Uint8Array, follow: boolean): Inode => op.osb.inodes.get(find(op, path, follow).ino);

/** The value of an attribute ("user.comment"). ENODATA when there is none. */
export async function getxattr(v: OpenVolume, path: PathLike, name: string, follow: boolean): Promise<Buffer> {
  const bytes = pathBytes(path);
  const value = await v.run({ syscall: "getxattr", path: pathText(path) }, (op) => {
    const found = xattrs.getxattr(op, inodeAt(op, bytes, follow), name);
    if (found === undefined) throw new FsError(Errno.ENODATA, "api.getxattr", { name });
    return found;
  });
  return Buffer.from(value);
}

export interface SetxattrOptions {
  /** It must not be there yet (EEXIST). */
  readonly create?: boolean | undefined;
  /** It must be there (ENODATA). */
  readonly replace?: boolean | undefined;
}

export async function setxattr(
  v: OpenVolume,
  path: PathLike,
  name: string,
  value: Uint8Array,
  o: SetxattrOptions,
  follow: boolean,
): Promise<void> {
  const call = { syscall: "setxattr", path: pathText(path) };
  const flags = (o.create === true ? xattrs.XATTR_CREATE : 0) | (o.replace === true ? xattrs.XATTR_REPLACE : 0);
  await withInode(v, call, path, follow, (inode) =>
    v.change(call, (op) => xattrs.setxattr(op, inode, name, value, flags)),
  );
}

export async function removexattr(v: OpenVolume, path: PathLike, name: string, follow: boolean): Promise<void> {
  const call = { syscall: "removexattr", path: pathText(path) };
  await withInode(v, call, path, follow, (inode) => v.change(call, (op) => xattrs.removexattr(op, inode, name)));
}

export async function listxattr(v: OpenVolume, path: PathLike, follow: boolean): Promise<string[]> {
  const bytes = pathBytes(path);
  return v.run({ syscall: "listxattr", path: pathText(path) }, (op) =>
    xattrs.listxattr(op, inodeAt(op, bytes, follow)),
  );
}
