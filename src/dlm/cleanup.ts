/**
 * A member died: what this node does by itself, at once, before anybody agrees on anything (dlm_do_local_recovery_cleanup). What the
 * dead mastered is closed until it is recovered; its own locks go; LVBs that it may have changed are void.
 */
import type { NodeNum } from "../cluster/node.ts";
import { LKM_EXMODE, LKM_NLMODE, LKM_PRMODE } from "../format/wire/dlm_constants.ts";
import { assert } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { hearsNoMore, releaseAst } from "./ast.ts";
import { revertPendingConvert } from "./convert.ts";
import { type Dlm, NO_NODE, RECO_FINALIZE } from "./dlm.ts";
import { isRecoveryLock, revertPendingLock } from "./lock.ts";
import {
  type DlmLock,
  type DlmLockRes,
  LIST_BLOCKED,
  LIST_CONVERTING,
  LOCK_AST_LISTED,
  LOCK_BAST_LISTED,
  LOCK_CANCEL_PENDING,
  LOCK_CONVERT_PENDING,
  LOCK_LOCK_PENDING,
  LOCK_UNLOCK_PENDING,
  OWNER_UNKNOWN,
  RES_DROPPING_REF,
  RES_MIGRATING,
  RES_RECOVERING,
  RES_RECOVERY_WAITING,
} from "./lockres.ts";
import { lvbDrop, lvbZero } from "./lvb.ts";
import { voidMigrations } from "./migrate.ts";
import { detachMle, type Mle, notifyMles, putOwed, unlinkMle, wakeMle } from "./mle.ts";
import { kickRecovery } from "./recovery_wait.ts";
import { calcUsage, dirtyLockres, doPurgeLockres } from "./thread.ts";
import { commitPendingCancel, commitPendingUnlock } from "./unlock.ts";

/** __dlm_set_joining_node. */
export function setJoiningNode(dlm: Dlm, node: NodeNum): void {
  dlm.joining_node = node;
  dlm.wake(dlm.join_events);
}

/** __dlm_reset_recovery. */
export function resetRecovery(dlm: Dlm): void {
  dlm.recovery_map.clear(dlm.reco.dead_node);
  forgetGiven(dlm, dlm.reco.dead_node);
  dlm.reco.dead_node = NO_NODE;
  dlm.reco.new_master = NO_NODE;
  kickRecovery(dlm);
}

/** A node is recovered, or has left and heard of all that it gave away: it has none of it any more. */
export function forgetGiven(dlm: Dlm, node: NodeNum): void {
  for (const [res, old] of dlm.reco.given) if (old === node) dlm.reco.given.delete(res);
}

/** __dlm_hb_node_down. */
export function nodeDown(dlm: Dlm, node: NodeNum): void {
  const { reco } = dlm;
  if (reco.new_master === node && reco.state & RECO_FINALIZE) {
    // It told us that it has all it needs, but perhaps not everybody. It has opened nothing before the second message went to all. So
    // the recovery begins anew; the kernel takes it for complete, and those who were not told for open.
    reco.state &= ~RECO_FINALIZE;
    reco.new_master = NO_NODE;
  }
  if (dlm.joining_node === node) setJoiningNode(dlm, OWNER_UNKNOWN);
  if (!dlm.live_nodes_map.has(node)) return;
  dlm.live_nodes_map.clear(node);
  // Not a member: nothing of it is here.
  if (!dlm.domain_map.has(node)) return;
  if (!dlm.recovery_map.has(node)) localCleanup(dlm, node);
  notifyMles(dlm, node, false);
  dlm.domain_map.clear(node);
  hearsNoMore(dlm, node);
  dlm.exit_domain_map.clear(node);
  dlm.wake(dlm.migration_wq);
  dlm.recovery_map.set(node);
  kickRecovery(dlm);
}

function localCleanup(dlm: Dlm, dead: NodeNum): void {
  mlog(ML.DLM_RECOVERY, `${dlm.name}: cleaning up after node ${dead}`);
  cleanMasterList(dlm, dead);
  voidMigrations(dlm, dead);
  for (const res of dlm.lockres) {
    if (isRecoveryLock(res.name)) {
      cleanRecoveryLock(dlm, res, dead);
      continue;
    }
    revalidateLvb(dlm, res, dead);
    if (res.owner === dead) {
      if (res.state & RES_DROPPING_REF) doPurgeLockres(dlm, res);
      else moveToRecoveryList(dlm, res);
    } else if (res.owner === dlm.node_num) {
      freeDeadLocks(dlm, res, dead);
      calcUsage(dlm, res);
    } else if (res.owner === OWNER_UNKNOWN) res.clearRef(dead);
  }
}

function dropLock(dlm: Dlm, res: DlmLockRes, lock: DlmLock): void {
  res.remove(lock);
  for (const listed of [LOCK_AST_LISTED, LOCK_BAST_LISTED])
    if (lock.flags & listed) {
      lock.flags &= ~listed;
      releaseAst(dlm, res);
    }
  lvbDrop(lock);
}

/** Recovery needs it: it is never recovered itself. */
export function cleanRecoveryLock(dlm: Dlm, res: DlmLockRes, dead: NodeNum): void {
  for (const lock of res.locks()) if (lock.node === dead) dropLock(dlm, res, lock);
  // Also of one that will be ours when all have answered its assertion. (The kernel keeps that, and never leaves.)
  res.clearRef(dead);
  if (res.owner === dead && res.state & RES_DROPPING_REF) doPurgeLockres(dlm, res);
  else if (res.owner === dlm.node_num) calcUsage(dlm, res);
}

/**
 * dlm_revalidate_lvb: void if the dead held EX, or, at another master's, if we do not hold it at PR or EX. Nor do we, if we were giving it up when that master died:
 * it may have let us, and somebody have written a newer value since. (The kernel keeps ours.)
 */
function revalidateLvb(dlm: Dlm, res: DlmLockRes, dead: NodeNum): void {
  const master = res.owner === dlm.node_num;
  const whose = master ? dead : dlm.node_num;
  let blank = false;
  for (let q = 0; q < 2; q++)
    for (let lock = q === 0 ? res.granted : res.converting; lock !== null; lock = lock.next) {
      if (lock.node !== whose) continue;
      const given_up = q === 1 && res.owner === dead && lock.convert_type === LKM_NLMODE;
      const held = lock.type === LKM_EXMODE || (!master && lock.type === LKM_PRMODE);
      if (master ? !held : held && !given_up) continue;
      blank = true;
      lvbZero(lock);
    }
  if (blank) lvbZero(res);
}

/** dlm_free_dead_locks: nothing is granted until the dead node is recovered. */
function freeDeadLocks(dlm: Dlm, res: DlmLockRes, dead: NodeNum): void {
  let freed = false;
  for (const lock of res.locks()) {
    if (lock.node !== dead) continue;
    dropLock(dlm, res, lock);
    freed = true;
  }
  if (freed) res.state |= RES_RECOVERY_WAITING;
  res.clearRef(dead);
  dirtyLockres(dlm, res);
}

/**
 * dlm_move_lockres_to_recovery_list. Requests whose answer will not come are put where they belong: a conversion and a new lock are
 * asked for again, an unlock and a cancel count as done; unless another is the master still, perhaps, which has not heard of them: see `commitPending`.
 */
export function moveToRecoveryList(dlm: Dlm, res: DlmLockRes): void {
  res.state |= RES_RECOVERING;
  dlm.reco.resources.delete(res);
  dlm.reco.resources.add(res);
  for (const lock of res.locks()) {
    if (lock.flags & LOCK_CONVERT_PENDING) {
      revertPendingConvert(res, lock);
      lock.flags &= ~(LOCK_CONVERT_PENDING | LOCK_CANCEL_PENDING);
    } else if (lock.flags & LOCK_LOCK_PENDING) {
      assert(lock.list === LIST_BLOCKED, `${res.name}: a new lock is pending, and not blocked`);
      revertPendingLock(res, lock);
      lock.flags &= ~(LOCK_LOCK_PENDING | LOCK_CANCEL_PENDING);
    }
  }
  const old = dlm.reco.given.get(res) ?? NO_NODE;
  if (res.owner !== OWNER_UNKNOWN && !dlm.domain_map.has(old)) commitPending(res);
}

/** What the dead master may have granted others in the place of these has been taken from nobody: they are carried out before the next one hears of the locks. */
export function commitPending(res: DlmLockRes): void {
  for (const lock of res.locks()) {
    if (lock.flags & LOCK_UNLOCK_PENDING) {
      commitPendingUnlock(res, lock);
      lock.flags &= ~LOCK_UNLOCK_PENDING;
    } else if (lock.flags & LOCK_CANCEL_PENDING) {
      if (lock.list === LIST_CONVERTING) commitPendingCancel(res, lock);
      else if (lock.list === LIST_BLOCKED) res.remove(lock);
      lock.flags &= ~LOCK_CANCEL_PENDING;
    }
  }
}

/** It has a master again. Who waits for that is woken by the caller. */
export function takeOffRecoveryList(dlm: Dlm, res: DlmLockRes, owner: NodeNum): void {
  dlm.reco.resources.delete(res);
  dlm.reco.unknown.delete(res);
  dlm.reco.given.delete(res);
  res.state &= ~RES_RECOVERING;
  res.owner = owner;
}

/** dlm_clean_master_list. */
function cleanMasterList(dlm: Dlm, dead: NodeNum): void {
  for (const mle of [...dlm.mles.values()]) {
    // Whoever asks for the mastery notices that the members changed.
    if (mle.type === "master") continue;
    if (mle.type === "block") {
      // Its assertion will never come.
      if (mle.maybe_map.first !== dead) continue;
      wakeMle(dlm, mle);
      detachIfUnused(dlm, mle);
      putOwed(dlm, mle);
      continue;
    }
    if (mle.master !== dead && mle.new_master !== dead) continue;
    // The old master looks after it itself.
    if (mle.new_master === dead && mle.inuse > 0) continue;
    cleanMigrationMle(dlm, mle, dead);
  }
}

/** One that a task waits with must go on hearing of members: it is about to try itself. */
function detachIfUnused(dlm: Dlm, mle: Mle): void {
  if (mle.inuse === 0) detachMle(dlm, mle);
}

/** Who was given it says that it masters what recovers with the old master. Should it die before that has ended, all recover with the old one: some may not have heard it. */
export function heardNewMaster(dlm: Dlm, res: DlmLockRes, owner: NodeNum): void {
  const old = dlm.reco.unknown.get(res);
  takeOffRecoveryList(dlm, res, owner);
  if (old !== undefined && old !== owner) dlm.reco.given.set(res, old);
}

/**
 * The new master is dead, and has not asserted itself here, so nor to the old one, which hears it last and masters the resource still. The old one is dead: who
 * masters it is found out by the recovery master; in the kernel, in both cases, and the old master is told to stop when it says that it does.
 */
function cleanMigrationMle(dlm: Dlm, mle: Mle, dead: NodeNum): void {
  detachMle(dlm, mle);
  unlinkMle(dlm, mle);
  wakeMle(dlm, mle);
  const res = dlm.lockres.get(mle.name);
  if (res !== undefined && !(res.state & RES_DROPPING_REF)) {
    res.state &= ~RES_MIGRATING;
    // The recovery lock is not recovered, but mastered anew.
    if ((mle.master !== dead && dlm.domain_map.has(mle.master)) || isRecoveryLock(mle.name)) {
      res.owner = mle.master;
      dlm.wakeRes(res);
      return;
    }
    res.owner = OWNER_UNKNOWN;
    dlm.reco.unknown.set(res, mle.master);
    moveToRecoveryList(dlm, res);
  }
}
