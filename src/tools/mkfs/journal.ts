/** The super block of an empty journal. Mirrors ocfs2_init_journal_superblock of libocfs2's mkjournal.c. */
import { JBD2_FEATURE_INCOMPAT_64BIT, JBD2_MAGIC_NUMBER, JBD2_SUPERBLOCK_V2 } from "../../format/jbd2/constants.ts";
import { JournalSuperblock } from "../../format/jbd2/structs.ts";
import type { Geometry } from "./geometry.ts";
import { type Identity, NO_CHECK, type Piece } from "./piece.ts";

/** The first block of a journal; all behind it must be zeros, or a replay might take up what an older file system left there. */
export function journalPiece(blkno: number, journal64: boolean, g: Geometry, id: Identity): Piece {
  const render = (dv: DataView, off: number): void => {
    const jsb = JournalSuperblock.at(dv, off);
    jsb.s_header.h_magic = JBD2_MAGIC_NUMBER;
    jsb.s_header.h_blocktype = JBD2_SUPERBLOCK_V2;
    jsb.s_blocksize = g.block_size;
    jsb.s_maxlen = g.journal_bytes / g.block_size;
    // The structure is 1024 bytes.
    jsb.s_first = g.block_size === 512 ? 2 : 1;
    jsb.s_sequence = 1;
    jsb.s_start = 1;
    jsb.s_nr_users = 1;
    jsb.s_feature_incompat = journal64 ? JBD2_FEATURE_INCOMPAT_64BIT : 0;
    jsb.s_uuid = id.uuid;
  };
  return { stage: "journals", blkno, blocks: 1, check_off: NO_CHECK, render };
}
