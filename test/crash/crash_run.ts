/**
 * Crash tests: a workload runs on a recording device; then the power is cut at many moments, each in several ways, and every disk that
 * comes of it is recovered by our own mount, judged against the workload's history, written to once more, unmounted and given to
 * fsck.ocfs2. Some are cut again while they recover, and some are recovered by fsck.ocfs2 instead of us, which also shows that
 * others can replay our journal. A failure names seed, moment and fate, which make the same disk again.
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { MemoryDevice } from "../../src/block/memory_device.ts";
import { seededRandom, type systemClock } from "../../src/lib/clock.ts";
import { Errno } from "../../src/lib/errno.ts";
import { FsError } from "../../src/lib/fs_error.ts";
import { mlogSet } from "../../src/lib/masklog.ts";
import { runTask, wait } from "../../src/lib/task.ts";
import type { LockDomain } from "../../src/stackglue/lock_domain.ts";
import { RandomBastDomain } from "../../src/stackglue/random_bast.ts";
import { fsync, writeFile } from "../../src/vfs/file.ts";
import { create, nameOf, unlink } from "../../src/vfs/namespace.ts";
import { defaultMountOptions } from "../../src/volume/mount_options.ts";
import type { Osb } from "../../src/volume/osb.ts";
import { closeVolume, openVolume } from "../../src/volume/super.ts";
import { type Arena, createArena } from "../../src/wasm/arena.ts";
import { createKernels, type Kernels } from "../../src/wasm/kernels.ts";
import { tempDir } from "../support/cleanup.ts";
import { fsckAsync, fsckRepair } from "../support/judges.ts";
import { mkfsImage, readImage, writeSparse } from "../support/volume.ts";
import { CrashWalker, FATES, type Fate, moments } from "./crash_states.ts";
import type { Planted } from "./planted.ts";
import { RecordingDevice } from "./recording_device.ts";
import { type History, isHalfDone, judge, Workload } from "./workload.ts";

/** A clock that moves a little with each look, so that no two operations have the same time, and a run repeats exactly. */
function countingClock(): typeof systemClock {
  let ticks = 0;
  return {
    realtime: () => ({ sec: 1_700_000_000, nsec: ++ticks * 1000 }),
    monotonic_ms: () => ++ticks,
    after: () => () => {},
  };
}

/** One arena for all volumes of a run, each of which gets it empty: memories of their own would pile up. */
class Reused {
  readonly arena: Arena = createArena(48);
  readonly kernels: Kernels = createKernels(this.arena);
  #start = -1;

  /** The arena as new. */
  take(): Arena {
    const inner = this.arena as unknown as { next: number };
    if (this.#start < 0) this.#start = inner.next;
    else this.arena.u8.fill(0, this.#start, inner.next);
    inner.next = this.#start;
    return this.arena;
  }
}

/** Small volumes of different kinds; seed N takes the N-th, round and round. */
export const VOLUMES: readonly { name: string; mkfs: readonly string[]; size_mib: number }[] = [
  { name: "4K blocks", mkfs: ["-b", "4K", "-C", "4K", "-N", "1", "-J", "size=4M"], size_mib: 24 },
  { name: "1K blocks, 32K clusters", mkfs: ["-b", "1K", "-C", "32K", "-N", "2", "-J", "size=4M"], size_mib: 32 },
  {
    name: "4K blocks, metaecc",
    mkfs: ["-b", "4K", "-C", "8K", "-N", "1", "-J", "size=4M", "--fs-features=metaecc"],
    size_mib: 24,
  },
  {
    name: "512 blocks, no inline data, linear directories",
    mkfs: ["-b", "512", "-C", "4K", "-N", "1", "-J", "size=4M", "--fs-features=noinline-data,noindexed-dirs"],
    size_mib: 24,
  },
];

export interface CrashFailure {
  readonly where: string;
  readonly problems: string[];
}

export interface CrashOptions {
  readonly mkfs: readonly string[];
  readonly size_mib: number;
  readonly seed: number;
  readonly steps: number;
  /** How many states to try; all moments are used when there are enough. */
  readonly states: number;
  /** Only this one, of a failure's report. */
  readonly only?: { readonly at: number; readonly fate: Fate };
  readonly onState?: (done: number) => void;
  /** A fault in the mount that is cut: to see that the judge sees it. */
  readonly planted?: Planted;
  /** Beside another node, which wants every lock at any moment. */
  readonly locks?: boolean;
}

export interface CrashResult {
  readonly states: number;
  readonly moments: number;
  readonly operations: number;
  readonly failures: CrashFailure[];
}

/** Opens; between two completions what became ready runs, as a microtask. */
async function open(
  reused: Reused,
  dev: MemoryDevice,
  seed: number,
  planted?: Planted,
  domain?: LockDomain,
): Promise<Osb> {
  let settled = false;
  const opened = runTask(
    openVolume({
      arena: reused.arena,
      kernels: reused.kernels,
      dev,
      clock: countingClock(),
      random: seededRandom(seed),
      options: { ...defaultMountOptions, cache_bytes: 4 << 20, data_cache_bytes: 4 << 20, ...planted?.mount },
      ...(domain === undefined ? {} : { domain }),
    }),
  ).finally(() => {
    settled = true;
  });
  opened.catch(() => {});
  for (let idle = 0; !settled && idle < 100; idle++) {
    if (dev.pump()) idle = 0;
    await null;
  }
  if (!settled) throw new Error("the mount waits, but nothing is in flight");
  return opened;
}

/** Unmounts, as the mount does: what was unlinked and is being wiped comes first. */
function close(osb: Osb): void {
  const busy = (): boolean => [...osb.inodes.values()].some((inode) => inode.task_count > 0);
  do osb.pump();
  while (busy());
  osb.runTaskSync(closeVolume(osb));
}

/**
 * The volume after a long life: what is free holds what nobody has written since. On a new one it is zero, as a hole is, and a cluster
 * that is mapped before its data are written would not be noticed.
 */
async function aged(reused: Reused, base: Uint8Array): Promise<Uint8Array> {
  const arena = reused.take();
  const dev = new MemoryDevice(arena, base.slice());
  const osb = await open(reused, dev, 1);
  const addr = arena.alloc(Workload.bufferBytes, 4096);
  arena.u8.fill(0xa5, addr, addr + Workload.bufferBytes);
  const cred = { uid: 0, gid: 0, umask: 0o022 };
  const name = nameOf("all of it");
  const { ino } = osb.runSync((op) => create(op, osb.geo.root_blkno, name, 0o644, cred));
  const inode = osb.inodes.get(ino);
  for (let offset = 0, n = 1; n > 0; offset += n) {
    try {
      n = osb.runTaskSync(wait<number>((cb) => writeFile(osb, inode, { offset, len: Workload.bufferBytes, addr }, cb)));
    } catch (err) {
      if (!(err instanceof FsError) || err.errno !== Errno.ENOSPC) throw err;
      n = 0;
    }
  }
  osb.runTaskSync(wait<void>((cb) => fsync(osb, inode, false, cb)));
  osb.runSync((op) => unlink(op, osb.geo.root_blkno, name));
  close(osb);
  return dev.data;
}

interface Recorded {
  readonly device: RecordingDevice;
  readonly history: History;
  readonly orphan_dirs: readonly number[];
}

/** Runs the workload on a fresh volume; it ends without an unmount every second time. */
async function record(reused: Reused, base: Uint8Array, options: CrashOptions): Promise<Recorded> {
  const arena = reused.take();
  const device = new RecordingDevice(arena, base.slice(), options.seed, options.planted?.loses);
  const domain = options.locks === true ? new RandomBastDomain({ random: seededRandom(options.seed + 3) }) : undefined;
  if (domain !== undefined) device.alsoHappens = () => domain.poke();
  const osb = await open(reused, device, options.seed, options.planted, domain);
  const buffer = arena.alloc(Workload.bufferBytes, 4096);
  const orphan_dirs = [...osb.system_inodes].flatMap(([name, { ino }]) => (name.startsWith("orphan_dir") ? [ino] : []));
  const workload = new Workload(osb, seededRandom(options.seed * 7919 + 1), () => device.now, buffer);
  for (let i = 0; i < options.steps; i++) workload.step();
  if (options.seed % 2 === 0) {
    workload.releaseHeld();
    close(osb);
  }
  return { device, history: workload.history, orphan_dirs };
}

/** A file written, fsynced and deleted: what is free on the recovered volume must be free indeed. */
function useOnce(osb: Osb, addr: number): void {
  const cred = { uid: 0, gid: 0, umask: 0o022 };
  for (let i = 0; i < 3; i++) {
    const name = nameOf(`after-the-crash-${i}`);
    const { ino } = osb.runSync((op) => create(op, osb.geo.root_blkno, name, 0o644, cred));
    const inode = osb.inodes.get(ino);
    osb.runTaskSync(wait<number>((cb) => writeFile(osb, inode, { offset: i * 100_000, len: 70_000, addr }, cb)));
    osb.runTaskSync(wait<void>((cb) => fsync(osb, inode, false, cb)));
    if (i === 1) osb.runSync((op) => unlink(op, osb.geo.root_blkno, name));
  }
}

/** Recovers a disk by mounting it; the problems found, and the disk as the unmount left it. */
async function recover(reused: Reused, disk: Uint8Array, history: History, t: number): Promise<string[]> {
  const arena = reused.take();
  const osb = await open(reused, new MemoryDevice(arena, disk), 99);
  const buffer = arena.alloc(Workload.bufferBytes, 4096);
  const problems = judge(osb, history, t, buffer);
  useOnce(osb, buffer);
  close(osb);
  return problems;
}

/** Mounts and unmounts on a device that is cut once more meanwhile; the disk of that second cut. */
async function cutAgain(reused: Reused, disk: Uint8Array, seed: number): Promise<Uint8Array> {
  const random = seededRandom(seed);
  const arena = reused.take();
  const device = new RecordingDevice(arena, disk.slice(), seed);
  close(await open(reused, device, seed));
  const all = moments(device.diary);
  if (all.length === 0) return disk;
  const walker = new CrashWalker(disk, device.diary);
  walker.moveTo(all[random.u32() % all.length]!);
  return walker.state(FATES[random.u32() % FATES.length]!, random);
}

/** Spreads `count` cuts over the moments: each moment with a fate of its own while they last. */
function plan(all: readonly number[], count: number, seed: number): { at: number; fate: Fate }[] {
  const random = seededRandom(seed + 17);
  const cuts: { at: number; fate: Fate }[] = [];
  const stride = Math.max(1, all.length / count);
  const rounds = Math.ceil(count / all.length);
  for (let round = 0; round < rounds; round++)
    for (let i = 0; i < all.length && cuts.length < count; i += stride) {
      const fate = FATES[(Math.floor(i / stride) + round + (random.u32() % 2)) % FATES.length]!;
      cuts.push({ at: all[Math.floor(i)]!, fate });
    }
  return cuts.sort((a, b) => a.at - b.at);
}

/** Runs one workload and tries its crash states. */
export async function crashRun(options: CrashOptions): Promise<CrashResult> {
  mlogSet("NOTICE", "off");
  const reused = new Reused();
  const base = await aged(reused, mkfsImage(options.mkfs, options.size_mib));
  const { device, history, orphan_dirs } = await record(reused, base, options);
  const failures: CrashFailure[] = device.races.map((race) => ({ where: `seed ${options.seed}`, problems: [race] }));
  const all = moments(device.diary);
  const cuts = options.only === undefined ? plan(all, options.states, options.seed) : [options.only];
  const walker = new CrashWalker(base, device.diary);
  const dir = tempDir("ocfs2-crash", existsSync("/dev/shm") ? { base: "/dev/shm" } : {});
  writeSparse(join(dir, "base"), base);
  const known = (await fsckAsync(join(dir, "base"))).findings;
  let judged: Promise<void> = Promise.resolve();
  const spare = new Uint8Array(base.length);
  for (const [i, { at, fate }] of cuts.entries()) {
    walker.moveTo(at);
    // From the moment, not from the count, so that a report repeats.
    const random = seededRandom(options.seed * 1_000_003 + at);
    let disk = walker.state(fate, random, spare);
    const second = random.u32() % 8 === 0;
    const byTool = random.u32() % 16 === 0;
    const where = `--seed ${options.seed}${options.locks === true ? " --locks" : ""} --at ${at} --fate "${fate}"${second ? " (cut again)" : ""}${byTool ? " (fsck.ocfs2 recovers)" : ""}`;
    const path = join(dir, `${i % 2}.img`);
    const problems: string[] = [];
    const leaked: string[] = [];
    try {
      if (byTool) {
        writeSparse(path, disk);
        const repairs = (await fsckRepair(path)).map((line) => line.replace(/\? y$/, "? n"));
        const odd = repairs.filter(
          (r) =>
            !EXPECTED_REPAIR.test(r) &&
            !known.includes(r) &&
            !isHalfDone(history, at, r) &&
            !isOfOrphans(r, repairs, orphan_dirs),
        );
        problems.push(...odd.map((line) => `fsck repaired: ${line}`));
        // fsck.ocfs2 deletes an orphan but not the clusters of its attributes' values: what it leaves marked is its own doing.
        if (repairs.some((r) => r.startsWith("[INODE_ORPHANED]")))
          leaked.push(
            ...(await fsckAsync(path, known)).findings.filter((line) => line.startsWith("[CLUSTER_ALLOC_BIT]")),
          );
        disk = readImage(path);
      } else if (second) disk = await cutAgain(reused, disk, at);
      problems.push(...(await recover(reused, disk, history, at)));
    } catch (err) {
      problems.push(err instanceof Error ? (err.stack ?? err.message) : String(err));
    }
    await judged;
    writeSparse(path, disk);
    judged = fsckAsync(path, known).then((verdict) => {
      const findings = verdict.findings.filter((line) => !isHalfDone(history, at, line) && !leaked.includes(line));
      problems.push(...findings.map((line) => `fsck: ${line}`));
      if (problems.length > 0) failures.push({ where, problems });
      rmSync(path, { force: true });
      options.onState?.(i + 1);
    });
  }
  await judged;
  rmSync(dir, { recursive: true, force: true });
  return { states: cuts.length, moments: all.length, operations: history.trees.length - 1, failures };
}

/**
 * What comes of an orphan: it is cut to size 0 before its clusters go, as by the kernel; and fsck.ocfs2 deletes an orphaned
 * directory without taking its link from the orphan directory, which it then has to mend itself.
 */
function isOfOrphans(finding: string, all: readonly string[], orphan_dirs: readonly number[]): boolean {
  const [, code, ino] = /^\[([A-Z_]+)\] Inode (\d+) /.exec(finding) ?? [];
  const orphaned = (which: string): boolean => all.some((line) => line.startsWith(`[INODE_ORPHANED] Inode ${which}`));
  if (code === "INODE_SPARSE_SIZE") return orphaned(`${ino} `);
  return code === "INODE_COUNT" && orphan_dirs.includes(Number(ino)) && orphaned("");
}

/** What fsck.ocfs2 -fy has to do on any volume that was not unmounted. */
const EXPECTED_REPAIR = /^\[(INODE_ORPHANED|LALLOC_|TRUNCATE_LOG|TRUNCATE_REC)/;
