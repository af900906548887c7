/**
 * What must be undone whatever happens: mounts, loop devices, processes, folders. A test that fails, times out or is stopped by
 * Ctrl-C must not leave a mount behind, for the next run would find it, and so would the person at the machine.
 * Everything is synchronous, because it also runs while the process exits.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const pending = new Set<() => void>();
let hooked = false;

/** Undoes all of it now: at the end of a test file, whose process may get no time of its own to end in. */
export function runAll(): void {
  for (const undo of [...pending].reverse()) {
    pending.delete(undo);
    try {
      undo();
    } catch (err) {
      console.error(`cleaning up: ${err instanceof Error ? err.message : String(err)}`);
    }
  }
}

function hook(): void {
  if (hooked) return;
  hooked = true;
  process.on("exit", runAll);
  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)
    process.on(signal, () => {
      try {
        process.exit(code);
      } catch {
        // A test runner lets nobody end its workers. After a signal this one is to end all the same.
        runAll();
        process.kill(process.pid, "SIGKILL");
      }
    });
}

/** Registers `undo`, to be run at the end of the process unless the returned function ran it before. Runs once. */
export function atExit(undo: () => void): () => void {
  hook();
  pending.add(undo);
  return () => {
    if (pending.delete(undo)) undo();
  };
}

/** A folder that vanishes at the end of the process; in memory where `memory` says so and the machine has /dev/shm. */
export function tempDir(prefix: string, options: { base?: string } = {}): string {
  const dir = mkdtempSync(join(options.base ?? tmpdir(), `${prefix}-`));
  atExit(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Unmounts, by force if it must; errors are not reported, for the mount may be gone. */
export function forceUnmount(dir: string): void {
  if (spawnSync("umount", [dir], { stdio: "ignore" }).status !== 0)
    spawnSync("umount", ["-l", dir], { stdio: "ignore" });
}
