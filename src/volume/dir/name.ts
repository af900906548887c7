/**
 * File names: bytes, not text. A name is 1 to 255 bytes without NUL and '/'; whatever encoding the user had is kept, so
 * names travel as Uint8Array from the request to the directory block.
 *
 * The index of a directory is ordered by a hash of the name that mixes bytes as `char`. Whether 0x80 and above count as
 * negative depends on how the node that wrote the entry was built: x86 kernels before 6.2 and the x86 tools do so, later
 * kernels do not. We write what the tools check, and find both: otherwise one node's non-ASCII names do not exist on another.
 */
import { OCFS2_MAX_FILENAME_LEN } from "../../format/disk/index.ts";
import { Errno } from "../../lib/errno.ts";
import { einval, FsError } from "../../lib/fs_error.ts";
import type { Osb } from "../osb.ts";

export type Name = Uint8Array;

/** The bytes of a name given as text. */
export const nameOf = (text: string): Name => Buffer.from(text, "utf8");

/** A name for messages. */
export const nameText = (name: Name): string =>
  Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString("utf8");

export const DOT: Name = nameOf(".");
export const DOT_DOT: Name = nameOf("..");

const PERIOD = 0x2e;
const SLASH = 0x2f;

/** True for "." and "..", which are in every directory and which no operation may make or remove. */
export const isDots = (name: Name): boolean =>
  (name.length === 1 || (name.length === 2 && name[1] === PERIOD)) && name[0] === PERIOD;

/** Throws ENAMETOOLONG for a name that no entry can hold (ocfs2_lookup). */
export function checkNameLength(name: Name): void {
  if (name.length > OCFS2_MAX_FILENAME_LEN) throw new FsError(Errno.ENAMETOOLONG, "dir.name", { len: name.length });
}

/** Throws ENAMETOOLONG or EINVAL for bytes that cannot become a new entry's name. */
export function checkNewName(name: Name): void {
  checkNameLength(name);
  if (name.length === 0) throw einval("dir.name", { found: "an empty name" });
  for (let i = 0; i < name.length; i++)
    if (name[i] === 0 || name[i] === SLASH) throw einval("dir.name", { found: "NUL or / in a name" });
}

/** The two words that the index is ordered by (struct ocfs2_dx_hinfo). */
export interface DxHash {
  major: number;
  minor: number;
}

/** Room in the arena where a name is put for the kernels to read, and where they leave results. */
interface Scratch {
  readonly name_addr: number;
  readonly out_addr: number;
}

const scratches = new WeakMap<Osb, Scratch>();

function scratchOf(osb: Osb): Scratch {
  let s = scratches.get(osb);
  if (s === undefined) {
    s = { name_addr: osb.arena.alloc(OCFS2_MAX_FILENAME_LEN + 17, 16), out_addr: osb.arena.alloc(16, 16) };
    scratches.set(osb, s);
  }
  return s;
}

/** Copies the name into the arena and returns its address, good until the next call. */
export function putName(osb: Osb, name: Name): number {
  const { name_addr } = scratchOf(osb);
  osb.arena.u8.set(name, name_addr);
  return name_addr;
}

/** Arena address of 16 bytes for a kernel's results. */
export const resultAddr = (osb: Osb): number => scratchOf(osb).out_addr;

/** True when the name hashes differently under the two readings of `char`. */
export function hashIsAmbiguous(name: Name): boolean {
  for (let i = 0; i < name.length; i++) if (name[i]! >= 0x80) return true;
  return false;
}

/** Hash of a name in the arena for the directory index (ocfs2_dx_dir_name_hash). */
export function dxHash(osb: Osb, name_addr: number, len: number, signed_char = true): DxHash {
  const out = resultAddr(osb);
  const [seed0, seed1] = osb.geo.dx_seed;
  const major = osb.k.dxHash(name_addr, len, seed0, seed1, signed_char ? 1 : 0, out);
  return { major, minor: osb.arena.dv.getUint32(out + 4, true) };
}
