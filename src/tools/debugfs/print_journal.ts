/** A slot's journal as debugfs.ocfs2's logdump prints it: every block, whether it counts or is left from long ago. */
import {
  Dinode,
  DirBlockTrailer,
  DxLeaf,
  DxRootBlock,
  ExtentBlock,
  GroupDesc,
  RefcountBlock,
  SIG_DX_LEAF,
  SIG_DX_ROOT,
  SIG_EXTENT_BLOCK,
  SIG_GROUP_DESC,
  SIG_INODE,
  SIG_REFCOUNT_BLOCK,
  SIG_SUPER_BLOCK,
  SIG_XATTR_BLOCK,
  signatureOf,
  XATTR_BLOCK_FLAGS,
  XattrBlock,
} from "../../format/disk/index.ts";
import {
  JBD2_COMMIT_BLOCK,
  JBD2_DESCRIPTOR_BLOCK,
  JBD2_FEATURE_COMPAT_CHECKSUM,
  JBD2_FEATURE_INCOMPAT_64BIT,
  JBD2_FEATURE_INCOMPAT_ASYNC_COMMIT,
  JBD2_FEATURE_INCOMPAT_CSUM_V3,
  JBD2_FEATURE_INCOMPAT_REVOKE,
  JBD2_FLAG_DELETED,
  JBD2_FLAG_ESCAPE,
  JBD2_FLAG_LAST_TAG,
  JBD2_FLAG_SAME_UUID,
  JBD2_MAGIC_NUMBER,
  JBD2_REVOKE_BLOCK,
  JBD2_SUPERBLOCK_V1,
  JBD2_SUPERBLOCK_V2,
  JournalBlockTag,
  JournalBlockTag3,
  JournalHeader,
  JournalRevokeHeader,
  JournalSuperblock,
  revokeRecordBytes,
  TAG_UUID_BYTES,
  tagBytes,
} from "../../format/jbd2/index.ts";
import { DebugfsError, type DebugVolume, viewOf } from "./image.ts";
import { type Out, printBody, printExtentBlock, printExtentList, printGroup, printInode } from "./print.ts";
import { printDirBlock, printDxLeaf, printDxRoot, trailerOf } from "./print_dir.ts";
import { printRefcountBlock, printXattrEntries } from "./print_xattr.ts";

const TYPE_NAMES: Readonly<Record<number, string>> = {
  [JBD2_DESCRIPTOR_BLOCK]: "JBD2_DESCRIPTOR_BLOCK",
  [JBD2_COMMIT_BLOCK]: "JBD2_COMMIT_BLOCK",
  [JBD2_SUPERBLOCK_V1]: "JBD2_SUPERBLOCK_V1",
  [JBD2_SUPERBLOCK_V2]: "JBD2_SUPERBLOCK_V2",
  [JBD2_REVOKE_BLOCK]: "JBD2_REVOKE_BLOCK",
};

function printHeader(out: Out, h: JournalHeader): void {
  out(`\tSeq: ${h.h_sequence}   Type: ${h.h_blocktype} (${TYPE_NAMES[h.h_blocktype] ?? "none"})`);
}

function incompatText(flags: number): string {
  const known = JBD2_FEATURE_INCOMPAT_REVOKE | JBD2_FEATURE_INCOMPAT_64BIT | JBD2_FEATURE_INCOMPAT_ASYNC_COMMIT;
  const names = [
    (flags & JBD2_FEATURE_INCOMPAT_REVOKE) !== 0 ? "revoke " : "",
    (flags & JBD2_FEATURE_INCOMPAT_64BIT) !== 0 ? "block64 " : "block32 ",
    (flags & JBD2_FEATURE_INCOMPAT_ASYNC_COMMIT) !== 0 ? "async-commit " : "",
    (flags & ~known) !== 0 ? "unknown" : "",
  ];
  return names.join("");
}

function printJournalSuper(out: Out, jsb: JournalSuperblock): void {
  const compat = jsb.s_feature_compat;
  const ro = jsb.s_feature_ro_compat;
  const known = JBD2_FEATURE_COMPAT_CHECKSUM;
  out("\tBlock 0: Journal Superblock");
  printHeader(out, jsb.s_header);
  out(`\tBlocksize: ${jsb.s_blocksize}   Total Blocks: ${jsb.s_maxlen}   First Block: ${jsb.s_first}`);
  out(`\tFirst Commit ID: ${jsb.s_sequence}   Start Log Blknum: ${jsb.s_start}`);
  out(`\tError: ${jsb.s_errno}`);
  const compat_text = `${(compat & known) !== 0 ? "checksum " : ""}${(compat & ~known) !== 0 ? "unknown" : ""}`;
  out(`\tFeature Compat: ${compat} ${compat_text}`);
  out(`\tFeature Incompat: ${jsb.s_feature_incompat} ${incompatText(jsb.s_feature_incompat)}`);
  out(`\tFeature RO compat: ${ro} ${ro === 0 ? "" : "unknown"}`);
  out(`\tJournal UUID: ${Buffer.from(jsb.s_uuid).toString("hex").toUpperCase()}`);
  out(`\tFS Share Cnt: ${jsb.s_nr_users}   Dynamic Superblk Blknum: ${jsb.s_dynsuper}`);
  out(`\tPer Txn Block Limit    Journal: ${jsb.s_max_transaction}    Data: ${jsb.s_max_trans_data}`);
  out("");
}

function tagFlags(flags: number): string {
  if (flags === 0) return "none";
  return [
    (flags & JBD2_FLAG_ESCAPE) !== 0 ? "JBD2_FLAG_ESCAPE " : "",
    (flags & JBD2_FLAG_SAME_UUID) !== 0 ? "JBD2_FLAG_SAME_UUID " : "",
    (flags & JBD2_FLAG_DELETED) !== 0 ? "JBD2_FLAG_DELETED " : "",
    (flags & JBD2_FLAG_LAST_TAG) !== 0 ? "JBD2_FLAG_LAST_TAG" : "",
  ].join("");
}

function printDescriptor(out: Out, block: Uint8Array, incompat: number): void {
  out(`\tNo. ${"Blocknum".padEnd(15)} Flags`);
  const dv = viewOf(block);
  const bytes = tagBytes(incompat);
  const v3 = (incompat & JBD2_FEATURE_INCOMPAT_CSUM_V3) !== 0;
  let at = JournalHeader.size;
  for (let n = 0; at + bytes <= block.length; n++) {
    const tag = v3 ? JournalBlockTag3.at(dv, at) : JournalBlockTag.at(dv, at);
    const high = (incompat & JBD2_FEATURE_INCOMPAT_64BIT) !== 0 ? tag.t_blocknr_high : 0;
    const { t_flags: flags } = tag;
    out(`\t${String(n).padStart(2)}. ${String(tag.t_blocknr + high * 2 ** 32).padEnd(15)} ${tagFlags(flags)}`);
    if ((flags & JBD2_FLAG_LAST_TAG) !== 0) break;
    at += bytes;
    if ((flags & JBD2_FLAG_SAME_UUID) !== 0) continue;
    out(
      `\tUUID: ${Buffer.from(block.subarray(at, at + TAG_UUID_BYTES))
        .toString("hex")
        .toUpperCase()}`,
    );
    at += TAG_UUID_BYTES;
  }
}

function printRevoke(out: Out, block: Uint8Array, incompat: number): void {
  const dv = viewOf(block);
  const count = JournalRevokeHeader.at(dv, 0).r_count;
  out(`\tr_count:\t\t${count}`);
  const bytes = revokeRecordBytes(incompat);
  const end = Math.min(count, block.length);
  for (let at = JournalRevokeHeader.size, i = 0; at + bytes <= end; at += bytes, i++) {
    const blkno = bytes === 4 ? dv.getUint32(at) : Number(dv.getBigUint64(at));
    out(`\trevoke[${i}]:\t\t${blkno}`);
  }
}

function printLogBlock(out: Out, block: Uint8Array, incompat: number, n: number): void {
  const header = JournalHeader.from(block);
  switch (header.h_blocktype) {
    case JBD2_DESCRIPTOR_BLOCK:
      out(`\tBlock ${n}: Journal Descriptor`);
      printHeader(out, header);
      printDescriptor(out, block, incompat);
      break;
    case JBD2_COMMIT_BLOCK:
      out(`\tBlock ${n}: Journal Commit Block`);
      printHeader(out, header);
      break;
    case JBD2_REVOKE_BLOCK:
      out(`\tBlock ${n}: Journal Revoke Block`);
      printHeader(out, header);
      printRevoke(out, block, incompat);
      break;
    default:
      out(`\tBlock ${n}: Unknown Block Type`);
  }
  out("");
}

/** The copy of a metadata block; false when it looks like none. */
function printMetadata(out: Out, v: DebugVolume, block: Uint8Array, n: number): boolean {
  const named = (kind: string): void => out(`\tBlock ${n}: ${kind}`);
  switch (signatureOf(viewOf(block), 0)) {
    case SIG_SUPER_BLOCK:
    case SIG_INODE: {
      const di = Dinode.from(block);
      named("Inode");
      printInode(out, v, di);
      printBody(out, v, di, false);
      break;
    }
    case SIG_EXTENT_BLOCK: {
      const eb = ExtentBlock.from(block);
      named("Extent");
      printExtentBlock(out, v, eb);
      printExtentList(out, eb.h_list);
      break;
    }
    case SIG_GROUP_DESC:
      named("Group");
      printGroup(out, v, GroupDesc.from(block), 0);
      break;
    case SIG_XATTR_BLOCK: {
      const xb = XattrBlock.from(block);
      named("Xattr");
      if ((xb.xb_flags & XATTR_BLOCK_FLAGS.INDEXED) === 0) printXattrEntries(out, xb.xb_header);
      break;
    }
    case SIG_REFCOUNT_BLOCK:
      named("Refcount");
      printRefcountBlock(out, v, RefcountBlock.from(block));
      break;
    case SIG_DX_ROOT:
      named("DxRoot");
      printDxRoot(out, v, DxRootBlock.from(block));
      break;
    case SIG_DX_LEAF:
      named("DxLeaf");
      printDxLeaf(out, v, DxLeaf.from(block));
      break;
    default:
      if (block.length < DirBlockTrailer.size || trailerOf(block) === undefined) return false;
      named("Dirblock");
      printDirBlock(out, v, block);
  }
  out("");
  return true;
}

/** The blocks of a journal, which has no holes. */
function* blocksOf(v: DebugVolume, di: Dinode): Generator<Uint8Array> {
  let clusters = 0;
  for (const e of v.extents(di.i_list)) clusters += e.clusters;
  if (di.i_size > clusters * v.clustersize)
    throw new DebugfsError(`the journal has ${di.i_size} bytes, but only ${clusters} clusters`);
  for (const piece of v.data(di))
    for (let at = 0; at + v.blocksize <= piece.length; at += v.blocksize) yield piece.slice(at, at + v.blocksize);
}

export function printJournal(out: Out, v: DebugVolume, di: Dinode): void {
  const blocks = blocksOf(v, di);
  const first = blocks.next().value;
  if (first === undefined) throw new DebugfsError("the journal is empty");
  const jsb = JournalSuperblock.from(first);
  const { s_feature_incompat: incompat } = jsb;
  printJournalSuper(out, jsb);
  let unknown = -1;
  const endUnknown = (n: number): void => {
    if (unknown < 0) return;
    const where = unknown === n - 1 ? `Block ${unknown}` : `Block ${unknown} to ${n - 1}`;
    out(`\t${where}: Unknown -- Probably Data`);
    out("");
    unknown = -1;
  };
  let n = 0;
  for (const block of blocks) {
    n++;
    const pending: string[] = [];
    const hold: Out = (line) => void pending.push(line);
    const logged = viewOf(block).getUint32(0) === JBD2_MAGIC_NUMBER;
    if (logged) printLogBlock(hold, block, incompat, n);
    const known = logged || printMetadata(hold, v, block, n);
    if (!known) {
      if (unknown < 0) unknown = n;
      continue;
    }
    endUnknown(n);
    for (const line of pending) out(line);
  }
  endUnknown(n + 1);
}
