/**
 * Runs a bundle of dist/ with the arguments that follow, and keeps what V8 has compiled by its end beside it (bin/start.js). What is
 * needed first is compiled when it is first called, so the cache is that of a run and not of the text alone.
 *
 *   node scripts/code_cache.mjs BUNDLE [ARGUMENT...]
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const { HASH_CHARS, cachePath, compile, evaluate } = createRequire(import.meta.url)("../bin/start.js");

const [bundle, ...args] = process.argv.slice(2);
const source = readFileSync(bundle, "latin1");
const script = compile(bundle, source);
process.on("exit", (code) => {
  if (code !== 0) return;
  const path = cachePath(bundle);
  const temporary = `${path}.${process.pid}`;
  const data = script.createCachedData();
  writeFileSync(temporary, Buffer.concat([Buffer.from(source.slice(-HASH_CHARS)), data, data]));
  renameSync(temporary, path);
});
process.argv.splice(1, process.argv.length - 1, "ocfs2", ...args);
evaluate(script, bundle);
