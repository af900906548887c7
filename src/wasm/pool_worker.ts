// What a thread of the pool runs: one kernel call after another, over the arena it was given. Bundled on its own into
// dist/pool_worker.js by scripts/build_asm.mjs, so that the same file serves tests and the finished program.

import { workerData } from "node:worker_threads";
import { type ArenaHandle, attachArena } from "./arena.ts";
import { createKernels, type Kernels } from "./kernels.ts";

export interface PoolTask {
  readonly kernel: keyof Kernels;
  readonly args: readonly number[];
}

const kernels = createKernels(attachArena(workerData as ArenaHandle));

/** Runs one kernel; its result, undefined for those that have none. */
export default function run(task: PoolTask): number | undefined {
  return (kernels[task.kernel] as (...args: number[]) => number | undefined)(...task.args);
}
