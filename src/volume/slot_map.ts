/**
 * The slot map: which node uses which slot, in the system file slot_map (slot_map.c). It is not journaled: it is written
 * in place, durably, under the super lock.
 */
import type { Bh } from "../block/buffer_cache.ts";
import { FEATURE_INCOMPAT, OCFS2_INVALID_SLOT, SlotMap, SlotMapExtended, SYSTEM_INODE } from "../format/disk/index.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { type Task, wait } from "../lib/task.ts";
import { readVirtBlock } from "./extents/extent_map.ts";
import type { Op } from "./op.ts";
import type { Osb } from "./osb.ts";
import { waitForWriteInPlace, writeBlockInPlace } from "./write_in_place.ts";

interface SlotPlace {
  readonly bh: Bh;
  readonly index: number;
}

function place(op: Op, slot: number): SlotPlace {
  const osb = op.osb;
  const bytes = osb.incompat(FEATURE_INCOMPAT.EXTENDED_SLOT_MAP) ? 8 : 2;
  const per = osb.geo.blocksize / bytes;
  const bh = readVirtBlock(op, osb.sysfile(SYSTEM_INODE.SLOT_MAP), Math.floor(slot / per), osb.kinds.raw);
  return { bh, index: slot % per };
}

/** The node that holds `slot`, undefined when it is free. */
export function slotNode(op: Op, slot: number): number | undefined {
  const osb = op.osb;
  const { bh, index } = place(op, slot);
  if (osb.incompat(FEATURE_INCOMPAT.EXTENDED_SLOT_MAP)) {
    const es = SlotMapExtended.at(osb.cache.dv, bh.addr).se_slots.at(index);
    return es.es_valid === 0 ? undefined : es.es_node_num;
  }
  const node = SlotMap.at(osb.cache.dv, bh.addr).sm_slots.get(index);
  return node === OCFS2_INVALID_SLOT ? undefined : node;
}

/** The slot that a node holds, undefined when it has none (ocfs2_node_num_to_slot). */
export function nodeSlot(op: Op, node: number): number | undefined {
  for (let slot = 0; slot < op.osb.geo.max_slots; slot++) if (slotNode(op, slot) === node) return slot;
  return undefined;
}

/** Slots that nobody holds. */
export function freeSlots(op: Op): number[] {
  return Array.from({ length: op.osb.geo.max_slots }, (_, slot) => slot).filter(
    (slot) => slotNode(op, slot) === undefined,
  );
}

/** Others write the map under the super lock: once we have that, what we knew of it is void (ocfs2_refresh_slot_info). */
export function refreshSlotMap(osb: Osb): void {
  osb.sysfile(SYSTEM_INODE.SLOT_MAP).epoch++;
}

/** Takes a slot for `node`: the one that it held when it died, `preferred`, or the first that is free. Throws EINVAL when all are taken. */
export function findSlot(op: Op, node: number, preferred: number): number {
  const max = op.osb.geo.max_slots;
  let free = -1;
  const holders: number[] = [];
  for (let slot = 0; slot < max; slot++) {
    const holder = slotNode(op, slot);
    if (holder === node) return slot;
    if (holder !== undefined) holders.push(holder);
    if (holder === undefined && (free < 0 || slot === preferred)) free = slot;
  }
  if (free < 0) {
    const found = `no free slot: all ${max} are taken, by node ${holders.join(", ")}: unmount one of them, or make more slots with tunefs.ocfs2 -N`;
    throw new FsError(Errno.EINVAL, "slot_map.find", { found });
  }
  return free;
}

/** Writes who holds `slot` (undefined: nobody), durably. */
export function* writeSlot(osb: Osb, slot: number, node: number | undefined): Task<void> {
  const bh = yield* wait(
    osb.step((op) => {
      const p = place(op, slot);
      waitForWriteInPlace(p.bh);
      if (osb.incompat(FEATURE_INCOMPAT.EXTENDED_SLOT_MAP)) {
        const es = SlotMapExtended.at(osb.cache.dv, p.bh.addr).se_slots.at(p.index);
        es.es_valid = node === undefined ? 0 : 1;
        es.es_node_num = node ?? 0;
      } else SlotMap.at(osb.cache.dv, p.bh.addr).sm_slots.set(p.index, node ?? OCFS2_INVALID_SLOT);
      return p.bh;
    }),
  );
  yield* writeBlockInPlace(osb, bh);
}
