/**
 * The commands of debugfs, each a row of a table: what it takes, what it prints, and for some the same as JSON. None of
 * them writes to the volume (debugfs.ocfs2's commands.c).
 */
import { basename, dirname, join } from "node:path";
import { lockName } from "../../dlmglue/lock_res.ts";
import {
  Dinode,
  DxLeaf,
  DxRootBlock,
  DYN_FEATURES,
  ExtentBlock,
  FEATURE_INCOMPAT,
  GroupDesc,
  HeartbeatBlock,
  I_FLAGS,
  isLnk,
  isReg,
  OCFS2_INVALID_SLOT,
  OCFS2_SUPER_BLOCK_BLKNO,
  RefcountBlock,
  SlotMap,
  SlotMapExtended,
  SuperBlock,
  SYSTEM_INODE,
  systemInodeName,
} from "../../format/disk/index.ts";
import { deviceProblem, folderOf, problemOf } from "../problem.ts";
import { dumpFile, dumpTree, writeOut } from "./copy_out.ts";
import { icheck, locate } from "./find.ts";
import { DebugfsError, type DebugVolume, NoInode, textOf } from "./image.ts";
import { dlmLocks, fsLocks, type LiveNode, netStats, Usage } from "./live.ts";
import {
  hex,
  type Out,
  printBody,
  printExtentBlock,
  printExtentList,
  printGroup,
  printGroupExtents,
  printInode,
  printSuper,
  right,
} from "./print.ts";
import {
  dxLeaf,
  dxRoot,
  printDirBlock,
  printDxIndex,
  printDxLeaf,
  printDxRootTree,
  printDxSpace,
  printEntry,
  printEntryLong,
} from "./print_dir.ts";
import { printJournal } from "./print_journal.ts";
import { printRefcountTree, printXattrs, refcountBlock } from "./print_xattr.ts";
import { printTable } from "./tables.ts";

/** What a session has: the volume, and where it is in it. */
export interface Session {
  v: DebugVolume | null;
  device: string;
  root: number;
  cwd: number;
  readonly out: Out;
  /** Where `cat` writes. */
  readonly out_fd: number;
  /** Writes what `out` has gathered. */
  flush(): void;
  /** How to ask the nodes that run here; null for who only reads devices. */
  readonly live: LiveNode | null;
  /** Opens another device; `backup` is the number of a backup super block, 0 for the first. */
  open(device: string, backup: number): void;
  close(): void;
}

type Run = (s: Session, args: readonly string[], name: string) => void;

export interface Command {
  readonly names: readonly string[];
  /** Its arguments, for the usage line. */
  readonly args: string;
  readonly does: string;
  readonly run: Run;
  /** What `--json` prints instead. */
  readonly json?: (s: Session, args: readonly string[]) => unknown;
  /** Instead of `run` and `json` for what has to wait for a running node. */
  readonly live?: (s: Session, args: readonly string[], json: boolean) => Promise<void>;
}

export function openVolume(s: Session, device: string, backup: number): void {
  try {
    s.open(device, backup);
  } catch (err) {
    throw new DebugfsError(deviceProblem(device, err));
  }
}

export function volume(s: Session): DebugVolume {
  if (s.v === null) throw new DebugfsError("No device open");
  return s.v;
}

function numberOf(text: string): number {
  const n = Number(text);
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(text) || !Number.isSafeInteger(n)) throw new DebugfsError(`${text} is not a number`);
  return n;
}

const LOCK_NAME = /^[A-Z]0{6}([0-9a-f]{16})[0-9a-f]{8}$/;

/** "<17>", or the name of a lock in it; undefined for anything else. */
function inodeString(text: string): number | undefined {
  if (!text.startsWith("<") || !text.endsWith(">")) return undefined;
  const inner = text.slice(1, -1);
  const lock = LOCK_NAME.exec(inner);
  return lock === null ? numberOf(inner) : Number.parseInt(lock[1]!, 16);
}

/** An inode by "<number>", by a path below "//" in the system directory, or by a path. */
function filespec(s: Session, text: string | undefined): number {
  if (text === undefined) throw new Usage();
  const v = volume(s);
  const ino = inodeString(text);
  try {
    if (ino !== undefined) return ino;
    return text.startsWith("//") ? v.namei(text.slice(1), v.system_dir, v.system_dir) : v.namei(text, s.cwd, s.root);
  } catch (err) {
    if (err instanceof DebugfsError) throw new DebugfsError(`${err.message} '${text}'`);
    throw err;
  }
}

/** Blocks as "<number>"; a bare number does as well. */
function blockArgs(args: readonly string[], most = Number.POSITIVE_INFINITY): number[] {
  const blocks = args.slice(0, most).map((a) => inodeString(a) ?? numberOf(a));
  if (blocks.length === 0) throw new Usage();
  return blocks;
}

const oneBlock = (args: readonly string[]): number => blockArgs(args, 1)[0]!;

/** The groups of a chain from one on. Block 0, which ends a chain, begins none. */
function chainAt(s: Session, args: readonly string[]): Generator<GroupDesc> {
  const v = volume(s);
  const first = oneBlock(args);
  if (first === 0) v.group(first);
  return v.chain(first);
}

/** Takes a flag off the front. */
function withFlag(args: readonly string[], ...flags: string[]): { flag: boolean; rest: readonly string[] } {
  const flag = flags.includes(args[0] ?? "");
  return { flag, rest: flag ? args.slice(1) : args };
}

const inodeOf = (s: Session, arg: string | undefined): Dinode => volume(s).inode(filespec(s, arg));

function directoryOf(s: Session, arg: string | undefined): number {
  const ino = arg === undefined ? s.cwd : filespec(s, arg);
  volume(s).directory(ino);
  return ino;
}

// Commands with some more to do -----------------------------------------------------------------------------------------

/** Which node has which slot, as the slot map says. */
export function slots(s: Session): { slot: number; node: number }[] {
  const v = volume(s);
  const bytes = v.whole(v.inode(v.systemFile(systemInodeName(SYSTEM_INODE.SLOT_MAP))));
  const out: { slot: number; node: number }[] = [];
  for (let slot = 0; slot < v.sb.s_max_slots; slot++) {
    if (v.incompat(FEATURE_INCOMPAT.EXTENDED_SLOT_MAP)) {
      const es = SlotMapExtended.from(bytes).se_slots.at(slot);
      if (es.es_valid !== 0) out.push({ slot, node: es.es_node_num });
    } else {
      const node = SlotMap.from(bytes).sm_slots.get(slot);
      if (node !== OCFS2_INVALID_SLOT) out.push({ slot, node });
    }
  }
  return out;
}

const HB_SECTOR_BYTES = 512;

function* heartbeats(s: Session): Generator<{ sector: number; hb: HeartbeatBlock }> {
  const v = volume(s);
  const bytes = v.whole(v.inode(v.systemFile(systemInodeName(SYSTEM_INODE.HEARTBEAT))));
  for (let sector = 0; sector < 255 && (sector + 1) * HB_SECTOR_BYTES < bytes.length; sector++) {
    const hb = HeartbeatBlock.from(bytes, sector * HB_SECTOR_BYTES);
    if (hb.hb_seq !== 0) yield { sector, hb };
  }
}

function statSysdir(s: Session): void {
  const v = volume(s);
  s.out(`Device: ${s.device}`);
  s.out("  superblock");
  printSuper(s.out, v.sb);
  printInode(s.out, v, v.super_di);
  for (const e of v.entries(v.system_dir)) {
    const name = textOf(e.name);
    if (name === "..") continue;
    s.out("");
    s.out(`  //${name === "." ? "" : name}`);
    const di = v.inode(e.ino);
    printInode(s.out, v, di);
    printBody(s.out, v, di);
    if ((di.i_mode & 0o170000) === 0o040000) for (const x of v.entries(e.ino)) printEntryLong(s.out, v, x);
    if (name === systemInodeName(SYSTEM_INODE.SLOT_MAP)) printSlots(s);
  }
}

function printSlots(s: Session): void {
  s.out(`\t${right("Slot#", 5)}   ${right("Node#", 5)}`);
  for (const { slot, node } of slots(s)) s.out(`\t${right(slot, 5)}   ${right(node, 5)}`);
}

const OCFS2_MAX_CLUSTERSIZE = 1048576;

/** As printf(3) has it: halfway lies to the even digit. */
function fixed(x: number, digits: number): string {
  const scaled = x * 10 ** digits;
  const below = Math.floor(scaled);
  return (scaled - below === 0.5 && below % 2 === 0 ? below / 10 ** digits : x).toFixed(digits);
}

/** How scattered a file is: extents by clusters, and the same weighted with the clusters in a megabyte. */
function frag(s: Session, di: Dinode): void {
  const v = volume(s);
  const inline = (di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0;
  const extents = inline ? 0 : [...v.extents(di.i_list)].length;
  const clusters = di.i_clusters;
  const level = clusters > 1 && extents > 0 ? (100 * extents) / clusters : 0;
  const score = level * (OCFS2_MAX_CLUSTERSIZE / v.clustersize);
  s.out(
    `Inode: ${di.i_blkno}\t% fragmented: ${fixed(level, 2)}\tclusters: ${clusters}\textents: ${extents}\tscore: ${fixed(score, 0)}`,
  );
}

function rdump(s: Session, args: readonly string[]): void {
  const { flag: verbose, rest } = withFlag(args, "-v");
  const [from, to] = rest;
  if (from === undefined || to === undefined) throw new Usage();
  const ino = filespec(s, from);
  const plain = basename(from.replace(/\/+$/, ""));
  const name = ["", ".", ".."].includes(plain) || from.startsWith("<") ? `inode-${ino}` : plain;
  const target = join(folderOf(to), name);
  s.out(`Copying to ${target}`);
  dumpTree(s.out, volume(s), ino, target, verbose);
}

function logdump(s: Session, args: readonly string[]): void {
  const { rest } = withFlag(args, "-T");
  const v = volume(s);
  if (rest[0] === undefined) throw new Usage();
  const slot = numberOf(rest[0]);
  if (slot >= v.sb.s_max_slots) throw new DebugfsError("Invalid node slot number\nusage: logdump [-T] <slot#>");
  printJournal(s.out, v, v.inode(v.systemFile(systemInodeName(SYSTEM_INODE.JOURNAL, slot))));
}

function bmap(s: Session, args: readonly string[]): void {
  const di = inodeOf(s, args[0]);
  if (args[1] === undefined) throw new Usage();
  const block = numberOf(args[1]);
  const none = I_FLAGS.LOCAL_ALLOC | I_FLAGS.CHAIN | I_FLAGS.DEALLOC;
  const v = volume(s);
  const has_extents =
    (di.i_flags & none) === 0 &&
    (di.i_dyn_features & DYN_FEATURES.INLINE_DATA) === 0 &&
    !(isLnk(di.i_mode) && di.i_clusters === 0) &&
    block <= di.i_size / v.blocksize;
  s.out(`\t${has_extents ? v.bmap(di, block) : 0}`);
}

function refcount(s: Session, args: readonly string[]): RefcountBlock {
  const v = volume(s);
  const ino = filespec(s, args[0]);
  let blkno = ino;
  try {
    const di = v.inode(ino);
    if ((di.i_dyn_features & DYN_FEATURES.HAS_REFCOUNT) === 0)
      throw new DebugfsError(`Inode ${ino} does not have a refcount tree`);
    blkno = di.i_refcount_loc;
  } catch (err) {
    // The number of a refcount block will do as well.
    if (!(err instanceof NoInode)) throw err;
  }
  return refcountBlock(v, blkno);
}

function encode(s: Session, args: readonly string[]): void {
  const ino = filespec(s, args[0]);
  const letter = ino === OCFS2_SUPER_BLOCK_BLKNO ? "S" : "M";
  const di = letter === "S" ? null : volume(s).inode(ino);
  const generation = di !== null && (di.i_flags & I_FLAGS.SYSTEM) !== 0 ? di.i_generation : 0;
  s.out(`\t${lockName(letter, ino, generation)} `);
}

function help(s: Session): void {
  for (const c of COMMANDS) s.out(`${`${c.names.join(", ")} ${c.args}`.trim().padEnd(41)} ${c.does}`);
}

function indexed(s: Session, arg: string | undefined): Dinode {
  const di = inodeOf(s, arg);
  if ((di.i_dyn_features & DYN_FEATURES.INDEXED_DIR) === 0)
    throw new DebugfsError(`Inode ${di.i_blkno} is not indexed`);
  return di;
}

// The table -----------------------------------------------------------------------------------------------------------

const c = (names: string, args: string, does: string, run: Run, json?: Command["json"]): Command => ({
  names: names.split(" "),
  args,
  does,
  run,
  ...(json === undefined ? {} : { json }),
});

const live = (names: string, args: string, does: string, run: NonNullable<Command["live"]>): Command => ({
  ...c(names, args, does, () => {}),
  live: run,
});

export const COMMANDS: readonly Command[] = [
  c("bmap", "<filespec> <logical_blk>", "Show the block of the disk that holds a block of a file", bmap),
  c("cat", "<filespec>", "Show a file on stdout", (s, [file]) => {
    const di = inodeOf(s, file);
    if (!isReg(di.i_mode)) throw new DebugfsError("Not a regular file");
    writeOut(volume(s), di, s.out_fd, "standard output");
  }),
  c("cd", "<filespec>", "Change directory", (s, [dir]) => {
    if (dir === undefined) throw new Usage();
    s.cwd = directoryOf(s, dir);
  }),
  c("chroot", "<filespec>", "Change root", (s, [dir]) => {
    if (dir === undefined) throw new Usage();
    s.root = directoryOf(s, dir);
  }),
  c("close", "", "Close the device", (s) => {
    volume(s);
    s.close();
  }),
  c("curdev", "", "Show the current device", (s) => s.out(s.v === null ? "No device" : s.device)),
  c("decode", "<lockname> ...", "Show the block number in a lock's name", (s, args) => {
    for (const a of args) s.out(`\t${a}\t${inodeString(a) ?? inodeString(`<${a}>`)}`);
    if (args.length === 0) throw new Usage();
  }),
  c("dirblocks", "<filespec>", "Show a directory's blocks", (s, [dir]) => {
    const v = volume(s);
    const di = v.directory(filespec(s, dir));
    if ((di.i_dyn_features & DYN_FEATURES.INLINE_DATA) !== 0)
      throw new DebugfsError(`directory ${di.i_blkno} has no blocks: its entries are in the inode`);
    for (const blkno of v.dirBlocks(di)) {
      s.out(`\tDirblock: ${blkno}`);
      printDirBlock(s.out, v, v.read(blkno));
    }
  }),
  live(
    "dlm_locks",
    "[-f <file>] [-l] [lockname ...]",
    "Show the locks of the volume's domain, of a node that runs",
    dlmLocks,
  ),
  c("dump", "[-p] <filespec> <outfile>", "Copy a file to a mounted file system", (s, args) => {
    const { flag, rest } = withFlag(args, "-p", "-P");
    if (rest[0] === undefined || rest[1] === undefined) throw new Usage();
    const di = inodeOf(s, rest[0]);
    folderOf(dirname(rest[1]));
    dumpFile(volume(s), di, rest[1], flag);
  }),
  c("dx_dump", "<filespec>", "Show a directory's index", (s, [dir]) => printDxIndex(s.out, volume(s), indexed(s, dir))),
  c(
    "dx_leaf",
    "<block#>",
    "Show a leaf of a directory's index",
    (s, args) => printDxLeaf(s.out, volume(s), dxLeaf(volume(s), oneBlock(args))),
    (s, args) => DxLeaf.toJSON(dxLeaf(volume(s), oneBlock(args))),
  ),
  c(
    "dx_root",
    "<block#>",
    "Show the root of a directory's index",
    (s, args) => printDxRootTree(s.out, volume(s), dxRoot(volume(s), oneBlock(args))),
    (s, args) => DxRootBlock.toJSON(dxRoot(volume(s), oneBlock(args))),
  ),
  c("dx_space", "<filespec>", "Show the list of directory blocks with room", (s, [dir]) =>
    printDxSpace(s.out, volume(s), indexed(s, dir)),
  ),
  c("encode", "<filespec>", "Show the name of an inode's lock", encode),
  c(
    "extent",
    "<block#>",
    "Show an extent block",
    (s, args) => {
      const eb = volume(s).extentBlock(oneBlock(args));
      printExtentBlock(s.out, volume(s), eb);
      printExtentList(s.out, eb.h_list);
    },
    (s, args) => ExtentBlock.toJSON(volume(s).extentBlock(oneBlock(args))),
  ),
  c("findpath", "<block#> ...", "Show one path of each inode", (s, args) =>
    locate(s.out, volume(s), blockArgs(args), false),
  ),
  c("frag", "<filespec>", "Show extents by clusters of an inode", (s, [file]) => frag(s, inodeOf(s, file))),
  live(
    "fs_locks",
    "[-f <file>] [-l] [-B] [lockname ...]",
    "Show the locks of the file system, of a node that runs",
    fsLocks,
  ),
  c(
    "group",
    "<block#>",
    "Show a group and those behind it in its chain",
    (s, args) => {
      let index = 0;
      for (const g of chainAt(s, args)) printGroup(s.out, volume(s), g, index++);
    },
    (s, args) => [...chainAt(s, args)].map((g) => GroupDesc.toJSON(g)),
  ),
  c("grpextents", "<block#>", "Show the free stretches of a group and those behind it", (s, args) => {
    for (const g of chainAt(s, args)) printGroupExtents(s.out, g);
  }),
  c(
    "hb",
    "",
    "Show the heartbeat blocks",
    (s) => {
      s.out("\tnode: node              seq       generation checksum deadms");
      for (const { sector, hb } of heartbeats(s)) {
        const head = `\t${right(sector, 4)}: ${right(hb.hb_node, 4)} ${hex(hb.hb_seq, 16)}`;
        const generation = hb.hb_generation.toString(16).padStart(16, "0");
        s.out(`${head} ${generation} ${hex(hb.hb_cksum, 8)} ${right(hb.hb_dead_ms, 6)}`);
      }
    },
    (s) => [...heartbeats(s)].map(({ hb }) => HeartbeatBlock.toJSON(hb)),
  ),
  c("help ?", "", "This list", help),
  c("icheck", "<block#> ...", "Show the inode that uses a block", (s, args) =>
    icheck(s.out, volume(s), blockArgs(args)),
  ),
  c("locate ncheck", "<block#> ...", "Show all paths of each inode", (s, args) =>
    locate(s.out, volume(s), blockArgs(args), true),
  ),
  c("logdump", "[-T] <slot#>", "Show the journal of a slot", logdump),
  c(
    "ls",
    "[-l] <filespec>",
    "List a directory",
    (s, args) => {
      const { flag: long, rest } = withFlag(args, "-l");
      for (const e of volume(s).entries(directoryOf(s, rest[0]))) {
        if (long) printEntryLong(s.out, volume(s), e);
        else printEntry(s.out, e);
      }
    },
    (s, args) =>
      [...volume(s).entries(directoryOf(s, withFlag(args, "-l").rest[0]))].map((e) => ({
        inode: e.ino,
        rec_len: e.rec_len,
        file_type: e.file_type,
        name: textOf(e.name),
      })),
  ),
  live(
    "net_stats",
    "[-f <file>] [interval [count]]",
    "Show the messages to other nodes, of a node that runs",
    netStats,
  ),
  c("open", "<device> [-s backup#]", "Open a device", (s, [device, flag, number]) => {
    if (device === undefined || (flag !== undefined && (flag !== "-s" || number === undefined))) throw new Usage();
    openVolume(s, device, number === undefined ? 0 : numberOf(number));
  }),
  c("quit q", "", "Exit", () => {}),
  c("rdump", "[-v] <filespec> <outdir>", "Copy a tree to a mounted file system", rdump),
  c(
    "refcount",
    "[-e] <filespec>",
    "Show the refcount tree of an inode, or one by its block",
    (s, args) => {
      const { flag, rest } = withFlag(args, "-e");
      printRefcountTree(s.out, volume(s), refcount(s, rest), flag);
    },
    (s, args) => RefcountBlock.toJSON(refcount(s, withFlag(args, "-e").rest)),
  ),
  c("slotmap", "", "Show which node has which slot", printSlots, slots),
  c(
    "stat",
    "[-t|-T] <filespec>",
    "Show an inode; -T without what lies below it",
    (s, args) => {
      const { flag: short, rest } = withFlag(withFlag(args, "-t").rest, "-T");
      const di = inodeOf(s, rest[0]);
      printInode(s.out, volume(s), di);
      if (!short) printBody(s.out, volume(s), di);
    },
    (s, args) => Dinode.toJSON(inodeOf(s, withFlag(args, "-t", "-T").rest[0])),
  ),
  c("stat_sysdir", "", "Show everything in the system directory", statSysdir),
  c(
    "stats",
    "[-h]",
    "Show the super block; -h without its inode",
    (s, args) => {
      printSuper(s.out, volume(s).sb);
      if (!withFlag(args, "-h").flag) printInode(s.out, volume(s), volume(s).super_di);
    },
    (s) => SuperBlock.toJSON(volume(s).sb),
  ),
  c("struct", "<name> <block#> [offset]", "Show any structure of docs/FORMAT.md", (s, [name, block, offset]) => {
    if (name === undefined || block === undefined) throw new Usage();
    const at = offset === undefined ? 0 : numberOf(offset);
    printTable(s.out, name, volume(s).read(oneBlock([block])), at);
  }),
  c("xattr", "[-v] <filespec>", "Show extended attributes", (s, args) => {
    const { flag, rest } = withFlag(args, "-v");
    printXattrs(s.out, volume(s), inodeOf(s, rest[0]), flag);
  }),
];

/** Runs one line. Throws DebugfsError with the command's name before what went wrong, and EPIPE; false to end the session. */
export async function runLine(s: Session, line: string, json = false): Promise<boolean> {
  const [name, ...args] = line.trim().split(/\s+/);
  if (name === undefined || name === "" || name.startsWith("#")) return true;
  const command = COMMANDS.find((x) => x.names.includes(name));
  if (command === undefined) throw new DebugfsError(`${name}: command not found`);
  if (command.names.includes("quit")) return false;
  try {
    if (command.live !== undefined) await command.live(s, args, json);
    else if (!json) command.run(s, args, name);
    else if (command.json === undefined) throw new DebugfsError("has no JSON form");
    else s.out(JSON.stringify(command.json(s, args)));
  } catch (err) {
    if (err instanceof Usage) throw new DebugfsError(`usage: ${name} ${command.args}`);
    // Whoever reads has seen enough.
    if ((err as NodeJS.ErrnoException).code === "EPIPE") throw err;
    if (err instanceof RangeError) throw new DebugfsError(`${name}: a structure leads out of its block`);
    throw new DebugfsError(`${name}: ${problemOf(err)}`);
  }
  return true;
}
