/**
 * Two nodes of ours, alone in a cluster on one volume. `find -size` asks for the attributes of every file: on the first node with nothing cached, again,
 * on the second node while the first has everything cached; then the second changes files that both have looked at.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Control } from "../../src/cli/control.ts";
import type { VolumeStatus } from "../../src/cli/worker_messages.ts";
import { OurMember } from "../../test/cluster/members.ts";
import { atExit, tempDir } from "../../test/support/cleanup.ts";
import { ClusterRig } from "../../test/support/cluster_rig.ts";
import { ocfs2 } from "../../test/support/mount.ts";
import { run, sh, trySh } from "../../test/support/sh.ts";
import { manyFiles, type Tree } from "./volume.ts";

const FIND_TIMEOUT_MS = 3_600_000;
const SAMPLE_MS = 500;
/** Of a hundred directories, this many are changed by the other node. */
const CHANGED_PERCENT = 2;
const TICKS_A_SECOND = 100;

export interface FindOptions extends Tree {
  /** The volume's image, "" for one that goes away. */
  readonly image: string;
  readonly base: string;
  readonly mount_options: string;
  readonly onStep: (what: string) => void;
  /** Hears the figures before the nodes go: to give back a million locks takes a while. */
  readonly onFigures: (figures: FindFigures) => Promise<void>;
}

/** One node during one step. */
export interface NodeFigures {
  readonly node: "first" | "second";
  readonly inodes: number;
  readonly locks: number;
  readonly lock_resources: number;
  readonly heap_bytes: number;
  readonly heap_peak_bytes: number;
  readonly array_buffers_bytes: number;
  readonly rss_peak_bytes: number;
  readonly gc_worst_ms: number;
  readonly gc_total_ms: number;
  readonly cpu_s: number;
  readonly basts: number;
  readonly notifications: number;
  readonly requests: Readonly<Record<string, number>>;
  readonly messages: Readonly<Record<string, number>>;
}

export interface Step {
  readonly what: string;
  /** Files that the step looked at or changed. */
  readonly files: number;
  readonly seconds: number;
  readonly nodes: readonly NodeFigures[];
}

export interface FindFigures {
  readonly files: number;
  /** JavaScript heap and tables for each lock of the first node after its first find, what they lock included. */
  readonly bytes_a_lock: number;
  readonly bytes_an_inode: number;
  readonly steps: readonly Step[];
}

interface Sample {
  readonly status: VolumeStatus;
  readonly cpu_s: number;
}

const less = (now: Readonly<Record<string, number>>, then: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(
    Object.entries(now)
      .map(([name, n]) => [name, n - (then[name] ?? 0)] as const)
      .filter(([, n]) => n > 0),
  );

const sentOf = (s: VolumeStatus): Record<string, number> => s.domain!["sent"] as Record<string, number>;

class Node {
  readonly name: "first" | "second";
  readonly member: OurMember;
  #before: Sample | null = null;
  #heap_peak = 0;
  #stop: () => void;

  private constructor(name: "first" | "second", member: OurMember, stop: () => void) {
    this.name = name;
    this.member = member;
    this.#stop = stop;
  }

  static async start(rig: ClusterRig, number: number, name: "first" | "second", options: string): Promise<Node> {
    const member = new OurMember(rig, number);
    const start = [
      process.execPath,
      "--expose-gc",
      ocfs2,
      "node",
      "start",
      "--config",
      rig.conf,
      "--node",
      member.name,
    ];
    await run([...rig.prefix, ...start]);
    const stop = atExit(() => trySh([ocfs2, "node", "stop", "--node", member.name]));
    await member.mount(options);
    return new Node(name, member, stop);
  }

  async #status(settle: boolean): Promise<VolumeStatus> {
    const control = await Control.open(this.member.dir);
    const answer = await control!.ask({ type: "status", settle });
    control!.close();
    return answer as unknown as VolumeStatus;
  }

  #proc(file: string): string {
    return readFileSync(`/proc/${this.member.pid}/${file}`, "utf8");
  }

  async #sample(): Promise<Sample> {
    const status = await this.#status(true);
    const stat = this.#proc("stat").split(") ")[1]!.split(" ");
    return { status, cpu_s: (Number(stat[11]) + Number(stat[12])) / TICKS_A_SECOND };
  }

  async begin(): Promise<void> {
    this.#before = await this.#sample();
    this.#heap_peak = this.#before.status.thread.heap_used_bytes;
  }

  async look(): Promise<void> {
    const { thread } = await this.#status(false);
    // A thread that is busy collecting does not answer.
    if (thread !== undefined) this.#heap_peak = Math.max(this.#heap_peak, thread.heap_used_bytes);
  }

  async end(): Promise<NodeFigures> {
    const { status: then, cpu_s } = this.#before!;
    const now = await this.#sample();
    const { status } = now;
    return {
      node: this.name,
      inodes: status.inodes,
      locks: status.locks,
      lock_resources: status.domain!["locks"] as number,
      heap_bytes: status.thread.heap_used_bytes,
      heap_peak_bytes: Math.max(this.#heap_peak, status.thread.heap_used_bytes),
      array_buffers_bytes: status.thread.array_buffers_bytes,
      rss_peak_bytes: Number(/VmHWM:\s+(\d+)/.exec(this.#proc("status"))![1]) * 1024,
      gc_worst_ms: status.thread.gc_worst_ms,
      gc_total_ms: status.thread.gc_total_ms - then.thread.gc_total_ms,
      cpu_s: now.cpu_s - cpu_s,
      basts: status.basts - then.basts,
      notifications: status.notifications - then.notifications,
      requests: less(status.counts, then.counts),
      messages: less(sentOf(status), sentOf(then)),
    };
  }

  async close(): Promise<void> {
    await this.member.unmount(FIND_TIMEOUT_MS);
    this.#stop();
    this.member.close();
  }
}

async function step(what: string, nodes: readonly Node[], files: number, work: () => Promise<unknown>): Promise<Step> {
  for (const node of nodes) await node.begin();
  let over = false;
  const watch = (async () => {
    while (!over) {
      for (const node of nodes) await node.look();
      await new Promise((ok) => setTimeout(ok, SAMPLE_MS));
    }
  })();
  const start = performance.now();
  try {
    await work();
  } finally {
    over = true;
  }
  const seconds = (performance.now() - start) / 1000;
  await watch;
  const figures: NodeFigures[] = [];
  for (const node of nodes) figures.push(await node.end());
  return { what, files, seconds, nodes: figures };
}

async function find(node: Node, files: number): Promise<void> {
  const found = await node.member.run("find $D/tree -type f -size -1 | wc -l", FIND_TIMEOUT_MS);
  if (Number(found) !== files) throw new Error(`find on the ${node.name} node saw ${found.trim()} of ${files} files`);
}

/** Makes the volume if need be, brings both nodes up, measures, takes them down, and has the volume checked. */
export async function measureFind(o: FindOptions): Promise<void> {
  const { files, per_dir, onStep } = o;
  const image = o.image === "" ? join(tempDir("ocfs2-find", { base: o.base }), "image") : o.image;
  await manyFiles(image, o, onStep);
  const rig = new ClusterRig(image, [11, 12], 31);
  onStep("mounting");
  const one = await Node.start(rig, 11, "first", o.mount_options);
  const two = await Node.start(rig, 12, "second", o.mount_options);
  const nodes = [one, two];
  const steps: Step[] = [];
  const measure = async (what: string, n: number, work: () => Promise<unknown>): Promise<void> => {
    onStep(what);
    steps.push(await step(what, nodes, n, work));
  };
  await one.begin();
  const empty = await one.end();
  await measure("find, cold", files, () => find(one, files));
  await measure("find again, warm", files, () => find(one, files));
  await measure("find on the second node", files, () => find(two, files));
  const dirs = Math.max(1, Math.floor(((files / per_dir) * CHANGED_PERCENT) / 100));
  const changed = Math.min(files, dirs * per_dir);
  await measure("chmod on the second node", changed, () =>
    two.member.run(
      `find $D/tree -mindepth 1 -maxdepth 1 | sort | head -${dirs} | xargs -I% chmod -R g+w %`,
      FIND_TIMEOUT_MS,
    ),
  );
  await measure("find of these on the first", changed, () =>
    one.member.run(
      `for d in $(ls $D/tree | head -${dirs}); do find $D/tree/$d -type f -perm -g+w; done | wc -l`,
      FIND_TIMEOUT_MS,
    ),
  );
  const full = steps[0]!.nodes[0]!;
  const grown = full.heap_bytes + full.array_buffers_bytes - empty.heap_bytes - empty.array_buffers_bytes;
  await o.onFigures({
    files,
    bytes_a_lock: grown / (full.lock_resources - empty.lock_resources),
    bytes_an_inode: grown / (full.inodes - empty.inodes),
    steps,
  });
  // The second holds what the first masters; then the first is alone.
  for (const node of [two, one]) {
    onStep("unmounting");
    const start = performance.now();
    await node.close();
    onStep(`the ${node.name} node has unmounted, ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
  rig.close();
  sh(["fsck.ocfs2", "-fn", image]);
}
