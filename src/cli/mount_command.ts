/**
 * `ocfs2 mount`: in the foreground with -f, else a process of its own that goes on when the mount is there. That one is
 * started as the same program with a pipe to tell how it went, so that what goes wrong is said by the command itself.
 */
import { spawn } from "node:child_process";
import { openSync, realpathSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { Command } from "commander";
import { Errno, errnoName } from "../lib/errno.ts";
import { blkReadonly, closeFd, mount2, O, openFile } from "../native/index.ts";
import { diskOf } from "../tools/mkfs/in_use.ts";
import type { ClusterDesc } from "../tools/mkfs/params.ts";
import { deviceProblem, folderOf, problemOf } from "../tools/problem.ts";
import { hostNodeIn, readConf, volumeOn } from "./cluster_node.ts";
import { Control } from "./control.ts";
import { Daemon } from "./daemon.ts";
import { CliError, MOUNT_FAILURE, MOUNT_USAGE, mountFailed, report } from "./errors.ts";
import { waitForEnds } from "./mount_end.ts";
import { MS, OptionError, type ParsedOptions, parseMountOptions } from "./mount_opts.ts";
import { mountAt } from "./mount_table.ts";
import { mountThroughNode, NodeProcess } from "./node_process.ts";
import { cliPath, closeToOthers, dropEmptyLog, logPath, mountRecords, recordOf } from "./run_dir.ts";

interface MountArgs {
  readonly o?: string[];
  readonly foreground?: boolean;
}

class UsageError extends CliError {
  constructor(message: string) {
    super(MOUNT_USAGE, message);
  }
}

const collect = (value: string, so_far: string[] = []): string[] => [...so_far, value];

/** A path that two mounts of one device have in common; what is no path (a host) stays as it is. */
function checkDevice(device: string): string {
  let real: string;
  try {
    real = realpathSync(device);
  } catch (err) {
    throw mountFailed(deviceProblem(device, err));
  }
  if (statSync(real).isDirectory()) throw mountFailed(deviceProblem(device, { code: "EISDIR" }));
  return real;
}

/** Two mounts of one volume that do not know of each other destroy it. The lock on a file says nothing to a loop device over it. */
function checkFree(device: string): void {
  const disk = diskOf(device);
  const other = mountRecords().find((r) => diskOf(r.device) === disk);
  if (other === undefined) return;
  const as = other.device === device ? "" : ` as ${other.device}`;
  throw mountFailed(
    `${device} is mounted on ${other.dir} already${as} (pid ${other.pid}): "ocfs2 umount ${other.dir}" frees it`,
  );
}

/**
 * A mount's record and its control socket go by its folder. A second mount over the first would take them away from it, and whoever unmounts would
 * wait for ever.
 */
function checkUncovered(dir: string): void {
  const other = recordOf(dir);
  if (other === undefined) return;
  const what = `${other.device}, node ${other.node}, pid ${other.pid}`;
  if (mountAt(dir, other.pid) === undefined)
    throw mountFailed(
      `what was mounted on ${dir} (${what}) has files open still: end the programs that use it, or mount on another folder`,
    );
  throw mountFailed(`${dir} has a mount already (${what}): "ocfs2 umount ${dir}" first, or mount on another folder`);
}

async function serve(
  device: string,
  dir: string,
  o: readonly string[],
  ready: (notes: string[]) => void,
): Promise<number> {
  const daemon = new Daemon({ device, dir, options: parseMountOptions(o) });
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => daemon.leave());
  // A terminal that goes away is no reason to take a volume away.
  process.on("SIGHUP", () => {});
  await daemon.ready.catch(async (err: unknown) => {
    // What was opened is closed before the process ends.
    await daemon.closed;
    throw err;
  });
  ready(daemon.notes);
  const error = await daemon.closed;
  if (error !== null) throw new CliError(MOUNT_FAILURE, error);
  return 0;
}

/** What the process in the background tells the one that started it. */
interface Told {
  readonly ok: boolean;
  readonly message?: string;
  readonly notes?: string[];
}

function sayNotes(notes: readonly string[]): void {
  for (const note of notes) process.stderr.write(`ocfs2 mount: ${note}\n`);
}

/** Starts the process that stays, and waits until it says how it went. */
async function daemonize(device: string, dir: string, o: readonly string[]): Promise<number> {
  const log = openSync(logPath(dir), "a");
  const child = spawn(
    process.execPath,
    [...process.execArgv, cliPath(), "mount-daemon", device, dir, ...o.flatMap((x) => ["-o", x])],
    { detached: true, stdio: ["ignore", "ignore", log, "ipc"], cwd: "/" },
  );
  return new Promise((ok, no) => {
    child.once("message", (m: Told) => {
      child.disconnect();
      child.unref();
      sayNotes(m.notes ?? []);
      if (m.ok) ok(0);
      else no(mountFailed(m.message ?? "unknown"));
    });
    child.once("error", no);
    child.once("exit", (code, signal) =>
      no(mountFailed(`the mount process ended with ${signal ?? code}; see ${logPath(dir)}`)),
    );
  });
}

/** The cluster of the volume, which cluster.conf must have; undefined where the volume names none. */
function checkCluster(device: string, config: string, of: ClusterDesc | undefined): string | undefined {
  if (of === undefined) return undefined;
  if (of.stack !== "o2cb")
    throw mountFailed(
      `${device} belongs to the cluster stack ${of.stack}, which is not o2cb: change it with tunefs.ocfs2 --update-cluster-stack, or mount with -o nocluster for rescue`,
    );
  if (of.name === "") return undefined;
  const clusters = readConf(config).map((c) => c.name);
  if (clusters.length > 0 && !clusters.includes(of.name))
    throw mountFailed(
      `${device} belongs to the cluster "${of.name}", but ${config} has ${clusters.map((c) => `"${c}"`).join(", ")}: name another file with -o config=FILE, or make the volume the cluster's with tunefs.ocfs2 --update-cluster-stack`,
    );
  return of.name;
}

/** A clustered volume is mounted by the process of this node, which is started if it is not there. */
async function mountClustered(
  device: string,
  dir: string,
  o: readonly string[],
  parsed: ParsedOptions,
  of: ClusterDesc | undefined,
  foreground: boolean,
): Promise<number> {
  if (parsed.writeback_cache) throw new UsageError("writeback_cache is for mounts without other nodes");
  const cluster = checkCluster(device, parsed.config, of);
  const name = parsed.node ?? hostNodeIn(parsed.config, cluster);
  const alone = mountRecords().find((r) => r.cluster === null && diskOf(r.device) === diskOf(device));
  if (alone !== undefined)
    throw mountFailed(
      `${device} is mounted on ${alone.dir} without the cluster (pid ${alone.pid}): "ocfs2 umount ${alone.dir}" first`,
    );
  checkUncovered(dir);
  if (!foreground) {
    sayNotes(await mountThroughNode(parsed.config, name, cluster, { device, dir, options: o }));
    return 0;
  }
  const there = await Control.openNode(name);
  if (there !== undefined) {
    there.close();
    throw mountFailed(`node ${name} has its process already: mount without -f, and that process serves it too`);
  }
  const node = new NodeProcess(parsed.config, name, false, cluster === undefined ? {} : { cluster });
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void node.stop());
  process.on("SIGHUP", () => {});
  await node.start();
  sayNotes(await node.mount(device, dir, o));
  await node.stopped;
  return 0;
}

/** Nothing can be written to it, whoever asks. */
function isReadonly(device: string): boolean {
  const fd = openFile(device, O.RDWR, 0);
  if (fd < 0) return fd === -Errno.EROFS;
  const readonly = blkReadonly(fd) === 1;
  closeFd(fd);
  return readonly;
}

/** `mount -o remount`: the VFS is told to refuse writes, or to let them through again. Nothing else of a mount can be changed. */
async function remount(dir: string, parsed: ParsedOptions): Promise<number> {
  const record = recordOf(dir);
  const control = record === undefined ? undefined : await Control.open(dir);
  const status = await control?.ask({ type: "status" });
  control?.close();
  if (record === undefined || !status) throw mountFailed(`${dir} is no mount of ocfs2 that answers`);
  const reason = status["readonly_reason"] ?? null;
  if (reason !== null && !parsed.volume.ro)
    throw mountFailed(`${dir} is read-only from its mount on (${reason}): unmount it and mount it anew`);
  const rc = mount2(record.device, dir, "fuse.ocfs2", MS.REMOUNT | parsed.flags, "");
  if (rc < 0) throw mountFailed(`${dir} cannot be remounted: ${errnoName(-rc)}`);
  return 0;
}

async function mount(device_arg: string, dir_arg: string, args: MountArgs): Promise<number> {
  const o = [...(args.o ?? [])];
  let parsed: ParsedOptions;
  try {
    parsed = parseMountOptions(o);
  } catch (err) {
    if (err instanceof OptionError) throw new UsageError(err.message);
    throw err;
  }
  const dir = folderOf(dir_arg);
  if (parsed.remount) return remount(dir, parsed);
  const device = checkDevice(resolve(device_arg));
  await waitForEnds(device, dir);
  const volume = volumeOn(device);
  if (volume !== undefined && !volume.local && !parsed.volume.nocluster) {
    if (!isReadonly(device)) return mountClustered(device, dir, o, parsed, volume.cluster, args.foreground === true);
    // Without the right to write there is no heartbeat, and so no cluster (the kernel's hard read-only).
    if (!parsed.volume.ro)
      throw mountFailed(
        `${device} is read-only: make it writable, or mount with -o ro, without the cluster: what other nodes change is not seen then`,
      );
    o.push("nocluster");
  }
  checkFree(device);
  checkUncovered(dir);
  if (args.foreground === true) return serve(device, dir, o, sayNotes);
  return daemonize(device, dir, o);
}

export const mountCommand = new Command("mount")
  .description("mount an OCFS2 volume through FUSE")
  .argument("<device>", "block device or file with the volume")
  .argument("<dir>", "folder to mount on")
  .option("-f, --foreground", "stay in the foreground, messages on standard error")
  .option(
    "-o <options>",
    "mount options, as the kernel's ocfs2 has them, separated by commas (docs/COMMANDS.md)",
    collect,
  )
  .action(async (device: string, dir: string, args: MountArgs) => {
    closeToOthers();
    process.exitCode = await mount(device, dir, args).catch((err: unknown) => {
      const code = report("mount", err);
      // 1 is for wrong usage (mount(8)); whatever else went wrong, the volume is not mounted.
      return err instanceof UsageError ? code : MOUNT_FAILURE;
    });
    process.exit();
  });

/** The process in the background: it tells its parent once, then only its log. */
export const mountDaemonCommand = new Command("mount-daemon")
  .argument("<device>")
  .argument("<dir>")
  .option("-o <options>", "", collect)
  .action(async (device: string, dir: string, args: MountArgs) => {
    closeToOthers();
    let told = false;
    const tell = (m: Told): void => {
      if (told) return;
      told = true;
      process.send?.(m, () => process.disconnect?.());
    };
    process.on("disconnect", () => {});
    try {
      process.exitCode = await serve(device, dir, args.o ?? [], (notes) => {
        // Ctrl-C of a mount under way: nobody hears that it came about.
        if (process.connected) tell({ ok: true, notes });
        else process.kill(process.pid, "SIGTERM");
      });
    } catch (err) {
      tell({ ok: false, message: problemOf(err) });
      process.exitCode = report("mount", err);
    }
    dropEmptyLog(dir);
    // The message to the parent must be out before the end.
    setTimeout(() => process.exit(), 50);
  });
