/**
 * The kinds of metadata blocks, each with the checks that the kernel makes after reading one: checksum (with a
 * single-bit error mended), signature, own block number, generation (ocfs2_validate_inode_block and its siblings).
 * Without them a stray or stale block becomes a wrong answer, or a write in a wrong place.
 */
import type { Bh, BlockKind } from "../block/buffer_cache.ts";
import {
  Dinode,
  DirBlockTrailer,
  DxLeaf,
  DxRootBlock,
  ExtentBlock,
  FEATURE_INCOMPAT,
  GroupDesc,
  OCFS2_DIR_TRAILER_SIGNATURE,
  OCFS2_DX_LEAF_SIGNATURE,
  OCFS2_DX_ROOT_SIGNATURE,
  OCFS2_EXTENT_BLOCK_SIGNATURE,
  OCFS2_GROUP_DESC_SIGNATURE,
  OCFS2_INODE_SIGNATURE,
  OCFS2_REFCOUNT_BLOCK_SIGNATURE,
  OCFS2_XATTR_BLOCK_SIGNATURE,
  RefcountBlock,
  XattrBlock,
  XattrHeader,
} from "../format/disk/index.ts";
import { Corruption } from "../lib/fs_error.ts";
import type { Osb } from "./osb.ts";

export interface BlockKinds {
  readonly dinode: BlockKind;
  readonly extent_block: BlockKind;
  readonly group_desc: BlockKind;
  readonly dx_root: BlockKind;
  readonly dx_leaf: BlockKind;
  readonly xattr_block: BlockKind;
  readonly refcount_block: BlockKind;
  /** A directory block; its trailer is checked when the volume's directories have them. */
  readonly dir_block: BlockKind;
  /** Bytes only: symlink bodies, quota files, the slot map. */
  readonly raw: BlockKind;
  /** A block of an xattr bucket; the bucket's own check covers several blocks, see xattr. */
  readonly xattr_bucket: BlockKind;
}

/** Where a signed block keeps what is checked. */
interface Signed {
  readonly name: string;
  readonly signature: string;
  readonly check_off: number;
  readonly blkno_off: number;
  readonly generation_off: number;
  extra?(bh: Bh): void;
}

export function makeKinds(osb: Osb): BlockKinds {
  const { dv, block_bytes } = osb.cache;
  const metaecc = osb.incompat(FEATURE_INCOMPAT.META_ECC);

  function checkEcc(bh: Bh, name: string, check_off: number): void {
    if (!metaecc) return;
    if (osb.k.blockCheckValidate(bh.addr, block_bytes, check_off) < 0)
      throw new Corruption(`${name}.validate`, { blkno: bh.blkno, found: "bad checksum" });
  }

  function signed(s: Signed): BlockKind {
    const sig = new DataView(new ArrayBuffer(8));
    for (let i = 0; i < s.signature.length; i++) sig.setUint8(i, s.signature.charCodeAt(i));
    const [sig0, sig1] = [sig.getUint32(0, true), sig.getUint32(4, true)];
    return {
      name: s.name,
      check_off: s.check_off,
      validate(bh) {
        checkEcc(bh, s.name, s.check_off);
        const a = bh.addr;
        if (dv.getUint32(a, true) !== sig0 || dv.getUint32(a + 4, true) !== sig1)
          throw new Corruption(`${s.name}.validate`, { blkno: bh.blkno, found: "bad signature" });
        const blkno = dv.getUint32(a + s.blkno_off, true) + dv.getUint32(a + s.blkno_off + 4, true) * 2 ** 32;
        if (blkno !== bh.blkno) throw new Corruption(`${s.name}.validate`, { blkno: bh.blkno, claims_to_be: blkno });
        const generation = dv.getUint32(a + s.generation_off, true);
        if (generation !== osb.geo.fs_generation)
          throw new Corruption(`${s.name}.validate`, { blkno: bh.blkno, generation, expected: osb.geo.fs_generation });
        s.extra?.(bh);
      },
    };
  }

  const listFits = (what: string, bh: Bh, used: number, count: number, room: number): void => {
    if (used > count || count > room)
      throw new Corruption(`${what}.validate`, { blkno: bh.blkno, records: used, l_count: count, room });
  };

  const dt = DirBlockTrailer.fields;
  const trailers = metaecc || osb.incompat(FEATURE_INCOMPAT.INDEXED_DIRS);
  const trailer_off = block_bytes - DirBlockTrailer.size;

  return {
    dinode: signed({
      name: "dinode",
      signature: OCFS2_INODE_SIGNATURE,
      check_off: Dinode.fields.i_check.off,
      blkno_off: Dinode.fields.i_blkno.off,
      generation_off: Dinode.fields.i_fs_generation.off,
    }),
    extent_block: signed({
      name: "extent_block",
      signature: OCFS2_EXTENT_BLOCK_SIGNATURE,
      check_off: ExtentBlock.fields.h_check.off,
      blkno_off: ExtentBlock.fields.h_blkno.off,
      generation_off: ExtentBlock.fields.h_fs_generation.off,
      extra(bh) {
        const el = ExtentBlock.at(dv, bh.addr).h_list;
        listFits("extent_block", bh, el.l_next_free_rec, el.l_count, (block_bytes - 0x40) >> 4);
      },
    }),
    group_desc: signed({
      name: "group_desc",
      signature: OCFS2_GROUP_DESC_SIGNATURE,
      check_off: GroupDesc.fields.bg_check.off,
      blkno_off: GroupDesc.fields.bg_blkno.off,
      generation_off: GroupDesc.fields.bg_generation.off,
      extra(bh) {
        const gd = GroupDesc.at(dv, bh.addr);
        if (gd.bg_free_bits_count > gd.bg_bits || gd.bg_bits > 8 * gd.bg_size || gd.bg_size > block_bytes - 0x40)
          throw new Corruption("group_desc.validate", {
            blkno: bh.blkno,
            bits: gd.bg_bits,
            free: gd.bg_free_bits_count,
            bitmap_bytes: gd.bg_size,
          });
      },
    }),
    dx_root: signed({
      name: "dx_root",
      signature: OCFS2_DX_ROOT_SIGNATURE,
      check_off: DxRootBlock.fields.dr_check.off,
      blkno_off: DxRootBlock.fields.dr_blkno.off,
      generation_off: DxRootBlock.fields.dr_fs_generation.off,
    }),
    dx_leaf: signed({
      name: "dx_leaf",
      signature: OCFS2_DX_LEAF_SIGNATURE,
      check_off: DxLeaf.fields.dl_check.off,
      blkno_off: DxLeaf.fields.dl_blkno.off,
      generation_off: DxLeaf.fields.dl_fs_generation.off,
    }),
    xattr_block: signed({
      name: "xattr_block",
      signature: OCFS2_XATTR_BLOCK_SIGNATURE,
      check_off: XattrBlock.fields.xb_check.off,
      blkno_off: XattrBlock.fields.xb_blkno.off,
      generation_off: XattrBlock.fields.xb_fs_generation.off,
    }),
    refcount_block: signed({
      name: "refcount_block",
      signature: OCFS2_REFCOUNT_BLOCK_SIGNATURE,
      check_off: RefcountBlock.fields.rf_check.off,
      blkno_off: RefcountBlock.fields.rf_blkno.off,
      generation_off: RefcountBlock.fields.rf_fs_generation.off,
    }),
    dir_block: {
      name: "dir_block",
      check_off: trailers ? trailer_off + dt.db_check.off : -1,
      hasCheck: (bh) => DirBlockTrailer.at(dv, bh.addr + trailer_off).db_signature === OCFS2_DIR_TRAILER_SIGNATURE,
      validate(bh) {
        if (!trailers) return;
        const t = DirBlockTrailer.at(dv, bh.addr + trailer_off);
        // A directory from before the feature was switched on has no trailers.
        if (t.db_signature !== OCFS2_DIR_TRAILER_SIGNATURE) {
          if (metaecc) throw new Corruption("dir_block.validate", { blkno: bh.blkno, found: "no trailer" });
          return;
        }
        checkEcc(bh, "dir_block", trailer_off + dt.db_check.off);
        if (t.db_blkno !== bh.blkno)
          throw new Corruption("dir_block.validate", { blkno: bh.blkno, claims_to_be: t.db_blkno });
      },
    },
    raw: { name: "raw", check_off: -1, validate() {} },
    // A bucket may lie in several blocks: its reader checks it as a whole (xattr/bucket).
    xattr_bucket: { name: "xattr_bucket", check_off: XattrHeader.fields.xh_check.off, validate() {} },
  };
}
