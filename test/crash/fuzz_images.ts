/**
 * Images with one damaged structure each: whatever is wrong on the disk, every operation answers with an errno. Never an assertion, an
 * exception of another kind, a hang, a write outside of the volume, or a write at all on a read-only device.
 *
 * The damage comes from the tables (src/format/fuzz.ts) or is a few random bytes of a block in use; on volumes with metaecc the checksum is mostly
 * made good again, or it alone would be tested. Image N of a seed is always the same image. The parent gives images to a child and
 * kills it when it does not answer: that is how a hang is told.
 */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { MemoryDevice } from "../../src/block/memory_device.ts";
import {
  Dinode,
  DirBlockTrailer,
  DirEntry,
  DxLeaf,
  DxRootBlock,
  ExtentBlock,
  FEATURE_INCOMPAT,
  GroupDesc,
  RefcountBlock,
  SIG_DIR_TRAILER,
  SIG_SUPER_BLOCK,
  signatureOf,
  XattrBlock,
  XattrHeader,
} from "../../src/format/disk/index.ts";
import { applyMutation, type Mutation, mutations } from "../../src/format/fuzz.ts";
import { JBD2_MAGIC_NUMBER, JournalSuperblock } from "../../src/format/jbd2/index.ts";
import { seededRandom, systemClock } from "../../src/lib/clock.ts";
import { FsError } from "../../src/lib/fs_error.ts";
import { mlogSet } from "../../src/lib/masklog.ts";
import { type Callback, runTask, type Thunk, wait } from "../../src/lib/task.ts";
import { fallocate, fsync, readFile, setattr, statfs, writeFile } from "../../src/vfs/file.ts";
import {
  type Attr,
  create,
  getattr,
  link,
  mkdir,
  nameOf,
  readdir,
  readlink,
  rename,
  rmdir,
  symlink,
  unlink,
} from "../../src/vfs/namespace.ts";
import { defaultMountOptions } from "../../src/volume/mount_options.ts";
import type { Op } from "../../src/volume/op.ts";
import type { Osb } from "../../src/volume/osb.ts";
import { closeVolume, openVolume } from "../../src/volume/super.ts";
import { getxattr, listxattr, removexattr, setxattr } from "../../src/volume/xattr/index.ts";
import { type Arena, createArena } from "../../src/wasm/arena.ts";
import { createKernels, type Kernels } from "../../src/wasm/kernels.ts";
import { readImage } from "../support/volume.ts";

/** A block that can be damaged, and how. */
interface Place {
  readonly kind: string;
  readonly off: number;
}

interface Base {
  readonly image: Uint8Array;
  readonly blocksize: number;
  readonly metaecc: boolean;
  readonly places: Place[];
}

const STRUCTS = {
  SUPERV: Dinode,
  INODE: Dinode,
  EXBLK: ExtentBlock,
  GROUP: GroupDesc,
  XATTR: XattrBlock,
  DXDIR: DxRootBlock,
  DXLEAF: DxLeaf,
  REFCNT: RefcountBlock,
  trailer: DirBlockTrailer,
  entries: DirEntry,
  inline_xattr: XattrHeader,
  journal: JournalSuperblock,
} as const;

const keyOf = (text: string): keyof typeof STRUCTS | undefined =>
  (Object.keys(STRUCTS) as (keyof typeof STRUCTS)[]).find((k) => text.startsWith(k));

function blocksizeOf(dv: DataView): number {
  for (let bits = 9; bits <= 12; bits++) if (signatureOf(dv, 2 << bits) === SIG_SUPER_BLOCK) return 1 << bits;
  throw new Error("no superblock in the base image");
}

/** Finds what is worth damaging; rare kinds get the same share as common ones. */
export function loadBase(image: Uint8Array): Base {
  const dv = new DataView(image.buffer, image.byteOffset, image.length);
  const blocksize = blocksizeOf(dv);
  const sb = Dinode.at(dv, 2 * blocksize);
  const places: Place[] = [];
  for (let off = 0; off + blocksize <= image.length; off += blocksize) {
    const sig = signatureOf(dv, off);
    const kind = sig === undefined ? undefined : keyOf(sig.text);
    if (kind !== undefined) {
      places.push({ kind, off });
      const di = kind === "INODE" ? Dinode.at(dv, off) : undefined;
      if (di !== undefined && di.i_xattr_inline_size > 0 && di.i_xattr_inline_size < blocksize)
        places.push({ kind: "inline_xattr", off: off + blocksize - di.i_xattr_inline_size });
    } else if (dv.getUint32(off + blocksize - DirBlockTrailer.size + 0x10, true) === SIG_DIR_TRAILER.lo) {
      places.push({ kind: "trailer", off: off + blocksize - DirBlockTrailer.size }, { kind: "entries", off });
    } else if (dv.getUint32(off, false) === JBD2_MAGIC_NUMBER && dv.getUint32(off + 4, false) >= 3)
      places.push({ kind: "journal", off });
    else if (image.subarray(off, off + blocksize).some((b) => b !== 0)) places.push({ kind: "bytes", off });
  }
  return { image, blocksize, metaecc: (superFlags(sb) & FEATURE_INCOMPAT.META_ECC) !== 0, places };
}

const superFlags = (sb: Dinode): number => sb.i_super.s_feature_incompat;

type Random = ReturnType<typeof seededRandom>;
const belowOf =
  (random: Random) =>
  (n: number): number =>
    random.u32() % n;

/** Damages `image`; the name of what was done. */
function damage(base: Base, image: Uint8Array, arena: Arena, kernels: Kernels, random: Random): string {
  const below = belowOf(random);
  const kinds = [...new Set(base.places.map((p) => p.kind))].sort();
  const kind = kinds[below(kinds.length)]!;
  const of = base.places.filter((p) => p.kind === kind);
  // The first blocks are the system files, on which everything stands.
  const place = of[below(below(2) === 0 ? Math.min(of.length, 40) : of.length)]!;
  const block = place.off - (place.off % base.blocksize);
  let name: string;
  if (kind === "bytes") {
    const at = place.off + below(base.blocksize - 8);
    const n = 1 + below(8);
    for (let i = 0; i < n; i++) image[at + i] = below(256);
    name = `${n} bytes at ${at}`;
  } else {
    const dv = new DataView(image.buffer, image.byteOffset + block, base.blocksize);
    const table = STRUCTS[kind as keyof typeof STRUCTS];
    let off = place.off - block;
    // Not only the first entry of a directory block.
    if (kind === "entries") for (let skip = below(6); skip > 0; skip--) off = nextEntry(dv, off, base.blocksize);
    const all: Mutation[] = [...mutations(table, table.at(dv, off), below, { maxElems: 6 })];
    const mutation = all[below(all.length)]!;
    applyMutation(dv, mutation);
    name = `${mutation.name} in block ${block / base.blocksize}`;
  }
  if (base.metaecc && below(8) !== 0) name += redoCheck(base, image, block, arena, kernels);
  return name;
}

function nextEntry(dv: DataView, off: number, blocksize: number): number {
  const len = dv.getUint16(off + DirEntry.fields.rec_len.off, true);
  return len >= 12 && off + len + 12 < blocksize - DirBlockTrailer.size ? off + len : off;
}

const CHECKS: Record<string, number> = {
  SUPERV: Dinode.fields.i_check.off,
  INODE: Dinode.fields.i_check.off,
  EXBLK: ExtentBlock.fields.h_check.off,
  GROUP: GroupDesc.fields.bg_check.off,
  XATTR: XattrBlock.fields.xb_check.off,
  DXDIR: DxRootBlock.fields.dr_check.off,
  DXLEAF: DxLeaf.fields.dl_check.off,
  REFCNT: RefcountBlock.fields.rf_check.off,
};

/** The block's checksum fits its new contents. */
function redoCheck(base: Base, image: Uint8Array, block: number, arena: Arena, kernels: Kernels): string {
  const dv = new DataView(image.buffer, image.byteOffset + block, base.blocksize);
  const sig = signatureOf(dv, 0);
  const trailer = base.blocksize - DirBlockTrailer.size;
  const check =
    sig !== undefined
      ? CHECKS[keyOf(sig.text) ?? ""]
      : dv.getUint32(trailer + 0x10, true) === SIG_DIR_TRAILER.lo
        ? trailer + DirBlockTrailer.fields.db_check.off
        : undefined;
  if (check === undefined) return "";
  const addr = arena.alloc(4096, 4096);
  arena.u8.set(image.subarray(block, block + base.blocksize), addr);
  kernels.blockCheckCompute(addr, base.blocksize, check);
  image.set(arena.u8.subarray(addr, addr + base.blocksize), block);
  return ", checksum made good";
}

/** A disk that tells of every write that it should not see. */
class WatchedDevice extends MemoryDevice {
  readonly stray: string[] = [];
  override write(addr: number, len: number, offset: number, done: (res: number) => void): void {
    if (this.readonly) this.stray.push(`write of ${len} bytes at ${offset} of a read-only device`);
    if (offset < 0 || offset + len > this.data.length) this.stray.push(`write of ${len} bytes at ${offset}, outside`);
    // The first two blocks are not OCFS2's.
    if (offset < 1024) this.stray.push(`write of ${len} bytes at ${offset}, before the superblock`);
    super.write(addr, len, offset, done);
  }
}

/** Runs everything on the damaged volume; errnos are what is wanted, all else is thrown. */
async function exercise(osb: Osb, buffer: number, random: Random): Promise<number> {
  const below = belowOf(random);
  let errors = 0;
  const tolerate = (err: unknown): void => {
    if (!(err instanceof FsError)) throw err;
    errors++;
  };
  const attempt = <T>(fn: (op: Op) => T): T | undefined => {
    try {
      return osb.runSync(fn);
    } catch (err) {
      tolerate(err);
      return undefined;
    }
  };
  const task = <T>(start: (cb: Callback<T>) => void): T | undefined => {
    try {
      return osb.runTaskSync(wait<T>(start as Thunk<T>));
    } catch (err) {
      tolerate(err);
      return undefined;
    }
  };
  const cred = { uid: 1, gid: 1, umask: 0o022 };
  const name = (s: string): Uint8Array => nameOf(s);
  const files: { dir: number; name: Uint8Array; ino: number }[] = [];
  const seen = new Set<number>();
  const walk = (ino: number, depth: number): void => {
    if (seen.has(ino) || seen.size > 1500 || depth > 40) return;
    seen.add(ino);
    const a = attempt((op) => getattr(op, ino));
    if (a === undefined) return;
    const inode = osb.inodes.get(ino);
    for (const x of attempt((op) => listxattr(op, inode)) ?? []) attempt((op) => getxattr(op, inode, x));
    const type = a.mode >> 12;
    if (type === 10) attempt((op) => readlink(op, ino));
    if (type === 8)
      for (const offset of [0, Math.max(0, a.size - 65536)])
        task<number>((cb) => readFile(osb, inode, { offset, len: 65536, addr: buffer }, cb));
    if (type !== 4) return;
    for (let pos = 0, rounds = 0; rounds < 200; rounds++) {
      const batch: { name: Uint8Array; ino: number; next: number }[] = [];
      const end = attempt((op) => {
        batch.length = 0;
        return readdir(op, ino, pos, (child, _dt, addr, len, next) => {
          batch.push({ name: osb.cache.u8.slice(addr, addr + len), ino: child, next });
          return batch.length < 50;
        });
      });
      if (end === undefined || batch.length === 0) break;
      for (const e of batch) {
        const text = Buffer.from(e.name).toString();
        if (text === "." || text === "..") continue;
        files.push({ dir: ino, name: e.name, ino: e.ino });
        walk(e.ino, depth + 1);
      }
      pos = batch.at(-1)!.next;
    }
  };
  walk(osb.geo.root_blkno, 0);
  attempt(statfs);
  if (osb.readonly_reason !== null) return errors;
  for (let i = 0; i < 60; i++) {
    const file = files.length > 0 ? files[below(files.length)]! : { dir: osb.geo.root_blkno, name: name("x"), ino: 0 };
    const other = files.length > 0 ? files[below(files.length)]! : file;
    const inode = osb.inodes.get(file.ino);
    const k = below(14);
    if (k === 0) attempt((op) => create(op, file.dir, name(`new-${i}`), 0o644, cred));
    else if (k === 1) attempt((op) => mkdir(op, file.dir, name(`dir-${i}`), 0o755, cred));
    else if (k === 2) attempt((op) => symlink(op, file.dir, name(`sym-${i}`), name("t".repeat(300)), cred));
    else if (k === 3) attempt((op) => link(op, file.ino, other.dir, name(`link-${i}`)));
    else if (k === 4) attempt((op) => unlink(op, file.dir, file.name));
    else if (k === 5) attempt((op) => rmdir(op, file.dir, file.name));
    else if (k === 6)
      attempt((op) => rename(op, file.dir, file.name, other.dir, below(2) ? other.name : name(`to-${i}`)));
    else if (k === 7) task<Attr>((cb) => setattr(osb, inode, { size: below(2) ? 0 : below(1 << 20) }, cb));
    else if (k === 8)
      task<void>((cb) => fallocate(osb, inode, [0, 3, 0x10][below(3)]!, below(1 << 19), 1 + below(1 << 18), cb));
    else if (k <= 10)
      task<number>((cb) => writeFile(osb, inode, { offset: below(1 << 20), len: 1 + below(60_000), addr: buffer }, cb));
    else if (k === 11)
      attempt((op) => setxattr(op, inode, `user.fuzz-${below(3)}`, new Uint8Array(below(2) ? 20 : 3000)));
    else if (k === 12)
      for (const x of attempt((op) => listxattr(op, inode)) ?? []) attempt((op) => removexattr(op, inode, x));
    else task<void>((cb) => fsync(osb, inode, false, cb));
    for (let n = below(4); n > 0; n--) osb.pump();
  }
  return errors;
}

export interface FuzzOutcome {
  readonly index: number;
  readonly name: string;
  /** What it should not have done; empty when all is well. */
  readonly problems: string[];
  /** Operations that answered with an errno, and whether the volume could be opened. */
  readonly errors: number;
  readonly opened: boolean;
}

/** Opens, uses and closes one damaged image. */
export class ImageFuzzer {
  readonly #bases: Base[];
  readonly #arena: Arena = createArena(64);
  readonly #kernels: Kernels = createKernels(this.#arena);
  readonly #start: number;
  readonly #seed: number;
  readonly #scratch = new Map<number, Uint8Array>();

  constructor(images: readonly Uint8Array[], seed: number) {
    this.#bases = images.map(loadBase);
    this.#seed = seed;
    this.#start = (this.#arena as unknown as { next: number }).next;
    mlogSet("NOTICE", "off");
    mlogSet("ERROR", "off");
  }

  #reset(): void {
    const inner = this.#arena as unknown as { next: number };
    this.#arena.u8.fill(0, this.#start, inner.next);
    inner.next = this.#start;
  }

  async run(index: number): Promise<FuzzOutcome> {
    const random = seededRandom(this.#seed * 1_000_003 + index * 7919 + 1);
    for (let i = 0; i < 8; i++) random.u32();
    const base = this.#bases[index % this.#bases.length]!;
    let image = this.#scratch.get(base.image.length);
    if (image === undefined) this.#scratch.set(base.image.length, (image = new Uint8Array(base.image.length)));
    image.set(base.image);
    this.#reset();
    const name = `image ${index}: ${damage(base, image, this.#arena, this.#kernels, random)}`;
    this.#reset();
    const dev = new WatchedDevice(this.#arena, image, { readonly: random.u32() % 4 === 0 });
    const problems: string[] = [];
    let errors = 0;
    let opened = false;
    try {
      const osb = await this.#open(dev);
      opened = true;
      const buffer = this.#arena.alloc(128 * 1024, 4096);
      errors = await exercise(osb, buffer, random);
      const busy = (): boolean => [...osb.inodes.values()].some((inode) => inode.task_count > 0);
      for (let i = 0; i < 10_000 && (osb.pump() || busy()); i++);
      osb.runTaskSync(closeVolume(osb));
    } catch (err) {
      if (err instanceof FsError) errors++;
      else problems.push(err instanceof Error ? (err.stack ?? err.message) : String(err));
    }
    problems.push(...dev.stray.slice(0, 3));
    return { index, name, problems, errors, opened };
  }

  async #open(dev: MemoryDevice): Promise<Osb> {
    let settled = false;
    const opened = runTask(
      openVolume({
        arena: this.#arena,
        kernels: this.#kernels,
        dev,
        clock: { ...systemClock, after: () => () => {} },
        random: seededRandom(3),
        options: { ...defaultMountOptions, nocluster: true, cache_bytes: 8 << 20, data_cache_bytes: 8 << 20 },
      }),
    ).finally(() => {
      settled = true;
    });
    opened.catch(() => {});
    for (let i = 0; !settled && i < 1000; i++) await null;
    if (!settled) throw new Error("the mount waits, but nothing is in flight");
    return opened;
  }
}

/** The child: does the images from argv and says a line of JSON before and after each. */
export async function fuzzChild(paths: readonly string[], seed: number, from: number, to: number): Promise<void> {
  const say = (o: unknown): void => {
    process.stdout.write(`${JSON.stringify(o)}\n`);
  };
  process.on("unhandledRejection", (err) => {
    say({ rejected: err instanceof Error ? err.stack : String(err) });
    process.exit(3);
  });
  const fuzzer = new ImageFuzzer(paths.map(readImage), seed);
  for (let i = from; i < to; i++) {
    say({ begin: i });
    say(await fuzzer.run(i));
  }
}

export interface FuzzRun {
  readonly images: number;
  readonly opened: number;
  readonly errors: number;
  readonly failures: FuzzOutcome[];
}

/** Runs images 0 to `images` in children of `argv`, which call fuzzChild; `silent_ms` without a word is a hang. */
export async function fuzzRun(
  argv: (from: number) => string[],
  images: number,
  options: { first?: number; silent_ms?: number; onImage?: (done: number, failures: number) => void } = {},
): Promise<FuzzRun> {
  const failures: FuzzOutcome[] = [];
  let opened = 0;
  let errors = 0;
  let done = 0;
  const end = (options.first ?? 0) + images;
  for (let from = options.first ?? 0; from < end; ) {
    const child = spawn(process.execPath, argv(from), { stdio: ["ignore", "pipe", "pipe"] });
    const kill = (): void => {
      child.kill("SIGKILL");
    };
    process.once("exit", kill);
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr = (stderr + text).slice(-4000);
    });
    let current = from;
    let finished = from;
    let hung = false;
    let watchdog: NodeJS.Timeout | undefined;
    const rearm = (): void => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => {
        hung = true;
        kill();
      }, options.silent_ms ?? 60_000);
    };
    rearm();
    for await (const line of createInterface({ input: child.stdout })) {
      rearm();
      const said = JSON.parse(line) as { begin?: number; rejected?: string } & Partial<FuzzOutcome>;
      if (said.begin !== undefined) current = said.begin;
      else if (said.rejected !== undefined) stderr += said.rejected;
      else {
        const outcome = said as FuzzOutcome;
        finished = outcome.index + 1;
        done++;
        errors += outcome.errors;
        if (outcome.opened) opened++;
        if (outcome.problems.length > 0) failures.push(outcome);
        options.onImage?.(done, failures.length);
      }
    }
    clearTimeout(watchdog);
    process.removeListener("exit", kill);
    if (finished >= end) break;
    const what = hung ? "it hangs" : `the process died: ${stderr.slice(-1500)}`;
    failures.push({ index: current, name: `image ${current}`, problems: [what], errors: 0, opened: false });
    done++;
    from = current + 1;
  }
  return { images: done, opened, errors, failures };
}
