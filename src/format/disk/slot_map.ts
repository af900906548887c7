/** The slot map: which node uses which slot. Two forms; the extended one comes with a feature bit. */
import { reserved, struct, tail, u8, u32, type ViewOf } from "../struct.ts";

export const SlotMap = struct("ocfs2_slot_map", 0x00, "le", {
  sm_slots: tail(0x00, "u16", "node number per slot, 0xffff if free; 255 at most, in one block"),
});
export type SlotMap = ViewOf<typeof SlotMap>;

export const ExtendedSlot = struct("ocfs2_extended_slot", 0x08, "le", {
  es_valid: u8(0x00, "1: the slot is taken"),
  es_reserved1: reserved(0x01, 3),
  es_node_num: u32(0x04, "node number"),
});
export type ExtendedSlot = ViewOf<typeof ExtendedSlot>;

export const SlotMapExtended = struct("ocfs2_slot_map_extended", 0x00, "le", {
  se_slots: tail(0x00, ExtendedSlot, "s_max_slots of them; i_size tells the length"),
});
export type SlotMapExtended = ViewOf<typeof SlotMapExtended>;
