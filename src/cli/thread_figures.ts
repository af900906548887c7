/**
 * What the volume thread costs in memory and in pauses, for `ocfs2 node status` and bench/find: its JavaScript heap, what lies outside of it, and
 * for how long the garbage collector has kept the thread from working.
 */
import { constants, type NodeGCPerformanceDetail, type PerformanceEntry, PerformanceObserver } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";

export interface ThreadFigures {
  readonly heap_used_bytes: number;
  readonly heap_limit_bytes: number;
  /** Of typed arrays: caches and tables outside of the heap. */
  readonly array_buffers_bytes: number;
  readonly gc_count: number;
  readonly gc_total_ms: number;
  readonly gc_worst_ms: number;
}

const gc = { count: 0, total_ms: 0, worst_ms: 0 };

/** From here on collections of this thread are counted. */
export function watchCollections(): void {
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { duration, detail } = entry as PerformanceEntry & { readonly detail: NodeGCPerformanceDetail };
      // Asked for by `settle`.
      if (detail.flags === constants.NODE_PERFORMANCE_GC_FLAGS_FORCED) continue;
      gc.count++;
      gc.total_ms += duration;
      if (duration > gc.worst_ms) gc.worst_ms = duration;
    }
  }).observe({ entryTypes: ["gc"] });
}

/**
 * `settle`: what is garbage is collected first, where the process was started with --expose-gc, and the worst pause counts from here on: for
 * benchmarks.
 */
export function threadFigures(settle: boolean): ThreadFigures {
  const worst_ms = gc.worst_ms;
  if (settle) {
    (globalThis as { gc?: () => void }).gc?.();
    gc.worst_ms = 0;
  }
  const { used_heap_size, heap_size_limit } = getHeapStatistics();
  return {
    heap_used_bytes: used_heap_size,
    heap_limit_bytes: heap_size_limit,
    array_buffers_bytes: process.memoryUsage().arrayBuffers,
    gc_count: gc.count,
    gc_total_ms: gc.total_ms,
    gc_worst_ms: worst_ms,
  };
}
