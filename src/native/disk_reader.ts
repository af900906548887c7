/**
 * Blocking reads of a device, for tools and for what is looked at before a mount. A block device is read past the page cache of this machine: what
 * other machines write to a shared disk never gets there, and what was once read stays for as long as anybody here has the device open. A file is read
 * through it: who writes to that is on this machine.
 */
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { Errno } from "../lib/errno.ts";
import { check } from "../lib/fs_error.ts";
import { type ArenaHandle, arenaMisalign, O, openFile, preadSync, registerArena } from "./index.ts";

export interface DiskReader {
  readonly fd: number;
  /** Fewer bytes at the end of the device. Throws FsError, or what node:fs throws. */
  readAt(off_bytes: number, len_bytes: number): Uint8Array;
  close(): void;
}

/** Alignment that every device takes, and what is read at a time. */
const PAGE = 4096;
const CHUNK = 1 << 20;

interface Buffer {
  readonly arena: ArenaHandle;
  readonly bytes: Uint8Array;
  readonly addr: number;
}
/** One a thread. */
let buffer: Buffer | null = null;

function pages(): Buffer {
  if (buffer !== null) return buffer;
  const bytes = new Uint8Array(CHUNK + PAGE);
  const arena = registerArena(bytes);
  buffer = { arena, bytes, addr: (PAGE - arenaMisalign(arena)) % PAGE };
  return buffer;
}

function readDirect(fd: number, off: number, len: number): Uint8Array {
  const { arena, bytes, addr } = pages();
  const out = new Uint8Array(len);
  for (let got = 0; got < len; ) {
    const at = off + got;
    const start = at - (at % PAGE);
    const want = Math.min(CHUNK, Math.ceil((off + len - start) / PAGE) * PAGE);
    const n = check(preadSync(arena, fd, addr, want, start), "disk.read", { at });
    const here = Math.min(n - (at - start), len - got);
    if (here <= 0) return out.subarray(0, got);
    out.set(bytes.subarray(addr + at - start, addr + at - start + here), got);
    got += here;
  }
  return out;
}

function readThrough(fd: number, off: number, len: number): Uint8Array {
  const out = new Uint8Array(len);
  for (let got = 0; got < len; ) {
    const n = readSync(fd, out, got, len - got, off + got);
    if (n === 0) return out.subarray(0, got);
    got += n;
  }
  return out;
}

/** Throws what node:fs throws when it cannot be opened. */
export function openReader(path: string): DiskReader {
  const direct = statSync(path).isBlockDevice() ? openFile(path, O.RDONLY | O.DIRECT, 0) : -Errno.EINVAL;
  const fd = direct >= 0 ? direct : openSync(path, "r");
  return {
    fd,
    readAt: (off, len) => (direct >= 0 ? readDirect(fd, off, len) : readThrough(fd, off, len)),
    close: () => closeSync(fd),
  };
}
