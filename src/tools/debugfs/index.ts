/** debugfs: looks at a volume without mounting it, whatever its state. */
import { backupSuperBlkno, OCFS2_MAX_BACKUP_SUPERBLOCKS, OCFS2_SUPER_BLOCK_BLKNO } from "../../format/disk/index.ts";
import { type DiskReader, openReader } from "../../native/disk_reader.ts";
import type { ReadAt } from "../read_super.ts";
import type { Session } from "./commands.ts";
import { DebugfsError, DebugVolume } from "./image.ts";
import type { LiveNode } from "./live.ts";
import type { Out } from "./print.ts";

export { COMMANDS, openVolume, runLine, type Session, slots } from "./commands.ts";
export { writeAll } from "./copy_out.ts";
export { DebugfsError } from "./image.ts";
export type { LiveNode } from "./live.ts";

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
  let reader: DiskReader | null = null;
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
      const opened = openReader(device);
      try {
        s.v = backup === 0 ? new DebugVolume(opened.readAt) : openBackup(opened.readAt, backup);
      } catch (err) {
        opened.close();
        throw err;
      }
      reader = opened;
      s.device = device;
      s.root = s.cwd = s.v.root;
    },
    close() {
      reader?.close();
      reader = null;
      s.v = null;
    },
  };
  return s;
}
