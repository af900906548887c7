#!/usr/bin/env node
/**
 * Builds what runs from what is written: the native addon, the Wasm module, and the bundles in dist/. Only what is older than
 * its sources; each output is written beside its place and renamed into it, so two builds at once do no harm.
 *
 * --force: everything. --types: the library's declarations too (dist/types).
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { newest } from "./newest.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");

/** Bundle and entry point; one whose entry is not written yet is left out. */
const commands = [
  ["cli.js", "src/cli/main.ts"],
  ["cli_mkfs.js", "src/cli/mkfs.ts"],
  ["cli_mount.js", "src/cli/mount_command.ts"],
  ["cli_umount.js", "src/cli/umount_command.ts"],
  ["cli_debugfs.js", "src/cli/debugfs.ts"],
  ["cli_mounted.js", "src/cli/mounted.ts"],
  ["cli_info.js", "src/cli/info.ts"],
  ["cli_cluster.js", "src/cli/cluster_command.ts"],
  ["cli_node.js", "src/cli/node_command.ts"],
  ["cli_install_helper.js", "src/cli/install_helper.ts"],
  ["cli_bench.js", "src/cli/bench.ts"],
];
const others = [
  ["volume_worker.js", "src/cli/volume_worker.ts"],
  ["notifier_worker.js", "src/fuse/notifier_worker.ts"],
  ["tree_worker.js", "src/fuse/tree_worker.ts"],
  ["dlmfs_worker.js", "src/cli/dlmfs_worker.ts"],
  ["index.js", "src/api/index.ts"],
];
const bundles = [...commands, ...others];

const mtime = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** True when something that is run is missing or older than what it is made of. Cheap: it is asked at each start. */
export function isStale() {
  const sources = Math.max(newest([join(root, "src")]), mtime(fileURLToPath(import.meta.url)));
  if (bundles.some(([out]) => mtime(join(dist, out)) < sources)) return true;
  if (mtime(join(dist, "ocfs2.wasm")) < newest([join(root, "asm")])) return true;
  const addon = mtime(join(root, "native", "ocfs2.node"));
  if (addon === 0) return true;
  const stamp = join(root, "native", "target", "ocfs2.node.sha256");
  return existsSync(stamp) && Math.max(addon, mtime(stamp)) < newest([join(root, "native", "src")]);
}

const esbuildOptions = {
  outdir: dist,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  sourcemap: "linked",
  logLevel: "error",
  write: false,
};

const entryPoints = (list) => list.map(([out, entry]) => ({ in: join(root, entry), out: out.replace(/\.js$/, "") }));

/**
 * The commands share what they have in common as chunks, and commander is in one of them: reading a few files takes less time than
 * finding a package. The rest are bundles of their own, with packages where npm put them.
 */
async function buildBundles() {
  const { build } = await import("esbuild");
  mkdirSync(dist, { recursive: true });
  const cli = await build({
    ...esbuildOptions,
    entryPoints: entryPoints(commands),
    splitting: true,
    chunkNames: "chunk-[hash]",
    // commander is CommonJS and asks for Node's modules by require.
    banner: {
      js: 'import { createRequire as requireOf } from "node:module"; const require = requireOf(import.meta.url);',
    },
  });
  const rest = await build({ ...esbuildOptions, entryPoints: entryPoints(others), packages: "external" });
  const made = new Set();
  for (const file of [...cli.outputFiles, ...rest.outputFiles]) {
    const temporary = `${file.path}.${process.pid}`;
    mkdirSync(dirname(file.path), { recursive: true });
    writeFileSync(temporary, file.contents);
    renameSync(temporary, file.path);
    made.add(basename(file.path));
  }
  for (const name of readdirSync(dist))
    if (/^chunk-.*\.js(\.map)?$/.test(name) && !made.has(name)) rmSync(join(dist, name), { force: true });
}

function buildTypes() {
  if (!existsSync(join(root, "src", "api", "index.ts"))) return;
  rmSync(join(dist, "types"), { recursive: true, force: true });
  const tsc = join(root, "node_modules", ".bin", "tsc");
  execFileSync(tsc, ["-p", join(root, "scripts", "tsconfig.types.json")], { cwd: root, stdio: "inherit" });
}

/** Builds what is stale. `log` hears of what takes long. */
export async function buildAll({ force = false, types = false, log = () => {} } = {}) {
  const { buildNative } = await import("./build_native.mjs");
  const { buildAsm } = await import("./build_asm.mjs");
  buildNative({ force, log });
  await buildAsm({ force });
  await buildBundles();
  if (types) buildTypes();
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const force = process.argv.includes("--force");
  await buildAll({ force, types: true, log: console.log });
}
