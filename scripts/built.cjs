// What is built, from what, and whether something of it is missing or older than that. bin/ocfs2 asks at each start of a command in a checkout,
// so it is cheap: CommonJS, because the loader of ES modules takes longer than the looking.
"use strict";
const { existsSync, readdirSync, statSync } = require("node:fs");
const { join } = require("node:path");

const root = join(__dirname, "..");
const dist = join(root, "dist");

/** The commands: where each is, and what it is exported as. A bundle that has none knows them all by name. */
const commands = {
  help: [],
  mkfs: ["src/cli/mkfs.ts", "command"],
  mount: ["src/cli/mount_command.ts", "mountCommand", "mountDaemonCommand"],
  umount: ["src/cli/umount_command.ts", "umountCommand"],
  debugfs: ["src/cli/debugfs.ts", "command"],
  mounted: ["src/cli/mounted.ts", "command"],
  info: ["src/cli/info.ts", "command"],
  cluster: ["src/cli/cluster_command.ts", "clusterCommand"],
  node: ["src/cli/node_command.ts", "nodeCommand", "nodeDaemonCommand"],
  "install-helper": ["src/cli/install_helper.ts", "installHelperCommand"],
  bench: ["src/cli/bench.ts", "command"],
};
const bundleOf = (command) => `cli_${command}.cjs`;
/** Bundle and entry point. */
const others = [
  ["volume_worker.js", "src/cli/volume_worker.ts"],
  ["notifier_worker.js", "src/fuse/notifier_worker.ts"],
  ["tree_worker.js", "src/fuse/tree_worker.ts"],
  ["dlmfs_worker.js", "src/cli/dlmfs_worker.ts"],
  ["index.js", "src/api/index.ts"],
];
const bundles = [...Object.keys(commands).map(bundleOf), ...others.map(([out]) => out)];

/** Newest change of the given files and folders, ms since 1970; a folder's own counts, since it tells of a deleted file. What is missing does not count. */
function newest(paths) {
  let ms = 0;
  for (const path of paths) {
    const st = statSync(path, { throwIfNoEntry: false });
    if (st === undefined) continue;
    ms = Math.max(ms, st.mtimeMs);
    if (st.isDirectory()) ms = Math.max(ms, newest(readdirSync(path).map((name) => `${path}/${name}`)));
  }
  return ms;
}

const mtime = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

function isStale() {
  const programs = ["build.mjs", "built.cjs", "code_cache.mjs"].map((name) => join(root, "scripts", name));
  const sources = newest([join(root, "src"), ...programs]);
  if (bundles.some((out) => mtime(join(dist, out)) < sources)) return true;
  if (mtime(join(dist, "ocfs2.wasm")) < newest([join(root, "asm")])) return true;
  const addon = mtime(join(root, "native", "ocfs2.node"));
  if (addon === 0) return true;
  const stamp = join(root, "native", "target", "ocfs2.node.sha256");
  return existsSync(stamp) && Math.max(addon, mtime(stamp)) < newest([join(root, "native", "src")]);
}

module.exports = { bundleOf, commands, isStale, newest, others };
