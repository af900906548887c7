/** What stat, statfs and readdir answer, with the fields and methods of node's classes. */
import { isBlk, isChr, isDir, isFifo, isLnk, isReg, isSock, S_IFMT } from "../format/disk/index.ts";
import type { StatFs as VolumeStatFs } from "../vfs/file.ts";
import type { Attr } from "../vfs/namespace.ts";

/** The questions about a mode that Stats, BigIntStats and Dirent have in common. */
abstract class ModeQuestions {
  protected abstract modeNumber(): number;

  isFile(): boolean {
    return isReg(this.modeNumber());
  }
  isDirectory(): boolean {
    return isDir(this.modeNumber());
  }
  isSymbolicLink(): boolean {
    return isLnk(this.modeNumber());
  }
  isBlockDevice(): boolean {
    return isBlk(this.modeNumber());
  }
  isCharacterDevice(): boolean {
    return isChr(this.modeNumber());
  }
  isFIFO(): boolean {
    return isFifo(this.modeNumber());
  }
  isSocket(): boolean {
    return isSock(this.modeNumber());
  }
}

const msOf = (sec: number, nsec: number): number => sec * 1e3 + nsec / 1e6;
const nsOf = (sec: number, nsec: number): bigint => BigInt(sec) * 1_000_000_000n + BigInt(nsec);
const dateOf = (ms: number): Date => new Date(Math.round(ms));

/** OCFS2 keeps no birth time; ctime stands for it, as node says for such file systems. */
export class Stats extends ModeQuestions {
  readonly dev: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
  readonly ino: number;
  readonly size: number;
  readonly blocks: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly birthtimeMs: number;
  readonly atime: Date;
  readonly mtime: Date;
  readonly ctime: Date;
  readonly birthtime: Date;

  constructor(a: Attr, dev: number) {
    super();
    this.dev = dev;
    this.mode = a.mode;
    this.nlink = a.nlink;
    this.uid = a.uid;
    this.gid = a.gid;
    this.rdev = a.rdev;
    this.blksize = a.blksize;
    this.ino = a.ino;
    this.size = a.size;
    this.blocks = a.blocks;
    this.atimeMs = msOf(a.atime, a.atime_nsec);
    this.mtimeMs = msOf(a.mtime, a.mtime_nsec);
    this.ctimeMs = msOf(a.ctime, a.ctime_nsec);
    this.birthtimeMs = this.ctimeMs;
    this.atime = dateOf(this.atimeMs);
    this.mtime = dateOf(this.mtimeMs);
    this.ctime = dateOf(this.ctimeMs);
    this.birthtime = dateOf(this.birthtimeMs);
  }

  protected modeNumber(): number {
    return this.mode;
  }
}

/** As Stats, every number a bigint, and times in nanoseconds besides. */
export class BigIntStats extends ModeQuestions {
  readonly dev: bigint;
  readonly mode: bigint;
  readonly nlink: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly rdev: bigint;
  readonly blksize: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly blocks: bigint;
  readonly atimeMs: bigint;
  readonly mtimeMs: bigint;
  readonly ctimeMs: bigint;
  readonly birthtimeMs: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthtimeNs: bigint;
  readonly atime: Date;
  readonly mtime: Date;
  readonly ctime: Date;
  readonly birthtime: Date;

  constructor(a: Attr, dev: number) {
    super();
    this.dev = BigInt(dev);
    this.mode = BigInt(a.mode);
    this.nlink = BigInt(a.nlink);
    this.uid = BigInt(a.uid);
    this.gid = BigInt(a.gid);
    this.rdev = BigInt(a.rdev);
    this.blksize = BigInt(a.blksize);
    this.ino = BigInt(a.ino);
    this.size = BigInt(a.size);
    this.blocks = BigInt(a.blocks);
    this.atimeNs = nsOf(a.atime, a.atime_nsec);
    this.mtimeNs = nsOf(a.mtime, a.mtime_nsec);
    this.ctimeNs = nsOf(a.ctime, a.ctime_nsec);
    this.birthtimeNs = this.ctimeNs;
    this.atimeMs = this.atimeNs / 1_000_000n;
    this.mtimeMs = this.mtimeNs / 1_000_000n;
    this.ctimeMs = this.ctimeNs / 1_000_000n;
    this.birthtimeMs = this.ctimeMs;
    this.atime = dateOf(Number(this.atimeMs));
    this.mtime = dateOf(Number(this.mtimeMs));
    this.ctime = dateOf(Number(this.ctimeMs));
    this.birthtime = this.ctime;
  }

  protected modeNumber(): number {
    return Number(this.mode);
  }
}

const DT_SHIFT = 12;

/** statfs(2)'s f_type (linux/magic.h). */
const OCFS2_SUPER_MAGIC = 0x7461636f;

/** An entry of a directory; `name` is a Buffer where that encoding was asked for. */
export class Dirent<N extends string | Buffer = string> extends ModeQuestions {
  readonly name: N;
  /** The directory that it is in. */
  readonly parentPath: string;
  readonly #mode: number;

  constructor(name: N, parent_path: string, dt: number) {
    super();
    this.name = name;
    this.parentPath = parent_path;
    this.#mode = (dt << DT_SHIFT) & S_IFMT;
  }

  /** As parentPath; the older name that some programs ask for. */
  get path(): string {
    return this.parentPath;
  }

  protected modeNumber(): number {
    return this.#mode;
  }
}

/** Space of the volume; counts are of `bsize` bytes. */
export interface StatsFs<T extends number | bigint = number> {
  readonly type: T;
  readonly bsize: T;
  readonly blocks: T;
  readonly bfree: T;
  readonly bavail: T;
  readonly files: T;
  readonly ffree: T;
}

export function statsFs(s: VolumeStatFs): StatsFs {
  const { bsize, blocks, bfree, bavail, files, ffree } = s;
  return { type: OCFS2_SUPER_MAGIC, bsize, blocks, bfree, bavail, files, ffree };
}

export function bigintStatsFs(s: StatsFs): StatsFs<bigint> {
  return {
    type: BigInt(s.type),
    bsize: BigInt(s.bsize),
    blocks: BigInt(s.blocks),
    bfree: BigInt(s.bfree),
    bavail: BigInt(s.bavail),
    files: BigInt(s.files),
    ffree: BigInt(s.ffree),
  };
}
