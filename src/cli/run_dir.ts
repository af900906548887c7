/**
 * What runs on this machine: one record and one control socket a mount, in /run/ocfs2 for root and in the user's run-time
 * folder else. A record outlives a daemon that was killed; whoever reads it checks that the process is there.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runPath } from "../native/node_socket.ts";

export interface MountRecord {
  readonly pid: number;
  /** Start time of the process, so that a pid used again is not taken for it. */
  readonly started: string;
  readonly device: string;
  readonly dir: string;
  readonly node: string;
  readonly number: number;
  readonly cluster: string | null;
}

/** The program that this process runs: what a process of its own is started as. */
export const cliPath = (): string => join(import.meta.dirname, "..", "bin", "start.js");

export function runDir(): string {
  const base = runPath();
  mkdirSync(base, { recursive: true, mode: 0o755 });
  return base;
}

/**
 * Whoever can write to a control socket is obeyed, and records are believed: what runs leaves nothing here that others may write to, whatever umask it was
 * started with (an initramfs has 0).
 */
export const closeToOthers = (): void => void process.umask(process.umask() | 0o022);

const idOf = (dir: string): string => createHash("sha256").update(dir).digest("hex").slice(0, 16);

export const socketPath = (dir: string): string => join(runDir(), `${idOf(dir)}.sock`);
export const logPath = (dir: string): string => join(runDir(), `${idOf(dir)}.log`);
/** Of the process of a cluster's node, which may serve several mounts; its socket is native/node_socket.ts's. */
export const nodeLogPath = (node: string): string => join(runDir(), `node-${encodeURIComponent(node)}.log`);
/** Locked by who starts that process. */
export const nodeStartPath = (node: string): string => join(runDir(), `node-${encodeURIComponent(node)}.start`);
/** Locked by who changes that cluster.conf. */
export const confLockPath = (conf: string): string => join(runDir(), `${idOf(conf)}.lock`);
const recordPath = (dir: string): string => join(runDir(), `${idOf(dir)}.json`);

/** Field 22 of /proc/PID/stat; undefined when there is no such process, or only what is left of it (a zombie). */
export function startTime(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in parentheses may hold anything, blanks too.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export const isAlive = (r: MountRecord): boolean => startTime(r.pid) === r.started;

/** Whole or not at all: who reads it meanwhile has the old or the new. */
export function replaceFile(path: string, text: string): void {
  const part = `${path}.${process.pid}`;
  try {
    writeFileSync(part, text);
    renameSync(part, path);
  } catch (err) {
    rmSync(part, { force: true });
    throw err;
  }
}

export const writeRecord = (r: MountRecord): void => replaceFile(recordPath(r.dir), JSON.stringify(r));

export function removeRecord(dir: string): void {
  for (const path of [recordPath(dir), socketPath(dir)]) rmSync(path, { force: true });
}

/** The mounts that live; records of dead ones are removed on the way. */
export function mountRecords(): MountRecord[] {
  const found: MountRecord[] = [];
  for (const name of readdirSync(runDir())) {
    if (!name.endsWith(".json")) continue;
    try {
      const r = JSON.parse(readFileSync(join(runDir(), name), "utf8")) as MountRecord;
      if (isAlive(r)) found.push(r);
      else removeRecord(r.dir);
    } catch {
      // Half-written by somebody who is still at it, or gone since: not ours to judge.
    }
  }
  return found;
}

/** A log that nothing was written to is not kept: each folder that was ever mounted on would leave one. Call at the end of its process. */
export function dropEmptyLog(dir: string): void {
  const path = logPath(dir);
  if (statSync(path, { throwIfNoEntry: false })?.size === 0) rmSync(path, { force: true });
}

export const recordOf = (dir: string): MountRecord | undefined => mountRecords().find((r) => r.dir === dir);
