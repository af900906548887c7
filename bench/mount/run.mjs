#!/usr/bin/env node
// Real work on our mount beside ext4 and fuse2fs (mount_bench.ts). Prints a table; --out DIR keeps JSON, markdown and a plot.
//   node bench/mount/run.mjs [--rounds N] [--targets ours,ext4,fuse2fs] [--no-build] [--fio SECONDS] [--only PART]
//     [--base DIR] [--mount-options O] [--mkfs "ARGS"] [--out DIR]
import { flag, keep, loadTs, option, progress, step } from "../../test/support/run_ts.mjs";

if (flag("help")) {
  console.log(
    'usage: node bench/mount/run.mjs [--rounds N] [--targets ours,ext4,fuse2fs,bindfs] [--no-build] [--fio SECONDS (0: none)] [--only PART] [--base DIR] [--mount-options O] [--mkfs "ARGS"] [--out DIR]',
  );
  process.exit(0);
}
const given = (name, key = name) => (option(name, "") === "" ? {} : { [key]: option(name, "") });
const { runMountBench, toMarkdown, toSvg } = await loadTs("bench/mount/mount_bench.ts");
const bench = await runMountBench({
  targets: option("targets", "ext4,ours,fuse2fs").split(","),
  rounds: option("rounds", 1),
  build: !flag("no-build"),
  fio_s: option("fio", 5),
  ...given("only"),
  ...given("base"),
  ...given("mount-options", "mountOptions"),
  ...(option("mkfs", "") === "" ? {} : { mkfs: option("mkfs", "").split(" ") }),
  onStep: step,
});
progress("");
const markdown = toMarkdown(bench);
console.log(markdown);
keep({
  "mount.json": `${JSON.stringify(bench, null, 2)}\n`,
  "mount.md": markdown,
  "mount.svg": toSvg(bench),
});
