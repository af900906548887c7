/** Copying one file, as node's copyFile: its mode and its data. Clusters are shared where the volume can (refcount). */
import { constants } from "node:fs";
import { FEATURE_INCOMPAT, isDir, isReg } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { copyFileRange } from "../vfs/copy_range.ts";
import { setattr } from "../vfs/file.ts";
import type { Attr } from "../vfs/namespace.ts";
import { type CallInfo, systemError } from "./errors.ts";
import { openFile } from "./file_handle.ts";
import { integerOf } from "./numbers.ts";
import type { OpenVolume } from "./open_volume.ts";
import { type PathLike, pathBytes, pathText } from "./path.ts";

const COPY_MODES = constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE | constants.COPYFILE_FICLONE_FORCE;
const PIECE_BYTES = 1 << 28;

/** The source's inode. EISDIR, EINVAL for what is no regular file. */
function checkRegular(attr: Attr | undefined, call: CallInfo): Attr {
  if (attr === undefined) throw systemError(Errno.ENOENT, call);
  if (isDir(attr.mode)) throw systemError(Errno.EISDIR, call);
  if (!isReg(attr.mode)) throw systemError(Errno.EINVAL, call);
  return attr;
}

/** `mode`: constants.COPYFILE_EXCL fails with EEXIST when `to` is there. */
export async function copyFile(v: OpenVolume, from: PathLike, to: PathLike, how?: number | null): Promise<void> {
  const mode = integerOf(how ?? 0, "mode", 0, COPY_MODES);
  const call = { syscall: "copyfile", path: pathText(from), dest: pathText(to) };
  await v.at(call, pathBytes(from, "src"), { follow: true }, async (place) => {
    const attr = checkRegular(place.attr, call);
    if ((mode & constants.COPYFILE_FICLONE_FORCE) !== 0 && !v.osb.incompat(FEATURE_INCOMPAT.REFCOUNT_TREE))
      throw systemError(Errno.EOPNOTSUPP, call);
    const src = v.osb.inodes.get(attr.ino);
    const excl = (mode & constants.COPYFILE_EXCL) !== 0;
    await using dest = await openFile(
      v,
      to,
      excl ? "wx" : constants.O_WRONLY | constants.O_CREAT,
      attr.mode & 0o7777,
      call,
    );
    const { inode } = dest;
    if (inode === src) return;
    await v.call<Attr>(call, (done) => setattr(v.osb, inode, { mode: attr.mode & 0o7777, size: 0 }, done));
    for (let at = 0, n = 1; n > 0; at += n)
      n = await v.call<number>(call, (done) => copyFileRange(v.osb, src, at, inode, at, PIECE_BYTES, done));
  });
}
