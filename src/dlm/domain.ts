/**
 * Joining and leaving a domain (dlmdomain.c). All live nodes are asked; those that are members take part in every decision from
 * ASSERT_JOINED on. Whoever leaves gives the resources that it masters to others first.
 */
import type { NodeNum } from "../cluster/node.ts";
import type { ViewOf } from "../format/struct.ts";
import {
  DlmAssertJoined,
  DlmCancelJoin,
  DlmExitDomain,
  DlmQueryJoinPacket,
  DlmQueryJoinRequest,
  DlmQueryNodeinfo,
  DlmQueryRegion,
} from "../format/wire/dlm.ts";
import {
  DLM_MASTER_RESP_ERROR,
  DLM_STATUS,
  JOIN_DISALLOW,
  JOIN_OK,
  JOIN_OK_NO_MAP,
  JOIN_PROTOCOL_MISMATCH,
  O2NM_MAX_NAME_LEN,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG, type DlmMessage } from "../format/wire/dlm_messages.ts";
import { printableLockName } from "../format/wire/lock_name.ts";
import { isByteName } from "../lib/byte_name.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { all, asThunk, type Task, type Thunk, wait } from "../lib/task.ts";
import { assertMasterHandler } from "./assert_master.ts";
import { hearsNoMore, proxyAstHandler } from "./ast.ts";
import { forgetGiven, nodeDown, setJoiningNode } from "./cleanup.ts";
import { convertLockHandler } from "./convert.ts";
import { derefLockresDoneHandler, derefLockresHandler } from "./deref.ts";
import {
  DLM_CTXT_IN_SHUTDOWN,
  DLM_CTXT_JOINED,
  DLM_CTXT_LEAVING,
  Dlm,
  ENOPROTOOPT,
  ENOTCONN,
  isHostDown,
  type ProtocolVersion,
  putName,
  RECO_ACTIVE,
} from "./dlm.ts";
import { createLockHandler, isRecoveryLock } from "./lock.ts";
import { OWNER_UNKNOWN } from "./lockres.ts";
import { masterRequeryHandler, masterRequestHandler } from "./master.ts";
import { migLockresHandler } from "./mig_lockres.ts";
import { emptyLockres, hasLocalLocks, isMigratable, migrateRequestHandler } from "./migrate.ts";
import { notifyMles } from "./mle.ts";
import type { DlmNode } from "./node.ts";
import { NodeMap } from "./node_map.ts";
import {
  beginRecoHandler,
  finalizeRecoHandler,
  lockRequestHandler,
  recoDataDoneHandler,
  recoveryThread,
} from "./recovery.ts";
import { unlockLockHandler } from "./unlock.ts";

/** 1.1: QUERY_REGION, QUERY_NODEINFO. 1.2: BEGIN_EXIT_DOMAIN. 1.3: DEREF_LOCKRES_DONE. */
export const DLM_PROTOCOL: ProtocolVersion = { major: 1, minor: 3 };
const BACKOFF_MS = 200;
/** Resources that are given away at a time. */
const MIGRATIONS = 256;
/** So long without a purge: something else has to be done first. */
const STUCK_MS = 500;
const JOIN_TIMEOUT_MS = 90_000;
/** Order among those that hear of nodes: o2dlm's. */
const HB_PRI = 0x8000000;

/** The key of a domain's messages: crc32_le(0, name), the usual polynomial without inversion. */
export function domainKey(name: string): number {
  let crc = 0;
  for (let i = 0; i < name.length; i++) {
    crc ^= name.charCodeAt(i);
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return crc >>> 0;
}

/**
 * dlm_register_domain: joins. `done` hears 0, at once if this node is alone, or a negative errno; then the domain is gone. The protocol
 * that was agreed on stands in `fs_proto` and `dlm_proto`.
 */
export function joinDomain(
  node: DlmNode,
  name: string,
  fs_proto: ProtocolVersion,
  done: (err: number, dlm: Dlm) => void,
  dlm_proto: ProtocolVersion = DLM_PROTOCOL,
): Dlm {
  assert(name.length < O2NM_MAX_NAME_LEN && name !== "" && isByteName(name), `domain name ${name}`);
  assert(!node.domains.has(name), `domain ${name} is joined twice`);
  const dlm = new Dlm(node, name, domainKey(name), fs_proto, dlm_proto);
  node.domains.set(name, dlm);
  registerHandlers(dlm);
  dlm.atEnd(
    node.hb.onNodes({
      priority: HB_PRI,
      up: (n) => dlm.live_nodes_map.set(n),
      down: (n) => {
        dlm.enter();
        if (dlm.domain_map.has(n)) dlm.onEviction(n);
        nodeDown(dlm, n);
        dlm.exit();
      },
    }),
  );
  dlm.spawn(join(dlm), (err) => {
    if (err < 0) dlm.shutdown();
    else dlm.spawn(recoveryThread(dlm));
    done(err, dlm);
  });
  return dlm;
}

/** What an outcast hears neither stops it, if it is a kernel node, nor lets it go on with what it asks for: it asks again until it is fenced. */
function registerHandlers(dlm: Dlm): void {
  const { RECOVERING, IVLOCKID } = DLM_STATUS;
  dlm.register(DLM_MSG.MASTER_REQUEST, DLM_MASTER_RESP_ERROR, (m, p) => masterRequestHandler(dlm, m, p));
  dlm.register(DLM_MSG.ASSERT_MASTER, 0, (m, p) => assertMasterHandler(dlm, m, p));
  dlm.register(DLM_MSG.CREATE_LOCK, RECOVERING, (m, p) => createLockHandler(dlm, m, p));
  dlm.register(DLM_MSG.CONVERT_LOCK, RECOVERING, (m, p) => convertLockHandler(dlm, m, p));
  dlm.register(DLM_MSG.UNLOCK_LOCK, RECOVERING, (m, p) => unlockLockHandler(dlm, m, p));
  dlm.register(DLM_MSG.PROXY_AST, IVLOCKID, (m, p) => proxyAstHandler(dlm, m, p));
  dlm.register(DLM_MSG.EXIT_DOMAIN, 0, (m) => exitDomainHandler(dlm, m));
  dlm.register(DLM_MSG.DEREF_LOCKRES, 0, (m, p) => derefLockresHandler(dlm, m, p));
  dlm.register(DLM_MSG.MIGRATE_REQUEST, -Errno.EINVAL, (m, p, from) => migrateRequestHandler(dlm, m, p, from));
  dlm.register(DLM_MSG.MIG_LOCKRES, -Errno.EINVAL, (m, p, from) => migLockresHandler(dlm, m, p, from));
  dlm.register(DLM_MSG.MASTER_REQUERY, OWNER_UNKNOWN, (m, p) => masterRequeryHandler(dlm, m, p));
  dlm.register(DLM_MSG.LOCK_REQUEST, -Errno.EINVAL, (m) => lockRequestHandler(dlm, m));
  dlm.register(DLM_MSG.RECO_DATA_DONE, -Errno.EINVAL, (m) => recoDataDoneHandler(dlm, m));
  dlm.register(DLM_MSG.BEGIN_RECO, -Errno.EINVAL, (m) => beginRecoHandler(dlm, m));
  dlm.register(DLM_MSG.FINALIZE_RECO, -Errno.EINVAL, (m) => finalizeRecoHandler(dlm, m));
  dlm.register(DLM_MSG.BEGIN_EXIT_DOMAIN, 0, (m) => beginExitDomainHandler(dlm, m));
  dlm.register(DLM_MSG.DEREF_LOCKRES_DONE, 0, (m, p) => derefLockresDoneHandler(dlm, m, p));
}

// Joining --------------------------------------------------------------------------------------------------------------

/** dlm_join_domain: as often as another node joins at the same time, or does not see us yet. */
function* join(dlm: Dlm): Task<number> {
  // Who asks before it can be asked is alone in the domain, and so is one that does the same at that moment: both write.
  yield* dlm.registered();
  const end = dlm.node.clock.monotonic_ms() + JOIN_TIMEOUT_MS;
  for (;;) {
    const err = yield* tryToJoin(dlm);
    if (err !== -Errno.EAGAIN) return err;
    if (dlm.node.clock.monotonic_ms() > end) {
      mlog(ML.NOTICE, `timed out joining dlm domain ${dlm.name} after ${JOIN_TIMEOUT_MS} ms`);
      dlm.join_refusal = `another node did not let us in for ${JOIN_TIMEOUT_MS / 1000} s: it recovers, or others join and leave`;
      return -ETIMEDOUT;
    }
    yield* dlm.sleep(((dlm.node.random.u32() >>> 7) & 3) * BACKOFF_MS || BACKOFF_MS / 4);
  }
}
const ETIMEDOUT = 110;

/** dlm_try_to_join_domain. */
function* tryToJoin(dlm: Dlm): Task<number> {
  const live = NodeMap.of(dlm.node.hb.liveNodes());
  dlm.live_nodes_map.copyFrom(live);
  setJoiningNode(dlm, dlm.node_num);
  const yes = new NodeMap();
  const err = yield* askToJoin(dlm, live, yes);
  if (err === 0) {
    yield* sendJoinAsserts(dlm, yes);
    // Before joining_node: otherwise one that asks now would be told that we are not in the domain.
    dlm.state = DLM_CTXT_JOINED;
    mlog(ML.DLM_DOMAIN, `o2dlm: joining domain ${dlm.name} (${dlm.domain_map})`);
  }
  setJoiningNode(dlm, OWNER_UNKNOWN);
  if (err < 0) {
    dlm.domain_map.zero();
    // Who died meanwhile is recovered by the members, and may be one again when we are. (The kernel keeps it, and has it recovered alive.)
    dlm.recovery_map.zero();
    const cancel = joinMessage(DlmCancelJoin, dlm);
    for (const node of yes) yield* wait(dlm.call(DLM_MSG.CANCEL_JOIN, cancel, node));
  }
  return err;
}

function* askToJoin(dlm: Dlm, live: NodeMap, yes: NodeMap): Task<number> {
  for (const node of live) {
    if (node === dlm.node_num) continue;
    const code = yield* requestJoin(dlm, node);
    if (code < 0) return code;
    if (code === JOIN_OK) yes.set(node);
    if (code === JOIN_DISALLOW || !live.equals(dlm.live_nodes_map)) return -Errno.EAGAIN;
  }
  dlm.domain_map.copyFrom(yes);
  dlm.domain_map.set(dlm.node_num);
  if (dlm.dlm_proto.minor === 0) return 0;
  const err = yield* sendToAll(dlm, yes, DLM_MSG.QUERY_NODEINFO, nodeinfo(dlm));
  return err < 0 ? err : yield* sendToAll(dlm, yes, DLM_MSG.QUERY_REGION, regions(dlm));
}

/** dlm_request_join: a JOIN_* code, or a negative errno. */
function* requestJoin(dlm: Dlm, node: NodeNum): Task<number> {
  const q = DlmQueryJoinRequest.alloc();
  q.node_idx = dlm.node_num;
  q.name_len = dlm.name.length;
  putName(q.domain, dlm.name);
  q.dlm_proto_major = dlm.dlm_proto.major;
  q.dlm_proto_minor = dlm.dlm_proto.minor;
  q.fs_proto_major = dlm.fs_proto.major;
  q.fs_proto_minor = dlm.fs_proto.minor;
  q.node_map = dlm.live_nodes_map.bytes;
  const { err, status } = yield* wait(dlm.call(DLM_MSG.QUERY_JOIN, q.bytes(), node));
  // It has no o2dlm.
  if (err === -ENOPROTOOPT) return JOIN_OK_NO_MAP;
  // Not connected, yet or any more: its heartbeat tells which.
  if (err < 0) return isHostDown(err) ? -Errno.EAGAIN : err;
  const packet = DlmQueryJoinPacket.alloc();
  packet.dv.setInt32(0, status);
  switch (packet.code) {
    case JOIN_DISALLOW:
    case JOIN_OK_NO_MAP:
      return packet.code;
    case JOIN_OK:
      dlm.dlm_proto.minor = packet.dlm_minor;
      dlm.fs_proto.minor = packet.fs_minor;
      return JOIN_OK;
    case JOIN_PROTOCOL_MISMATCH:
      mlog(ML.NOTICE, `domain ${dlm.name}: node ${node} speaks another version of the locking protocol`);
      dlm.join_refusal = `node ${node} speaks another version of the lock protocol`;
      return -Errno.EPROTO;
    default:
      mlog(ML.ERROR, `node ${node} answers QUERY_JOIN with ${status}`);
      return -Errno.EINVAL;
  }
}

function joinMessage(struct: typeof DlmAssertJoined | typeof DlmCancelJoin, dlm: Dlm): Uint8Array {
  const m = struct.alloc();
  m.node_idx = dlm.node_num;
  m.name_len = dlm.name.length;
  putName(m.domain, dlm.name);
  return m.bytes();
}

function nodeinfo(dlm: Dlm): Uint8Array {
  const m = DlmQueryNodeinfo.alloc();
  const nodes = [...dlm.node.nodes()].sort((a, b) => a.num - b.num);
  m.qn_nodenum = dlm.node_num;
  m.qn_numnodes = nodes.length;
  m.qn_namelen = dlm.name.length;
  putName(m.qn_domain, dlm.name);
  nodes.forEach((n, i) => {
    const ni = m.qn_nodes.at(i);
    ni.ni_nodenum = n.num;
    ni.ni_ipv4_port = n.ipv4_port;
    ni.ni_ipv4_address = n.ipv4_address;
  });
  return m.bytes();
}

function regions(dlm: Dlm): Uint8Array {
  const m = DlmQueryRegion.alloc();
  const names = dlm.node.regions();
  m.qr_node = dlm.node_num;
  m.qr_numregions = names.length;
  m.qr_namelen = dlm.name.length;
  putName(m.qr_domain, dlm.name);
  names.forEach((name, i) => {
    putName(m.qr_regions.subarray(i * 32), name);
  });
  return m.bytes();
}

/** The first answer that is not 0, as an errno. */
function* sendToAll(dlm: Dlm, nodes: NodeMap, msg: DlmMessage, payload: Uint8Array): Task<number> {
  for (const node of nodes) {
    const { err, status } = yield* wait(dlm.call(msg, payload, node));
    if (err < 0) return isHostDown(err) ? -Errno.EAGAIN : err;
    // It died, and is back without what it knew of us.
    if (!dlm.domain_map.has(node)) return -Errno.EAGAIN;
    if (status !== 0) {
      mlog(ML.ERROR, `domain ${dlm.name}: ${msg.name} does not match, node ${node} answers ${status}`);
      dlm.join_refusal = `node ${node} has ${msg === DLM_MSG.QUERY_REGION ? "other heartbeat regions" : "other nodes, addresses or ports in its cluster.conf"}: make them the same on all nodes, "ocfs2 cluster register-cluster" reads the file again; the log of node ${node} says what differs`;
      return status < 0 ? status : -Errno.EINVAL;
    }
  }
  return 0;
}

/** dlm_send_join_asserts: each gets it, or dies. */
function* sendJoinAsserts(dlm: Dlm, nodes: NodeMap): Task<void> {
  const payload = joinMessage(DlmAssertJoined, dlm);
  for (const node of nodes) {
    for (;;) {
      const { err, status } = yield* wait(dlm.call(DLM_MSG.ASSERT_JOINED, payload, node));
      if ((err >= 0 && status === 0) || !dlm.domain_map.has(node)) break;
      mlog(ML.DLM_DOMAIN, `domain ${dlm.name}: node ${node} does not take our joining: ${err} ${status}`);
      yield* dlm.sleep(BACKOFF_MS);
    }
  }
}

// Leaving --------------------------------------------------------------------------------------------------------------

/** dlm_unregister_domain; all locks must have been dropped. `done` when this node is no member any more. */
export function leaveDomain(dlm: Dlm, done: () => void): void {
  assert(dlm.state === DLM_CTXT_JOINED, `domain ${dlm.name} is left, but not joined`);
  dlm.state = DLM_CTXT_IN_SHUTDOWN;
  dlm.purge_due = true;
  dlm.spawn(leave(dlm), () => {
    dlm.shutdown();
    done();
  });
}

function* leave(dlm: Dlm): Task<void> {
  if (dlm.dlm_proto.minor >= 2)
    for (const node of dlm.domain_map.copy())
      if (node !== dlm.node_num) yield* wait(dlm.call(DLM_MSG.BEGIN_EXIT_DOMAIN, exitMessage(dlm), node));
  let told = false;
  while (!(yield* migrateAllLocks(dlm))) {
    const held: string | undefined = told ? undefined : heldByUs(dlm);
    if (held !== undefined)
      mlog(ML.ERROR, `domain ${dlm.name} is left, but ${printableLockName(held)} is held: waiting`);
    told ||= held !== undefined;
    dlm.purge_due = true;
    yield* purged(dlm);
    yield* dlm.sleep(20);
  }
  while (dlm.joining_node !== OWNER_UNKNOWN) yield* dlm.sleepOn(dlm.join_events);
  dlm.state = DLM_CTXT_LEAVING;
  dlm.domain_map.clear(dlm.node_num);
  for (const node of dlm.domain_map.copy()) {
    while (dlm.domain_map.has(node)) {
      const { err } = yield* wait(dlm.call(DLM_MSG.EXIT_DOMAIN, exitMessage(dlm), node));
      if (err >= 0 || err === -ENOPROTOOPT || err === -ENOTCONN) dlm.domain_map.clear(node);
      else yield* dlm.sleep(BACKOFF_MS);
    }
  }
  mlog(ML.DLM_DOMAIN, `o2dlm: leaving domain ${dlm.name}`);
}

/** Until nothing is to be purged, or that gets no further: to look through a million resources again for each batch would cost more. */
function* purged(dlm: Dlm): Task<void> {
  while (dlm.purge_count + dlm.derefs_in_flight > 0) {
    const before = dlm.lockres.size;
    yield* dlm.sleepOn(dlm.purge_wq, STUCK_MS);
    if (dlm.lockres.size === before) return;
  }
}

function exitMessage(dlm: Dlm): Uint8Array {
  const m = DlmExitDomain.alloc();
  m.node_idx = dlm.node_num;
  return m.bytes();
}

/** A lock that keeps us from leaving: it had to be dropped before. */
function heldByUs(dlm: Dlm): string | undefined {
  for (const res of dlm.lockres) if (!isRecoveryLock(res.name) && hasLocalLocks(dlm, res)) return res.name;
  return undefined;
}

/** dlm_migrate_all_locks: true when no resource is left, and no recovery can bring one. */
function* migrateAllLocks(dlm: Dlm): Task<boolean> {
  // Several at a time: each takes some messages, and there may be a hundred thousand. What needs none costs no turn.
  let some: Thunk<boolean>[] = [];
  for (const res of [...dlm.lockres]) {
    if (!isMigratable(dlm, res)) continue;
    some.push(asThunk(() => emptyLockres(dlm, res)));
    if (some.length < MIGRATIONS) continue;
    yield* all(some);
    some = [];
  }
  yield* all(some);
  if (dlm.lockres.size > 0 || dlm.reco.state & RECO_ACTIVE) return false;
  dlm.migrate_done = true;
  return true;
}

/** dlm_begin_exit_domain_handler: nothing is migrated to it any more. */
function beginExitDomainHandler(dlm: Dlm, m: ViewOf<typeof DlmExitDomain>): number {
  dlm.exit_domain_map.set(m.node_idx);
  return 0;
}

/** dlm_exit_domain_handler. */
function exitDomainHandler(dlm: Dlm, m: ViewOf<typeof DlmExitDomain>): number {
  const node = m.node_idx;
  dlm.domain_map.clear(node);
  dlm.exit_domain_map.clear(node);
  hearsNoMore(dlm, node);
  forgetGiven(dlm, node);
  mlog(ML.DLM_DOMAIN, `o2dlm: node ${node} leaves domain ${dlm.name} (${dlm.domain_map})`);
  notifyMles(dlm, node, false);
  dlm.wake(dlm.migration_wq);
  return 0;
}
