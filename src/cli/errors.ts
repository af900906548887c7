/** How a command ends: one line that says what is wrong with which thing and what to do, and the classic exit code. */

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

/** What came of opening a device that was named, and what to do. */
export function deviceProblem(device: string, err: unknown): string {
  switch ((err as NodeJS.ErrnoException | null)?.code) {
    case "ENOENT":
      return `${device} does not exist`;
    case "EISDIR":
      return `${device} is a folder: name a block device or a file with a volume (df shows the device of a mount)`;
    case "EACCES":
    case "EPERM":
      return `${device} may not be read: run as root, or give yourself access to it`;
    default:
      return `${device}: ${err instanceof Error ? err.message : String(err)}`;
  }
}

/** Prints an error as the user shall see it, and returns the exit code. */
export function report(command: string, err: unknown): number {
  const text = err instanceof Error ? err.message : String(err);
  process.stderr.write(`ocfs2 ${command}: ${text}\n`);
  if (process.env["OCFS2_DEBUG"] === "1" && err instanceof Error && !(err instanceof CliError))
    process.stderr.write(`${err.stack}\n`);
  return err instanceof CliError ? err.exit : 1;
}
