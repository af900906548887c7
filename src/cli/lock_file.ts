/** Files that one process at a time holds, whatever ends it. */
import { Errno, errnoName } from "../lib/errno.ts";
import { closeFd, O, ofdTryLock, openFile } from "../native/index.ts";
import { CliError } from "./errors.ts";

/** How often one who waits looks whether the one before it is through. */
const LOOK_MS = 50;

/** Waits for the lock of a file of run_dir.ts, where nobody else can take it and have us wait for ever, and runs with it. */
export async function withLockOf<T>(path: string, run: () => Promise<T>): Promise<T> {
  const fd = openFile(path, O.RDWR | O.CREAT, 0o600);
  const failed = (errno: number): CliError => new CliError(1, `${path} cannot be locked: ${errnoName(errno)}`);
  if (fd < 0) throw failed(-fd);
  try {
    for (;;) {
      const locked = ofdTryLock(fd, true);
      if (locked === 0) return await run();
      if (locked !== -Errno.EAGAIN && locked !== -Errno.EACCES) throw failed(-locked);
      await new Promise((ok) => setTimeout(ok, LOOK_MS));
    }
  } finally {
    closeFd(fd);
  }
}
