/** `ocfs2 umount`: returns when everything is on the disk, the journal is clean and the serving process is gone. */
import { spawnSync } from "node:child_process";
import { realpathSync } from "node:fs";
import { resolve } from "node:path";
import { Command } from "commander";
import { Errno, errnoName } from "../lib/errno.ts";
import { fusermountUmount, MNT_DETACH, MNT_FORCE, umount2 } from "../native/index.ts";
import { Control } from "./control.ts";
import { CliError, MOUNT_FAILURE, report } from "./errors.ts";
import { mountEnd } from "./mount_end.ts";
import { type MountEntry, mountAt, stillMounted } from "./mount_table.ts";
import { type MountRecord, mountRecords } from "./run_dir.ts";

/** A mount that does not answer for so long is stuck, not cut off. */
const LOOK_MS = 5000;
/** Who waits for longer wants to know for what. */
const LONG_MS = 3000;

interface Meant {
  readonly dir: string;
  readonly record: MountRecord | undefined;
  /**
   * Somebody serves what is mounted there: the mount itself, or for a folder that was bound there the mount that it is of. Of another user's
   * mount, and of a node's tree of locks or configuration, we have no record: they are taken for served.
   */
  readonly served: boolean;
  /** Of what is mounted there, if anything is. */
  readonly major_minor: string | undefined;
}

const isOurs = (entry: MountEntry): boolean =>
  entry.type === "fuse.ocfs2" && entry.options.split(",").includes(`user_id=${process.getuid?.()}`);

/**
 * Whether its process has ended. Without a record it may still run: as seen from a container with a /run of its own. By another process, since whoever
 * looks at a mount that does not answer may never come back.
 */
function isCutOff(dir: string): boolean {
  const look = "try { fs.statfsSync(process.argv[1]) } catch (err) { console.log(err.code) }";
  const { stdout } = spawnSync(process.execPath, ["-e", look, "--", dir], {
    encoding: "utf8",
    timeout: LOOK_MS,
    killSignal: "SIGKILL",
  });
  return stdout.includes("ENOTCONN") || stdout.includes("ECONNABORTED");
}

/**
 * As the mount has it, for a folder or a device that is named by a symlink (/dev/mapper, /dev/disk/by-label). realpath(3) reads links, and asks nothing of what
 * is mounted at the end of them.
 */
function pathOf(what: string, records: readonly MountRecord[]): string {
  const path = resolve(what);
  if (mountAt(path) !== undefined || records.some((r) => r.device === path)) return path;
  try {
    return realpathSync.native(path);
  } catch {
    return path;
  }
}

/** The mount that is meant: its folder, or its device. The folder is not looked at, since that could hang. */
function find(what: string): Meant {
  const records = mountRecords();
  const path = pathOf(what, records);
  const of_device = records.filter((r) => r.device === path);
  const by_dir = records.find((r) => r.dir === path);
  if (by_dir === undefined && of_device.length > 1)
    throw new CliError(
      MOUNT_FAILURE,
      `${what} is mounted on ${of_device.map((r) => `${r.dir} (node ${r.node})`).join(" and ")}: name the folder`,
    );
  const record = by_dir ?? of_device[0];
  const dir = record?.dir ?? path;
  const entry = mountAt(dir);
  if (record === undefined && entry === undefined) throw new CliError(MOUNT_FAILURE, `${what} is not mounted`);
  // Whatever else is mounted there is not ours to cut off.
  if (record === undefined && !/^fuse\.ocfs2\b/.test(entry!.type))
    throw new CliError(MOUNT_FAILURE, `${what} is no mount of ocfs2 (its type is ${entry!.type}): "umount ${dir}"`);
  const of = (r: MountRecord): boolean =>
    r.device === entry?.source || mountAt(r.dir)?.major_minor === entry?.major_minor;
  return {
    dir,
    record,
    served: record !== undefined || (entry !== undefined && (!isOurs(entry) || records.some(of) || !isCutOff(dir))),
    major_minor: entry?.major_minor,
  };
}

/** A mount that nobody serves is cut off first: nothing would ever answer the requests that wait in it. */
function detach(dir: string, lazy: boolean, served: boolean): void {
  if (mountAt(dir) === undefined) return;
  const root = process.getuid?.() === 0;
  if (root && !served && umount2(dir, MNT_FORCE) === 0) return;
  const rc = root ? umount2(dir, lazy ? MNT_DETACH : 0) : fusermountUmount(dir, lazy);
  if (rc === 0) return;
  if (rc === -Errno.EBUSY)
    throw new CliError(MOUNT_FAILURE, `${dir} is in use: "fuser -vm ${dir}" shows by whom; or use -l`);
  if (!root) throw new CliError(MOUNT_FAILURE, `fusermount3 did not unmount ${dir}: it says why; root can`);
  throw new CliError(MOUNT_FAILURE, `${dir} cannot be unmounted: ${errnoName(-rc)}`);
}

/** What umount(2) has taken out of our tree of mounts may be mounted in others: who waits for its end is told. */
function sayWhoHolds(dir: string, major_minor: string): void {
  for (const { pid, comm, dir: at } of stillMounted(major_minor))
    process.stderr.write(
      `ocfs2: ${dir} is unmounted here, but process ${pid} (${comm}) has it mounted at ${at} still: waiting for that to end\n`,
    );
}

async function umount(what: string, lazy: boolean): Promise<number> {
  const { dir, record, served, major_minor } = find(what);
  const control = record === undefined ? undefined : await Control.open(dir);
  detach(dir, lazy || !served, served);
  if (record === undefined) {
    if (!served)
      process.stderr.write(
        `ocfs2: the process of ${dir} had ended before: the next mount replays the volume's journal\n`,
      );
    return 0;
  }
  if (lazy) {
    control?.close();
    return 0;
  }
  const long = setTimeout(() => major_minor !== undefined && sayWhoHolds(dir, major_minor), LONG_MS);
  const error = await mountEnd(record, control);
  clearTimeout(long);
  if (error !== null) throw new CliError(MOUNT_FAILURE, `${record.device} was not closed cleanly: ${error}`);
  return 0;
}

export const umountCommand = new Command("umount")
  .description("unmount; all is on the disk when it returns")
  .argument("<dir>", "the mount's folder, or its device")
  .option("-l, --lazy", "take the mount out of the tree now, end it when nobody uses it any more")
  .action(async (dir: string, o: { lazy?: boolean }) => {
    process.exitCode = await umount(dir, o.lazy === true).catch((err: unknown) => report("umount", err));
    process.exit();
  });
