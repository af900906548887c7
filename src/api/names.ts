/** Names: made, removed, moved, and what links lead to. Each change is one operation: it happens whole or not at all. */
import { isDir } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import * as ns from "../vfs/namespace.ts";
import { type CallInfo, hasCode, systemError } from "./errors.ts";
import { modeOf } from "./numbers.ts";
import type { OpenVolume } from "./open_volume.ts";
import { checkNew, find, joinNames, type PathLike, type Place, pathBytes, pathText, walk } from "./path.ts";

const pathError = (errno: number, where: string): FsError => new FsError(errno, `api.${where}`);

/** The place of a name itself: what is there is not followed. */
const NAME = { names_end: true };

export async function mkdir(v: OpenVolume, path: PathLike, mode?: string | number | null): Promise<void> {
  const bytes = pathBytes(path);
  // The set-uid and set-gid bits are not taken from the caller (vfs_mkdir).
  const bits = modeOf(mode, 0o777) & 0o1777;
  const call = { syscall: "mkdir", path: pathText(path) };
  await v.at(call, bytes, NAME, (place) =>
    v.change(call, (op) => {
      checkNew(place, true);
      ns.mkdir(op, place.parent, place.name, bits, v.cred);
    }),
  );
}

const SLASH = 0x2f;

/** The path without slashes at its end. */
function trimmed(path: Buffer): Buffer {
  let end = path.length;
  while (end > 0 && path[end - 1] === SLASH) end--;
  return path.subarray(0, end);
}

/** The directory above, as the path says; undefined at the top. */
function dirname(path: Buffer): Buffer | undefined {
  const name = trimmed(path);
  const above = trimmed(name.subarray(0, name.lastIndexOf(SLASH) + 1));
  return above.length === 0 ? undefined : above;
}

/** Makes a directory and those above it that are missing; answers the first that was made. */
export async function mkdirp(
  v: OpenVolume,
  path: PathLike,
  mode?: string | number | null,
): Promise<string | undefined> {
  const bytes = Buffer.from(pathBytes(path));
  if (bytes.length === 0) throw systemError(Errno.ENOENT, { syscall: "mkdir", path: "" });
  const full = bytes[0] === SLASH ? bytes : Buffer.concat([Buffer.from("/"), bytes]);
  return (await mkdirFrom(v, full, mode))?.toString("utf8");
}

async function mkdirFrom(v: OpenVolume, path: Buffer, mode?: string | number | null): Promise<Buffer | undefined> {
  try {
    await mkdir(v, path, mode);
    return path;
  } catch (err) {
    if (hasCode(err, "EEXIST")) {
      const attr = await v.run({ syscall: "mkdir", path: pathText(path) }, (op) => find(op, path, true));
      if (!isDir(attr.mode)) throw err;
      return undefined;
    }
    const above = dirname(path);
    if (!hasCode(err, "ENOENT") || above === undefined) throw err;
    const first = await mkdirFrom(v, above, mode);
    await mkdirFrom(v, path, mode);
    return first ?? path;
  }
}

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const TRIES = 100;

/** A new directory with six random characters behind `prefix`. */
export async function mkdtemp(v: OpenVolume, prefix: PathLike): Promise<Buffer> {
  const start = pathBytes(prefix, "prefix");
  const call = { syscall: "mkdtemp", path: `${pathText(prefix)}XXXXXX` };
  for (let tries = 0; ; tries++) {
    let random = "";
    for (let c = 0; c < 6; c++) random += LETTERS[v.osb.random.u32() % LETTERS.length];
    const path = Buffer.concat([start, Buffer.from(random)]);
    try {
      await v.at(call, path, NAME, (place) =>
        v.change(call, (op) => {
          checkNew(place, true);
          ns.mkdir(op, place.parent, place.name, 0o700, v.cred);
        }),
      );
      return path;
    } catch (err) {
      if (!hasCode(err, "EEXIST") || tries >= TRIES) throw err;
    }
  }
}

/** Throws unless something is there that can be removed or moved by its name. */
function checkVictim(place: Place, dots: Readonly<Record<"dot" | "dotdot" | "root", number>>): void {
  if (place.last !== "norm") throw pathError(dots[place.last], "name");
  if (place.attr === undefined) throw pathError(Errno.ENOENT, "name");
}

export async function unlink(v: OpenVolume, path: PathLike): Promise<void> {
  const bytes = pathBytes(path);
  const call = { syscall: "unlink", path: pathText(path) };
  await v.at(call, bytes, NAME, (place) =>
    v.change(call, (op) => {
      checkVictim(place, { dot: Errno.EISDIR, dotdot: Errno.EISDIR, root: Errno.EISDIR });
      if (place.slash && !isDir(place.attr!.mode)) throw pathError(Errno.ENOTDIR, "unlink");
      ns.unlink(op, place.parent, place.name);
    }),
  );
}

export async function rmdir(v: OpenVolume, path: PathLike): Promise<void> {
  const bytes = pathBytes(path);
  const call = { syscall: "rmdir", path: pathText(path) };
  await v.at(call, bytes, NAME, (place) =>
    v.change(call, (op) => {
      checkVictim(place, { dot: Errno.EINVAL, dotdot: Errno.ENOTEMPTY, root: Errno.EBUSY });
      ns.rmdir(op, place.parent, place.name);
    }),
  );
}

export async function rename(v: OpenVolume, from: PathLike, to: PathLike): Promise<void> {
  const old_bytes = pathBytes(from, "oldPath");
  const new_bytes = pathBytes(to, "newPath");
  const call = { syscall: "rename", path: pathText(from), dest: pathText(to) };
  await v.at(call, old_bytes, NAME, (old_place) =>
    v.at(call, new_bytes, NAME, (new_place) =>
      v.change(call, (op) => {
        if (new_place.last !== "norm") throw pathError(Errno.EBUSY, "rename");
        checkVictim(old_place, { dot: Errno.EBUSY, dotdot: Errno.EBUSY, root: Errno.EBUSY });
        const slash = old_place.slash || new_place.slash;
        if (slash && !isDir(old_place.attr!.mode)) throw pathError(Errno.ENOTDIR, "rename");
        // The VFS says so before it looks at the types of both.
        if (old_place.dirs.includes(new_place.attr?.ino ?? -1)) throw pathError(Errno.ENOTEMPTY, "rename");
        ns.rename(op, old_place.parent, old_place.name, new_place.parent, new_place.name);
      }),
    ),
  );
}

export async function link(v: OpenVolume, existing: PathLike, path: PathLike): Promise<void> {
  const old_bytes = pathBytes(existing, "existingPath");
  const new_bytes = pathBytes(path, "newPath");
  const call = { syscall: "link", path: pathText(existing), dest: pathText(path) };
  await v.at(call, old_bytes, {}, async ({ attr }) => {
    if (attr === undefined) throw systemError(Errno.ENOENT, call);
    await v.at(call, new_bytes, NAME, (place) =>
      v.change(call, (op) => {
        checkNew(place, false);
        ns.link(op, attr.ino, place.parent, place.name);
      }),
    );
  });
}

export async function symlink(v: OpenVolume, target: PathLike, path: PathLike): Promise<void> {
  const target_bytes = pathBytes(target, "target");
  const bytes = pathBytes(path);
  const call: CallInfo = { syscall: "symlink", path: pathText(target), dest: pathText(path) };
  if (target_bytes.length === 0) throw systemError(Errno.ENOENT, call);
  await v.at(call, bytes, NAME, (place) =>
    v.change(call, (op) => {
      checkNew(place, false);
      ns.symlink(op, place.parent, place.name, target_bytes, v.cred);
    }),
  );
}

export async function readlink(v: OpenVolume, path: PathLike): Promise<Buffer> {
  const bytes = pathBytes(path);
  const target = await v.run({ syscall: "readlink", path: pathText(path) }, (op) =>
    ns.readlink(op, find(op, bytes, false).ino),
  );
  return Buffer.from(target);
}

/** The path without symlinks, "." and "..". */
export async function realpath(v: OpenVolume, path: PathLike): Promise<Buffer> {
  const bytes = pathBytes(path);
  return v.run({ syscall: "realpath", path: pathText(path) }, (op) => {
    const place = walk(op, bytes, true);
    if (place.attr === undefined) throw pathError(Errno.ENOENT, "realpath");
    return joinNames(place.names);
  });
}
