/**
 * Which blocks of an indexed directory have room: a list from the dx root through the trailers (dir.c:
 * ocfs2_search_dx_free_list, ocfs2_recalc_free_list). Without it an insert would have to look into every block.
 *
 *   dx root.dr_free_blk -> block -> db_free_next -> block -> ... 0
 *
 * A block is on the list exactly while its db_free_rec_len, the largest record that fits it, is not 0. The list is in no
 * order, and blocks whose room is too small for the name at hand have to be walked past: in a directory of a million names
 * thousands of them. So we remember, per record length, a stretch of the list that was found to be too full for it, and
 * step over it the next time. The memory is a hint: it is believed only if the link that it names is still there.
 */
import type { Bh } from "../../block/buffer_cache.ts";
import { Corruption } from "../../lib/fs_error.ts";
import type { Inode } from "../inode.ts";
import { blockRegion, type Dir, readDirBlockDirect } from "./dir_data.ts";
import { largestRoomIn, trailerOf } from "./dirblock.ts";
import { dxRootOf } from "./dx_dir.ts";

/** A block with room, and the one before it on the list; null: the root. */
export interface FreePlace {
  readonly bh: Bh;
  readonly prev: Bh | null;
}

/** From block `from` up to, not including, `to` (0: the end), no block has room. `before_to` links to `to`. */
interface Stretch {
  from: number;
  before_to: number;
  to: number;
}

/** inode.dir_hints: what is worth remembering of a directory; valid for one epoch. */
export class DirHints {
  readonly epoch: number;
  /** Linear directories: block in which the last name was found (ip_dir_start_lookup). */
  start_lookup = 0;
  /** Full stretches of the free list, by the record length that did not fit. */
  readonly full = new Map<number, Stretch>();

  constructor(epoch: number) {
    this.epoch = epoch;
  }

  /** A block got room for records of up to `rec_len` bytes: what was said of such may be wrong now. */
  gotRoom(rec_len: number): void {
    for (const need of this.full.keys()) if (need <= rec_len) this.full.delete(need);
  }

  /** A block left the list; `next` was behind it. */
  left(blkno: number, next: number): void {
    for (const [need, s] of this.full) {
      if (s.before_to === blkno) this.full.delete(need);
      else if (s.from === blkno) s.from = next;
      else if (s.to === blkno) s.to = next;
    }
  }
}

/** The directory's hints of this epoch; new and empty if there are none. */
export function hintsOf(inode: Inode): DirHints {
  const known = inode.dir_hints;
  if (known instanceof DirHints && known.epoch === inode.epoch) return known;
  const hints = new DirHints(inode.epoch);
  inode.dir_hints = hints;
  return hints;
}

/** Hints that were drawn from blocks which this operation changed go with its changes. */
export function hintsChange(dir: Dir): DirHints {
  const { inode } = dir;
  dir.op.onUndo(() => {
    inode.dir_hints = null;
  });
  return hintsOf(inode);
}

/** The longest possible list; a longer one runs in a circle. */
const maxSteps = (dir: Dir): number => dir.blocks + 1;

/** The first block of the list with room for `need` bytes (ocfs2_search_dx_free_list); undefined: none has. */
export function findFree(dir: Dir, root_bh: Bh, need: number): FreePlace | undefined {
  const hints = hintsOf(dir.inode);
  const head = dxRootOf(dir, root_bh).dr_free_blk;
  let stretch = hints.full.get(need);
  let prev: Bh | null = null;
  let blkno = head;
  for (let steps = 0; blkno !== 0; steps++) {
    if (steps > maxSteps(dir))
      throw new Corruption("dx.free_list", { dir: dir.inode.ino, found: "a list in a circle" });
    if (stretch !== undefined && stretch.from === blkno) {
      const before = readDirBlockDirect(dir, stretch.before_to);
      const { to } = stretch;
      stretch = undefined;
      if (trailerOf(dir.osb, before).db_free_next === to) {
        prev = before;
        blkno = to;
        continue;
      }
      hints.full.delete(need);
    }
    // If the block is not in memory, the next run goes on from here.
    if (prev !== null && dir.osb.cache.peek(dir.inode, blkno) === undefined) remember(hints, need, head, prev, blkno);
    const bh = readDirBlockDirect(dir, blkno);
    const trailer = trailerOf(dir.osb, bh);
    if (trailer.db_free_rec_len >= need) {
      if (prev !== null) remember(hints, need, head, prev, blkno);
      return { bh, prev };
    }
    prev = bh;
    blkno = trailer.db_free_next;
  }
  if (prev !== null) remember(hints, need, head, prev, 0);
  return undefined;
}

function remember(hints: DirHints, need: number, from: number, before_to: Bh, to: number): void {
  hints.full.set(need, { from, before_to: before_to.blkno, to });
}

/** Puts a block that got room in front of the list (ocfs2_dx_dir_link_trailer). Both blocks join the operation. */
export function linkFree(dir: Dir, root_bh: Bh, bh: Bh): void {
  const { op } = dir;
  op.modify(root_bh);
  op.modify(bh);
  const dr = dxRootOf(dir, root_bh);
  trailerOf(dir.osb, bh).db_free_next = dr.dr_free_blk;
  dr.dr_free_blk = bh.blkno;
}

/** Takes a block off the list (ocfs2_remove_block_from_free_list). */
function unlinkFree(dir: Dir, root_bh: Bh, place: FreePlace): void {
  const { op } = dir;
  const before = place.prev ?? root_bh;
  op.modify(before);
  const trailer = trailerOf(dir.osb, place.bh);
  if (place.prev === null) dxRootOf(dir, root_bh).dr_free_blk = trailer.db_free_next;
  else trailerOf(dir.osb, place.prev).db_free_next = trailer.db_free_next;
  trailer.db_free_rec_len = 0;
  trailer.db_free_next = 0;
}

/** After a name was put into `place`: how much room is left, and off the list if none (ocfs2_recalc_free_list). */
export function usedFree(dir: Dir, root_bh: Bh, place: FreePlace): void {
  const room = largestRoomIn(dir.osb, blockRegion(dir, place.bh));
  const hints = hintsChange(dir);
  if (room > 0) trailerOf(dir.osb, place.bh).db_free_rec_len = room;
  else {
    hints.left(place.bh.blkno, trailerOf(dir.osb, place.bh).db_free_next);
    unlinkFree(dir, root_bh, place);
  }
}

/** After a name was taken out of `bh`: more room, and onto the list if the block was not there. */
export function gaveRoom(dir: Dir, root_bh: Bh, bh: Bh): void {
  const trailer = trailerOf(dir.osb, bh);
  const listed = trailer.db_free_rec_len !== 0;
  const room = largestRoomIn(dir.osb, blockRegion(dir, bh));
  trailer.db_free_rec_len = room;
  const hints = hintsChange(dir);
  if (listed) hints.gotRoom(room);
  else if (room > 0) linkFree(dir, root_bh, bh);
}
