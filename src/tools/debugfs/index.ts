/** debugfs: looks at a volume without mounting it, whatever its state. */
import { closeSync, openSync, readSync } from "node:fs";
import { backupSuperBlkno, OCFS2_MAX_BACKUP_SUPERBLOCKS, OCFS2_SUPER_BLOCK_BLKNO } from "../../format/disk/index.ts";
import type { ReadAt } from "../read_super.ts";
import type { Session } from "./commands.ts";
import { DebugfsError, DebugVolume } from "./image.ts";
import type { LiveNode } from "./live.ts";
import type { Out } from "./print.ts";

export { COMMANDS, runLine, type Session, slots } from "./commands.ts";
export { DebugfsError } from "./image.ts";
export type { LiveNode } from "./live.ts";

function reader(fd: number): ReadAt {
  return (off_bytes, len_bytes) => {
    const buf = new Uint8Array(len_bytes);
    let got = 0;
    while (got < len_bytes) {
      const n = readSync(fd, buf, got, len_bytes - got, off_bytes + got);
      if (n === 0) break;
      got += n;
    }
    return buf.subarray(0, got);
  };
}

/** The place of a backup super block: by each block size, since only it says which one is right. */
function openBackup(readAt: ReadAt, backup: number): DebugVolume {
  if (backup > OCFS2_MAX_BACKUP_SUPERBLOCKS)
    throw new DebugfsError(`backup super blocks are numbered 1 to ${OCFS2_MAX_BACKUP_SUPERBLOCKS}`);
  for (let blocksize = 512; blocksize <= 4096; blocksize *= 2) {
    const blkno = backupSuperBlkno(blocksize, backup - 1);
    try {
      const v = new DebugVolume(readAt, { blkno, blocksize });
      if (v.blocksize === blocksize) return v;
    } catch (err) {
      if (!(err instanceof DebugfsError)) throw err;
    }
  }
  throw new DebugfsError(`no backup super block ${backup}; the one at block ${OCFS2_SUPER_BLOCK_BLKNO} is the first`);
}

export interface SessionExtras {
  readonly flush?: () => void;
  readonly live?: LiveNode;
}

/** A session without a device yet. `out_fd`: where `cat` writes to. */
export function newSession(out: Out, out_fd: number, extras: SessionExtras = {}): Session {
  let fd = -1;
  const s: Session = {
    v: null,
    device: "",
    root: 0,
    cwd: 0,
    out,
    out_fd,
    flush: extras.flush ?? (() => {}),
    live: extras.live ?? null,
    open(device, backup) {
      if (s.v !== null) s.close();
      const opened = openSync(device, "r");
      try {
        const readAt = reader(opened);
        s.v = backup === 0 ? new DebugVolume(readAt) : openBackup(readAt, backup);
      } catch (err) {
        closeSync(opened);
        throw err;
      }
      fd = opened;
      s.device = device;
      s.root = s.cwd = s.v.root;
    },
    close() {
      if (fd >= 0) closeSync(fd);
      fd = -1;
      s.v = null;
    },
  };
  return s;
}
