/** How a command ends: one line that says what is wrong with which thing and what to do, and the classic exit code. */
import { Errno, errnoName } from "../lib/errno.ts";
import { problemOf } from "../tools/problem.ts";

export class CliError extends Error {
  readonly exit: number;

  constructor(exit: number, message: string) {
    super(message);
    this.exit = exit;
  }
}

/** Exit code of mount(8) and umount(8) for a mount that failed. */
export const MOUNT_FAILURE = 32;
export const MOUNT_USAGE = 1;

export const mountFailed = (message: string): CliError => new CliError(MOUNT_FAILURE, message);

/** Why /dev/fuse cannot be opened, and what to do. */
export function noFuse(errno: number): string {
  const remedy =
    errno === Errno.EMFILE
      ? "raise the limit of open files (ulimit -n)"
      : 'load the kernel\'s module with "modprobe fuse"; a container must be given the device';
  return `/dev/fuse cannot be opened (${errnoName(errno)}): ${remedy}`;
}

/** Prints an error as the user shall see it, and returns the exit code. */
export function report(command: string, err: unknown): number {
  process.stderr.write(`ocfs2 ${command}: ${problemOf(err)}\n`);
  if (process.env["OCFS2_DEBUG"] === "1" && err instanceof Error && !(err instanceof CliError))
    process.stderr.write(`${err.stack}\n`);
  return err instanceof CliError ? err.exit : 1;
}
