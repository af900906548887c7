/** What a domain knows, as text (dlmdebug.c): for `ocfs2 debugfs -R dlm_locks`, and for whoever looks for a lost wake-up. */
import { CTXT_NAMES, type Dlm, RECO_ACTIVE } from "./dlm.ts";
import {
  type DlmLockRes,
  LOCK_AST_LISTED,
  LOCK_BAST_LISTED,
  LOCK_BUSY,
  LOCK_CANCEL_PENDING,
  LOCK_CONVERT_PENDING,
  LOCK_LOCK_PENDING,
  LOCK_UNLOCK_PENDING,
  OWNER_UNKNOWN,
  RES_BLOCK_DIRTY,
  RES_DIRTY,
  RES_DROPPING_REF,
  RES_IN_PROGRESS,
  RES_MIGRATING,
  RES_MIGRATION_PENDING,
  RES_ON_PURGE,
  RES_RECOVERING,
  RES_RECOVERY_WAITING,
  RES_REDIRTY,
  RES_SETREF_INPROG,
} from "./lockres.ts";
import { lvbIsEmpty, lvbOf } from "./lvb.ts";
import type { Mle } from "./mle.ts";

const STATES: readonly (readonly [number, string])[] = [
  [RES_RECOVERING, "Recovering"],
  [RES_DIRTY, "Dirty"],
  [RES_IN_PROGRESS, "InProgress"],
  [RES_MIGRATING, "Migrating"],
  [RES_DROPPING_REF, "DroppingRef"],
  [RES_BLOCK_DIRTY, "BlockDirty"],
  [RES_SETREF_INPROG, "SetRefInProg"],
  // debugfs.ocfs2 has no words for these.
  [RES_RECOVERY_WAITING, "RecoveryWaiting"],
  [RES_REDIRTY, "Redirty"],
];

const PENDING: readonly (readonly [number, string])[] = [
  [LOCK_AST_LISTED, "Ast"],
  [LOCK_BAST_LISTED, "Bast"],
  [LOCK_CONVERT_PENDING, "Convert"],
  [LOCK_LOCK_PENDING, "Lock"],
  [LOCK_CANCEL_PENDING, "Cancel"],
  [LOCK_UNLOCK_PENDING, "Unlock"],
  [LOCK_BUSY, "Busy"],
];

const MODES: Readonly<Record<number, string>> = { 0: "NL", 3: "PR", 5: "EX" };
const mode = (type: number): string => MODES[type] ?? String(type);
const bits = (table: readonly (readonly [number, string])[], value: number): string[] =>
  table.filter(([bit]) => value & bit).map(([, name]) => name);
const yesNo = (yes: number): string => (yes ? "Yes" : "No");
/** Columns, as printf's %-4d. */
const columns = (...cells: [text: string | number, width: number][]): string =>
  cells.map(([text, width]) => String(text).padEnd(width)).join("  ");

/** A name as it can be read: a dentry lock's ends with a binary number (ocfs2_print_meta_lockname). */
export function printableName(name: string): string {
  if (name[0] !== "N" || name.length < 26) return name.replace(/[^\x20-\x7e]/g, ".");
  let ino = 0n;
  for (let i = 18; i < 26; i++) ino = (ino << 8n) | BigInt(name.charCodeAt(i));
  return `${name.slice(0, 17)}:${ino.toString(16).padStart(8, "0")}`;
}

/** One lock resource in the words of debugfs.ocfs2's dlm_locks. Refs are those that matter: the table's and the locks'. */
export function dumpLockres(res: DlmLockRes): string {
  const locks = res.locks();
  const lists = [
    ...(res.state & RES_ON_PURGE ? ["Purge"] : []),
    ...(res.state & RES_DIRTY ? ["Dirty"] : []),
    ...(res.state & RES_RECOVERING ? ["Recovering"] : []),
  ];
  const state = [`0x${(res.state & 0x7fff).toString(16).toUpperCase()}`, ...bits(STATES, res.state)].join(" ");
  const name = printableName(res.name).padEnd(32);
  const lines = [
    `Lockres: ${name}  Owner: ${String(res.owner).padEnd(3)}  State: ${state}`,
    `Last Used: ${String(res.last_used).padEnd(5)}  ASTs Reserved: ${String(res.asts_reserved).padEnd(3)}  ` +
      `Inflight: ${String(res.inflight_locks).padEnd(3)}  Migration Pending: ${yesNo(res.state & RES_MIGRATION_PENDING)}`,
    `Refs: ${String(locks.length + 1).padEnd(3)}  Locks: ${String(locks.length).padEnd(3)}  On Lists: ${lists.join(" ") || "None"}`,
    `Reference Map: ${res.refNodes().join(" ")}`.trimEnd(),
  ];
  if (!lvbIsEmpty(res)) {
    const bytes = [...lvbOf(res)].map((b) => b.toString(16).padStart(2, "0"));
    const rows = [0, 16, 32, 48].map((at) => bytes.slice(at, at + 16).join(" "));
    lines.push(`Raw LVB:\t${rows.join("\n\t\t")}`);
  }
  const row = (...cells: (string | number)[]): string =>
    ` ${columns(...([10, 4, 5, 4, 15, 4, 3, 4, 0].map((width, i) => [cells[i]!, width]) as [string | number, number][]))}`;
  lines.push(row("Lock-Queue", "Node", "Level", "Conv", "Cookie", "Refs", "AST", "BAST", "Pending-Action"));
  for (const l of locks) {
    const [ast, bast] = [yesNo(l.flags & LOCK_AST_LISTED), yesNo(l.flags & LOCK_BAST_LISTED)];
    const pending = bits(PENDING, l.flags).join(" ") || "None";
    lines.push(row(QUEUES[l.list]!, l.node, mode(l.type), mode(l.convert_type), l.cookieText, 1, ast, bast, pending));
  }
  return `${lines.join("\n")}\n`;
}

const QUEUES = ["Granted", "Converting", "Blocked"] as const;

export const dumpMle = (mle: Mle): string =>
  `MLE: ${printableName(mle.name)} ${mle.type} master ${mle.master} new_master ${mle.new_master} inuse ${mle.inuse} refs ${mle.refs} ` +
  `maybe=[${mle.maybe_map}] vote=[${mle.vote_map}] response=[${mle.response_map}] node=[${mle.node_map}]`;

/** Everything; of lock resources those that `filter` wants. */
export function dumpDomain(dlm: Dlm, filter: (res: DlmLockRes) => boolean = () => true): string {
  const { reco } = dlm;
  const lines = [
    `Domain: ${dlm.name}  Key: 0x${dlm.key.toString(16)}  Protocol: ${dlm.dlm_proto.major}.${dlm.dlm_proto.minor}`,
    `Node: ${dlm.node_num}  State: ${CTXT_NAMES[dlm.state]}  Joining Node: ${dlm.joining_node === OWNER_UNKNOWN ? "none" : dlm.joining_node}`,
    `Domain Map: ${dlm.domain_map}  Exit Domain Map: ${dlm.exit_domain_map}  Live Map: ${dlm.live_nodes_map}  Recovery Map: ${dlm.recovery_map}`,
    `Lock Resources: ${dlm.lockres.size}  MLEs: ${dlm.mles.size}  Purge: ${dlm.purge_count}`,
    `Recovery: ${reco.state & RECO_ACTIVE ? "ACTIVE" : "INACTIVE"}  Master: ${reco.new_master}  Dead Node: ${reco.dead_node}  Resources: ${reco.resources.size}`,
    ...[...reco.node_data].map(([node, state]) => `  Recovery Node: ${node} ${state}`),
    ...[...dlm.mles.values()].map(dumpMle),
  ];
  for (const res of dlm.lockres) if (filter(res)) lines.push(dumpLockres(res));
  return `${lines.join("\n")}\n`;
}
