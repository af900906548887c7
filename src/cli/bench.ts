/** `ocfs2 bench`: the programs of bench/, which a checkout has and an installed package has not. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { CliError, report } from "./errors.ts";

const BENCHES: Readonly<Record<string, [program: string, what: string]>> = {
  mount: ["bench/mount/run.mjs", "real work on a mount beside ext4 and fuse2fs (root)"],
  extents: ["bench/mount/extents.mjs", "extents per file after parallel appends (root)"],
  mkfs: ["bench/tools/mkfs.mjs", "mkfs beside mkfs.ocfs2"],
  kernels: ["bench/kernels/run.mjs", "the Wasm kernels beside their twins"],
  calls: ["bench/kernels/native_call.mjs", "calls into the addon, and random reads beside fio"],
  lock: ["bench/lock/run.mjs", "locks between two nodes, ours and the kernel's (root)"],
  scale: ["bench/scale/run.mjs", "mounts, locks and recoveries as the nodes become more (root)"],
  cluster: ["bench/cluster/run.mjs", "a build on each of two nodes at once, ours and the kernel's (root)"],
  "local-locks": ["bench/lock/local.mjs", "a million locks that this node masters"],
  find: ["bench/find/run.mjs", "find over a million files on two nodes: heap, locks, pauses (root)"],
  heartbeat: ["bench/heartbeat/run.mjs", "the heartbeat's worst gap under load"],
  fence: ["bench/fence/run.mjs", "how long after its lease a node's last write reaches the device (root)"],
  o2net: ["bench/o2net/run.mjs", "a message between two processes and its status, on the loopback"],
};

const list = (): string =>
  Object.entries(BENCHES)
    .map(([name, [, what]]) => `  ${name.padEnd(12)} ${what}`)
    .join("\n");

function bench(name: string | undefined, args: readonly string[]): number {
  if (name === undefined) {
    process.stdout.write(`${list()}\n`);
    return 0;
  }
  const program = BENCHES[name]?.[0];
  if (program === undefined) throw new CliError(1, `there is no benchmark ${name}; there are:\n${list()}`);
  const path = join(import.meta.dirname, "..", program);
  if (!existsSync(path))
    throw new CliError(1, `${path} is not there: benchmarks come with a checkout, not with the package`);
  return spawnSync(process.execPath, [path, ...args], { stdio: "inherit" }).status ?? 1;
}

export const command = new Command("bench")
  .description("run a benchmark; without a name, list them")
  .argument("[name]")
  .argument("[options...]", "options of the benchmark")
  .allowUnknownOption()
  .passThroughOptions()
  .action((name: string | undefined, args: string[]) => {
    try {
      process.exitCode = bench(name, args);
    } catch (err) {
      process.exitCode = report("bench", err);
    }
  });
