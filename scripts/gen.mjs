// Writes the files that are generated from the tables in src/format: docs/FORMAT.md and asm/gen/layout.ts. With
// --check it writes nothing and fails if one is not current. Node 20 cannot import TypeScript, so esbuild bundles the
// generator first.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const check = process.argv.includes("--check");

const { outputFiles } = await build({
  entryPoints: [join(root, "src/format/gen.ts")],
  bundle: true,
  write: false,
  platform: "node",
  format: "esm",
  target: "node20",
});
const code = Buffer.from(outputFiles[0].contents).toString("base64");
const { generated } = await import(`data:text/javascript;base64,${code}`);

let stale = 0;
for (const [name, text] of Object.entries(generated())) {
  const path = join(root, name);
  if (existsSync(path) && readFileSync(path, "utf8") === text) continue;
  if (check) {
    console.error(`${name} is not current: run "npm run gen"`);
    stale++;
  } else {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    console.log(`wrote ${name}`);
  }
}
process.exitCode = stale ? 1 : 0;
