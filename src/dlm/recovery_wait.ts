/** What requests wait for when nodes die. */
import type { NodeNum } from "../cluster/node.ts";
import type { Task } from "../lib/task.ts";
import { type Dlm, RECO_ACTIVE, RECO_FINALIZE } from "./dlm.ts";

/** dlm_wait_for_recovery: until every resource that a dead node mastered has been marked. */
export function* waitForRecovery(dlm: Dlm): Task<void> {
  while (dlm.reco.state & RECO_ACTIVE) yield* dlm.sleepOn(dlm.reco.event);
}

/** dlm_is_node_dead: dead, or never joined. */
export const isNodeDead = (dlm: Dlm, node: NodeNum): boolean => !dlm.domain_map.has(node);

/** Dead, and what waits for its recovery (RES_RECOVERY_WAITING) was not opened yet. */
export const awaitsRecovery = (dlm: Dlm, node: NodeNum): boolean =>
  dlm.recovery_map.has(node) && !(dlm.reco.dead_node === node && dlm.reco.state & RECO_FINALIZE);

/** dlm_wait_for_node_death: the network failed before the heartbeat did. */
export function* waitForNodeDeath(dlm: Dlm, node: NodeNum, timeout_ms: number): Task<void> {
  const end = dlm.node.clock.monotonic_ms() + timeout_ms;
  while (!isNodeDead(dlm, node)) {
    const left = end - dlm.node.clock.monotonic_ms();
    if (left <= 0) return;
    yield* dlm.sleepOn(dlm.reco_thread_wq, left);
  }
}

/** dlm_wait_for_node_recovery. */
export function* waitForNodeRecovery(dlm: Dlm, node: NodeNum, timeout_ms: number): Task<void> {
  const end = dlm.node.clock.monotonic_ms() + timeout_ms;
  while (dlm.recovery_map.has(node)) {
    const left = end - dlm.node.clock.monotonic_ms();
    if (left <= 0) return;
    yield* dlm.sleepOn(dlm.reco_thread_wq, left);
  }
}

/** dlm_kick_recovery_thread. */
export const kickRecovery = (dlm: Dlm): void => dlm.wake(dlm.reco_thread_wq);
