/**
 * "I am the master" (ASSERT_MASTER): ends the wait of every node that asked or was asked. A negative answer tells the one who asserts
 * that the cluster is torn, and stops a kernel node: it is given only where the kernel gives it.
 */
import type { NodeNum } from "../cluster/node.ts";
import type { ViewOf } from "../format/struct.ts";
import { DlmAssertMaster } from "../format/wire/dlm.ts";
import {
  DLM_ASSERT_MASTER_FINISH_MIGRATION,
  DLM_ASSERT_MASTER_MLE_CLEANUP,
  DLM_ASSERT_MASTER_REQUERY,
  DLM_ASSERT_RESPONSE_MASTERY_REF,
  DLM_ASSERT_RESPONSE_REASSERT,
  DLM_LOCKID_NAME_MAX,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { Errno } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { type Task, wait } from "../lib/task.ts";
import { releaseAst, reserveAst } from "./ast.ts";
import { heardNewMaster } from "./cleanup.ts";
import { type Answer, type Dlm, isHostDown, nameAt, putName } from "./dlm.ts";
import { isRecoveryLock } from "./lock.ts";
import {
  type DlmLockRes,
  OWNER_UNKNOWN,
  RES_DROPPING_REF,
  RES_IN_PROGRESS,
  RES_MIGRATING,
  RES_RECOVERING,
  RES_SETREF_INPROG,
} from "./lockres.ts";
import { waitOnLockres } from "./master.ts";
import { detachMle, putOwed, unlinkMle, wakeMle } from "./mle.ts";
import type { NodeMap } from "./node_map.ts";
import { isNodeDead } from "./recovery_wait.ts";
import { calcUsage } from "./thread.ts";

/** dlm_do_assert_master: to all of `nodes` at once, and again while one of them has blocked others meanwhile. */
export function* assertMaster(dlm: Dlm, res: DlmLockRes, nodes: NodeMap, flags: number): Task<void> {
  const to = [...nodes];
  if (to.length === 0) return;
  res.extra.setrefs++;
  res.state |= RES_SETREF_INPROG;
  const m = DlmAssertMaster.alloc();
  m.node_idx = dlm.node_num;
  m.namelen = res.name.length;
  putName(m.name, res.name);
  m.flags = flags;
  for (let again = true; again; ) {
    again = false;
    const answers = yield* wait<Answer[]>((cb) => {
      const got: Answer[] = [];
      let left = to.length;
      to.forEach((node, i) => {
        dlm.send(DLM_MSG.ASSERT_MASTER, m.bytes(), node, (err, status) => {
          got[i] = { err, status };
          // At once: what we know of the node's reference must not be late.
          if (err >= 0 && status >= 0 && status & DLM_ASSERT_RESPONSE_MASTERY_REF) res.setRef(node);
          if (--left === 0) cb(null, got);
        });
      });
    });
    answers.forEach(({ err, status }, i) => {
      if (err < 0) {
        mlog(ML.DLM_MASTER, `${res.name}: ASSERT_MASTER to node ${to[i]}: error ${err}`);
        if (!isHostDown(err)) dlm.die(`${res.name}: ASSERT_MASTER failed with ${err}`);
      } else if (status < 0) dlm.die(`${res.name}: node ${to[i]} answers our mastery with ${status}`);
      else if (status & DLM_ASSERT_RESPONSE_REASSERT) again = true;
    });
  }
  if (--res.extra.setrefs === 0) res.state &= ~RES_SETREF_INPROG;
  dlm.wakeRes(res);
}

/**
 * dlm_dispatch_assert_master: asserts to all members but `skip`, who knows it from the answer to its request. Not in the handler, and
 * not one after the other: each resource has its own task.
 */
export function dispatchAssertMaster(dlm: Dlm, res: DlmLockRes, flags: number, skip: NodeNum = OWNER_UNKNOWN): void {
  res.extra.inflight_assert_workers++;
  dlm.background(function* () {
    // Others would take an assertion in the middle of a recovery for that of one who knows nothing of it.
    if (!(flags & DLM_ASSERT_MASTER_REQUERY)) yield* waitOnLockres(dlm, res, RES_RECOVERING);
    const nodes = dlm.domain_map.copy();
    nodes.clear(dlm.node_num);
    nodes.clear(skip);
    // The new master will do it.
    if (!(res.state & RES_MIGRATING) && !nodes.empty) {
      reserveAst(res);
      yield* assertMaster(dlm, res, nodes, flags);
      releaseAst(dlm, res);
    }
    res.extra.inflight_assert_workers--;
    dlm.wakeRes(res);
    calcUsage(dlm, res);
  });
}

/** The first assertion of a resource that was just mastered. It does not go, nor to another node, before all have answered. */
export function assertFirst(dlm: Dlm, res: DlmLockRes, nodes: NodeMap): void {
  res.extra.inflight_assert_workers++;
  reserveAst(res);
  dlm.background(function* () {
    yield* assertMaster(dlm, res, nodes, 0);
    releaseAst(dlm, res);
    res.extra.inflight_assert_workers--;
    dlm.wakeRes(res);
    calcUsage(dlm, res);
  });
}

/** dlm_assert_master_handler. */
export function assertMasterHandler(dlm: Dlm, m: ViewOf<typeof DlmAssertMaster>, payload: Uint8Array): number {
  if (m.namelen > DLM_LOCKID_NAME_MAX) return 0;
  const name = nameAt(payload, DlmAssertMaster.fields.name.off, m.namelen);
  const { node_idx: from, flags } = m;
  const mle = dlm.mles.get(name);
  // An assertion that has nothing to do with the migration that is going on.
  if (mle?.type === "migration" && !(flags & (DLM_ASSERT_MASTER_MLE_CLEANUP | DLM_ASSERT_MASTER_FINISH_MIGRATION)))
    return 0;
  let res = dlm.lockres.get(name);
  if (res !== undefined && res.state & RES_DROPPING_REF) res = undefined;

  const kill = (why: string): number => {
    mlog(ML.ERROR, `${name}: node ${from} asserts its mastery, but ${why}. Telling it to stop; this node is well.`);
    return -Errno.EINVAL;
  };
  if (res !== undefined) {
    if (res.state & RES_RECOVERING) {
      // One of two masters in a migration died, and the other says that it has it. A kernel node tells it to stop.
      const open = res.owner === OWNER_UNKNOWN || dlm.reco.given.get(res) === from;
      if (!open || !(flags & (DLM_ASSERT_MASTER_REQUERY | DLM_ASSERT_MASTER_FINISH_MIGRATION)))
        return kill("the resource recovers");
      heardNewMaster(dlm, res, from);
      dlm.wakeRes(res);
      return DLM_ASSERT_RESPONSE_MASTERY_REF;
    }
    // A dead one masters the recovery lock until that is asked for again; its death may not be known here yet. A node that has a lock there is waited for (`preMasterReco`).
    const gone =
      isRecoveryLock(name) && res.owner !== dlm.node_num && (isNodeDead(dlm, res.owner) || res.granted === null);
    const known = res.owner !== OWNER_UNKNOWN && res.owner !== from && !gone;
    // Without an entry the kernel takes itself for the torn one and stops.
    if (mle === undefined) {
      if (known) return kill(`its master is node ${res.owner}`);
    } else if (mle.type === "migration") {
      if (from !== mle.new_master) return kill(`it goes from node ${mle.master} to ${mle.new_master}`);
    } else if (known) return kill(`its master is node ${res.owner}`);
    else if (res.owner === OWNER_UNKNOWN && !(res.state & RES_IN_PROGRESS))
      return kill("nobody here looks for a master");
  }
  if (mle === undefined) return 0;

  let answer = 0;
  if (mle.type === "master") {
    for (const node of mle.response_map)
      if (node !== dlm.node_num && node !== from) {
        answer |= DLM_ASSERT_RESPONSE_REASSERT;
        break;
      }
  }
  const old = mle.master;
  mle.master = from;
  wakeMle(dlm, mle);
  if (res !== undefined) {
    if (mle.type === "migration") {
      res.state &= ~RES_MIGRATING;
      res.owner = mle.new_master;
      if (old !== dlm.node_num) dlm.reco.given.set(res, old);
      dlm.wakeRes(res);
    } else res.owner = from;
    answer |= DLM_ASSERT_RESPONSE_MASTERY_REF;
  }
  unlinkMle(dlm, mle);
  detachMle(dlm, mle);
  putOwed(dlm, mle);
  return answer;
}
