/**
 * The volume thread: owns all state of one mounted volume. It opens the volume, serves the kernel's requests, and when the kernel
 * has let go of the mount writes everything and closes the volume. Entry point of dist/volume_worker.js.
 */
import { writeSync } from "node:fs";
import { totalmem } from "node:os";
import { getHeapStatistics } from "node:v8";
import { parentPort, workerData } from "node:worker_threads";
import { type OpenedDevice, openDevice, UringDevice } from "../block/uring_device.ts";
import { lockingState as dlmLockingState, domainSummary } from "../dlm/debug.ts";
import { lockingState as fsLockingState } from "../dlmglue/debug.ts";
import { FEATURE_INCOMPAT } from "../format/disk/index.ts";
import { FUSE_OPCODE_NAMES } from "../format/fuse/index.ts";
import { DevFuse, groupsOf, NotifierWorker } from "../fuse/dev_fuse.ts";
import { SessionCaches } from "../fuse/kernel_caches.ts";
import { FIRST_THREADS, Notifier } from "../fuse/notifier.ts";
import { Session } from "../fuse/session.ts";
import { fileOps } from "../fuse/vfs_face.ts";
import { seededRandom, systemRandom } from "../lib/clock.ts";
import { Errno, errnoName } from "../lib/errno.ts";
import { AssertionFailure, FsError } from "../lib/fs_error.ts";
import { mlogSet } from "../lib/masklog.ts";
import { spawn, type Task, wait } from "../lib/task.ts";
import { arenaDontFork, arenaLockOnFault, closeFd, registerArena, setIoFlusher } from "../native/index.ts";
import { Loop } from "../native/loop.ts";
import type { LockDomain } from "../stackglue/lock_domain.ts";
import { O2cbDomain } from "../stackglue/o2cb.ts";
import { RandomBastDomain } from "../stackglue/random_bast.ts";
import { forgetAll } from "../vfs/teardown.ts";
import { allocState } from "../volume/alloc/alloc_state.ts";
import type { Osb } from "../volume/osb.ts";
import { closeVolume, openVolume } from "../volume/super.ts";
import { createArena } from "../wasm/arena.ts";
import { createKernels } from "../wasm/kernels.ts";
import { attachDomain } from "./domain_thread.ts";
import { logToStderr, setLogMasks } from "./log.ts";
import type { WakeFd } from "./ring_worker.ts";
import { threadFigures, watchCollections } from "./thread_figures.ts";
import type { FromVolume, ToVolume, VolumeInfo, VolumeStatus, VolumeWorkerData } from "./worker_messages.ts";

const LARGE_SLOTS = 48;
const SMALL_SLOTS = 192;
/** Journal staging, undo, request slots, scratch: what the arena holds besides the two caches. */
const OVERHEAD_MIB = 112;
/** So many characters of a list of locks are made in one turn. */
const LOCKS_PIECE = 128 << 10;

const data = workerData as VolumeWorkerData;
logToStderr();
setLogMasks(data.log_masks);

/** Of the heap that a thread may have, and of the machine's memory. */
const INODES_OF_HEAP = 1 / 2;
const INODES_OF_MEMORY = 1 / 8;
/** An inode with its locks, here and at their masters, which may be this node for as many inodes of others. */
const INODE_BYTES = 4096;
const LEAST_INODES = 16 << 10;

function cachedInodes(): number {
  const bytes = Math.min(getHeapStatistics().heap_size_limit * INODES_OF_HEAP, totalmem() * INODES_OF_MEMORY);
  return Math.max(LEAST_INODES, Math.floor(bytes / INODE_BYTES));
}

const options = data.options.cached_inodes > 0 ? data.options : { ...data.options, cached_inodes: cachedInodes() };
const port = parentPort!;
const say = (message: FromVolume): void => port.postMessage(message);

const messageOf = (err: unknown): string => (err instanceof Error ? err.message : String(err));

function openArena() {
  const { cache_bytes, data_cache_bytes } = data.options;
  const mib = Math.ceil((cache_bytes + data_cache_bytes) / (1 << 20)) + OVERHEAD_MIB;
  const arena = createArena(mib);
  // All is hardening; a machine that refuses it still mounts.
  const handle = registerArena(arena.u8);
  arenaDontFork(handle);
  // Others must not wait for the swap of this machine, nor declare it dead over it.
  if (data.cluster !== null) arenaLockOnFault(handle);
  setIoFlusher(true);
  return arena;
}

/** What can be said of a failure before there is a loop is that the thread has not started. */
function setUp() {
  try {
    const arena = openArena();
    return { arena, loop: new Loop(arena, 1024, data.cluster?.of.lease) };
  } catch (err) {
    throw new Error(plainText(err));
  }
}

watchCollections();
const { arena, loop } = setUp();
parentPort!.postMessage({ wakefd: loop.giveWakefd() } satisfies WakeFd);

let session: Session | null = null;
let notifier: Notifier | null = null;
let osb: Osb | null = null;
let fuse_fd = -1;

function infoOf(o: Osb): VolumeInfo {
  return {
    label: o.geo.label,
    uuid: Buffer.from(o.geo.uuid).toString("hex").toUpperCase(),
    blocksize: o.geo.blocksize,
    clustersize: o.geo.clustersize,
    slot: o.slot_num,
    without_cluster: !o.incompat(FEATURE_INCOMPAT.LOCAL_MOUNT) && !o.glue.domain.clustered,
    device_readonly: o.dev.readonly,
    readonly_reason: o.readonly_reason,
  };
}

function journalFigures(o: Osb): VolumeStatus["journal"] {
  if (o.slot_num < 0) return null;
  const { commits, checkpoints, flushes } = o.journal;
  return { commits, checkpoints, flushes };
}

function statusOf(o: Osb, settle: boolean): VolumeStatus {
  const counts: Record<string, number> = {};
  session?.counts.forEach((n, opcode) => {
    if (n > 0) counts[FUSE_OPCODE_NAMES.get(opcode) ?? String(opcode)] = n;
  });
  return {
    ...infoOf(o),
    requests: session?.requests ?? 0,
    outstanding: session?.outstanding ?? 0,
    open_files: session?.handles.count ?? 0,
    inodes: o.inodes.size,
    cached_inodes: o.options.cached_inodes,
    evicted: o.inodes.evicted,
    dirty_pages: o.data.dirty_pages,
    io: (o.dev as UringDevice).io,
    localalloc_clusters: o.slot_num < 0 ? 0 : allocState(o).la.bits,
    coherency: o.options.coherency,
    counts,
    locks: o.glue.attached.size,
    basts: o.glue.bast_count,
    notifications: notifier?.sent ?? 0,
    journal: journalFigures(o),
    thread: threadFigures(settle),
    domain: o.glue.domain instanceof O2cbDomain ? domainSummary(o.glue.domain.dlm) : null,
  };
}

/** Lists of locks that somebody reads, piece by piece: there may be millions. */
const lists = new Map<number, Generator<string>>();

function* opWaits(o: Osb): Generator<string> {
  const r = o.recovery;
  yield `closing ${o.closing}, downconverts ${o.glue.active}, dead ${[...o.glue.recovery_map]}, recovery ${r?.busy === true ? "runs" : "rests"}\n`;
  for (const inode of o.inodes.values())
    if (inode.task_count > 0)
      yield `inode ${inode.ino}: ${inode.task_count} tasks, ${inode.nlookup} look-ups, open ${inode.open_count}\n`;
  for (const where of o.whereOpsWait()) yield `${where}\n\n`;
}

function nextLocks(o: Osb, { id, what, names }: Extract<ToVolume, { type: "locks" }>): void {
  const wanted = names.length === 0 ? undefined : (name: string): boolean => names.includes(name);
  let list = lists.get(id);
  if (list === undefined) {
    const { domain } = o.glue;
    if (what === "fs_locks") list = fsLockingState(o.glue, wanted);
    else if (what === "op_waits") list = opWaits(o);
    else if (domain instanceof O2cbDomain) list = dlmLockingState(domain.dlm, wanted);
    else list = (function* () {})();
    lists.set(id, list);
  }
  let text = "";
  while (text.length < LOCKS_PIECE) {
    const { value, done } = list.next();
    if (done === true) break;
    text += value;
  }
  if (text === "") lists.delete(id);
  say({ type: "locks", id, text });
}

/** A broken invariant: nothing more may be written. The main thread takes the mount away and ends the process. */
function fatal(err: unknown): void {
  const text = err instanceof Error ? (err.stack ?? err.message) : String(err);
  writeSync(2, `ocfs2: fatal: ${text}\n`);
  say({ type: "fatal", message: messageOf(err) });
  loop.stop();
}
process.on("uncaughtException", fatal);
process.on("unhandledRejection", fatal);

/** Serves the mount once the first notifier threads run: without them nobody could take a lock away from this node again. */
function serve(o: Osb, fd: number): void {
  fuse_fd = fd;
  if (!o.glue.domain.clustered) return begin(o, fd, []);
  // Their news does not wake a loop that sleeps in its ring.
  const may_sleep = loop.addWork(() => true);
  loop.wake();
  const first: NotifierWorker[] = [];
  const started = async (): Promise<void> => {
    while (first.length < FIRST_THREADS) first.push(new NotifierWorker(fd, loop));
    await Promise.all(first.map((t) => t.started));
  };
  started()
    .finally(may_sleep)
    .then(
      () => begin(o, fd, first),
      (err) => close(o, err),
    );
}

function begin(o: Osb, fd: number, notifiers: NotifierWorker[]): void {
  if (closing) return;
  session = new Session(o, fileOps, loop, new DevFuse(arena.u8, fd, loop), {
    policy: {
      clustered: o.glue.domain.clustered,
      writeback_cache: data.writeback_cache,
      mountpoints: data.mountpoints,
      names_cool_ms: data.names_cool_ms,
      local_flocks: data.local_flocks,
      // Without the feature the kernel would be told EOPNOTSUPP when it asks for an ACL, and refuse every access.
      acl: o.options.acl && o.incompat(FEATURE_INCOMPAT.XATTR),
    },
    fuse_minor: data.fuse_minor,
    groups_of: groupsOf,
    large_slots: LARGE_SLOTS,
    small_slots: SMALL_SLOTS,
  });
  const { domain } = o.glue;
  notifier = domain.clustered ? new Notifier(() => notifiers.pop() ?? new NotifierWorker(fd, loop), loop) : null;
  if (notifier !== null) o.kernel_caches = new SessionCaches(session, notifier, loop, o.glue);
  session.onInit = () => say({ type: "initialized" });
  session.onUnmounted = () => {
    notifier?.stop();
    say({ type: "unmounted" });
    close(o);
  };
}

let closing = false;
/** `why`: it could not be served. */
function close(o: Osb, why: unknown = null): void {
  if (closing) return;
  closing = true;
  function* all(): Task<void> {
    if (o.readonly_reason === null) yield* forgetAll(o, loop.clock);
    yield* closeVolume(o);
  }
  spawn(all(), (err) => {
    if (err instanceof AssertionFailure) return fatal(err);
    leaveCluster(() => closed(o, err ?? why));
  });
}

function closed(o: Osb, err: unknown): void {
  loop.stop();
  loop.close();
  if (fuse_fd >= 0) closeFd(fuse_fd);
  const aborted = o.slot_num >= 0 && o.journal.aborted !== null;
  const error = err ? messageOf(err) : aborted ? `the journal was aborted: ${messageOf(o.journal.aborted)}` : null;
  say({ type: "closed", error });
  port.close();
}

port.on("message", (message: ToVolume) => {
  switch (message.type) {
    case "serve":
      serve(osb!, message.fd);
      break;
    case "status":
      if (osb !== null) say({ type: "status", id: message.id, status: statusOf(osb, message.settle) });
      break;
    case "locks":
      if (osb !== null) nextLocks(osb, message);
      break;
    case "locks-end":
      lists.delete(message.id);
      break;
    case "log":
      mlogSet(message.mask, message.state);
      break;
    case "close":
      if (osb !== null) close(osb);
      break;
  }
});

/** For the user: what was found, where the error says it in words. */
function plainText(err: unknown): string {
  const found = err instanceof FsError ? err.details["found"] : undefined;
  const in_words =
    err instanceof FsError &&
    (err.errno === Errno.EINVAL ||
      err.errno === Errno.EROFS ||
      err.where === "o2dlm.join" ||
      err.where === "native.ring");
  return typeof found === "string" && in_words ? found : messageOf(err);
}

function fail(err: unknown): void {
  say({ type: "failed", message: plainText(err), errno: err instanceof FsError ? err.code : null });
  loop.stop();
  loop.close();
  port.close();
}

/**
 * With -o ro, too, the journal of a volume that was not unmounted is replayed, as by the kernel; so the device is opened for writing
 * where that may be: not if it is read-only, and not if somebody else has it.
 */
function openOurDevice(): { opened: OpenedDevice; readonly: boolean } {
  try {
    return { opened: openDevice(data.device, false, data.cluster !== null), readonly: false };
  } catch (err) {
    if (!data.options.ro || !(err instanceof FsError)) throw err;
    return { opened: openDevice(data.device, true, data.cluster !== null), readonly: true };
  }
}

function open(): void {
  const { opened, readonly } = openOurDevice();
  const dev = new UringDevice(loop, data.device, opened, readonly);
  const kernels = createKernels(arena);
  const { clock } = loop;
  const random = systemRandom;
  const parts = { arena, kernels, dev, clock, random, options, onProgress: progress, onOsb: watch };
  loop.start();
  function* all(): Task<Osb> {
    const domain = data.cluster !== null ? yield* joinCluster(data.cluster) : testDomain();
    // The domain is the volume's from here on: it leaves it when it cannot be opened, or is closed.
    leaveCluster = closeCluster;
    return yield* openVolume(domain === undefined ? parts : { ...parts, domain });
  }
  spawn(all(), (err, opened) => {
    if (err) {
      dev.close();
      leaveCluster(() => fail(err));
      return;
    }
    osb = opened!;
    say({ type: "opened", info: infoOf(osb) });
  });
}

/** From the first moment: what goes wrong while it is mounted may keep the node from giving back what it holds. */
function watch(o: Osb): void {
  o.onAssertion = fatal;
  o.onPanic = (err) => fatal(new Error(`the journal was aborted: ${messageOf(err)}`));
}

function testDomain(): LockDomain | undefined {
  if (data.random_bast_seed === null) return undefined;
  return new RandomBastDomain({ random: seededRandom(data.random_bast_seed), clock: loop.clock });
}

// The cluster ----------------------------------------------------------------------------------------------------------
/** Ends what joinCluster began, from the last step that was done. */
let leaveCluster = (done: () => void): void => done();
let closeCluster = leaveCluster;

/** The lock domain of the volume. */
function* joinCluster(cluster: NonNullable<VolumeWorkerData["cluster"]>): Task<LockDomain> {
  const { of, port: net } = cluster;
  const { node, close: detach } = attachDomain(loop, of, net, fatal);
  leaveCluster = closeCluster = (done) => {
    detach();
    done();
  };
  progress(`joining the lock domain ${of.domain}`);
  const domain = yield* wait<O2cbDomain>((cb) =>
    O2cbDomain.join(node, of.domain, (err, joined, why) => {
      if (joined !== null) cb(null, joined);
      else cb(new FsError(-err, "o2dlm.join", { domain: of.domain, found: why || joinFailure(-err) }));
    }),
  );
  return domain;
}

const joinFailure = (errno: number): string =>
  `the lock domain cannot be joined (${errnoName(errno)}); see the log of this node`;

function progress(text: string): void {
  say({ type: "progress", text });
}

try {
  open();
} catch (err) {
  fail(err);
}
