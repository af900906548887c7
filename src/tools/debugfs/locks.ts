/**
 * fs_locks, dlm_locks and net_stats: what a running node knows of its locks and connections, in debugfs.ocfs2's words (dump_fs_locks.c,
 * dump_dlm_locks.c, dump_net_stats.c). The texts that are read are the kernel's own formats, so a copy of the kernel's
 * /sys/kernel/debug files does as well (-f), and what our nodes say can be given to debugfs.ocfs2.
 */
import { MetaLvb, OCFS2_LVB_VERSION } from "../../format/wire/lvb.ts";
import { DebugfsError } from "./image.ts";
import type { Out } from "./print.ts";

// fs_locks ------------------------------------------------------------------------------------------------------------
const FS_LOCKS_VERSION = 4;
const LVB_BYTES = 64;
/** Fields before and behind the LVB. */
const BEFORE = 10;
const BEHIND = 12;

const LEVELS: Readonly<Record<string, string>> = {
  "-1": "Invalid",
  "0": "No Lock",
  "1": "Concurrent Read",
  "2": "Concurrent Write",
  "3": "Protected Read",
  "4": "Protected Write",
  "5": "Exclusive",
};
const FLAGS: readonly (readonly [bit: number, name: string])[] = [
  [0x40, "Initialized"],
  [0x1, "Attached"],
  [0x2, "Busy"],
  [0x4, "Blocked"],
  [0x8, "Local"],
  [0x10, "Needs Refresh"],
  [0x20, "Refreshing"],
  [0x80, "Freeing"],
  [0x100, "Queued"],
];
const ACTIONS = ["None", "Attach", "Convert", "Downconvert"];
const UNLOCK_ACTIONS = ["None", "Cancel Convert", "Drop Lock"];

interface Mode {
  readonly gets: number;
  readonly fails: number;
  readonly total_ns: number;
  readonly max_us: number;
  readonly last_us: number;
}

export interface FsLock {
  readonly lockres: string;
  readonly mode: string;
  readonly flags: readonly string[];
  readonly ro_holders: number;
  readonly ex_holders: number;
  readonly pending_action: string;
  readonly pending_unlock_action: string;
  readonly requested_mode: string;
  readonly blocking_mode: string;
  /** In hexadecimal digits. */
  readonly lvb: string;
  /** Undefined in the oldest format. */
  readonly pr?: Mode;
  readonly ex?: Mode;
  readonly disk_refreshes?: number;
  readonly first_wait_us?: number;
  readonly version: number;
}

const levelText = (level: string | undefined): string => LEVELS[level ?? ""] ?? "Unknown";

/** One line of locking_state. */
export function parseFsLock(line: string): FsLock {
  const f = line.trimEnd().split("\t");
  const version = Number(f[0]);
  if (!(version <= FS_LOCKS_VERSION))
    throw new DebugfsError(`Debug string proto ${f[0]} found, but ${FS_LOCKS_VERSION} is the highest I understand.`);
  const lvb = f.slice(BEFORE, BEFORE + LVB_BYTES).map(Number);
  if (lvb.length < LVB_BYTES) throw new DebugfsError("a line that is cut off: take a whole copy of locking_state");
  const n = f.slice(BEFORE + LVB_BYTES, BEFORE + LVB_BYTES + BEHIND).map(Number);
  const flags = Number(f[3]);
  // Before version 3 the longest wait was in ns.
  const max_us = (ns_or_us: number): number => (version < 3 ? Math.floor(ns_or_us / 1000) : ns_or_us);
  const mode = (ex: number): Mode => ({
    gets: n[ex]!,
    fails: n[2 + ex]!,
    total_ns: n[4 + ex]!,
    max_us: max_us(n[6 + ex]!),
    last_us: n[9 + ex]!,
  });
  return {
    lockres: f[1]!,
    mode: levelText(f[2]),
    flags: FLAGS.filter(([bit]) => flags & bit).map(([, name]) => name),
    ro_holders: Number(f[6]),
    ex_holders: Number(f[7]),
    pending_action: ACTIONS[Number(f[4])] ?? "Unknown",
    pending_unlock_action: UNLOCK_ACTIONS[Number(f[5])] ?? "Unknown",
    requested_mode: levelText(f[8]),
    blocking_mode: levelText(f[9]),
    lvb: Buffer.from(lvb).toString("hex"),
    version,
    ...(version > 1 ? { pr: mode(0), ex: mode(1), disk_refreshes: n[8]!, first_wait_us: n[11]! } : {}),
  };
}

const hexOf = (byte: number): string => (byte & 0xff).toString(16).padStart(2, "0");

function rawLvb(lvb: Uint8Array): string {
  const rows = [];
  for (let at = 0; at < lvb.length; at += 16)
    rows.push([...lvb.subarray(at, at + 16)].map((b) => `${hexOf(b)} `).join(""));
  return `Raw LVB:\t${rows.join("\n\t\t")}`;
}

/** The classic tool decodes versions 1 and 2 only, which no kernel of today writes. */
function decodedLvb(lvb: Uint8Array): string[] {
  const v = MetaLvb.at(new DataView(lvb.buffer, lvb.byteOffset, lvb.length), 0);
  if (v.lvb_version !== OCFS2_LVB_VERSION) return [];
  const time = (name: string, packed: bigint): string => `\t\t${name}_packed: 0x${packed.toString(16)}`;
  return [
    `Decoded LVB:\tVersion: ${v.lvb_version}  Clusters: ${v.lvb_iclusters}  Size: ${v.lvb_isize}`,
    `\t\tMode: 0${v.lvb_imode.toString(8)}  UID: ${v.lvb_iuid}  GID: ${v.lvb_igid}  Nlink: ${v.lvb_inlink}`,
    time("Atime", v.lvb_iatime_packed),
    time("Ctime", v.lvb_ictime_packed),
    time("Mtime", v.lvb_imtime_packed),
  ];
}

function printMode(name: string, m: Mode, version: number): string {
  const average_ns = m.gets > 0 ? Math.floor(m.total_ns / m.gets) : 0;
  const last = version > 3 ? ` Last: ${m.last_us}us` : "";
  return `${name} > Gets: ${m.gets}  Fails: ${m.fails}    Waits Total: ${Math.floor(m.total_ns / 1000)}us  Max: ${m.max_us}us  Avg: ${average_ns}ns${last}`;
}

export function printFsLock(out: Out, l: FsLock, lvbs: boolean): void {
  out(`Lockres: ${l.lockres}  Mode: ${l.mode}`);
  out(`Flags:${l.flags.map((f) => ` ${f}`).join("")}`);
  out(`RO Holders: ${l.ro_holders}  EX Holders: ${l.ex_holders}`);
  out(`Pending Action: ${l.pending_action}  Pending Unlock Action: ${l.pending_unlock_action}`);
  out(`Requested Mode: ${l.requested_mode}  Blocking Mode: ${l.blocking_mode}`);
  if (lvbs) {
    const lvb = Uint8Array.from(Buffer.from(l.lvb, "hex"));
    out(rawLvb(lvb));
    if (l.lockres.startsWith("M")) for (const line of decodedLvb(lvb)) out(line);
  }
  if (l.pr !== undefined && l.ex !== undefined) {
    out(printMode("PR", l.pr, l.version));
    out(printMode("EX", l.ex, l.version));
    const wait = l.version > 3 ? ` First Wait: ${l.first_wait_us}us` : "";
    out(`Disk Refreshes: ${l.disk_refreshes}${wait}`);
  }
  out("");
}

// dlm_locks -----------------------------------------------------------------------------------------------------------
const DLM_LOCKS_VERSION = 1;
const STATES: readonly (readonly [bit: number, name: string])[] = [
  [0x1, "Uninitialized"],
  [0x2, "Recovering"],
  [0x4, "Ready"],
  [0x8, "Dirty"],
  [0x10, "InProgress"],
  [0x20, "Migrating"],
  [0x40, "DroppingRef"],
  [0x1000, "BlockDirty"],
  [0x2000, "SetRefInProg"],
];
const QUEUES = ["Granted", "Converting", "Blocked"];
const MODES: Readonly<Record<string, string>> = { 0: "NL", 3: "PR", 5: "EX" };
const PENDING = ["Ast", "Bast", "Convert", "Lock", "Cancel", "Unlock"];

export interface DlmLockText {
  readonly queue: string;
  readonly node: number;
  readonly level: string;
  readonly conv: string;
  readonly cookie: string;
  readonly refs: number;
  readonly ast: boolean;
  readonly bast: boolean;
  readonly pending: readonly string[];
}

export interface DlmLockres {
  readonly lockres: string;
  readonly owner: number;
  readonly state: number;
  readonly states: readonly string[];
  readonly last_used: number;
  readonly asts_reserved: number;
  readonly inflight: number;
  readonly migration_pending: boolean;
  readonly refs: number;
  readonly lists: readonly string[];
  readonly refmap: string;
  readonly lvb: string;
  readonly locks: readonly DlmLockText[];
}

/** The fields behind the version, which is the first. */
function versioned(text: string, what: string): string[] {
  const [version, ...fields] = text.split(",");
  if (!(Number(version) <= DLM_LOCKS_VERSION))
    throw new DebugfsError(
      `${what} string proto ${version} found, but ${DLM_LOCKS_VERSION} is the highest I understand.`,
    );
  return fields;
}

function parseLock(text: string): DlmLockText {
  const f = versioned(text, "Lock");
  const flag = (i: number): boolean => f[i] === "1";
  return {
    queue: QUEUES[Number(f[0])] ?? "Unknown",
    level: MODES[f[1]!] ?? f[1]!,
    conv: MODES[f[2]!] ?? f[2]!,
    node: Number(f[3]),
    cookie: f[4]!,
    ast: flag(5),
    bast: flag(6),
    pending: PENDING.filter((_, i) => flag(7 + i)),
    refs: Number(f[13]),
  };
}

/** The lines of one resource: NAME, LRES, RMAP, LVBX, LOCK... */
export function parseDlmLockres(lines: readonly string[]): DlmLockres {
  const of = (tag: string): string => lines.find((l) => l.startsWith(`${tag}:`))?.slice(tag.length + 1) ?? "";
  const [owner, state, last_used, purge, dirty, recovering, inflight, pending, asts, refs] = versioned(
    of("LRES"),
    "Lockres",
  ).map(Number);
  const on = [purge, dirty, recovering];
  const locks = lines.filter((l) => l.startsWith("LOCK:")).map((l) => parseLock(l.slice(5)));
  // Queue by queue, as they were listed in each.
  const sorted = QUEUES.flatMap((q) => locks.filter((l) => l.queue === q));
  return {
    lockres: of("NAME"),
    owner: owner!,
    state: state!,
    states: STATES.filter(([bit]) => state! & bit).map(([, name]) => name),
    last_used: last_used!,
    asts_reserved: asts!,
    inflight: inflight!,
    migration_pending: pending === 1,
    refs: refs!,
    lists: ["Purge", "Dirty", "Recovering"].filter((_, i) => on[i] === 1),
    refmap: of("RMAP"),
    lvb: of("LVBX"),
    locks: sorted,
  };
}

/** Columns, as printf's %-10s. */
const row = (...cells: (string | number)[]): string =>
  ` ${cells.map((cell, i) => String(cell).padEnd([10, 4, 5, 4, 15, 4, 3, 4, 0][i]!)).join("  ")}`;
const yesNo = (yes: boolean): string => (yes ? "Yes" : "No");
const words = (list: readonly string[]): string => list.map((w) => `${w} `).join("");

export function printDlmLockres(out: Out, r: DlmLockres, lvbs: boolean): void {
  const left = (n: number, width = 3): string => String(n).padEnd(width);
  out(
    `Lockres: ${r.lockres.padEnd(32)}  Owner: ${left(r.owner)}  State: 0x${r.state.toString(16).toUpperCase()} ${words(r.states)}`,
  );
  out(
    `Last Used: ${left(r.last_used, 5)}  ASTs Reserved: ${left(r.asts_reserved)}  Inflight: ${left(r.inflight)}  Migration Pending: ${yesNo(r.migration_pending)}`,
  );
  out(`Refs: ${left(r.refs)}  Locks: ${left(r.locks.length)}  On Lists: ${words(r.lists) || "None"}`);
  out(`Reference Map: ${r.refmap}`);
  if (lvbs) out(rawLvb(Uint8Array.from(Buffer.from(r.lvb, "hex"))));
  out(row("Lock-Queue", "Node", "Level", "Conv", "Cookie", "Refs", "AST", "BAST", "Pending-Action"));
  for (const l of r.locks)
    out(
      row(l.queue, l.node, l.level, l.conv, l.cookie, l.refs, yesNo(l.ast), yesNo(l.bast), words(l.pending) || "None"),
    );
  out("");
}

// net_stats -----------------------------------------------------------------------------------------------------------
const NET_STATS_VERSION = 1;

/** Of one node, since the connection was made; times in ns. */
export interface NetStats {
  readonly node: number;
  readonly send_count: number;
  readonly acquiry_ns: number;
  readonly send_ns: number;
  readonly wait_ns: number;
  readonly recv_count: number;
  readonly process_ns: number;
}

export function parseNetStats(text: string): NetStats[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [version, node, send_count, acquiry_ns, send_ns, wait_ns, recv_count, process_ns] = line
        .split(",")
        .map(Number);
      if (!(version! <= NET_STATS_VERSION) || process_ns === undefined)
        throw new DebugfsError(`"${line}" is no line of o2net/stats that I understand`);
      return {
        ...{ node: node!, send_count: send_count!, acquiry_ns: acquiry_ns!, send_ns: send_ns! },
        ...{ wait_ns: wait_ns!, recv_count: recv_count!, process_ns },
      };
    });
}

/** What happened between two looks, per second and per message; since the beginning without a `before`. */
export function printNetStats(
  out: Out,
  now: readonly NetStats[],
  before: readonly NetStats[],
  interval_s: number,
): void {
  out("       ------- msg / sec -------   --------------------------- usecs / msg ---------------------------");
  const cells = (width: readonly number[], texts: readonly string[]): string =>
    texts.map((t, i) => t.padEnd(width[i]!)).join("");
  const head = ["Node#", "send q", "recv q", "(acquiry", "xmit", "wait        )", "send", "process"];
  out(cells([7, 13, 14, 15, 14, 14, 13, 12], head));
  for (const c of now) {
    const p = before.find((x) => x.node === c.node);
    const since = (key: keyof NetStats): number => c[key] - (p?.[key] ?? 0);
    const [sent, received] = [since("send_count"), since("recv_count")];
    const each = (key: keyof NetStats, n: number): number => (n > 0 ? since(key) / (n * 1000) : 0);
    const [acquiry, send, wait] = [each("acquiry_ns", sent), each("send_ns", sent), each("wait_ns", sent)];
    const rate = (n: number): string => String(Math.floor(p !== undefined && interval_s > 0 ? n / interval_s : n));
    const times = [acquiry, send, wait, acquiry + send + wait, each("process_ns", received)].map((t) => t.toFixed(3));
    out(cells([7, 13, 15, 14, 14, 14, 13, 12], [String(c.node), rate(sent), rate(received), ...times]));
  }
  out("");
  out("");
}
