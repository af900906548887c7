/** What a domain knows, as text (dlmdebug.c): for `ocfs2 debugfs -R dlm_locks`, and for whoever looks for a lost wake-up. */
import { CTXT_NAMES, type Dlm, RECO_ACTIVE } from "./dlm.ts";
import {
  type DlmLockRes,
  LIST_NAMES,
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
  [RES_SETREF_INPROG, "SetrefInprog"],
  [RES_RECOVERY_WAITING, "RecoveryWaiting"],
  [RES_REDIRTY, "Redirty"],
  [RES_ON_PURGE, "Purge"],
  [RES_MIGRATION_PENDING, "MigrationPending"],
];

const PENDING: readonly (readonly [number, string])[] = [
  [LOCK_BUSY, "busy"],
  [LOCK_AST_LISTED, "ast"],
  [LOCK_BAST_LISTED, "bast"],
  [LOCK_CONVERT_PENDING, "convert"],
  [LOCK_LOCK_PENDING, "lock"],
  [LOCK_UNLOCK_PENDING, "unlock"],
  [LOCK_CANCEL_PENDING, "cancel"],
];

const MODES: Readonly<Record<number, string>> = { 0: "NL", 3: "PR", 5: "EX" };
const mode = (type: number): string => MODES[type] ?? "--";
const bits = (table: readonly (readonly [number, string])[], value: number): string =>
  table
    .filter(([bit]) => value & bit)
    .map(([, name]) => name)
    .join(" ");

/** A name as it can be read: a dentry lock's ends with a binary number (ocfs2_print_meta_lockname). */
export function printableName(name: string): string {
  if (name[0] !== "N" || name.length < 26) return name.replace(/[^\x20-\x7e]/g, ".");
  let ino = 0n;
  for (let i = 18; i < 26; i++) ino = (ino << 8n) | BigInt(name.charCodeAt(i));
  return `${name.slice(0, 17)}:${ino.toString(16).padStart(8, "0")}`;
}

export function dumpLockres(res: DlmLockRes): string {
  const owner = res.owner === OWNER_UNKNOWN ? "unknown" : res.owner;
  const lines = [
    `Lockres: ${printableName(res.name)}   Owner: ${owner}   State: 0x${(res.state & 0xffff).toString(16)} ${bits(STATES, res.state)}`.trimEnd(),
    `Last Used: ${res.last_used}   ASTs Reserved: ${res.asts_reserved}   Inflight: ${res.inflight_locks}   Refmap: ${res.refNodes().join(" ") || "none"}`,
  ];
  if (!lvbIsEmpty(res)) lines.push(`LVB: ${Buffer.from(lvbOf(res)).toString("hex")}`);
  LIST_NAMES.forEach((name, list) => {
    for (let l = res.head(list); l !== null; l = l.next)
      lines.push(
        `  ${name.padEnd(10)}  Node ${l.node}  Level ${mode(l.type)}  Conv ${mode(l.convert_type)}  Blocked ${mode(l.highest_blocked)}  Cookie ${l.cookieText}  ${bits(PENDING, l.flags)}`.trimEnd(),
      );
  });
  return lines.join("\n");
}

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
