#!/usr/bin/env node
/**
 * Builds what runs from what is written: the native addon, the Wasm module, and the bundles in dist/. Only what is older than
 * its sources; each output is written beside its place and renamed into it, so two builds at once do no harm.
 *
 * --force: everything. --types: the library's declarations too (dist/types).
 */
import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { HASH_CHARS } from "../bin/start.js";
import { bundleOf, commands, others } from "./built.cjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");

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

/** The entry point of a command's bundle: the program with that command. */
function commandEntry(name) {
  const [path, ...exported] = commands[name];
  const main = `import { main } from ${JSON.stringify(join(root, "src/cli/main.ts"))};`;
  if (path === undefined) return `${main} void main([]);`;
  const names = exported.join(", ");
  return `${main} import { ${names} } from ${JSON.stringify(join(root, path))}; void main([${names}]);`;
}

const commandPlugin = {
  name: "commands",
  setup(build) {
    build.onResolve({ filter: /^command:/ }, ({ path }) => ({
      path: path.slice("command:".length),
      namespace: "command",
    }));
    build.onLoad({ filter: /.*/, namespace: "command" }, ({ path }) => ({
      contents: commandEntry(path),
      resolveDir: root,
    }));
    // Commander asks for it when it is loaded, to start commands that are programs of their own. None of ours is one.
    build.onResolve({ filter: /^node:child_process$/ }, ({ importer }) =>
      importer.includes("commander") ? { path: "none", namespace: "none" } : undefined,
    );
    build.onLoad({ filter: /.*/, namespace: "none" }, () => ({ contents: "module.exports = {};" }));
  },
};

/** Writes beside its place and renames. */
function put(path, contents) {
  const temporary = `${path}.${process.pid}`;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(temporary, contents);
  renameSync(temporary, path);
}

/**
 * Each command is one bundle with all that it needs, in CommonJS (bin/start.js): one file that is read and run at once, where ES modules
 * are found, read and linked one after the other. The rest are ES modules, with packages where npm put them.
 */
async function buildBundles() {
  const { build } = await import("esbuild");
  mkdirSync(dist, { recursive: true });
  const cli = await build({
    ...esbuildOptions,
    entryPoints: Object.keys(commands).map((name) => ({ in: `command:${name}`, out: `cli_${name}` })),
    plugins: [commandPlugin],
    format: "cjs",
    outExtension: { ".js": ".cjs" },
    define: { "import.meta.dirname": "__dirname", "import.meta.filename": "__filename" },
  });
  const rest = await build({
    ...esbuildOptions,
    entryPoints: others.map(([out, entry]) => ({ in: join(root, entry), out: out.replace(/\.js$/, "") })),
    packages: "external",
  });
  const made = new Set();
  for (const file of [...cli.outputFiles, ...rest.outputFiles]) {
    const name = basename(file.path);
    const hash = createHash("sha256").update(file.contents).digest("hex").slice(0, HASH_CHARS);
    put(file.path, name.endsWith(".cjs") ? Buffer.concat([file.contents, Buffer.from(`\n//${hash}`)]) : file.contents);
    made.add(name);
  }
  for (const name of readdirSync(dist))
    if (/^(cli|chunk-).*\.(c?js|map|cache)$/.test(name) && !made.has(name)) rmSync(join(dist, name), { force: true });
}

/** Runs each command once for its code cache. One that cannot be run here starts without. */
async function buildCodeCaches() {
  const dir = mkdtempSync(join(tmpdir(), "ocfs2-build-"));
  const image = join(dir, "image");
  writeFileSync(image, "");
  truncateSync(image, 64 << 20);
  const program = join(root, "scripts", "code_cache.mjs");
  const run = (name, args) =>
    promisify(execFile)(process.execPath, [program, join(dist, bundleOf(name)), ...args]).catch(() => {});
  try {
    await run("mkfs", ["mkfs", "-q", "-M", "local", image]);
    const runs = {
      help: ["--help"],
      debugfs: ["debugfs", "-R", "stats", image],
      mounted: ["mounted", image],
      info: ["info", image],
    };
    const left = Object.keys(commands).filter((name) => name !== "mkfs");
    await Promise.all(left.map((name) => run(name, runs[name] ?? [name, "--help"])));
  } finally {
    rmSync(dir, { recursive: true });
  }
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
  await buildCodeCaches();
  if (types) buildTypes();
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const force = process.argv.includes("--force");
  await buildAll({ force, types: true, log: console.log });
}
