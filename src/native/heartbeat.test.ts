/** The heartbeat's native thread on a real file: what it writes, what it tells, and that it does not write when it must not. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { expect, test } from "vitest";
import { atExit, tempDir } from "../../test/support/cleanup.ts";
import { missing, sh, trySh } from "../../test/support/sh.ts";
import { nextUncaught } from "../../test/support/until.ts";
import { HeartbeatBlock } from "../format/disk/index.ts";
import { type BeatSample, DiskHeartbeat, type DiskHeartbeatOptions } from "./heartbeat.ts";
import { leaseAlloc, leaseClockMs, leaseGet } from "./index.ts";

const OFFSET = 8192;
const BLOCK = 512;

function area(): string {
  const path = join(tempDir("ocfs2-hb"), "disk");
  writeFileSync(path, "");
  truncateSync(path, OFFSET + 255 * BLOCK);
  return path;
}

const options = (path: string, more: Partial<DiskHeartbeatOptions> = {}): DiskHeartbeatOptions => ({
  path,
  offset_bytes: OFFSET,
  slot_bytes: BLOCK,
  node: 3,
  generation: 0x123456789abcdef0n,
  dead_ms: 14_000,
  interval_ms: 40,
  lease_ms: 7000,
  fence_ms: 12_000,
  lease: 0,
  global: false,
  first: 1,
  last: 5,
  ...more,
});

const blockOf = (path: string, node: number): HeartbeatBlock =>
  HeartbeatBlock.from(readFileSync(path).subarray(OFFSET + node * BLOCK, OFFSET + (node + 1) * BLOCK));

/** Runs a region until `done`, then stops it. */
async function beats(
  o: DiskHeartbeatOptions,
  done: (all: BeatSample[], hb: DiskHeartbeat) => boolean,
  leave = true,
): Promise<BeatSample[]> {
  const all: BeatSample[] = [];
  await new Promise<void>((resolve) => {
    const hb = new DiskHeartbeat(
      o,
      (beat) => {
        all.push(beat);
        if (done(all, hb)) hb.stop(leave);
      },
      resolve,
    );
  });
  return all;
}

test("a beat is written as the kernel reads it, found again, and the farewell has generation 0", async () => {
  const path = area();
  let block: Buffer | undefined;
  const all = await beats(options(path), (seen) => {
    block = readFileSync(path).subarray(OFFSET + 3 * BLOCK, OFFSET + 4 * BLOCK);
    return seen.length === 5;
  });
  const hb = HeartbeatBlock.from(block!);
  expect([hb.hb_node, hb.hb_generation, hb.hb_dead_ms]).toEqual([3, 0x123456789abcdef0n, 14_000]);
  expect(Math.abs(hb.hb_seq - Date.now() / 1000)).toBeLessThan(60);
  const { hb_cksum } = hb;
  hb.hb_cksum = 0;
  expect(~crc32(block!, 0xffffffff) >>> 0).toBe(hb_cksum);
  expect(all.slice(0, 4).map((b) => [b.number, b.own, b.read_rc, b.write_rc])).toEqual([
    [0, "unknown", 0, 0],
    [1, "unknown", 0, 0],
    [2, "ok", 0, 0],
    [3, "ok", 0, 0],
  ]);
  expect([all[0]!.first, all[0]!.slots.length]).toEqual([1, 5]);
  expect(all[0]!.slots[2]).toEqual({ seq: 0, generation: 0n, dead_ms: 0, node: 0, crc_ok: true });
  expect(all[1]!.slots[2]).toMatchObject({ generation: 0x123456789abcdef0n, node: 3, crc_ok: true });
  expect(blockOf(path, 3).hb_generation).toBe(0n);
});

test("what others wrote is told, a wrong checksum too, and who writes our slot", async () => {
  const path = area();
  const other = HeartbeatBlock.alloc(BLOCK - HeartbeatBlock.size);
  Object.assign(other, { hb_seq: 77, hb_node: 4, hb_generation: 5n, hb_dead_ms: 6 });
  other.hb_cksum = ~crc32(new Uint8Array(other.dv.buffer), 0xffffffff) >>> 0;
  const put = (node: number): void => {
    const bytes = readFileSync(path);
    bytes.set(new Uint8Array(other.dv.buffer), OFFSET + node * BLOCK);
    writeFileSync(path, bytes, { flag: "r+" });
  };
  put(4);
  other.hb_seq = 78;
  put(5);
  const all = await beats(options(path), (seen) => {
    if (seen.length === 4) put(3);
    return seen.some((b) => b.own === "node") || seen.length > 50;
  });
  expect(all.map((b) => b.own)).toContain("node");
  expect(all[0]!.slots[3]).toEqual({ seq: 77, generation: 5n, dead_ms: 6, node: 4, crc_ok: true });
  expect(all[0]!.slots[4]).toMatchObject({ seq: 78, crc_ok: false });
});

const no_loop = process.getuid?.() !== 0 ? "loop devices need root" : missing("losetup").join(" ");

test.skipIf(no_loop)(
  "a write that the device has refused and taken all the same is ours when it is found",
  async () => {
    const path = area();
    const loop = sh(["losetup", "--find", "--show", path]).trim();
    atExit(() => trySh(["losetup", "--detach", loop]));
    const set = (mode: "--setro" | "--setrw"): string => sh(["blockdev", mode, loop]);
    let good: BeatSample | undefined;
    let refused: BeatSample | undefined;
    const all = await beats(options(loop), (seen) => {
      const beat = seen.at(-1)!;
      if (refused !== undefined) return beat.number >= refused.number + 3;
      if (beat.write_rc === 0) {
        good = beat;
        if (beat.number === 3) set("--setro");
      } else if (good !== undefined && beat.slots[2]!.seq > good.slots[2]!.seq) {
        refused = beat;
        const block = HeartbeatBlock.alloc(BLOCK - HeartbeatBlock.size);
        Object.assign(block, { hb_seq: beat.slots[2]!.seq, hb_node: 3, hb_generation: options(loop).generation });
        const bytes = readFileSync(path);
        bytes.set(new Uint8Array(block.dv.buffer), OFFSET + 3 * BLOCK);
        writeFileSync(path, bytes, { flag: "r+" });
        set("--setrw");
      }
      return false;
    });
    expect(all.filter((b) => b.number > refused!.number && b.write_rc === 0).map((b) => b.own)).not.toContain(
      "sequence",
    );
    expect(all.at(-1)).toMatchObject({ own: "ok", write_rc: 0 });
  },
);

test("the lease follows the submission of completed writes once it is armed, and stays shut when it was shut", async () => {
  const lease = leaseAlloc();
  const leases: number[] = [];
  let armed_too_early = false;
  const all = await beats(options(area(), { lease, lease_ms: 1000 }), (seen, hb) => {
    leases.push(leaseGet(lease));
    if (seen.length === 1) armed_too_early = hb.arm();
    if (seen.length === 5) expect(hb.arm()).toBe(true);
    if (seen.length === 8) hb.shut();
    return seen.length === 10;
  });
  expect(armed_too_early).toBe(false);
  expect(leases.slice(0, 5)).toEqual([0, 0, 0, 0, 0]);
  expect(leases[6]).toBeGreaterThan(leaseClockMs() - 60_000);
  expect(Math.abs(leases[6]! - (all[6]!.submit_ms + 1000))).toBeLessThan(500);
  expect(leases.at(-1)).toBe(0);
});

/** Regions of one lease, of which some have a device that stops answering; whether the lease still stands after that. */
async function late(global: boolean, regions: number, failing: number): Promise<boolean> {
  const lease = leaseAlloc();
  const paths = Array.from({ length: regions }, area);
  let beats = 0;
  let stands = false;
  await Promise.all(
    paths.map(
      (path, i) =>
        new Promise<void>((resolve) => {
          let n = 0;
          const hb = new DiskHeartbeat(
            options(path, { lease, lease_ms: 600, global }),
            () => {
              if (++n === 4) hb.arm();
              if (n === 5 && i < failing) truncateSync(path, OFFSET);
              if (i === regions - 1) beats++;
              if (beats > 24) {
                if (i === regions - 1) stands = leaseGet(lease) > leaseClockMs();
                hb.stop(false);
              }
            },
            resolve,
          );
        }),
    ),
  );
  return stands;
}

test.each([
  ["local", 1, 3, false],
  ["global", 1, 3, true],
  ["global", 2, 3, false],
  ["global", 1, 2, false],
  ["local", 0, 2, true],
] as const)("%s heartbeat, %i of %i regions late: the lease stands %s", async (mode, failing, regions, stands) => {
  expect(await late(mode === "global", regions, failing)).toBe(stands);
});

test("a pause of JavaScript delays no beat, and loses no sample", async () => {
  let paused = false;
  const all = await beats(options(area()), (seen) => {
    if (seen.length === 3 && !paused) {
      paused = true;
      for (const end = leaseClockMs() + 1000; leaseClockMs() < end; ) Math.sqrt(2);
    }
    return seen.length === 30;
  });
  const gaps = all.slice(2).map((b, i) => b.submit_ms - all[i + 1]!.submit_ms);
  expect(Math.max(...gaps)).toBeLessThan(900);
  expect(all.map((b) => b.number)).toEqual([...Array(all.length).keys()]);
  expect(all.at(-1)!.lost).toBe(0);
});

test("a write that completes later than others wait, after the end was put off, opens the gate only when that is proven", async () => {
  const lease = leaseAlloc();
  const path = area();
  let hb: DiskHeartbeat;
  const timer = setInterval(() => hb.extend(), 200);
  const seen: [proven: boolean, open: boolean][] = [];
  let late = false;
  let proven = false;
  await new Promise<void>((resolve) => {
    let n = 0;
    hb = new DiskHeartbeat(
      options(path, { lease, lease_ms: 1500, fence_ms: 3000 }),
      (beat) => {
        if (++n === 4) hb.arm();
        if (n === 6) {
          truncateSync(path, OFFSET);
          setTimeout(() => {
            late = true;
            truncateSync(path, OFFSET + 255 * BLOCK);
          }, 3500);
        }
        if (!late || beat.own !== "ok") return;
        seen.push([proven, leaseGet(lease) > leaseClockMs()]);
        if (seen.length === 5) {
          hb.prove();
          proven = true;
        }
        if (seen.length === 10) hb.stop(false);
      },
      resolve,
    );
  });
  clearInterval(timer);
  for (const [was_proven, open] of seen) expect(open).toBe(was_proven);
});

async function child(o: DiskHeartbeatOptions & { trigger?: string; extend?: boolean }): Promise<ChildProcess> {
  const json = JSON.stringify(o, (_k, v) => (typeof v === "bigint" ? String(v) : v));
  const runner = join(import.meta.dirname, "../../test/support/run_ts.mjs");
  const code = `import(${JSON.stringify(runner)}).then((m) => m.loadTs("src/native/heartbeat_fixture.ts"))`;
  const proc = spawn(process.execPath, ["-e", code, json], { stdio: ["ignore", "pipe", "pipe"] });
  atExit(() => proc.kill("SIGKILL"));
  const [line] = await once(proc.stdout!, "data");
  expect(String(line)).toBe("armed\n");
  return proc;
}

test.each([
  ["", false],
  [", though all nodes ask for time", true],
])(
  "a process that was stopped for longer than its deadline ends itself when it goes on, and never writes again%s",
  async (_, extend) => {
    const path = area();
    const proc = await child({ ...options(path, { lease_ms: 300, fence_ms: 600 }), extend });
    proc.kill("SIGSTOP");
    await new Promise((r) => setTimeout(r, 100));
    const before = readFileSync(path);
    await new Promise((r) => setTimeout(r, 900));
    const exit = once(proc, "exit");
    proc.kill("SIGCONT");
    const [code, signal] = await exit;
    expect([code, signal]).toEqual([null, "SIGKILL"]);
    expect(readFileSync(path).equals(before)).toBe(true);
  },
);

test("a device that does not answer for longer than the deadline ends the process, or the machine where that is asked for", async () => {
  // A file that became too short cannot be written whole, nor read: the beats fail.
  const path = area();
  const trigger = join(tempDir("ocfs2-hb"), "sysrq-trigger");
  writeFileSync(trigger, "");
  const proc = await child({ ...options(path, { lease_ms: 300, fence_ms: 600 }), trigger });
  let words = "";
  proc.stderr!.on("data", (text) => (words += text));
  const exit = once(proc, "exit");
  truncateSync(path, OFFSET);
  const [, signal] = await exit;
  expect(signal).toBe("SIGKILL");
  expect(words).toContain("heartbeat write timeout");
  expect(readFileSync(trigger, "utf8")).toBe("b");
});

test("what goes wrong about a beat ends the process; node only warned of it, and the heart beat on", async () => {
  const broken = new Error("broken");
  let hb: DiskHeartbeat | undefined;
  let end = (): void => {};
  const ended = new Promise<void>((ok) => {
    end = ok;
  });
  const onBeat = (beat: BeatSample): void => {
    hb!.stop(false);
    if (beat.number === 0) throw broken;
  };
  const start = (): void => {
    hb = new DiskHeartbeat(options(area()), onBeat, end);
  };
  expect(await nextUncaught(start)).toBe(broken);
  await ended;
}, 10_000);
