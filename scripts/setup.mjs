#!/usr/bin/env node
/**
 * Makes a checkout ready: node modules, addon, Wasm module, bundles, and the Debian programs that tests and the demo use as
 * judges. Says and does nothing when nothing is to do. Two at once take turns: the work runs under flock(1) on a file
 * in the checkout, and who comes second finds nothing left.
 *
 * Needs node (20.17 or newer), npm and cargo. As root it installs Debian packages; otherwise one line names what is missing.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isStale } from "./built.cjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const self = fileURLToPath(import.meta.url);
const say = (text) => process.stderr.write(`setup: ${text}\n`);

class SetupError extends Error {}

function run(argv, options = {}) {
  const [program, ...args] = argv;
  const ran = spawnSync(program, args, { cwd: root, stdio: ["ignore", 2, 2], ...options });
  if (ran.error !== undefined) throw new SetupError(`${program} does not run: ${ran.error.message}`);
  return ran.status ?? 128;
}

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 17))
    throw new SetupError(`Node 20.17 or newer is needed, this is ${process.versions.node}`);
}

// Node modules --------------------------------------------------------------------------------------------------------

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}

/** True when node_modules holds what package-lock.json says: npm writes what it installed into a lock file of its own. */
function modulesAreCurrent() {
  const wanted = readJson(join(root, "package-lock.json"))?.packages ?? {};
  const there = readJson(join(root, "node_modules", ".package-lock.json"))?.packages;
  if (there === undefined) return false;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === "" || (entry.optional === true && there[path] === undefined)) return true;
    return there[path]?.integrity === entry.integrity && there[path]?.version === entry.version;
  });
}

function installModules() {
  // Not `npm ci`: it refuses a lock file without the binaries of other platforms, and a mirror need not carry those.
  // Versions and hashes come from the lock file all the same, and --no-save leaves it as it is.
  say("npm install");
  const argv = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
  if (run(argv) !== 0) throw new SetupError("npm install failed");
}

// Debian packages -----------------------------------------------------------------------------------------------------

/** What each package is for; those with `any` are satisfied by one of several names. */
const packages = [
  { name: "ocfs2-tools", why: "mkfs.ocfs2, fsck.ocfs2 and debugfs.ocfs2 judge volumes" },
  { name: "kmod", why: "without a modprobe mkfs.ocfs2 goes wrong after its fork, and asks instead of making a volume" },
  { name: "fuse3", why: "mounts by users" },
  { name: "util-linux", why: "loop devices, namespaces" },
  { name: "fio", why: "load" },
  { name: "sqlite3", why: "a database on a mount" },
  { name: "attr", why: "extended attributes" },
  { name: "acl", why: "ACLs" },
  { name: "e2fsprogs", why: "ext4 to compare with" },
  { name: "fuse2fs", why: "ext4 through FUSE to compare with" },
  { name: "xz-utils", why: "packed test volumes" },
  { name: "iproute2", why: "networks of several nodes" },
  { name: "gcc", why: "the kernel's headers compiled, test programs" },
  { name: "libc6-dev", why: "the same" },
  { name: "make", why: "builds on a mount" },
  { name: "git", why: "repositories on a mount" },
  { name: "perl", why: "prove runs pjdfstest" },
  { name: "linux-source-6.1", any: /^linux-source-6\.\d+$/, why: "the kernel's structures to compare with" },
];

function installedPackages() {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
  const ran = spawnSync("dpkg-query", ["-W", "-f", "${Package} ${db:Status-Status}\n"], {
    encoding: "utf8",
    maxBuffer: 1 << 26,
  });
  if (ran.error !== undefined) return undefined;
  const names = new Set();
  for (const line of ran.stdout.split("\n")) if (line.endsWith(" installed")) names.add(line.split(" ")[0]);
  return names;
}

/** Names of the packages that are not there; none where dpkg is unknown, since then nobody can say. */
function missingPackages() {
  const there = installedPackages();
  if (there === undefined) return [];
  const has = (p) => there.has(p.name) || (p.any !== undefined && [...there].some((name) => p.any.test(name)));
  return packages.filter((p) => !has(p)).map((p) => p.name);
}

const canInstall = () => process.getuid?.() === 0 && spawnSync("apt-get", ["--version"]).status === 0;

function aptInstall(names) {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"];
  const install = (list) => run([...apt, "install", "-y", "--no-install-recommends", ...list], { env }) === 0;
  say(`apt-get install ${names.join(" ")}`);
  const known = spawnSync("apt-cache", ["show", "--no-all-versions", ...names], { stdio: "ignore" }).status === 0;
  if (!known) run([...apt, "update"], { env });
  if (install(names)) return;
  if (known) run([...apt, "update"], { env });
  // One that this release lacks must not keep the others away.
  for (const name of names) install([name]);
}

function needPackages() {
  let missing = missingPackages();
  if (missing.length === 0) return;
  if (canInstall()) {
    aptInstall(missing);
    missing = missingPackages();
  }
  if (missing.length === 0) return;
  const how = canInstall() ? "apt-get could not install them" : `as root: apt-get install ${missing.join(" ")}`;
  say(`not installed: ${missing.join(", ")} (${how}); tests that need them are skipped`);
}

// All of it -----------------------------------------------------------------------------------------------------------

const types_built = () => existsSync(join(root, "dist", "types", "api", "index.d.ts"));

const isBuilt = () => types_built() && !isStale();

async function work() {
  if (!modulesAreCurrent()) installModules();
  if (!isBuilt()) {
    if (!existsSync(join(root, "native", "ocfs2.node")) && spawnSync("cargo", ["--version"]).status !== 0)
      throw new SetupError("cargo is missing, and the addon is not built: install Rust (https://rustup.rs)");
    say("building");
    const { buildAll } = await import("./build.mjs");
    await buildAll({ types: true, log: say });
  }
  needPackages();
}

/** Runs this program again while holding the lock; it goes on alone where there is no flock. */
function underLock() {
  mkdirSync(join(root, ".cache"), { recursive: true });
  const lock = join(root, ".cache", "setup.lock");
  const ran = spawnSync("flock", ["--close", lock, process.execPath, self, "--locked"], { stdio: "inherit" });
  if (ran.error?.code === "ENOENT") return undefined;
  return ran.status ?? 128;
}

try {
  checkNode();
  if (process.argv.includes("--locked")) await work();
  else if (!modulesAreCurrent() || !isBuilt() || (missingPackages().length > 0 && canInstall())) {
    const status = underLock();
    if (status === undefined) await work();
    else process.exitCode = status;
  } else needPackages();
} catch (err) {
  say(err instanceof Error ? err.message : String(err));
  if (!(err instanceof SetupError) && process.env.OCFS2_DEBUG === "1") console.error(err);
  process.exitCode = 1;
}
