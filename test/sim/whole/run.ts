/** One history of the whole cluster, from a seed. */
import { syncVolume } from "../../../src/volume/super.ts";
import { Model } from "../model.ts";
import { Noise } from "../noise.ts";
import { giveArenas, simVolume } from "./images.ts";
import type { SimNode } from "./node.ts";
import { World } from "./world.ts";

export interface WholeOptions {
  readonly seed: number;
  readonly steps?: number;
  readonly nodes?: number;
  readonly trace?: boolean;
}

export function wholeRun(o: WholeOptions) {
  const count = o.nodes ?? 2 + (o.seed % 3);
  const volume = simVolume(o.seed % 3, count <= 4 ? 4 : 8);
  const numbers = Array.from({ length: count }, (_, i) => i + 1);
  const world = new World({
    seed: o.seed,
    volume,
    numbers,
    timeouts: { dead_threshold: 5, idle_timeout_ms: 5000, keepalive_delay_ms: 1000, reconnect_delay_ms: 1000 },
    io_ms: 4,
    link_ms: 2,
    trace: o.trace ?? false,
  });
  let problem: string | undefined;
  try {
    const first = world.start(1);
    world.run(() => first.mounted || !first.alive);
    if (!first.mounted) throw new Error(first.reason);
    const model = new Model<SimNode>(world, first, "model");
    const noise = new Noise<SimNode>(world, first);
    for (const num of numbers.slice(1)) world.start(num);
    const check = (): void => {
      if (noise.problem !== null) throw new Error(noise.problem);
    };
    world.run(() => world.mounted.length === count);
    const any = (): SimNode => world.usable[world.below(world.usable.length)]!;
    for (let i = 0; i < (o.steps ?? 90); i++) {
      for (let n = world.below(6); n > 0; n--) {
        const node = any();
        node.volume.deliver(() => noise.start(node));
      }
      model.step(any());
      check();
      if (i % 40 === 20 && world.mounted.length > 1) {
        const node = any();
        world.task(node, syncVolume(node.osb));
        node.die("killed");
        world.run(() => !world.unsettled);
        world.start(node.num);
      }
    }
    world.run(() => !noise.busy && world.mounted.length === count);
    for (const node of world.mounted) model.check(node);
    for (const node of world.mounted) {
      node.leave();
      world.run(() => !node.alive);
      if (node.reason !== "unmounted") throw new Error(`node ${node.num}: ${node.reason}`);
    }
    world.checks.checkEnd();
    const found = volume.judge(world.disk.touched);
    if (found.length > 0) problem = `fsck.ocfs2: ${found.join("\n")}`;
  } catch (err) {
    problem = err instanceof Error ? (err.stack ?? err.message) : String(err);
  }
  const result = {
    seed: o.seed,
    problem,
    hash: world.hash,
    events: world.events,
    virtual_ms: Math.round(world.clock.monotonic_ms()),
    grants: world.checks.grants,
    lvbs_read: world.checks.lvbs_read,
    trace: world.trace,
  };
  volume.restore(world.disk.touched);
  giveArenas(world.arenas());
  return result;
}
