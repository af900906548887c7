/** `ocfs2 info`: what a volume is, from its super block, in the words of o2info(1). */
import { Command } from "commander";
import { featureNames } from "../format/features.ts";
import { newSession } from "../tools/debugfs/index.ts";
import { deviceProblem } from "../tools/problem.ts";
import { CliError, report } from "./errors.ts";

const WIDTH = 80;

interface InfoOptions {
  readonly volinfo?: boolean;
  readonly fsFeatures?: boolean;
  readonly json?: boolean;
}

/** Words behind a head, broken at WIDTH. */
function wrapped(head: string, words: readonly string[]): string[] {
  const lines: string[] = [];
  let line = head;
  for (const word of words) {
    if (line.length + word.length + 1 > WIDTH && line !== head) {
      lines.push(line.trimEnd());
      line = " ".repeat(head.length);
    }
    line += `${word} `;
  }
  return [...lines, line.trimEnd()];
}

function info(device: string, o: InfoOptions): string[] {
  const s = newSession(() => {}, 1);
  s.open(device, 0);
  try {
    const { sb, blocksize, clustersize, super_di } = s.v!;
    const features = [
      ...featureNames("compat", sb.s_feature_compat),
      ...featureNames("incompat", sb.s_feature_incompat),
      ...featureNames("ro_compat", sb.s_feature_ro_compat),
    ];
    const uuid = Buffer.from(sb.s_uuid).toString("hex").toUpperCase();
    const volume = {
      label: sb.s_label,
      uuid,
      blocksize,
      clustersize,
      slots: sb.s_max_slots,
      clusters: super_di.i_clusters,
      features,
    };
    if (o.json === true) return [JSON.stringify(volume)];
    if (o.fsFeatures === true && o.volinfo !== true) return wrapped("", features);
    return [
      `       Label: ${volume.label}`,
      `        UUID: ${uuid}`,
      `  Block Size: ${blocksize}`,
      `Cluster Size: ${clustersize}`,
      `  Node Slots: ${volume.slots}`,
      ...wrapped("    Features: ", features),
    ];
  } finally {
    s.close();
  }
}

export const command = new Command("info")
  .description("print what a volume is: label, UUID, sizes, features")
  .argument("<device>", "block device or file with the volume, mounted or not")
  .option("--volinfo", "all of it (the default)")
  .option("--fs-features", "the features alone")
  .option("--json", "as one JSON object")
  .action((device: string, o: InfoOptions) => {
    try {
      process.stdout.write(`${info(device, o).join("\n")}\n`);
    } catch (err) {
      process.exitCode = report("info", new CliError(1, deviceProblem(device, err)));
    }
  });
