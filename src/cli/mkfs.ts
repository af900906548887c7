/** `ocfs2 mkfs`: mkfs.ocfs2(8)'s options, plus --json. Exit code 0, or 1 for whatever went wrong. */
import { readSync } from "node:fs";
import { Command } from "commander";
import pkg from "../../package.json" with { type: "json" };
import { systemClock, systemRandom } from "../lib/clock.ts";
import { checkTarget, type TargetCheck } from "../tools/mkfs/check.ts";
import { kernelCluster, resolveCluster } from "../tools/mkfs/cluster_info.ts";
import {
  figureGeometry,
  MkfsError,
  type MkfsParams,
  newIdentity,
  planVolume,
  type Stage,
  writeVolume,
} from "../tools/mkfs/index.ts";
import { parseOptions, type RawOptions } from "../tools/mkfs/options.ts";
import { describe, STAGE_TEXT, toJson } from "../tools/mkfs/report.ts";
import { openTarget, type Target, targetSink } from "../tools/mkfs/target.ts";
import { report } from "./errors.ts";

interface MkfsCliOptions extends RawOptions {
  readonly dryRun?: boolean;
  readonly discard?: boolean;
  readonly nodiscard?: boolean;
  readonly force?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly json?: boolean;
  /** -x: never asks. */
  readonly x?: boolean;
}

const UUID_WARNING = `
WARNING!!! OCFS2 tells file systems apart by their UUID. Two with the same UUID in reach of one node
lead to erratic behaviour at best and to a damaged file system at worst. Choose the UUID with care.
`;

const out = (line: string): void => void process.stdout.write(`${line}\n`);
const warn = (line: string): void => void process.stderr.write(`ocfs2 mkfs: warning: ${line}\n`);

/** The first character of the answer on standard input, "" at its end. */
function answer(): string {
  const buf = Buffer.alloc(1);
  try {
    return readSync(0, buf, 0, 1, null) === 1 ? buf.toString("latin1") : "";
  } catch {
    return "";
  }
}

/** Asks before a volume is overwritten. Where nobody is there to ask (standard input is at its end), the answer is no. */
function confirm(name: string, existing: TargetCheck["existing"], o: MkfsCliOptions): void {
  if (!existing) return;
  const label = existing.label === "" ? "" : ` "${existing.label}"`;
  if (!o.quiet && !o.json) out("Overwriting existing ocfs2 partition.");
  if (o.force || o.x) return;
  process.stderr.write(`${name} has an OCFS2 volume${label}. Proceed (y/N): `);
  const said = answer();
  if (!process.stdin.isTTY) process.stderr.write("\n");
  if (said.toUpperCase() === "Y") return;
  throw new MkfsError(
    said === ""
      ? `${name} has an OCFS2 volume${label} and nobody answered whether to overwrite it; -F does so without asking`
      : "aborted, nothing was written",
  );
}

const PROGRESS_AFTER_MS = 1000;
const PROGRESS_EVERY_MS = 100;

/** A line on a terminal that tells how far it is, from the second second on. */
function progressBar(): { update(done: number, total: number): void; end(): void } {
  let next_ms = Date.now() + PROGRESS_AFTER_MS;
  let shown = false;
  return {
    update(done, total) {
      // In this order: to open standard error takes 2 ms, a twentieth of what mkfs of a small volume takes.
      if (Date.now() < next_ms || process.stderr.isTTY !== true) return;
      next_ms = Date.now() + PROGRESS_EVERY_MS;
      shown = true;
      const width = 40;
      const part = Math.floor((width * done) / total);
      const percent = Math.floor((100 * done) / total);
      process.stderr.write(`\r[${"#".repeat(part)}${".".repeat(width - part)}] ${percent} %`);
    },
    end() {
      if (shown) process.stderr.write("\r\x1b[K");
    },
  };
}

function format(t: Target, asked: MkfsParams, o: MkfsCliOptions, wish: ReturnType<typeof parseOptions>["wish"]): void {
  const dry_run = o.dryRun === true;
  const force = o.force === true;
  const chatty = o.quiet !== true && o.json !== true;
  const checked: TargetCheck = dry_run ? { existing: undefined, warnings: [] } : checkTarget(t, force);
  const on_disk = checked.existing?.cluster;
  const cluster = resolveCluster(asked, wish, { active: kernelCluster(), on_disk, force: force || dry_run });
  const params = { ...asked, cluster };
  const identity = newIdentity(params, { clock: systemClock, random: systemRandom });
  const plan = planVolume(params, figureGeometry(params, t), identity);

  if (chatty && dry_run) out("Dry run");
  if (chatty) for (const line of describe(params, plan.geometry)) out(line);
  if (!dry_run) {
    for (const line of checked.warnings) warn(line);
    confirm(t.name, checked.existing, o);
    const bar = progressBar();
    const told: Stage[] = [];
    const endStage = (): void => {
      const last = told.at(-1);
      if (last !== undefined) out(last === "backups" ? `${plan.backups} block(s)` : "done");
    };
    const sink = targetSink(t, o.nodiscard === true ? 0 : plan.geometry.volume_bytes);
    writeVolume(plan, sink, {
      stage(stage) {
        bar.end();
        if (!chatty) return;
        endStage();
        told.push(stage);
        process.stdout.write(`${STAGE_TEXT[stage]}: `);
      },
      progress: bar.update,
    });
    bar.end();
    endStage();
    if (chatty) out("ocfs2 mkfs successful\n");
  }
  if (o.json) out(JSON.stringify(toJson(t.name, params, plan, identity, dry_run)));
}

function run(device: string, blocks: string | undefined, o: MkfsCliOptions): number {
  try {
    const { params, wish } = parseOptions(o, blocks);
    if (params.uuid && o.quiet !== true && o.json !== true) process.stderr.write(`${UUID_WARNING}\n`);
    const target = openTarget(device);
    try {
      format(target, params, o, wish);
    } finally {
      target.close();
    }
    return 0;
  } catch (err) {
    return report("mkfs", err);
  }
}

export const command = new Command("mkfs")
  .description("make an OCFS2 file system on a block device or in a file")
  .argument("<device>", "block device or regular file")
  .argument("[blocks]", "blocks that the file system takes; default: all of the device")
  .option("-b, --block-size <size>", "512, 1K, 2K or 4K; default by the size of the volume")
  .option("-C, --cluster-size <size>", "4K to 1M; default by the size and the use of the volume")
  .option("-F, --force", "format although the device is in use or carries something; never ask")
  .option("-H, --heartbeat-device", "make a device for the global heartbeat only")
  .option("-J, --journal-options <options>", "size=<journal size>, [no]block32, [no]block64")
  .option("-L, --label <label>", "volume label, less than 64 bytes")
  .option("-M, --mount <type>", "local (one node, no cluster) or cluster")
  .option(
    "-N, --node-slots <number>",
    "nodes that may mount at the same time, 1 to 255; default by the size of the volume",
  )
  .option("-T, --type <type>", "what the volume is for: mail, datafiles or vmstore")
  .option("-U, --uuid <uuid>", "UUID of the volume; default: random")
  .option("--fs-features <list>", "features to add or, with a leading no, to leave out: [no]sparse,...")
  .option("--fs-feature-level <level>", "max-compat, default or max-features")
  .option("--cluster-stack <stack>", "o2cb, pcmk or cman")
  .option("--cluster-name <name>", "name of the cluster, with --cluster-stack")
  .option("--global-heartbeat", "the cluster's heartbeat is global, not one for each volume")
  .option("--no-backup-super", "no backups of the super block; the same as --fs-features=nobackup-super")
  .option("--discard", "discard the blocks of the device first (the default)")
  .option("--nodiscard", "do not discard")
  .option("-n, --dry-run", "tell what would be made and write nothing")
  .option("-q, --quiet", "say nothing but errors")
  .option("-v, --verbose", "taken for the sake of mkfs.ocfs2, which ignores it as well")
  .option("-x", "never ask")
  .version(`ocfs2 mkfs ${pkg.version}`, "-V, --version", "print the version")
  .option("--json", "print what was made as one JSON object")
  .action((device: string, blocks: string | undefined, o: MkfsCliOptions) => {
    process.exitCode = run(device, blocks, o);
    // Nothing is left to do then. To leave without it, Node gives back its heap bit by bit, which takes 2 ms.
    process.once("beforeExit", () => process.exit());
  });
