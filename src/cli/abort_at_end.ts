/**
 * A mount of this process is aborted when the process is fenced or killed (native/src/abort.rs): without it a program that waits for the mount waits as long
 * as any thread of the process is stuck in the kernel, with a dead disk, or a page that such a program holds, for good.
 */
import { errnoName } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { abortForget, abortGuard, abortRegister } from "../native/index.ts";
import { mountAt } from "./mount_table.ts";

/** For the FUSE mount that the main thread has just made at `dir`; the returned function is called when it is gone. */
export function abortAtEnd(dir: string): () => void {
  const minor = mountAt(dir)?.major_minor.split(":")[1];
  // It went as soon as it came.
  if (minor === undefined) return () => {};
  const number = abortRegister(Number(minor));
  if (number >= 0) {
    const rc = abortGuard(number);
    if (rc < 0) mlog(ML.NOTICE, `${dir}: not aborted when this process is killed (${errnoName(-rc)})`);
    return () => abortForget(number);
  }
  mlog(ML.NOTICE, `${dir}: its FUSE connection ends with the process only (fusectl: ${errnoName(-number)})`);
  return () => {};
}
