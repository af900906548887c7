/**
 * flock(2) on a clustered mount: one cluster lock an open file (volume/file/flock.ts). fcntl locks never come here: they stay the kernel's own,
 * as o2cb has them. Where a signal ends the wait, the kernel says INTERRUPT; without it a process that waits for another node's
 * lock could not be killed.
 */
import { FUSE_LK_FLOCK, FuseLkIn } from "../format/fuse/index.ts";
import { Errno } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { spawn } from "../lib/task.ts";
import { Flock, type FlockKind } from "../volume/file/flock.ts";
import type { FileHandle } from "./handles.ts";
import type { Session } from "./session.ts";

/** F_RDLCK, F_WRLCK, F_UNLCK. */
const KINDS: readonly FlockKind[] = ["shared", "exclusive", "unlock"];

function setFlock(s: Session, waits: boolean): void {
  const { unique } = s;
  const q = FuseLkIn.at(s.dv as DataView, s.body);
  const kind = KINDS[q.lk.type];
  const handle = s.handles.get(q.fh);
  if ((q.lk_flags & FUSE_LK_FLOCK) === 0 || !s.policy.clustered) s.fail(unique, Errno.ENOSYS);
  else if (kind === undefined) s.fail(unique, Errno.EINVAL);
  else if (handle === undefined) s.fail(unique, Errno.EBADF);
  else inTurn(s, handle, unique, kind, !waits);
}

/** One change of an open file's lock at a time. */
function inTurn(s: Session, handle: FileHandle, unique: number, kind: FlockKind, trylock: boolean): void {
  const flock = (handle.flock ??= { lock: new Flock(s.osb, handle.inode), busy: null, waiting: [] });
  if (flock.busy !== null) {
    // Who is asking has given up what the file had, so an unlock has nothing left to do. (An EINTR without a signal would be errno 512 to who asks.)
    if (kind === "unlock" && flock.busy !== "unlock") s.replyEmpty(unique);
    else waitTurn(s, flock.waiting, unique, () => inTurn(s, handle, unique, kind, trylock));
    return;
  }
  flock.busy = kind;
  s.interrupts.set(unique, () => flock.lock.interrupt());
  spawn(flock.lock.set(kind, trylock), (err) => {
    flock.busy = null;
    s.interrupts.delete(unique);
    if (err) s.error(unique, err);
    else s.replyEmpty(unique);
    flock.waiting.shift()?.();
  });
}

/** A signal ends this wait, too: the kernel says so once, and who is in front may wait for long. */
function waitTurn(s: Session, waiting: (() => void)[], unique: number, go: () => void): void {
  const next = (): void => {
    s.interrupts.delete(unique);
    go();
  };
  waiting.push(next);
  s.interrupts.set(unique, () => {
    s.interrupts.delete(unique);
    waiting.splice(waiting.indexOf(next), 1);
    s.fail(unique, Errno.EINTR);
  });
}

export const setlk = (s: Session): void => setFlock(s, false);
export const setlkw = (s: Session): void => setFlock(s, true);

/** The last close of an open file. */
export function dropFlock(handle: FileHandle): void {
  if (handle.flock === null) return;
  spawn(handle.flock.lock.close(), (err) => {
    if (err) mlog(ML.ERROR, `flock of inode ${handle.inode.ino}: ${err instanceof Error ? err.message : String(err)}`);
  });
}
