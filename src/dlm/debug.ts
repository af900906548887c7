/**
 * What a domain knows, as text (dlmdebug.c). `lockingState` is what the kernel shows in debugfs as o2dlm/DOMAIN/locking_state, byte for byte:
 * `ocfs2 debugfs -R dlm_locks` prints it, and so does debugfs.ocfs2 of a copy. `dumpDomain` is for whoever looks for a lost wake-up.
 */
import { printableLockName } from "../format/wire/lock_name.ts";
import { textOfName } from "../lib/byte_name.ts";
import { CTXT_NAMES, type Dlm, RECO_ACTIVE } from "./dlm.ts";
import {
  type DlmLock,
  type DlmLockRes,
  LOCK_AST_LISTED,
  LOCK_BAST_LISTED,
  LOCK_CANCEL_PENDING,
  LOCK_CONVERT_PENDING,
  LOCK_LOCK_PENDING,
  LOCK_UNLOCK_PENDING,
  OWNER_UNKNOWN,
  RES_DIRTY,
  RES_MIGRATION_PENDING,
  RES_ON_PURGE,
  RES_RECOVERING,
} from "./lockres.ts";
import { lvbIsEmpty, lvbOf } from "./lvb.ts";
import type { Mle } from "./mle.ts";

const DEBUG_LRES_VERSION = 1;
const DEBUG_LOCK_VERSION = 1;
/** Bits of `state` that the kernel has, too. */
const KERNEL_STATE = 0x7fff;
const NO_LVB = "00".repeat(64);

const bit = (value: number, mask: number): number => (value & mask ? 1 : 0);

function lockLine(l: DlmLock): string {
  const { flags } = l;
  // ast_pending and bast_pending are of an AST that is being sent; here it is listed until it has been.
  const bits = [
    ...[bit(flags, LOCK_AST_LISTED), bit(flags, LOCK_BAST_LISTED), 0, 0, bit(flags, LOCK_CONVERT_PENDING)],
    ...[bit(flags, LOCK_LOCK_PENDING), bit(flags, LOCK_CANCEL_PENDING), bit(flags, LOCK_UNLOCK_PENDING)],
  ];
  const refs = 1;
  return `LOCK:${[DEBUG_LOCK_VERSION, l.list, l.type, l.convert_type, l.node, l.cookieText, ...bits, refs].join(",")}\n`;
}

function lockresText(res: DlmLockRes): string {
  const locks = res.locks();
  // Those that matter: the table's and the locks'.
  const refs = locks.length + 1;
  const lres = [
    ...[DEBUG_LRES_VERSION, res.owner, res.state & KERNEL_STATE, res.last_used],
    ...[bit(res.state, RES_ON_PURGE), bit(res.state, RES_DIRTY), bit(res.state, RES_RECOVERING)],
    ...[res.inflight_locks, bit(res.state, RES_MIGRATION_PENDING), res.asts_reserved, refs],
  ];
  const lvb = lvbIsEmpty(res) ? NO_LVB : Buffer.from(lvbOf(res)).toString("hex");
  const refmap = res.refNodes().map((n) => `${n} `);
  return `NAME:${printableLockName(res.name)}\nLRES:${lres}\nRMAP:${refmap.join("")}\nLVBX:${lvb}\n${locks.map(lockLine).join("")}\n`;
}

/** Of resources whose printable name `filter` wants. */
export function* lockingState(dlm: Dlm, filter: (name: string) => boolean = () => true): Generator<string> {
  for (const res of dlm.lockres) if (filter(printableLockName(res.name))) yield lockresText(res);
}

const dumpMle = (mle: Mle): string =>
  `MLE: ${printableLockName(mle.name)} ${mle.type} master ${mle.master} new_master ${mle.new_master} inuse ${mle.inuse} refs ${mle.refs} ` +
  `maybe=[${mle.maybe_map}] vote=[${mle.vote_map}] response=[${mle.response_map}] node=[${mle.node_map}]`;

/** Everything (debug_state_print, and what else there is). */
export function dumpDomain(dlm: Dlm): string {
  const { reco } = dlm;
  const lines = [
    `Domain: ${dlm.name}  Key: 0x${dlm.key.toString(16)}  Protocol: ${dlm.dlm_proto.major}.${dlm.dlm_proto.minor}`,
    `Node: ${dlm.node_num}  State: ${CTXT_NAMES[dlm.state]}  Joining Node: ${dlm.joining_node === OWNER_UNKNOWN ? "none" : dlm.joining_node}`,
    `Domain Map: ${dlm.domain_map}  Exit Domain Map: ${dlm.exit_domain_map}  Live Map: ${dlm.live_nodes_map}  Recovery Map: ${dlm.recovery_map}`,
    `Lock Resources: ${dlm.lockres.size}  MLEs: ${dlm.mles.size}  Purge: ${dlm.purge_count}`,
    `Recovery: ${reco.state & RECO_ACTIVE ? "ACTIVE" : "INACTIVE"}  Master: ${reco.new_master}  Dead Node: ${reco.dead_node}  Resources: ${reco.resources.size}`,
    ...[...reco.node_data].map(([node, state]) => `  Recovery Node: ${node} ${state}`),
    ...[...dlm.mles.values()].map(dumpMle),
    ...lockingState(dlm),
  ];
  return `${lines.join("\n")}\n`;
}

/** The same in short, for reports. */
export function domainSummary(dlm: Dlm): Record<string, unknown> {
  const { reco } = dlm;
  return {
    name: textOfName(dlm.name),
    state: CTXT_NAMES[dlm.state],
    protocol: `${dlm.dlm_proto.major}.${dlm.dlm_proto.minor}`,
    nodes: [...dlm.domain_map],
    locks: dlm.lockres.size,
    sent: dlm.sentByName(),
    recovering: reco.state & RECO_ACTIVE ? reco.dead_node : null,
  };
}
