// Finds and runs the bundle of a command in dist/. With the bundle lies, if it was built with this version of Node, what V8 made of it
// (scripts/code_cache.mjs): compiling it again at each start takes longer than mkfs of a small volume.
//
// The cache is code, as the bundle is: it is made by the build, lies where the bundle lies, and nothing writes it later. Node's own
// (module.enableCompileCache) lies in /tmp under a name that anybody can foresee and take first.
"use strict";
const { existsSync, readFileSync } = require("node:fs");
const { join } = require("node:path");
const { Script, constants } = require("node:vm");

const dist = join(__dirname, "..", "dist");
/** The hash that ends every bundle. Its cache begins with it; then the data lie there twice. */
const HASH_CHARS = 32;

/** The bundle that has the command, or the one that knows them all by name. */
function bundleFor([first, second] = []) {
  const wanted = first === "help" ? second : first;
  if (wanted !== undefined && /^[a-z-]+$/.test(wanted)) {
    const bundle = join(dist, `cli_${wanted.replace(/-daemon$/, "")}.cjs`);
    if (existsSync(bundle)) return bundle;
  }
  return join(dist, "cli_help.cjs");
}

const cachePath = (bundle) => bundle.replace(/cjs$/, `${process.version}-${process.arch}.cache`);

function compile(bundle, source, cachedData) {
  const head = "(function (require, module, exports, __filename, __dirname) {";
  return new Script(`${head}${source}\n})`, {
    filename: bundle,
    cachedData,
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
}

function evaluate(script, bundle) {
  const module = { exports: {} };
  script.runInThisContext()(require, module, module.exports, bundle, dist);
}

/**
 * What V8 made of this source, or undefined. V8 looks whether it is of its version and settings, and compiles if not; but it takes damaged
 * data as they are, and crashes. Comparing two copies takes less time than any sum.
 */
function cachedDataOf(cache, source) {
  if (cache.toString("latin1", 0, HASH_CHARS) !== source.slice(-HASH_CHARS)) return undefined;
  const half = (cache.length + HASH_CHARS) / 2;
  const data = cache.subarray(HASH_CHARS, half);
  return data.equals(cache.subarray(half)) ? data : undefined;
}

function start() {
  const bundle = bundleFor(process.argv.slice(2));
  let cache;
  try {
    cache = readFileSync(cachePath(bundle));
  } catch {
    if (!existsSync(bundle)) {
      process.stderr.write(`ocfs2: ${bundle} is missing: run "npm run setup" first\n`);
      process.exit(1);
    }
    require(bundle);
    return;
  }
  // What esbuild writes is ASCII.
  const source = readFileSync(bundle, "latin1");
  evaluate(compile(bundle, source, cachedDataOf(cache, source)), bundle);
}

module.exports = { start, cachePath, cachedDataOf, compile, evaluate, HASH_CHARS };
if (require.main === module) start();
