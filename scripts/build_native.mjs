#!/usr/bin/env node
/**
 * Builds the addon: native/ (Rust) becomes native/ocfs2.node, when its sources, the lock file or the compiler have changed.
 *
 * Plain cargo and a rename: a running process keeps the file that it has mapped, and two builds at once do no harm
 * (cargo takes turns, the rename is atomic).
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, readdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const crate = join(root, "native");
const addon = join(crate, "ocfs2.node");
const stamp = join(crate, "target", "ocfs2.node.sha256");

function rustVersion() {
  try {
    return execFileSync("rustc", ["--version"], { encoding: "utf8" });
  } catch {
    return undefined;
  }
}

function hashOfSources(rustc) {
  const hash = createHash("sha256").update(rustc).update(process.platform).update(process.arch);
  const sources = readdirSync(join(crate, "src"), { recursive: true }).filter((name) => name.endsWith(".rs"));
  for (const name of ["Cargo.toml", "Cargo.lock", ...sources.map((source) => join("src", source)).sort()]) {
    hash
      .update(name)
      .update("\0")
      .update(readFileSync(join(crate, name)))
      .update("\0");
  }
  return hash.digest("hex");
}

/** Builds if something changed; true when it did. Throws when the build fails, or when there is neither an addon nor a compiler. */
export function buildNative({ force = false, log = console.log } = {}) {
  const rustc = rustVersion();
  if (rustc === undefined) {
    if (existsSync(addon)) return false;
    throw new Error("native/ocfs2.node is missing and there is no rustc to build it: install Rust (https://rustup.rs)");
  }
  const hash = hashOfSources(rustc);
  if (!force && existsSync(addon) && existsSync(stamp) && readFileSync(stamp, "utf8") === hash) {
    // Sources that are newer and the same (a checkout) must not look stale at each start.
    const now = new Date();
    utimesSync(stamp, now, now);
    return false;
  }
  log("building native/ocfs2.node");
  execFileSync("cargo", ["build", "--release", "--locked", "--quiet"], { cwd: crate, stdio: "inherit" });
  const fresh = join(crate, "target", `ocfs2.${process.pid}.node`);
  copyFileSync(join(crate, "target", "release", "libocfs2_native.so"), fresh);
  renameSync(fresh, addon);
  writeFileSync(stamp, hash);
  return true;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const built = buildNative({ force: process.argv.includes("--force") });
  if (!built) console.log("native/ocfs2.node is up to date");
}
