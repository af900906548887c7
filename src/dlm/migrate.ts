/**
 * A resource goes to another master (dlmmaster.c), because this node leaves the domain: its state goes to the target, which tells all
 * others, who take no word on the resource until the target asserts itself; the old master hears it last.
 */
import type { NodeNum } from "../cluster/node.ts";
import type { ViewOf } from "../format/struct.ts";
import { DlmMigrateRequest } from "../format/wire/dlm.ts";
import {
  DLM_ASSERT_MASTER_FINISH_MIGRATION,
  DLM_LOCKID_NAME_MAX,
  DLM_MIGRATE_RESPONSE_MASTERY_REF,
  DLM_MRES_MIGRATION,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { type Task, wait } from "../lib/task.ts";
import { assertMaster } from "./assert_master.ts";
import { releaseAst, reserveAst } from "./ast.ts";
import { type Dlm, isHostDown, NO_NODE, nameAt, putName } from "./dlm.ts";
import { isRecoveryLock, NODE_DEATH_WAIT_MS } from "./lock.ts";
import {
  type DlmLockRes,
  LIST_NONE,
  LOCK_AST_LISTED,
  LOCK_BAST_LISTED,
  RES_BLOCK_DIRTY,
  RES_DIRTY,
  RES_DROPPING_REF,
  RES_MIGRATING,
  RES_MIGRATION_PENDING,
  RES_RECOVERING,
  RES_RECOVERY_WAITING,
} from "./lockres.ts";
import { lvbDrop } from "./lvb.ts";
import { sendOneLockres } from "./mig_lockres.ts";
import { detachMle, endBlock, insertMle, Mle, putMle, unlinkMle, wakeMle } from "./mle.ts";
import { NodeMap } from "./node_map.ts";
import { awaitsRecovery, isNodeDead, waitForNodeDeath } from "./recovery_wait.ts";
import { calcUsage, dirtyLockres } from "./thread.ts";
import { Waiters } from "./waiters.ts";

/** dlm_is_lockres_migratable: ours, without locks of ours, and known to others. */
export function isMigratable(dlm: Dlm, res: DlmLockRes): boolean {
  if (res.state & (RES_MIGRATING | RES_RECOVERING | RES_RECOVERY_WAITING) || res.owner !== dlm.node_num) return false;
  const locks = res.locks();
  if (locks.some((l) => l.node === dlm.node_num)) return false;
  return locks.length > 0 || res.hasRefs;
}

/** dlm_pick_migration_target: who has locks, else who has a reference; nobody who leaves too. */
function pickTarget(dlm: Dlm, res: DlmLockRes): NodeNum {
  const stays = (node: NodeNum): boolean => node !== dlm.node_num && !dlm.exit_domain_map.has(node);
  return res.locks().find((l) => stays(l.node))?.node ?? res.refNodes().find(stays) ?? NO_NODE;
}

/** dlm_empty_lockres: false when there was nothing to migrate, or nobody to migrate it to. */
export function* emptyLockres(dlm: Dlm, res: DlmLockRes): Task<boolean> {
  if (!isMigratable(dlm, res)) return false;
  const target = pickTarget(dlm, res);
  if (target === NO_NODE || dlm.mles.get(res.name)?.type === "migration") return false;
  yield* migrateLockres(dlm, res, target);
  calcUsage(dlm, res);
  return true;
}

/** dlm_migrate_lockres. */
function* migrateLockres(dlm: Dlm, res: DlmLockRes, target: NodeNum): Task<void> {
  addMigrationMle(dlm, res.name, target, dlm.node_num);
  const mle = dlm.mles.get(res.name)!;
  // Otherwise the assertion of the new master takes the last reference.
  mle.refs++;
  mle.inuse++;
  const giveUp = (): void => {
    detachMle(dlm, mle);
    putMle(dlm, mle);
    mle.inuse--;
    putMle(dlm, mle);
    res.state &= ~RES_MIGRATING;
    // Who was told of the migration takes no AST before it knows of the death of the target, as all do when that is recovered.
    // But for the recovery lock, which that needs.
    if (awaitsRecovery(dlm, target) && !isRecoveryLock(res.name)) res.state |= RES_RECOVERY_WAITING;
    dlm.wakeRes(res);
    dirtyLockres(dlm, res);
  };
  if (!(yield* markMigrating(dlm, res, target))) return giveUp();
  // Assertions of ours that were about to go out see that it migrates, and are gone.
  while (res.inflight_assert_workers > 0) yield* dlm.sleepOn((res.extra.wq ??= new Waiters()));
  const err = yield* sendOneLockres(dlm, res, target, DLM_MRES_MIGRATION);
  if (err === -Errno.EINVAL) {
    // It leaves, too, or is just forgetting the resource.
    giveUp();
    yield* waitForNodeDeath(dlm, target, NODE_DEATH_WAIT_MS);
    return;
  }
  // Without an answer it may have told others before its death.
  while (mle.master !== target && res.owner !== target) {
    if (isNodeDead(dlm, target)) return giveUp();
    yield* dlm.sleepOn(mle.wq, 5000);
  }
  res.owner = target;
  res.state &= ~RES_MIGRATING;
  removeNonlocalLocks(dlm, res);
  dlm.wakeRes(res);
  detachMle(dlm, mle);
  mle.inuse--;
  putMle(dlm, mle);
}

/** dlm_mark_lockres_migrating: no AST is under way, and none will be. False: the target is gone. */
function* markMigrating(dlm: Dlm, res: DlmLockRes, target: NodeNum): Task<boolean> {
  assert(!(res.state & (RES_MIGRATION_PENDING | RES_BLOCK_DIRTY)), `${res.name} is migrated twice`);
  res.state |= RES_MIGRATION_PENDING;
  reserveAst(res);
  dirtyLockres(dlm, res);
  res.state |= RES_BLOCK_DIRTY;
  while (res.state & RES_DIRTY) yield* dlm.sleepOn(dlm.ast_wq);
  releaseAst(dlm, res);
  while (!(res.state & RES_MIGRATING) && dlm.domain_map.has(target)) yield* dlm.sleepOn(dlm.migration_wq, 1000);
  const alive = dlm.domain_map.has(target);
  res.state &= ~(RES_BLOCK_DIRTY | RES_MIGRATION_PENDING);
  return alive;
}

/** dlm_remove_nonlocal_locks. */
function removeNonlocalLocks(dlm: Dlm, res: DlmLockRes): void {
  for (const lock of res.locks()) {
    if (lock.node === dlm.node_num) continue;
    assert(!(lock.flags & (LOCK_AST_LISTED | LOCK_BAST_LISTED)), `${res.name}: an AST is left behind`);
    res.remove(lock);
    lvbDrop(lock);
  }
  for (const node of res.refNodes()) res.clearRef(node);
}

/**
 * dlm_add_migration_mle: whoever waits for the name learns that `master` has it. The answer is 0, or MASTERY_REF if this node was
 * asking for the mastery, and so needs a reference with the new master.
 */
function addMigrationMle(dlm: Dlm, name: string, new_master: NodeNum, master: NodeNum): number {
  let answer = 0;
  const old = dlm.mles.get(name);
  if (old !== undefined) {
    assert(old.type !== "migration", `${name} is migrated by two nodes`);
    old.master = master;
    wakeMle(dlm, old);
    unlinkMle(dlm, old);
    detachMle(dlm, old);
    if (old.type === "master") answer = DLM_MIGRATE_RESPONSE_MASTERY_REF;
  }
  const mle = new Mle(dlm, "migration", name);
  mle.new_master = new_master;
  mle.master = master;
  mle.maybe_map.set(new_master);
  insertMle(dlm, mle);
  return answer;
}

/** dlm_migrate_request_handler: from the new master. */
export function migrateRequestHandler(
  dlm: Dlm,
  m: ViewOf<typeof DlmMigrateRequest>,
  payload: Uint8Array,
  from: NodeNum,
): number {
  if (m.namelen > DLM_LOCKID_NAME_MAX) return -Errno.EINVAL;
  // The old master is not asked, and only the new one asks.
  if (m.new_master !== from || m.master === dlm.node_num) return -Errno.EINVAL;
  const name = nameAt(payload, DlmMigrateRequest.fields.name.off, m.namelen);
  // Two nodes migrate it at a time: the kernel stops.
  if (dlm.mles.get(name)?.type === "migration") {
    mlog(ML.ERROR, `${name}: nodes migrate it to ${dlm.mles.get(name)!.new_master} and to ${m.new_master}`);
    return -Errno.EINVAL;
  }
  let res = dlm.lockres.get(name);
  if (res !== undefined && res.state & RES_DROPPING_REF) res = undefined;
  if (res !== undefined && res.state & RES_RECOVERING) {
    mlog(ML.ERROR, `${name}: node ${m.new_master} migrates what recovers`);
    return -Errno.EINVAL;
  }
  // The old master is dead: nobody would end here what it began.
  if (!dlm.domain_map.has(m.master)) return 0;
  if (res !== undefined) res.state |= RES_MIGRATING;
  return addMigrationMle(dlm, name, m.new_master, m.master);
}

/** dlm_do_migrate_request: to all but the old and the new master. Those who are gone are struck off `nodes`. */
function* doMigrateRequest(dlm: Dlm, res: DlmLockRes, master: NodeNum, nodes: NodeMap): Task<number> {
  const m = DlmMigrateRequest.alloc();
  m.namelen = res.name.length;
  putName(m.name, res.name);
  m.new_master = dlm.node_num;
  m.master = master;
  let ret = 0;
  for (const node of nodes.copy()) {
    if (!dlm.domain_map.has(node)) {
      nodes.clear(node);
      continue;
    }
    const { err, status } = yield* wait(dlm.call(DLM_MSG.MIGRATE_REQUEST, m.bytes(), node));
    // Void (`voidMigrations`): what it needs it tells the next master.
    if (dlm.incoming.get(res) !== master) return 0;
    if (err < 0) {
      if (!isHostDown(err)) dlm.die(`${res.name}: MIGRATE_REQUEST failed with ${err}`);
      nodes.clear(node);
    } else if (status < 0) {
      mlog(ML.ERROR, `${res.name}: node ${node} answers MIGRATE_REQUEST with ${status}`);
      ret = status;
    } else if (status === DLM_MIGRATE_RESPONSE_MASTERY_REF) res.setRef(node);
  }
  return ret;
}

/** dlm_finish_migration: at the target, which has the state. */
export function* finishMigration(dlm: Dlm, res: DlmLockRes, old_master: NodeNum): Task<void> {
  const nodes = dlm.domain_map.copy();
  nodes.clear(old_master);
  nodes.clear(dlm.node_num);
  // It has one until it has forgotten the resource.
  res.setRef(old_master);
  const ret = yield* doMigrateRequest(dlm, res, old_master, nodes);
  // The old master died before all were told, as those have noticed who refuse it: see `voidMigrations`.
  if (dlm.incoming.get(res) !== old_master) return;
  if (ret < 0) {
    mlog(ML.ERROR, `${res.name}: the migration from node ${old_master} cannot be finished: ${ret}`);
    return;
  }
  dlm.incoming.delete(res);
  yield* assertMaster(dlm, res, nodes, DLM_ASSERT_MASTER_FINISH_MIGRATION);
  yield* assertMaster(dlm, res, NodeMap.of([old_master]), DLM_ASSERT_MASTER_FINISH_MIGRATION);
  res.owner = dlm.node_num;
  res.state &= ~RES_MIGRATING;
  endBlock(dlm, res.name);
  dirtyLockres(dlm, res);
  calcUsage(dlm, res);
  dlm.wakeRes(res);
}

/**
 * Resources that a node was giving to this one when it died, before all were told: those who were not take the dead node for the master still. So it is
 * recovered, as if nothing had come. (A kernel node keeps it, busy for ever, beside the one that recovers it.)
 */
export function voidMigrations(dlm: Dlm, dead: NodeNum): void {
  for (const [res, from] of dlm.incoming) {
    if (from !== dead) continue;
    dlm.incoming.delete(res);
    removeNonlocalLocks(dlm, res);
    lvbDrop(res);
    res.owner = dead;
    res.state &= ~RES_MIGRATING;
  }
}

/** Whether any lock of ours is left on it. */
export const hasLocalLocks = (dlm: Dlm, res: DlmLockRes): boolean =>
  res.locks().some((l) => l.node === dlm.node_num && l.list !== LIST_NONE);
