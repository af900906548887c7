// Bundles a TypeScript file of the tests and runs it in this process: Node 20 does not read TypeScript by itself. The bundle
// lies in dist/, where the Wasm module and the addon are found from.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { buildSync } from "esbuild";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** The module in `entry`, a path from the root of the repository. */
export async function loadTs(entry) {
  const outfile = join(root, "dist", `${basename(entry, ".ts")}.${process.pid}.mjs`);
  mkdirSync(dirname(outfile), { recursive: true });
  const gone = () => rmSync(outfile, { force: true });
  process.on("exit", gone);
  buildSync({
    entryPoints: [join(root, entry)],
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
    sourcemap: "inline",
    logLevel: "error",
  });
  process.setSourceMapsEnabled(true);
  return await import(pathToFileURL(outfile).href);
}

/** What stands behind `--name` on the command line, else `otherwise`; numbers for numbers. */
export function option(name, otherwise) {
  const at = process.argv.indexOf(`--${name}`);
  if (at < 0) return otherwise;
  const value = process.argv[at + 1];
  return typeof otherwise === "number" ? Number(value) : value;
}

export const flag = (name) => process.argv.includes(`--${name}`);

/** A line that is written over on a terminal, and not at all elsewhere. */
export function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** What a long run is at: a line that is written over on a terminal, a line each elsewhere. */
export const step = (what) => (process.stderr.isTTY ? progress(what) : console.error(what));

/** Writes text by file name into the folder that --out names, which is made if need be; nothing without --out. */
export function keep(files) {
  const out = option("out", "");
  if (out === "") return;
  mkdirSync(out, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(out, name), text);
}

/** Prints JSON to the file that --json names, or to standard output for "-". */
export async function report(result) {
  const path = option("json", "");
  if (path === "") return;
  const text = `${JSON.stringify(result, null, 2)}\n`;
  if (path === "-") process.stdout.write(text);
  else await (await import("node:fs/promises")).writeFile(path, text);
}
