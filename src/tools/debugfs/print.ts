/**
 * Super block, inodes, extents and groups as debugfs.ocfs2 prints them: the text that people know and scripts parse
 * (debugfs.ocfs2's dump.c).
 */
import { readFileSync } from "node:fs";
import {
  type BlockCheck,
  type ChainList,
  CLUSTER_STACKFLAGS,
  type Dinode,
  DYN_FEATURES,
  type ExtentBlock,
  type ExtentList,
  FEATURE_INCOMPAT,
  type GroupDesc,
  gdIsDiscontig,
  I_FLAGS,
  isBlk,
  isChr,
  isDir,
  isFifo,
  isLnk,
  isReg,
  isSock,
  JOURNAL_FLAGS,
  type LocalAlloc,
  OCFS2_INVALID_SLOT,
  type SuperBlock,
  type TruncateLog,
} from "../../format/disk/index.ts";
import { FEATURES, type FeatureClass } from "../../format/features.ts";
import { checksumTwin } from "../../wasm/twins/checksum.ts";
import { twinMemory } from "../../wasm/twins/memory.ts";
import { type DebugVolume, textOf } from "./image.ts";

/** Takes a line, without its end. */
export type Out = (line: string) => void;

export const left = (x: number | string, width: number): string => String(x).padEnd(width);
export const right = (x: number | string, width: number): string => String(x).padStart(width);
export const hex = (x: number, width = 0): string => x.toString(16).padStart(width, "0");

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = (n: number): string => String(n).padStart(2, "0");

/** A time as ctime(3) writes it, in the zone of the machine; `fraction` goes behind the seconds. */
function ctime(sec: number, fraction = ""): string {
  const d = new Date(sec * 1000);
  const clock = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}${fraction}`;
  return `${DAYS[d.getDay()]} ${MONTHS[d.getMonth()]} ${right(d.getDate(), 2)} ${clock} ${d.getFullYear()}`;
}

/** "22-Nov-2026 15:24", as `ls -l` has it. */
export function lsTime(sec: number): string {
  const d = new Date(sec * 1000);
  const day = `${right(d.getDate(), 2)}-${MONTHS[d.getMonth()]}-${right(d.getFullYear(), 4)}`;
  return `${day} ${two(d.getHours())}:${two(d.getMinutes())}`;
}

/** The tools name features in the order in which they came to be known, not by bit. */
const FEATURE_ORDER = [
  ...["heartbeat-device", "aborted-resize", "local", "sparse", "extended-slotmap", "aborted-tunefs"],
  ...["userspace-stack", "backup-super", "unwritten", "inline-data", "strict-journal-super", "metaecc", "xattr"],
  ...["indexed-dirs", "usrquota", "grpquota", "refcount", "discontig-bg", "clusterinfo", "append-dio"],
];

function features(cls: FeatureClass, word: number): string {
  let rest = word;
  const names: string[] = [];
  for (const name of FEATURE_ORDER) {
    const f = FEATURES.find((x) => x.name === name);
    if (f === undefined || f.class !== cls || (word & f.bit) === 0) continue;
    names.push(name);
    rest &= ~f.bit;
  }
  return [...names, ...(rest !== 0 ? ["unknown"] : [])].join(" ");
}

/** Names of set bits, blanks between them; "unknown" for what is left. */
export function flagText(word: number, names: readonly (readonly [number, string])[]): string {
  let rest = word;
  const out: string[] = [];
  for (const [bit, name] of names) {
    if ((word & bit) === 0) continue;
    out.push(name);
    rest &= ~bit;
  }
  return [...out, ...(rest !== 0 ? ["unknown"] : [])].join(" ");
}

const EXTENT_FLAG_NAMES = [
  [1, "Unwritten"],
  [2, "Refcounted"],
] as const;
const TUNEFS_FLAG_NAMES = [
  [1, "remove-slot"],
  [2, "dir-trailer"],
] as const;

export function printSuper(out: Out, sb: SuperBlock): void {
  out(`\tRevision: ${sb.s_major_rev_level}.${sb.s_minor_rev_level}`);
  out(`\tMount Count: ${sb.s_mnt_count}   Max Mount Count: ${sb.s_max_mnt_count}`);
  out(`\tState: ${sb.s_state}   Errors: ${sb.s_errors}`);
  out(`\tCheck Interval: ${sb.s_checkinterval}   Last Check: ${ctime(sb.s_lastcheck)}`);
  out(`\tCreator OS: ${sb.s_creator_os}`);
  out(`\tFeature Compat: ${sb.s_feature_compat} ${features("compat", sb.s_feature_compat)}`);
  out(`\tFeature Incompat: ${sb.s_feature_incompat} ${features("incompat", sb.s_feature_incompat)}`);
  out(`\tTunefs Incomplete: ${sb.s_tunefs_flag} ${flagText(sb.s_tunefs_flag, TUNEFS_FLAG_NAMES)}`);
  out(`\tFeature RO compat: ${sb.s_feature_ro_compat} ${features("ro_compat", sb.s_feature_ro_compat)}`);
  out(`\tRoot Blknum: ${sb.s_root_blkno}   System Dir Blknum: ${sb.s_system_dir_blkno}`);
  out(`\tFirst Cluster Group Blknum: ${sb.s_first_cluster_group}`);
  out(`\tBlock Size Bits: ${sb.s_blocksize_bits}   Cluster Size Bits: ${sb.s_clustersize_bits}`);
  out(`\tMax Node Slots: ${sb.s_max_slots}`);
  out(`\tExtended Attributes Inline Size: ${sb.s_xattr_inline_size}`);
  out(`\tLabel: ${sb.s_label}`);
  out(`\tUUID: ${Buffer.from(sb.s_uuid).toString("hex").toUpperCase()}`);
  out(`\tHash: ${sb.s_uuid_hash} (0x${hex(sb.s_uuid_hash)})`);
  const seeds = [0, 1, 2].map((i) => sb.s_dx_seed.get(i));
  out(`\tDX Seeds: ${seeds.join(" ")} (${seeds.map((s) => `0x${hex(s, 8)}`).join(" ")})`);
  const info = sb.s_cluster_info;
  const stacks = FEATURE_INCOMPAT.USERSPACE_STACK | FEATURE_INCOMPAT.CLUSTERINFO;
  if ((sb.s_feature_incompat & stacks) !== 0) {
    out(`\tCluster stack: ${info.ci_stack}`);
    out(`\tCluster name: ${info.ci_cluster}`);
  } else out("\tCluster stack: classic o2cb");
  const o2cb = (sb.s_feature_incompat & FEATURE_INCOMPAT.CLUSTERINFO) !== 0 && info.ci_stack === "o2cb";
  const flags = o2cb
    ? flagText(info.ci_stackflags, [[CLUSTER_STACKFLAGS.O2CB_GLOBAL_HEARTBEAT, "Globalheartbeat"]])
    : "";
  out(`\tCluster flags: ${info.ci_stackflags} ${flags}`);
}

/** The two words of a block's checksum, and what they ought to be when that is something else. */
export function printCheck(out: Out, v: DebugVolume, bc: BlockCheck, blocks: Uint8Array): void {
  const { bc_crc32e: crc, bc_ecc: ecc } = bc;
  out(`\tCRC32: ${hex(crc, 8)}   ECC: ${hex(ecc, 4)}`);
  if (!v.incompat(FEATURE_INCOMPAT.META_ECC)) return;
  const copy = blocks.slice();
  const at = bc.dv.byteOffset + bc.off - blocks.byteOffset;
  checksumTwin(twinMemory(copy)).blockCheckCompute(0, copy.length, at);
  const dv = new DataView(copy.buffer);
  const [crc_now, ecc_now] = [dv.getUint32(at, true), dv.getUint16(at + 4, true)];
  if (crc_now !== crc || ecc_now !== ecc)
    out(`\t**FAILED CHECKSUM** Computed CRC32: ${hex(crc_now, 8)}   ECC: ${hex(ecc_now, 4)}`);
}

/** The block that a view lies in. */
export const blockOf = (view: { readonly dv: DataView }): Uint8Array =>
  new Uint8Array(view.dv.buffer, view.dv.byteOffset, view.dv.byteLength);

const I_FLAG_NAMES = [
  [I_FLAGS.VALID, "Valid"],
  [I_FLAGS.ORPHANED, "Orphan"],
  [I_FLAGS.SYSTEM, "System"],
  [I_FLAGS.SUPER_BLOCK, "Superblock"],
  [I_FLAGS.LOCAL_ALLOC, "Localalloc"],
  [I_FLAGS.BITMAP, "Allocbitmap"],
  [I_FLAGS.JOURNAL, "Journal"],
  [I_FLAGS.HEARTBEAT, "Heartbeat"],
  [I_FLAGS.CHAIN, "Chain"],
  [I_FLAGS.DEALLOC, "Dealloc"],
] as const;
const DYN_NAMES = [
  [DYN_FEATURES.INLINE_DATA, "InlineData"],
  [DYN_FEATURES.HAS_XATTR, "HasXattr"],
  [DYN_FEATURES.INLINE_XATTR, "InlineXattr"],
  [DYN_FEATURES.INDEXED_DIR, "IndexedDir"],
  [DYN_FEATURES.HAS_REFCOUNT, "Refcounted"],
] as const;

/** Each name with a blank behind it; bits without a name are not shown. */
const trailing = (word: number, names: readonly (readonly [number, string])[]): string =>
  names.map(([bit, name]) => ((word & bit) === 0 ? "" : `${name} `)).join("");

function typeName(mode: number): string {
  if (isReg(mode)) return "Regular";
  if (isDir(mode)) return "Directory";
  if (isChr(mode)) return "Char Device";
  if (isBlk(mode)) return "Block Device";
  if (isFifo(mode)) return "FIFO";
  if (isLnk(mode)) return "Symbolic Link";
  return isSock(mode) ? "Socket" : "Unknown";
}

/** A name from /etc/passwd or /etc/group. */
function nameOfId(file: string, id: number): string {
  try {
    const line = readFileSync(file, "utf8")
      .split("\n")
      .find((l) => l.split(":")[2] === String(id));
    return line?.split(":")[0] ?? "unknown";
  } catch {
    return "unknown";
  }
}

export function printInode(out: Out, v: DebugVolume, di: Dinode): void {
  out(
    `\tInode: ${di.i_blkno}   Mode: 0${(di.i_mode & 0o777).toString(8)}   Generation: ${di.i_generation} (0x${hex(di.i_generation)})`,
  );
  out(`\tFS Generation: ${di.i_fs_generation} (0x${hex(di.i_fs_generation)})`);
  printCheck(out, v, di.i_check, blockOf(di));
  const flags = trailing(di.i_flags, I_FLAG_NAMES);
  out(`\tType: ${typeName(di.i_mode)}   Attr: 0x${hex(di.i_attr)}   Flags: ${flags}`);
  out(`\tDynamic Features: (0x${hex(di.i_dyn_features)}) ${trailing(di.i_dyn_features, DYN_NAMES)}`);
  if ((di.i_dyn_features & DYN_FEATURES.HAS_XATTR) !== 0)
    out(`\tExtended Attributes Block: ${di.i_xattr_loc}  Extended Attributes Inline Size: ${di.i_xattr_inline_size}`);
  const user = nameOfId("/etc/passwd", di.i_uid);
  const group = nameOfId("/etc/group", di.i_gid);
  out(`\tUser: ${di.i_uid | 0} (${user})   Group: ${di.i_gid | 0} (${group})   Size: ${di.i_size}`);
  out(`\tLinks: ${di.i_links_count}   Clusters: ${di.i_clusters}`);
  for (const [name, sec, nsec] of [
    ["ctime", di.i_ctime, di.i_ctime_nsec],
    ["atime", di.i_atime, di.i_atime_nsec],
    ["mtime", di.i_mtime, di.i_mtime_nsec],
  ] as const)
    out(`\t${name}: 0x${hex64(sec)} 0x${hex(nsec)} -- ${ctime(sec, `.${nsec}`)}`);
  out(`\tdtime: 0x${hex(di.i_dtime)} -- ${ctime(di.i_dtime)}`);
  out(`\tRefcount Block: ${di.i_refcount_loc}`);
  out(`\tLast Extblk: ${di.i_last_eb_blk}   Orphan Slot: ${di.i_orphaned_slot}`);
  const slot = di.i_suballoc_slot === OCFS2_INVALID_SLOT ? "Global" : di.i_suballoc_slot;
  const loc = di.i_suballoc_loc === 0 ? "" : `   Sub Alloc Group ${di.i_suballoc_loc}`;
  out(`\tSub Alloc Slot: ${slot}   Sub Alloc Bit: ${di.i_suballoc_bit}${loc}`);
  if ((di.i_flags & I_FLAGS.BITMAP) !== 0)
    out(`\tBitmap Total: ${di.i_total}   Used: ${di.i_used}   Free: ${di.i_total - di.i_used}`);
  if ((di.i_flags & I_FLAGS.JOURNAL) !== 0) {
    out(`\tJournal Flags: ${(di.ij_flags & JOURNAL_FLAGS.DIRTY) !== 0 ? "Dirty " : ""}`);
    out(`\tRecovery Generation: ${di.ij_recovery_generation}`);
  }
  if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0) out(`\tInline Data Max: ${di.i_data.id_count}`);
  else if ((di.i_dyn_features & DYN_FEATURES.INDEXED_DIR) !== 0) out(`\tIndexed Tree Root: ${di.i_dx_root}`);
}

/** Seconds as their 64 bits. */
const hex64 = (sec: number): string => BigInt.asUintN(64, BigInt(sec)).toString(16);

export function printExtentList(out: Out, list: ExtentList): void {
  const { l_tree_depth: depth, l_next_free_rec: used } = list;
  out(`\tTree Depth: ${depth}   Count: ${list.l_count}   Next Free Rec: ${used}`);
  if (used === 0) return;
  const head = `\t## ${left("Offset", 11)}   ${left("Clusters", 12)}   `;
  out(depth > 0 ? `${head}Block#` : `${head}${left("Block#", 13)}   Flags`);
  for (let i = 0; i < Math.min(used, list.l_count); i++) {
    const rec = list.l_recs.at(i);
    const start = `\t${left(i, 2)} ${left(rec.e_cpos, 11)}   `;
    if (depth > 0) out(`${start}${left(rec.e_int_clusters, 12)}   ${rec.e_blkno}`);
    else
      out(
        `${start}${left(rec.e_leaf_clusters, 12)}   ${left(rec.e_blkno, 13)}   0x${hex(rec.e_flags)} ${flagText(rec.e_flags, EXTENT_FLAG_NAMES)}`,
      );
  }
}

export function printExtentBlock(out: Out, v: DebugVolume, eb: ExtentBlock): void {
  const loc = eb.h_suballoc_loc === 0 ? "" : `   SubAlloc Group: ${eb.h_suballoc_loc}`;
  out(`\tSubAlloc Bit: ${eb.h_suballoc_bit}   SubAlloc Slot: ${eb.h_suballoc_slot}${loc}`);
  out(`\tBlknum: ${eb.h_blkno}   Next Leaf: ${eb.h_next_leaf_blk}`);
  printCheck(out, v, eb.h_check, blockOf(eb));
}

/** A list, and all blocks below it (traverse_extents). */
export function printExtentTree(out: Out, v: DebugVolume, list: ExtentList, seen: Set<number> = new Set()): void {
  printExtentList(out, list);
  if (list.l_tree_depth === 0) return;
  for (let i = 0; i < Math.min(list.l_next_free_rec, list.l_count); i++) {
    const rec = list.l_recs.at(i);
    // An insert that failed may leave a branch with nothing in it at the end.
    if (rec.e_int_clusters === 0 && i === list.l_next_free_rec - 1) break;
    const eb = v.child(list, i, seen);
    printExtentBlock(out, v, eb);
    printExtentTree(out, v, eb.h_list, seen);
  }
}

// Allocators ----------------------------------------------------------------------------------------------------------

/** The free stretches of a group's bitmap: first bit and length. */
export function* freeRuns(group: GroupDesc): Generator<{ start: number; bits: number }> {
  const bitmap = group.bg_bitmap.bytes(Math.min(group.bg_size, Math.ceil(group.bg_bits / 8)));
  const isFree = (bit: number): boolean => ((bitmap[bit >> 3] ?? 0xff) & (1 << (bit & 7))) === 0;
  for (let bit = 0; bit < group.bg_bits; ) {
    if (!isFree(bit)) {
      bit++;
      continue;
    }
    const start = bit;
    while (bit < group.bg_bits && isFree(bit)) bit++;
    yield { start, bits: bit - start };
  }
}

/** `index` is the group's place in its chain; the first one has the heading. */
export function printGroup(out: Out, v: DebugVolume, group: GroupDesc, index: number): void {
  if (index === 0) {
    out(
      `\tGroup Chain: ${group.bg_chain}   Parent Inode: ${group.bg_parent_dinode}  Generation: ${group.bg_generation}`,
    );
    printCheck(out, v, group.bg_check, blockOf(group));
    const heads = ["Total", "Used", "Free", "Contig", "Size"].map((h) => left(h, 6));
    out(`\t##   ${left("Block#", 15)}   ${heads.join("   ")}`);
  }
  let contig = 0;
  for (const { bits } of freeRuns(group)) contig = Math.max(contig, bits);
  const numbers = [
    group.bg_bits,
    group.bg_bits - group.bg_free_bits_count,
    group.bg_free_bits_count,
    contig,
    group.bg_size,
  ].map((n) => left(n, 6));
  out(`\t${left(index, 2)}   ${left(group.bg_blkno, 15)}   ${numbers.join("   ")}`);
  if (gdIsDiscontig(group)) printExtentList(out, group.bg_list);
}

export function printGroupExtents(out: Out, group: GroupDesc): void {
  const free = group.bg_free_bits_count;
  out(`\tGroup# ${group.bg_blkno}   Total: ${group.bg_bits}   Used: ${group.bg_bits - free}   Free: ${free}`);
  const runs = [...freeRuns(group)];
  const cell = (a: string | number, b: string | number, c: string | number): string =>
    `${left(a, 3)}   ${left(b, 6)}   ${left(c, 6)}`;
  if (runs.length > 0) out(`\t${[0, 1, 2].map(() => cell("###", "Start", "Length")).join("    ")}`);
  for (let i = 0; i < runs.length; i += 3) {
    const row = runs.slice(i, i + 3).map((r, k) => cell(i + k + 1, r.start, r.bits));
    // A row that is not full keeps the gap behind its last cell.
    out(`\t${row.join("    ")}${row.length < 3 ? "    " : ""}`);
  }
  const total = runs.reduce((n, r) => n + r.bits, 0);
  const longest = runs.reduce((n, r) => Math.max(n, r.bits), 0);
  const average = runs.length === 0 ? 0 : Math.floor(total / runs.length);
  out(`\tFree Extent Count: ${runs.length}   Longest: ${longest}   Average: ${average}`);
  out("");
}

export function printChainList(out: Out, list: ChainList): void {
  out(`\tClusters per Group: ${list.cl_cpg}   Bits per Cluster: ${list.cl_bpc}`);
  out(`\tCount: ${list.cl_count}   Next Free Rec: ${list.cl_next_free_rec}`);
  if (list.cl_next_free_rec === 0) return;
  out(`\t##   ${["Total", "Used", "Free"].map((h) => left(h, 10)).join("   ")}   Block#`);
  for (let i = 0; i < Math.min(list.cl_next_free_rec, list.cl_count); i++) {
    const rec = list.cl_recs.at(i);
    const numbers = [rec.c_total, rec.c_total - rec.c_free, rec.c_free].map((n) => left(n, 10));
    out(`\t${left(i, 2)}   ${numbers.join("   ")}   ${rec.c_blkno}`);
  }
}

/** The chain list, and the groups of each chain (traverse_chains). */
export function printChains(out: Out, v: DebugVolume, list: ChainList): void {
  printChainList(out, list);
  for (let i = 0; i < Math.min(list.cl_next_free_rec, list.cl_count); i++) {
    out("");
    let index = 0;
    for (const group of v.chain(list.cl_recs.at(i).c_blkno)) printGroup(out, v, group, index++);
  }
}

export function printLocalAlloc(out: Out, la: LocalAlloc): void {
  out(`\tLocal Bitmap Offset: ${la.la_bm_off}   Size: ${la.la_size}`);
}

export function printTruncateLog(out: Out, tl: TruncateLog): void {
  out(`\tTotal Records: ${tl.tl_count}   Used: ${tl.tl_used}`);
  out(`\t##   ${left("Start Cluster", 10)}   ${left("Num Clusters", 10)}`);
  for (let i = 0; i < Math.min(tl.tl_used, tl.tl_count); i++) {
    const rec = tl.tl_recs.at(i);
    out(`\t${left(i, 2)}   ${left(rec.t_start, 10)}   ${left(rec.t_clusters, 10)}`);
  }
}

/** What hangs on an inode, by its kind: extents, chains, logs; without `traverse` only what is in its block. */
export function printBody(out: Out, v: DebugVolume, di: Dinode, traverse = true): void {
  if ((di.i_flags & I_FLAGS.LOCAL_ALLOC) !== 0) printLocalAlloc(out, di.i_lab);
  else if ((di.i_flags & I_FLAGS.CHAIN) !== 0) {
    if (traverse) printChains(out, v, di.i_chain);
    else printChainList(out, di.i_chain);
  } else if (isLnk(di.i_mode) && di.i_clusters === 0) out(`\tFast Symlink Destination: ${textOf(v.symlinkTarget(di))}`);
  else if ((di.i_flags & I_FLAGS.DEALLOC) !== 0) printTruncateLog(out, di.i_dealloc);
  else if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) === 0) {
    if (traverse) printExtentTree(out, v, di.i_list);
    else printExtentList(out, di.i_list);
  }
}
