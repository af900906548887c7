/**
 * One history of a cluster, from a seed: nodes mount, work, die, come back, unmount; what each sees is compared with one model, and
 * at the end fsck.ocfs2 must find nothing. The faults are those of test/support/cluster.ts.
 */

import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { mlogSink } from "../../src/lib/masklog.ts";
import type { RawOptions } from "../../src/tools/mkfs/options.ts";
import type { Sabotage } from "../../src/volume/osb.ts";
import { syncVolume } from "../../src/volume/super.ts";
import { tempDir } from "../support/cleanup.ts";
import { clusterImage, SimCluster, type SimNode } from "../support/cluster.ts";
import { fsck } from "../support/judges.ts";
import { writeSparse } from "../support/volume.ts";
import { Model } from "./model.ts";
import { Noise } from "./noise.ts";

export interface SimOptions {
  readonly seed: number;
  /** Operations of the model. */
  readonly steps?: number;
  readonly nodes?: number;
  /** Deaths at most. */
  readonly kills?: number;
  readonly sabotage?: readonly Sabotage[];
  readonly volume?: number;
  /** Our o2dlm on every node, over a network, instead of the lock manager in memory. */
  readonly o2dlm?: boolean;
  /** Gets the volume as it is at the end. */
  readonly onImage?: (image: Uint8Array) => void;
}

export interface SimResult {
  readonly seed: number;
  /** What went wrong, undefined when nothing did. */
  readonly problem: string | undefined;
  readonly hash: string;
  readonly events: number;
  readonly virtual_ms: number;
  readonly ops: number;
  readonly kills: number;
  readonly basts: number;
  readonly trace: readonly string[];
}

export const SIM_VOLUMES: readonly { name: string; options: RawOptions }[] = [
  { name: "4K blocks, 4K clusters", options: { blockSize: "4K", clusterSize: "4K" } },
  { name: "1K blocks, 8K clusters, metaecc", options: { blockSize: "1K", clusterSize: "8K", fsFeatures: "metaecc" } },
  {
    name: "2K blocks, 4K clusters, no inline data",
    options: { blockSize: "2K", clusterSize: "4K", fsFeatures: "noinline-data" },
  },
];
const images = new Map<number, { readonly image: Uint8Array; readonly known: string[] }>();

/** What fsck.ocfs2 -fn says that it did not say of the new volume. */
export function judge(image: Uint8Array, known: readonly string[]): string[] {
  const path = join(tempDir("ocfs2-sim", existsSync("/dev/shm") ? { base: "/dev/shm" } : {}), "img");
  writeSparse(path, image);
  const { findings } = fsck(path, known);
  rmSync(path);
  return findings;
}

/** A fresh copy of the volume. */
export function simImage(n: number): { image: Uint8Array; known: string[] } {
  let made = images.get(n);
  if (made === undefined) {
    const image = clusterImage(SIM_VOLUMES[n]!.options, 48);
    made = { image, known: judge(image, []) };
    images.set(n, made);
  }
  return { image: made.image.slice(), known: made.known };
}

class History {
  readonly c: SimCluster;
  readonly model: Model<SimNode>;
  readonly noise: Noise<SimNode>;
  readonly #o: SimOptions;
  readonly #dead: number[] = [];
  readonly #killed = new Set<SimNode>();
  #mounting = 0;
  kills = 0;

  constructor(c: SimCluster, o: SimOptions, nodes: number) {
    this.c = c;
    this.#o = o;
    const first = c.mount(1);
    this.model = new Model(c, first, "model");
    this.noise = new Noise(c, first);
    for (let n = 2; n <= nodes; n++) this.#startMount(n);
    this.#settle(() => this.#mounting === 0);
  }

  #check(): void {
    if (this.noise.problem !== null) throw new Error(this.noise.problem);
    for (const node of this.c.mounted) this.c.checkNode(node);
  }

  #settle(until: () => boolean): void {
    this.c.run(() => this.noise.problem !== null || until());
    this.#check();
  }

  #startMount(num: number): void {
    this.#mounting++;
    this.c.startMount(num, {}, (err) => {
      this.#mounting--;
      if (err) this.c.failures.push(`mount of node ${num}: ${err instanceof Error ? err.stack : String(err)}`);
    });
  }

  any(): SimNode {
    const { mounted } = this.c;
    return mounted[this.c.below(mounted.length)]!;
  }

  step(): void {
    for (let n = this.c.below(6); n > 0; n--) this.noise.start(this.any());
    const kind = this.c.below(60);
    if (kind === 0) this.#kill();
    else if (kind === 1 && this.#dead.length > 0) this.#startMount(this.#dead.shift()!);
    else if (kind === 2) this.#leave();
    else this.model.step(this.any());
    this.#check();
  }

  /** A node dies, at any moment after all that the model knows of it is durable. */
  #kill(): void {
    if (this.kills >= (this.#o.kills ?? 3) || this.c.mounted.length < 2 || this.#mounting > 0) return;
    const node = this.any();
    this.c.task(node, syncVolume(node.osb));
    let left = this.c.below(120);
    for (let n = this.c.below(8); n > 0; n--) this.noise.start(node);
    this.#settle(() => left-- <= 0);
    this.c.kill(node);
    this.#killed.add(node);
    this.kills++;
    this.#dead.push(node.num);
  }

  /** A node unmounts and may come back. */
  #leave(): void {
    if (this.c.mounted.length < 2 || this.#mounting > 0 || this.c.below(3) > 0) return;
    const node = this.any();
    this.#settle(() => this.noise.running(node) === 0);
    this.c.umount(node);
    this.#dead.push(node.num);
  }

  end(): void {
    this.#settle(() => this.#mounting === 0 && !this.noise.busy);
    for (const node of this.c.mounted) {
      this.model.check(node);
      this.c.task(
        node,
        this.noise.checkLog(node, (by) => !this.#killed.has(by)),
      );
    }
    while (this.c.mounted.length > 0) this.c.umount(this.any());
    this.c.dlm.check();
  }
}

export function simRun(o: SimOptions): SimResult {
  const { image, known } = simImage(o.volume ?? o.seed % SIM_VOLUMES.length);
  // Most disks are faster than the network; on some the I/O is still under way when the lock has changed hands twice.
  const slow_disk = o.seed % 4 === 3;
  const speed = slow_disk ? { io_ms: 60, lock_ms: 2 } : { io_ms: 4, lock_ms: 8 };
  const c = new SimCluster({
    seed: o.seed,
    image,
    ...speed,
    o2dlm: o.o2dlm ?? false,
    ...(o.sabotage === undefined ? {} : { sabotage: o.sabotage }),
  });
  let problem: string | undefined;
  let history: History | undefined;
  // Nodes die by the dozen here, and each death is news to the others.
  mlogSink(() => {});
  try {
    history = new History(c, o, o.nodes ?? 2 + (o.seed % 3));
    for (let i = 0; i < (o.steps ?? 120); i++) history.step();
    history.end();
    o.onImage?.(image);
    const findings = judge(image, known);
    if (findings.length > 0) problem = `fsck.ocfs2: ${findings.join("\n")}`;
  } catch (err) {
    problem = err instanceof Error ? (err.stack ?? err.message) : String(err);
  }
  const result = {
    seed: o.seed,
    problem,
    hash: c.trace_hash,
    events: c.events,
    virtual_ms: Math.round(c.clock.monotonic_ms()),
    ops: history?.model.ops ?? 0,
    kills: history?.kills ?? 0,
    basts: c.dlm.basts,
    trace: c.trace,
  };
  c.dispose();
  return result;
}
