/**
 * Lock value blocks, 64 bytes each, in slabs outside the JavaScript heap. A million inodes have a million of them: as typed arrays
 * of their own they would take three times the room, and the garbage collector would walk them all. Most are all zero for ever:
 * these have no slot.
 */
import { DLM_LVB_LEN } from "../format/wire/dlm_constants.ts";

export const NO_SLOT = -1;
const SLOTS_LOG2 = 10;
const SLOTS = 1 << SLOTS_LOG2;

const slabs: Uint8Array[] = [];
const free: number[] = [];
let used = 0;

/** Slots in use, on this thread. */
export const lvbSlotsUsed = (): number => used - free.length;

/** An LVB of zeros. */
export function lvbAlloc(): number {
  const slot = free.pop();
  if (slot !== undefined) return slot;
  if (used === slabs.length << SLOTS_LOG2) slabs.push(new Uint8Array(SLOTS * DLM_LVB_LEN));
  return used++;
}

export function lvbFree(slot: number): void {
  if (slot === NO_SLOT) return;
  lvbView(slot).fill(0);
  free.push(slot);
}

/** The bytes themselves; valid until the slot is freed. */
export function lvbView(slot: number): Uint8Array {
  const at = (slot & (SLOTS - 1)) * DLM_LVB_LEN;
  return slabs[slot >> SLOTS_LOG2]!.subarray(at, at + DLM_LVB_LEN);
}

/** What has an LVB: a lock or a lock resource. */
export interface LvbOwner {
  lvb_slot: number;
}

export function lvbOf(owner: LvbOwner): Uint8Array {
  if (owner.lvb_slot === NO_SLOT) owner.lvb_slot = lvbAlloc();
  return lvbView(owner.lvb_slot);
}

export function lvbIsEmpty(owner: LvbOwner): boolean {
  return owner.lvb_slot === NO_SLOT || lvbView(owner.lvb_slot).every((b) => b === 0);
}

export function lvbDrop(owner: LvbOwner): void {
  lvbFree(owner.lvb_slot);
  owner.lvb_slot = NO_SLOT;
}

export function lvbCopy(from: LvbOwner, to: LvbOwner): void {
  if (from.lvb_slot !== NO_SLOT) lvbOf(to).set(lvbView(from.lvb_slot));
  else if (to.lvb_slot !== NO_SLOT) lvbView(to.lvb_slot).fill(0);
}

export function lvbZero(owner: LvbOwner): void {
  if (owner.lvb_slot !== NO_SLOT) lvbView(owner.lvb_slot).fill(0);
}
