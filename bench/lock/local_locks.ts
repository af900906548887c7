/** A million lock resources that this node masters: what each costs. Started by bench/lock/local.mjs. */
import { PerformanceObserver } from "node:perf_hooks";
import type { O2hb, O2net } from "../../src/cluster/node.ts";
import type { Dlm } from "../../src/dlm/dlm.ts";
import { DlmNode } from "../../src/dlm/node.ts";
import { systemClock, systemRandom } from "../../src/lib/clock.ts";
import { type DomainLock, EX, type LockLevel, NL, PR } from "../../src/stackglue/lock_domain.ts";
import { O2cbDomain } from "../../src/stackglue/o2cb.ts";

const count = Number(process.argv[2] ?? 1_000_000);

let worst_gc_ms = 0;
new PerformanceObserver((list) => {
  for (const e of list.getEntries()) worst_gc_ms = Math.max(worst_gc_ms, e.duration);
}).observe({ entryTypes: ["gc"] });

/** Alone in the cluster. */
const net: O2net = { node_num: 1, send() {}, register: () => () => {}, whenRegistered: (done) => done() };
const hb: O2hb = { liveNodes: () => new Set([1]), onNodes: () => () => {} };
const node = new DlmNode({
  ...{ net, hb, clock: systemClock, random: systemRandom, nodes: () => [], regions: () => [] },
  fatal(err) {
    throw err;
  },
});

let joined: O2cbDomain | null = null;
O2cbDomain.join(node, "BENCH", (_err, domain) => {
  joined = domain;
});
const domain = joined! as O2cbDomain;
const dlm: Dlm = domain.dlm;

const tick = (): Promise<void> => new Promise((ok) => setImmediate(ok));

/** In slices, as requests come: the collector gets its turns. The longest slice of 1000 tells what a caller may have to wait. */
async function each(what: string, step: (i: number) => void): Promise<void> {
  worst_gc_ms = 0;
  let worst_ms = 0;
  const start = performance.now();
  const cpu = process.cpuUsage();
  for (let i = 0; i < count; i += 1000) {
    const at = performance.now();
    for (let j = i; j < Math.min(i + 1000, count); j++) step(j);
    worst_ms = Math.max(worst_ms, performance.now() - at);
    if (i % 10_000 === 0) await tick();
  }
  const ns = ((performance.now() - start) * 1e6) / count;
  // All threads, the collector's too: what is left of the figure on a machine with other work.
  const used = process.cpuUsage(cpu);
  const cpu_ns = ((used.user + used.system) * 1000) / count;
  await tick();
  console.log(
    `${what.padEnd(44)} ${ns.toFixed(0).padStart(6)} ns each (CPU ${cpu_ns.toFixed(0)} ns), worst 1000: ${worst_ms.toFixed(1)} ms, worst collection: ${worst_gc_ms.toFixed(1)} ms`,
  );
}

function heapBytes(): number {
  global.gc!();
  const m = process.memoryUsage();
  return m.heapUsed + m.arrayBuffers;
}

const nameOf = (i: number): string => `M000000${(i * 8 + 0x5000).toString(16).padStart(16, "0")}00000000`;
const names = Array.from({ length: count }, (_, i) => nameOf(i));
const locks: DomainLock[] = new Array(count);
const callbacks = { ast: () => void granted++, bast() {} };
let granted = 0;
const to =
  (level: LockLevel) =>
  (i: number): void =>
    domain.convert(locks[i]!, level, { lvb: true });

// The code is warm before it is measured.
for (let i = 0; i < 20_000; i++) {
  const l = domain.newLock(`W${i}`, callbacks);
  domain.convert(l, PR, { lvb: true });
  domain.convert(l, EX, { lvb: true });
  domain.convert(l, NL, { lvb: true });
  domain.unlock(l, () => {});
}
const before = heapBytes();
await each("a new resource and a lock at PR", (i) => {
  locks[i] = domain.newLock(names[i]!, callbacks);
  domain.convert(locks[i]!, PR, { lvb: true });
});
const held = heapBytes();
console.log(`${"bytes each (resource, lock, table)".padEnd(44)} ${((held - before) / count).toFixed(0).padStart(6)}`);
await each("PR to EX", to(EX));
await each("EX to NL, with an LVB", (i) => {
  locks[i]!.lvb[0] = 5;
  to(NL)(i);
});
console.log(`${"bytes each, with both LVBs".padEnd(44)} ${((heapBytes() - before) / count).toFixed(0).padStart(6)}`);
await each("unlock", (i) => domain.unlock(locks[i]!, () => {}));
if (granted !== 60_000 + 3 * count) throw new Error(`${granted} grants`);
// They are forgotten 8 s after they were last used, a batch at a time.
const start = performance.now();
worst_gc_ms = 0;
let worst_ms = 0;
let last = start;
while (dlm.lockres.size > 0) {
  await new Promise((ok) => setTimeout(ok, 1));
  worst_ms = Math.max(worst_ms, performance.now() - last);
  last = performance.now();
}
console.log(
  `forgotten after ${((performance.now() - start) / 1000).toFixed(1)} s, longest wait of the thread: ${worst_ms.toFixed(1)} ms`,
);
locks.length = 0;
process.exit(0);
