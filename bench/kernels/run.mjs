// Bundles and runs bench/kernels/kernels.bench.ts in this process, and prints its table. Node 20 does not read
// TypeScript, hence the bundle, which goes to dist/ so that the loader finds ocfs2.wasm beside it.
import { rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { buildSync } from "esbuild";
import { buildAsm } from "../../scripts/build_asm.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const outfile = join(here, "..", "..", "dist", `kernels_bench.${process.pid}.mjs`);

await buildAsm();
try {
  buildSync({
    entryPoints: [join(here, "kernels.bench.ts")],
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
  });
  const { benchKernels, formatRow, HEADER } = await import(pathToFileURL(outfile).href);
  console.log(HEADER);
  benchKernels((row) => console.log(formatRow(row)));
} finally {
  rmSync(outfile, { force: true });
}
