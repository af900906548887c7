/**
 * A volume with reflinks, and beside each file a plain buffer with what it should hold: for tests of copy on write, which compare
 * after random changes.
 */
import { expect } from "vitest";
import type { Random } from "../../src/lib/clock.ts";
import { wait } from "../../src/lib/task.ts";
import { copyFileRange } from "../../src/vfs/copy_range.ts";
import { fsync, readFile, setattr, writeFile } from "../../src/vfs/file.ts";
import { create, getattr, unlink } from "../../src/vfs/namespace.ts";
import { volumeStat } from "../../src/volume/alloc/suballoc.ts";
import { getClusters } from "../../src/volume/extents/extent_map.ts";
import { fallocateTask } from "../../src/volume/file/fallocate.ts";
import { dinodeOf, type Inode, inodeLock } from "../../src/volume/inode.ts";
import { reflinkTask } from "../../src/volume/refcount/index.ts";
import type { TestVolume } from "./volume.ts";

/** No file is larger. */
export const MAX = 3 << 20;
export const CRED = { uid: 0, gid: 0, umask: 0o22 };

export class File {
  readonly name: string;
  ino: number;
  size = 0;
  bytes = new Uint8Array(MAX);

  constructor(name: string, ino: number) {
    this.name = name;
    this.ino = ino;
  }

  write(offset: number, data: Uint8Array): void {
    this.bytes.set(data, offset);
    this.size = Math.max(this.size, offset + data.length);
  }

  truncate(size: number): void {
    if (size < this.size) this.bytes.fill(0, size);
    this.size = size;
  }

  clone(name: string, ino: number): File {
    const f = new File(name, ino);
    f.bytes = this.bytes.slice();
    f.size = this.size;
    return f;
  }
}

/** One volume and what its files should hold. */
export class Bench {
  readonly v: TestVolume;
  readonly addr: number;
  files: File[] = [];
  #next = 0;

  constructor(v: TestVolume) {
    this.v = v;
    this.addr = v.osb.arena.alloc(1 << 20, 4096);
  }

  inode(f: File): Inode {
    return this.v.osb.inodes.get(f.ino);
  }

  create(): File {
    const { osb } = this.v;
    const name = `f${this.#next++}`;
    const { ino } = osb.runSync((op) => create(op, osb.geo.root_blkno, Buffer.from(name), 0o100644, CRED));
    const f = new File(name, ino);
    this.files.push(f);
    return f;
  }

  reflink(of: File, preserve = false): File {
    const { osb } = this.v;
    const name = `f${this.#next++}`;
    const root = osb.inodes.get(osb.geo.root_blkno);
    const made = osb.runTaskSync(reflinkTask(osb, this.inode(of), root, Buffer.from(name), { preserve, cred: CRED }));
    const f = of.clone(name, made.ino);
    this.files.push(f);
    return f;
  }

  remove(f: File): void {
    const { osb } = this.v;
    osb.runSync((op) => void unlink(op, osb.geo.root_blkno, Buffer.from(f.name)));
    this.files = this.files.filter((x) => x !== f);
  }

  write(f: File, offset: number, data: Uint8Array, direct = false): void {
    const { osb } = this.v;
    osb.arena.u8.set(data, this.addr);
    const req = { offset, len: data.length, addr: this.addr, direct };
    const n = osb.runTaskSync(wait<number>((cb) => writeFile(osb, this.inode(f), req, cb)));
    expect(n).toBe(data.length);
    f.write(offset, data);
  }

  setSize(f: File, size: number): void {
    this.v.osb.runTaskSync(wait((cb) => setattr(this.v.osb, this.inode(f), { size }, cb)));
    f.truncate(size);
  }

  read(f: File, offset: number, len: number): Uint8Array {
    const { osb } = this.v;
    const n = osb.runTaskSync(wait<number>((cb) => readFile(osb, this.inode(f), { offset, len, addr: this.addr }, cb)));
    return osb.arena.u8.slice(this.addr, this.addr + n);
  }

  copy(src: File, s_off: number, dst: File, d_off: number, len: number): void {
    const { osb } = this.v;
    const n = osb.runTaskSync(
      wait<number>((cb) => copyFileRange(osb, this.inode(src), s_off, this.inode(dst), d_off, len, cb)),
    );
    expect(n).toBe(Math.max(0, Math.min(len, src.size - s_off)));
    if (n > 0) dst.write(d_off, src.bytes.slice(s_off, s_off + n));
  }

  sync(f: File): void {
    this.v.osb.runTaskSync(wait((cb) => fsync(this.v.osb, this.inode(f), false, cb)));
  }

  /** Unmounts, once what an unlink left behind is deleted. */
  close(): void {
    for (let i = 0; i < 5000 && this.v.osb.pump(); i++);
    this.v.close();
  }

  flags(f: File, offset: number): number {
    const { osb } = this.v;
    return osb.runSync((op) => {
      inodeLock(op, this.inode(f));
      return getClusters(op, this.inode(f), Math.floor(offset / osb.geo.clustersize)).flags;
    });
  }

  /** The cluster of the disk that holds byte `offset`, 0 for a hole. */
  place(f: File, offset: number): number {
    const { osb } = this.v;
    return osb.runSync((op) => {
      inodeLock(op, this.inode(f));
      return getClusters(op, this.inode(f), Math.floor(offset / osb.geo.clustersize)).p_cluster;
    });
  }

  used(f: File): number {
    return this.v.osb.runSync((op) => dinodeOf(op, inodeLock(op, this.inode(f))).i_clusters);
  }

  free(): number {
    return this.v.osb.runSync((op) => volumeStat(op).free_clusters);
  }

  /** Every file as the model has it. */
  check(what: string): void {
    for (const f of this.files) {
      const attr = this.v.osb.runSync((op) => getattr(op, f.ino));
      expect(attr.size, `${what}: size of ${f.name}`).toBe(f.size);
      for (let at = 0; at < f.size; at += 1 << 20) {
        const got = this.read(f, at, 1 << 20);
        const want = f.bytes.subarray(at, Math.min(f.size, at + (1 << 20)));
        const diff = Buffer.compare(got, want) === 0 ? -1 : got.findIndex((b, i) => b !== want[i]);
        expect(diff < 0 ? "same" : `${what}: ${f.name} differs at ${at + diff}`).toBe("same");
      }
    }
  }
}

export const pattern = (len: number, seed: number): Uint8Array =>
  new Uint8Array(len).map((_, n) => (n * 31 + seed * 7 + (n >> 8) * 13 + 1) & 255);

/** A file and its clone whose clusters are shared and not by turns, so that their tree has leaves and, in small blocks, levels. */
export function alternate(b: Bench, max_clusters: number): [File, File] {
  const { osb } = b.v;
  const cs = osb.geo.clustersize;
  const f = b.create();
  const bytes = Math.min(max_clusters * cs, MAX);
  for (let at = 0; at < bytes; at += 1 << 20) b.write(f, at, pattern(Math.min(1 << 20, bytes - at), at));
  const c = b.reflink(f);
  // A hole within a cluster is zeroes: that cluster alone is copied.
  for (let at = 7; at < bytes; at += 2 * cs) {
    osb.runTaskSync(fallocateTask(osb, b.inode(c), 3, at, 100));
    c.bytes.fill(0, at, at + 100);
  }
  return [f, c];
}

/** Random changes of random files. */
export function changes(b: Bench, random: Random, ops: number, unwritten: boolean, between: () => void): void {
  const { osb } = b.v;
  const below = (n: number): number => random.u32() % n;
  const any = (): File => b.files[below(b.files.length)]!;
  const cs = osb.geo.clustersize;
  for (let i = 0; i < ops; i++) {
    between();
    const f = any();
    const big = below(8) === 0;
    const offset = below(big ? MAX - (1 << 20) : 300_000);
    const len = 1 + below(big ? 1 << 20 : below(2) === 0 ? 300 : 30_000);
    const kind = below(unwritten ? 14 : 12);
    if (kind < 4) {
      if (kind === 3) b.write(f, offset & ~4095, pattern(Math.max(4096, len & ~4095), i), true);
      else b.write(f, offset, pattern(len, i));
    } else if (kind < 6) {
      const want = f.bytes.subarray(offset, Math.min(f.size, offset + len));
      const got = b.read(f, offset, len);
      expect(got.length).toBe(want.length);
      expect(Buffer.compare(got, want), `op ${i}: ${f.name} at ${offset}+${len}`).toBe(0);
    } else if (kind < 8) {
      if (b.files.length < 7) b.reflink(f, below(2) === 0);
      else if (b.files.length > 4) b.remove(f);
    } else if (kind === 8) {
      const size = below(3) === 0 ? below(300) : offset;
      b.setSize(f, size);
    } else if (kind === 9) b.sync(f);
    else if (kind < 12) {
      const src = any();
      const start = (): number => (below(4) > 0 ? Math.floor(below(600_000) / cs) * cs : below(300_000));
      const [s_off, d_off] = [start(), start()];
      const n = below(2) === 0 ? len * 4 : MAX;
      const l = Math.min(n, MAX - Math.max(s_off, d_off));
      const m = Math.max(0, Math.min(l, src.size - s_off));
      if (src === f && s_off < d_off + m && d_off < s_off + m) continue;
      b.copy(src, s_off, f, d_off, l);
    } else {
      const l = Math.min(len, MAX - offset);
      const mode = kind === 12 ? 3 : [0, 1, 0x10, 0x11][below(4)]!;
      osb.runTaskSync(fallocateTask(osb, b.inode(f), mode, offset, l));
      if (mode === 3 || (mode & 0x10) !== 0) f.bytes.fill(0, offset, offset + l);
      if (mode === 0 || mode === 0x10) f.size = Math.max(f.size, offset + l);
    }
  }
}
