#!/usr/bin/env node
// Real work on our mount beside ext4 and fuse2fs (mount_bench.ts). Prints a table; --out DIR keeps JSON, markdown and a plot.
//   node bench/mount/run.mjs [--rounds N] [--targets ours,ext4,fuse2fs] [--no-build] [--fio SECONDS] [--only PART]
//     [--base DIR] [--mount-options O] [--mkfs "ARGS"] [--out DIR]
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { flag, loadTs, option, progress } from "../../test/support/run_ts.mjs";

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
  onStep: (what) => (process.stderr.isTTY ? progress(what) : console.error(what)),
});
progress("");
const markdown = toMarkdown(bench);
console.log(markdown);
const out = option("out", "");
if (out !== "") {
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, "mount.json"), `${JSON.stringify(bench, null, 2)}\n`);
  writeFileSync(join(out, "mount.md"), markdown);
  writeFileSync(join(out, "mount.svg"), toSvg(bench));
}
