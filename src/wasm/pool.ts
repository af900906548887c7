// Batches over the shared arena on several threads: checking and computing the block checks of many blocks, counting
// the bits of many bitmaps. Only addresses travel. A hand-over costs as much as some fifty blocks, so a small batch is done
// here and now, and a request of the file system is never handed over. No tool that we have gains by it: what they wait for
// is the disk (docs/ARCHITECTURE.md, "Threads and processes", has the figures). It is for one that checks all blocks of a volume.

import { availableParallelism } from "node:os";
import { Piscina } from "piscina";
import { type Arena, builtFile } from "./arena.ts";
import { createKernels, type Kernels } from "./kernels.ts";
import type { PoolTask } from "./pool_worker.ts";

/** Blocks or bitmaps handed over at a time: about 200 us of work. */
const CHUNK = 256;

export class KernelPool {
  private readonly kernels: Kernels;
  private readonly piscina: Piscina;

  /** threads: how many workers, by default one a core. They start with the first task and end with close. */
  constructor(arena: Arena, threads: number = availableParallelism()) {
    this.kernels = createKernels(arena);
    this.piscina = new Piscina({
      filename: builtFile("pool_worker.js"),
      workerData: arena.handle,
      minThreads: 0,
      maxThreads: Math.max(1, threads),
      idleTimeout: 1000,
    });
  }

  /** One kernel call on another thread. The memory it touches belongs to it until the promise settles. */
  run(kernel: keyof Kernels, ...args: number[]): Promise<number | undefined> {
    const task: PoolTask = { kernel, args };
    return this.piscina.run(task);
  }

  /** blockCheckValidateBatch, in parallel: how many of n blocks were not CHECK_OK; results as there. */
  async validateBlocks(pairs: number, n: number, len_bytes: number, results: number): Promise<number> {
    if (n < CHUNK) return this.kernels.blockCheckValidateBatch(pairs, n, len_bytes, results);
    return this.split(n, (first, count) =>
      this.run("blockCheckValidateBatch", pairs + 8 * first, count, len_bytes, results && results + first),
    );
  }

  /** blockCheckComputeBatch, in parallel. */
  async computeBlocks(pairs: number, n: number, len_bytes: number): Promise<void> {
    if (n < CHUNK) this.kernels.blockCheckComputeBatch(pairs, n, len_bytes);
    else await this.split(n, (first, count) => this.run("blockCheckComputeBatch", pairs + 8 * first, count, len_bytes));
  }

  /** popcountBatch, in parallel: the set bits of n bitmaps; counts to out as there. */
  async countBits(pairs: number, n: number, out: number): Promise<number> {
    if (n < CHUNK) return this.kernels.popcountBatch(pairs, n, out);
    return this.split(n, (first, count) => this.run("popcountBatch", pairs + 8 * first, count, out && out + 4 * first));
  }

  /** Ends the threads; tasks still running are lost. */
  async close(): Promise<void> {
    await this.piscina.destroy();
  }

  private async split(n: number, f: (first: number, count: number) => Promise<number | undefined>): Promise<number> {
    const parts: Promise<number | undefined>[] = [];
    for (let first = 0; first < n; first += CHUNK) parts.push(f(first, Math.min(CHUNK, n - first)));
    return (await Promise.all(parts)).reduce<number>((sum, part) => sum + (part ?? 0), 0);
  }
}
