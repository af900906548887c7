/**
 * Journals that Linux's jbd2 wrote, with everything that OCFS2's own seldom have: revoke records, checksums of each version, 64-bit tags,
 * blocks that begin with the magic number. ext4 writes them, since OCFS2 has no way to ask jbd2 for most of it; what our replay makes of the
 * disk is what e2fsck's makes of it.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../src/block/memory_device.ts";
import * as J from "../../src/format/jbd2/index.ts";
import { LOG_BYTES, Log, type LogRun } from "../../src/journal/log.ts";
import { type ReplayResult, replay } from "../../src/journal/replay.ts";
import { runTaskSync, type Task } from "../../src/lib/task.ts";
import { createArena } from "../../src/wasm/arena.ts";
import { createKernels } from "../../src/wasm/kernels.ts";
import { atExit, tempDir } from "../support/cleanup.ts";
import { sparseFile } from "../support/images.ts";
import { missing, sh, trySh } from "../support/sh.ts";

const SIZE_MIB = 48;

const lacking = missing("mkfs.ext4", "e2fsck", "debugfs", "losetup");
const why =
  process.getuid?.() !== 0
    ? "mounting needs root"
    : !existsSync("/dev/loop-control")
      ? "there is no /dev/loop-control"
      : lacking.length > 0
        ? `not installed: ${lacking.join(", ")}`
        : "";
if (why !== "") console.warn(`SKIPPED: journals that jbd2 wrote: ${why}`);

/** Folders whose blocks are revoked, and then hold data; files that begin with the magic number. */
const WORK = `
cd "$1"
for round in 1 2 3; do
  mkdir d; (cd d && seq -f 'a-name-that-takes-some-room-%g' 600 | xargs touch); sync .
  rm -r d; sync .
  for i in $(seq 12); do printf '\\300\\073\\071\\230' >magic$round-$i; done
  head -c "$2" /dev/urandom >data$round; sync .
done`;

/** An ext4 of which the log was not emptied, as a crash leaves it. */
function crashed(features: string, blocksize: number, options: string): string {
  const dir = tempDir("ocfs2-jbd2");
  const [live, image] = [join(dir, "live"), join(dir, "image")];
  sparseFile(live, SIZE_MIB);
  const how = ["-b", String(blocksize), "-O", features, "-J", "size=8", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
  sh(["mkfs.ext4", "-q", "-F", ...how, live]);
  const at = tempDir("ocfs2-jbd2-mnt");
  sh(["mount", "-o", `loop,commit=300,${options}`, live, at]);
  const umount = atExit(() => trySh(["umount", at]));
  // All of it must fit into the log.
  sh(["bash", "-ec", WORK, "bash", at, options === "data=journal" ? "200000" : "9000000"]);
  sh(["cp", "--sparse=always", live, image]);
  umount();
  return image;
}

/** Where the journal lies: inode 8. */
function journalBlocks(image: string): number[] {
  return sh(["debugfs", "-c", "-R", "blocks <8>", image], { stdio: ["ignore", "pipe", "ignore"] })
    .trim()
    .split(/\s+/)
    .map(Number);
}

function replayed(image: Buffer, blocksize: number, blocks: readonly number[]): { log: Log; result: ReplayResult } {
  const arena = createArena(16);
  const dev = new MemoryDevice(arena, image);
  const runs: LogRun[] = blocks.map((blkno, v_blkno) => ({ v_blkno, blkno, blocks: 1 }));
  const log = new Log(arena, createKernels(arena), dev, blocksize, runs, arena.alloc(LOG_BYTES, LOG_BYTES));
  function* all(): Task<ReplayResult> {
    yield* log.load();
    return yield* replay(arena, dev, log);
  }
  return { log, result: runTaskSync(all(), () => false) };
}

const { JBD2_FEATURE_INCOMPAT_64BIT: WIDE, JBD2_FEATURE_INCOMPAT_CSUM_V3: V3 } = J;

describe.skipIf(why !== "")("a journal that jbd2 wrote", () => {
  test.each([
    ["plain", "^metadata_csum,^64bit,extents", 1024, "data=ordered", 0, 0],
    [
      "checksums v1, 64-bit tags",
      "^metadata_csum,64bit",
      4096,
      "journal_checksum",
      WIDE,
      J.JBD2_FEATURE_COMPAT_CHECKSUM,
    ],
    ["checksums v3, 64-bit tags", "metadata_csum,64bit", 1024, "data=ordered", V3 | WIDE, 0],
    ["checksums v3", "metadata_csum,^64bit", 4096, "data=ordered", V3, 0],
    ["data in the log, checksums v3", "metadata_csum,64bit", 4096, "data=journal", V3 | WIDE, 0],
  ])("is replayed as e2fsck does: %s", (_, features, blocksize, options, incompat, compat) => {
    const image = crashed(features, blocksize, options);
    const blocks = journalBlocks(image);
    const ours = readFileSync(image);
    const { log, result } = replayed(ours, blocksize, blocks);
    // The superblock on the disk need not know of the revoke records yet.
    expect(log.feature_incompat & ~J.JBD2_FEATURE_INCOMPAT_REVOKE).toBe(incompat);
    expect(log.feature_compat).toBe(compat);
    expect(result.transactions).toBeGreaterThan(2);
    expect(result.blocks).toBeGreaterThan(10);
    // Data that goes through the log takes the place of what was revoked, and the records go.
    if (options !== "data=journal") expect(result.revoked).toBeGreaterThan(0);

    trySh(["e2fsck", "-y", "-E", "journal_only", image]);
    const theirs = readFileSync(image);
    // The superblock says when it was replayed; the journal, that it is empty.
    const own = new Set([...blocks, Math.floor(1024 / blocksize)]);
    const differ: number[] = [];
    for (let b = 0; b < ours.length / blocksize; b++)
      if (
        !own.has(b) &&
        ours.compare(theirs, b * blocksize, (b + 1) * blocksize, b * blocksize, (b + 1) * blocksize) !== 0
      )
        differ.push(b);
    expect(differ).toEqual([]);
  });
});
