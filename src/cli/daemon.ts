/**
 * The process that serves a mount. The volume thread does the work; this thread mounts and unmounts, hears signals and answers on
 * the control socket. It never touches the mounted folder: it would wait for itself.
 */
import { accessSync, constants, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { hostname } from "node:os";
import { MessageChannel } from "node:worker_threads";
import { Errno, errnoName } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import {
  closeFd,
  fuseOpen,
  fusermountMount,
  fusermountUmount,
  MNT_DETACH,
  MNT_FORCE,
  mount2,
  umount2,
} from "../native/index.ts";
import { type LineSocket, overLines } from "../native/node_socket.ts";
import type { ExistingVolume } from "../tools/mkfs/existing.ts";
import { problemOf } from "../tools/problem.ts";
import { abortAtEnd } from "./abort_at_end.ts";
import type { ClusterNode, DomainServer } from "./cluster_node.ts";
import { Control } from "./control.ts";
import { mountFailed, noFuse } from "./errors.ts";
import { logMasks, logToStderr } from "./log.ts";
import { MS, type ParsedOptions } from "./mount_opts.ts";
import { mountAt } from "./mount_table.ts";
import { RingWorker } from "./ring_worker.ts";
import { logPath, removeRecord, runDir, socketPath, startTime, writeRecord } from "./run_dir.ts";
import type { FromVolume, LocksOf, ToVolume, VolumeInfo, VolumeStatus, VolumeWorkerData } from "./worker_messages.ts";

export interface DaemonOptions {
  readonly device: string;
  readonly dir: string;
  readonly options: ParsedOptions;
  /** For a clustered volume, whose heartbeat region must be steady. */
  readonly cluster?: { readonly node: ClusterNode; readonly volume: ExistingVolume };
}

interface Command {
  readonly type?: string;
  readonly settle?: boolean;
  readonly mask?: string;
  readonly state?: string;
  readonly what?: LocksOf;
  readonly names?: string[];
}

logToStderr();

const READ_AHEAD_KB = 1024;
/** How long a mount that is told to go waits for the files that are open on it. */
const LINGER_MS = 10_000;
/** A volume thread that has not answered after so long is said not to. */
const ANSWER_MS = 1500;
/** And one that collects its garbage before. */
const SETTLE_MS = 60_000;

const isRoot = (): boolean => process.getuid?.() === 0;

/** What to do about an error of opening the device. */
function remedy(device: string, ro: boolean, errno: string | null, message: string): string {
  switch (errno) {
    case "EBUSY":
      return `${device} is in use: it is mounted already, or another program has it open for itself; unmount it first`;
    case "ENOENT":
      return `${device} does not exist`;
    case "EACCES":
    case "EPERM":
      return `${device} may not be opened: run as root, or give yourself access to it`;
    case "EROFS":
      return ro
        ? `${device}: ${message}: make it writable (a block device with "blockdev --setrw") or mount a copy`
        : `${device} is read-only: mount with -o ro (${message})`;
    default:
      return `${device}: ${message}`;
  }
}

export class Daemon {
  readonly #o: DaemonOptions;
  readonly #worker: RingWorker<ToVolume, FromVolume>;
  readonly #cluster: DomainServer | null;
  #fuse_fd = -1;
  #mounted = false;
  #served = false;
  #forgetAbort: () => void = () => {};
  #info: VolumeInfo | null = null;
  #server: Server | null = null;
  readonly #clients = new Set<LineSocket>();
  readonly #asked = new Map<number, (s: VolumeStatus) => void>();
  readonly #pieces = new Map<number, (text: string) => void>();
  #next_ask = 1;
  #leaving = false;
  #ready!: () => void;
  #failed!: (err: Error) => void;
  /** Settles when the mount can be used, or could not be made. */
  readonly ready: Promise<void>;
  #end!: (error: string | null) => void;
  /** Settles when the volume is closed: null, or what went wrong. */
  readonly closed: Promise<string | null>;

  constructor(o: DaemonOptions) {
    this.#o = o;
    this.ready = new Promise((ok, no) => {
      this.#ready = ok;
      this.#failed = no;
    });
    this.closed = new Promise((ok) => {
      this.#end = ok;
    });
    const channel = o.cluster === undefined ? null : new MessageChannel();
    const workerData: VolumeWorkerData = {
      device: o.device,
      options: o.options.volume,
      writeback_cache: o.options.writeback_cache && channel === null,
      mountpoints: o.options.mountpoints,
      names_cool_ms: o.options.names_cool_ms,
      local_flocks: o.options.local_flocks,
      random_bast_seed: o.options.random_bast_seed,
      fuse_minor: o.options.fuse_minor,
      log_masks: logMasks(),
      cluster: channel === null ? null : { of: o.cluster!.node.ofVolume(o.cluster!.volume), port: channel.port2 },
    };
    const ports = channel === null ? [] : [channel.port2];
    this.#worker = new RingWorker("./volume_worker.js", workerData, (m) => this.#heard(m), ports);
    this.#worker.onError((err) => this.#broken(err.message));
    this.#worker.onExit(() => this.#workerGone());
    this.#cluster =
      channel === null ? null : o.cluster!.node.serve(channel.port1, o.cluster!.volume.uuid, () => this.#worker.wake());
  }

  get device(): string {
    return this.#o.device;
  }

  /** Switches a set of debug messages of the volume thread. */
  log(mask: string, state: "allow" | "off"): void {
    this.#worker.tell({ type: "log", mask, state });
  }

  #heard(m: FromVolume): void {
    switch (m.type) {
      case "progress":
        mlog(ML.NOTICE, `${this.#o.device}: ${m.text}`);
        break;
      case "opened":
        this.#info = m.info;
        try {
          if (this.#leaving) throw mountFailed(`${this.#o.device} is not mounted: the mount was called off`);
          this.#mount(m.info);
        } catch (err) {
          // Whoever came to what nobody serves would wait as long as this process lives.
          this.abort();
          if (this.#fuse_fd >= 0) closeFd(this.#fuse_fd);
          this.#failed(err as Error);
          this.#worker.tell({ type: "close" });
        }
        break;
      case "failed":
        this.#giveUp(remedy(this.#o.device, this.#o.options.volume.ro, m.errno, m.message));
        break;
      case "initialized":
        this.#served = true;
        try {
          this.#announce();
        } catch (err) {
          // Nobody would find a mount without a record: not its umount either.
          this.#failed(mountFailed(`${this.#o.device} is not mounted: ${problemOf(err, runDir())}`));
          this.leave();
          break;
        }
        this.#ready();
        break;
      case "unmounted":
        this.#mounted = false;
        break;
      case "closed":
        if (!this.#served) {
          this.abort();
          this.#failed(mountFailed(`${this.#o.device} cannot be served: ${m.error ?? "it was closed"}`));
        }
        this.#finish(m.error);
        break;
      case "fatal":
        this.#fatal(m.message);
        break;
      case "status":
        this.#asked.get(m.id)?.(m.status);
        this.#asked.delete(m.id);
        break;
      case "locks":
        this.#pieces.get(m.id)?.(m.text);
        break;
    }
  }

  // The mount -------------------------------------------------------------------------------------------------------
  #mount(info: VolumeInfo): void {
    const { device, dir, options } = this.#o;
    let flags = options.flags;
    if (info.readonly_reason !== null) {
      flags |= MS.RDONLY;
    }
    if (isRoot()) this.#mountAsRoot(device, dir, flags);
    else this.#mountAsUser(device, dir, flags, options.allow_other);
    this.#mounted = true;
    this.#forgetAbort = abortAtEnd(dir);
    this.#worker.tell({ type: "serve", fd: this.#fuse_fd });
  }

  #mountAsRoot(device: string, dir: string, flags: number): void {
    const fd = fuseOpen();
    if (fd < 0) throw mountFailed(noFuse(-fd));
    const data = `fd=${fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576`;
    const rc = mount2(device, dir, "fuse.ocfs2", flags, data);
    if (rc < 0) {
      closeFd(fd);
      throw mountFailed(`${device} cannot be mounted on ${dir}: ${errnoName(-rc)}`);
    }
    this.#fuse_fd = fd;
  }

  #mountAsUser(device: string, dir: string, flags: number, allow_other: boolean): void {
    const words = [
      (flags & MS.RDONLY) !== 0 ? "ro" : "rw",
      "nosuid",
      "nodev",
      `fsname=${device.replaceAll(/[\\,]/g, (c) => `\\${c}`)}`,
      "subtype=ocfs2",
      "default_permissions",
      "max_read=1048576",
    ];
    if ((flags & MS.NOEXEC) !== 0) words.push("noexec");
    if ((flags & MS.NOATIME) !== 0) words.push("noatime");
    if (allow_other) words.push("allow_other");
    try {
      accessSync("/dev/fuse", constants.R_OK | constants.W_OK);
    } catch {
      throw mountFailed("/dev/fuse may not be opened by you: root can allow it with chmod 666 /dev/fuse");
    }
    const fd = fusermountMount(dir, words.join(","));
    if (fd === -Errno.ENOENT) throw mountFailed("fusermount3 is missing: install fuse3, or run as root");
    if (fd < 0)
      throw mountFailed(
        `fusermount3 did not mount ${device} on ${dir}: it says why on standard error; in the background in ${logPath(dir)}`,
      );
    this.#fuse_fd = fd;
  }

  /** The mount can be used: readahead, the record, the control socket. */
  #announce(): void {
    const { device, dir } = this.#o;
    const bdi = mountAt(dir)?.major_minor;
    if (bdi !== undefined && isRoot()) {
      try {
        writeFileSync(`/sys/class/bdi/${bdi}/read_ahead_kb`, String(READ_AHEAD_KB));
      } catch {
        // A kernel without this file reads ahead less, no more.
      }
    }
    writeRecord({
      pid: process.pid,
      started: startTime(process.pid) ?? "",
      device,
      dir,
      node: this.#o.options.node ?? hostname(),
      number: this.#o.cluster?.node.number ?? 0,
      cluster: this.#o.cluster?.node.nodes.cluster ?? null,
    });
    this.#listen(socketPath(dir));
  }

  /** Takes the mount away. True when nobody uses it any more: the volume thread then closes the volume. */
  unmount(): number {
    const { dir } = this.#o;
    return isRoot() ? umount2(dir, 0) : fusermountUmount(dir, false);
  }

  /** SIGTERM, SIGINT: unmount; what is still open has LINGER_MS to go, then the connection is cut. */
  leave(): void {
    if (this.#leaving) {
      this.#cut();
      return;
    }
    this.#leaving = true;
    if (!this.#mounted) {
      // If the volume is not open yet, it is not mounted when it is.
      this.#worker.tell({ type: "close" });
      return;
    }
    if (this.unmount() === 0) return;
    const { dir } = this.#o;
    mlog(ML.NOTICE, `${dir} is in use: it leaves the tree now, and ends when its files are closed, or in 10 s`);
    if (isRoot()) umount2(dir, MNT_DETACH);
    else fusermountUmount(dir, true);
    setTimeout(() => this.#cut(), LINGER_MS).unref();
  }

  #cut(): void {
    this.#worker.tell({ type: "close" });
  }

  // The end ---------------------------------------------------------------------------------------------------------
  #finish(error: string | null): void {
    this.#cluster?.close();
    if (this.#finished) return;
    this.#finished = true;
    this.#forgetAbort();
    for (const piece of this.#pieces.values()) piece("");
    const { cluster } = this.#o;
    const left = cluster === undefined ? Promise.resolve() : cluster.node.leaveRegion(cluster.volume.uuid);
    void left.then(() => {
      this.#farewell(error);
      this.#end(error);
    });
  }
  #finished = false;

  #farewell(error: string | null): void {
    removeRecord(this.#o.dir);
    for (const client of this.#clients) client.end({ type: "closed", error });
    this.#server?.close();
  }

  /**
   * The mount goes, and whoever waits for it is answered with an error: the node is fenced, or this volume's thread is broken. That the connection is
   * aborted whatever this thread does is native/src/abort.rs's.
   */
  abort(): void {
    if (!this.#mounted) return;
    this.#mounted = false;
    if (isRoot()) umount2(this.#o.dir, MNT_FORCE | MNT_DETACH);
    else fusermountUmount(this.#o.dir, true);
  }

  /**
   * The volume thread found its own state broken, or may no more write. The journal has what is needed; the mount must not hang. Beside other
   * nodes only the end of this one gives them what it holds, and not before what it has submitted is on the disk: it is fenced.
   */
  #fatal(message: string): void {
    mlog(ML.ERROR, `${this.#o.device}: ${message}`);
    this.abort();
    this.#failed(mountFailed(message));
    const { cluster, device } = this.#o;
    if (cluster === undefined) this.#finish(message);
    else {
      this.#farewell(message);
      cluster.node.stack.fence(`${device}: ${message}`);
    }
  }

  /** The mount did not come about; the volume thread has given back what it had of the cluster. */
  #gave_up = false;

  #giveUp(message: string): void {
    this.#gave_up = true;
    this.#failed(mountFailed(message));
  }

  /** The volume thread has thrown what nobody caught. Before it has started it has nothing that others wait for. */
  #broken(message: string): void {
    if (this.#worker.has_started) this.#fatal(message);
    else this.#giveUp(`${this.#o.device}: ${message}`);
  }

  #workerGone(): void {
    const message = "the volume thread ended";
    if (this.#finished) return;
    if (this.#gave_up) this.#finish(message);
    else this.#fatal(message);
  }

  // Control ---------------------------------------------------------------------------------------------------------
  /** Status of the volume thread, which answers in its next turn; null while it does not: the mount is not there yet, or it is stuck. */
  status(settle = false): Promise<VolumeStatus | null> {
    const id = this.#next_ask++;
    return new Promise((ok) => {
      const timer = setTimeout(
        () => {
          this.#asked.delete(id);
          ok(null);
        },
        settle ? SETTLE_MS : ANSWER_MS,
      );
      this.#asked.set(id, (status) => {
        clearTimeout(timer);
        ok(status);
      });
      this.#worker.tell({ type: "status", id, settle });
    });
  }

  /** The text of a list of locks, in pieces; ends early when the volume does. */
  async *locks(what: LocksOf, names: readonly string[]): AsyncGenerator<string> {
    const id = this.#next_ask++;
    try {
      for (;;) {
        const text = await new Promise<string>((ok) => {
          if (this.#finished) return ok("");
          this.#pieces.set(id, ok);
          this.#worker.tell({ type: "locks", id, what, names });
        });
        if (text === "") return;
        yield text;
      }
    } finally {
      this.#pieces.delete(id);
      if (!this.#finished) this.#worker.tell({ type: "locks-end", id });
    }
  }

  async #sayLocks(line: LineSocket, what: LocksOf, names: readonly string[]): Promise<void> {
    if (what === "dlm_locks" && this.#cluster === null) {
      const message = `${this.#o.device} is mounted on ${this.#o.dir} without a cluster: there is no lock domain`;
      line.send({ type: "error", message });
      return;
    }
    for await (const text of this.locks(what, names)) {
      if (!line.isOpen) return;
      // The reader is slow, or goes away.
      if (!line.send({ type: "locks", text })) await line.drained();
    }
    line.send({ type: "locks", text: "" });
  }

  /** One JSON object a line; each is answered by one, and "closed" comes by itself when the volume is. */
  #listen(path: string): void {
    this.#server = createServer((socket) => {
      const line = overLines(socket, {
        heard: (m) =>
          void this.#command(m as Command, line).then((answer) => {
            if (answer !== undefined) line.send(answer);
          }),
        garbled: () => void line.send({ type: "error", message: "not JSON" }),
        ended: () => this.#clients.delete(line),
      });
      this.#clients.add(line);
    });
    let tried = false;
    this.#server.on("error", (err: NodeJS.ErrnoException) => {
      if (err.code !== "EADDRINUSE" || tried) {
        mlog(ML.ERROR, `control socket ${path}: ${err.message}`);
        return;
      }
      // What a daemon that was killed left behind: nobody answers there.
      tried = true;
      void Control.open(this.#o.dir).then((other) => {
        if (other === undefined) rmSync(path, { force: true });
        else other.close();
        this.#server?.listen(path);
      });
    });
    this.#server.listen(path);
  }

  /** Undefined: the answers have been given. */
  async #command(c: Command, line: LineSocket): Promise<unknown> {
    switch (c.type) {
      case "status":
        return {
          type: "status",
          pid: process.pid,
          device: this.#o.device,
          dir: this.#o.dir,
          ...(await this.status(c.settle === true)),
        };
      case "locks":
        await this.#sayLocks(line, c.what ?? "fs_locks", c.names ?? []);
        return undefined;
      case "log":
        this.#worker.tell({ type: "log", mask: c.mask ?? "", state: c.state === "allow" ? "allow" : "off" });
        return { type: "ok" };
      default:
        return { type: "error", message: `unknown command ${c.type}` };
    }
  }

  /** What the user ought to know of a mount that came about. */
  get notes(): string[] {
    const { device, options } = this.#o;
    const notes: string[] = [];
    const reason = this.#info?.readonly_reason ?? null;
    if (reason !== null && !options.volume.ro) notes.push(`${device} is mounted read-only: ${reason}`);
    if (this.#info?.without_cluster === true && this.#info.device_readonly)
      notes.push(
        `${device} is read-only, so it is mounted without its cluster: what other nodes change is seen late, in part or not at all`,
      );
    else if (this.#info?.without_cluster === true)
      notes.push(
        `WARNING: ${device} is a clustered volume and is mounted without its cluster; it will be destroyed if another node mounts it meanwhile`,
      );
    return notes;
  }
}
