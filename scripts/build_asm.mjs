// Compiles asm/ to dist/ocfs2.wasm and the pool's worker to dist/pool_worker.js, each only if it is older than what
// it is made of. Without it the loader in src/wasm/arena.ts finds nothing. Safe to run twice, also at the same time:
// each output is written beside its place and renamed into it.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { newest } from "./built.cjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");

function stale(output, sources) {
  return !existsSync(output) || statSync(output).mtimeMs < newest(sources);
}

function step(output, build) {
  const temporary = `${output}.${process.pid}`;
  try {
    build(temporary);
    renameSync(temporary, output);
  } finally {
    rmSync(temporary, { force: true });
  }
}

/**
 * The memory is imported and shared; any memory of 1 to 65536 pages fits the limits. zeroFilledMemory keeps data
 * segments out of the module, which a second thread's instantiation would write over a memory in use.
 */
const asc_options = [
  "--runtime",
  "stub",
  "--importMemory",
  "--noExportMemory",
  "--sharedMemory",
  "--zeroFilledMemory",
  "--initialMemory",
  "1",
  "--maximumMemory",
  "65536",
  "--enable",
  "simd",
  "--enable",
  "threads",
  "--optimizeLevel",
  "3",
  "--shrinkLevel",
  "0",
  "--converge",
  "--noAssert",
];

export async function buildAsm({ force = false } = {}) {
  mkdirSync(dist, { recursive: true });
  const require = createRequire(import.meta.url);
  const self = fileURLToPath(import.meta.url);
  const lock = join(root, "package-lock.json");
  const built = [];

  const wasm = join(dist, "ocfs2.wasm");
  if (force || stale(wasm, [join(root, "asm"), self, lock])) {
    const asc = join(dirname(require.resolve("assemblyscript/package.json")), "bin", "asc.js");
    step(wasm, (out) => {
      const args = [asc, "asm/index.ts", "--outFile", out, ...asc_options];
      const run = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
      if (run.status !== 0) throw new Error(`asm/ did not compile:\n${run.stderr}${run.stdout}`);
    });
    built.push(wasm);
  }

  const worker = join(dist, "pool_worker.js");
  const worker_source = join(root, "src", "wasm", "pool_worker.ts");
  if (existsSync(worker_source) && (force || stale(worker, [join(root, "src", "wasm"), self, lock]))) {
    const { buildSync } = await import("esbuild");
    step(worker, (out) => {
      buildSync({
        entryPoints: [worker_source],
        outfile: out,
        bundle: true,
        platform: "node",
        format: "esm",
        target: "node20",
        packages: "external",
        logLevel: "error",
      });
    });
    built.push(worker);
  }
  return built;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const built = await buildAsm({ force: process.argv.includes("--force") });
  for (const path of built) console.log(`built ${path.slice(root.length + 1)}`);
}
