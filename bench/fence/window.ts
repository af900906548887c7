/**
 * The window that fencing leaves open (docs/CLUSTER.md): how long after its lease a node's last write reaches the device. Writes go to a device that notes when each
 * comes (test/support/stall_disk.c), as fast as it takes them, while the lease runs out in the middle of it.
 */
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { Errno } from "../../src/lib/errno.ts";
import { check } from "../../src/lib/fs_error.ts";
import * as native from "../../src/native/index.ts";
import { tempDir } from "../../test/support/cleanup.ts";
import { StallDisk } from "../../test/support/stall.ts";

const PAGE = 4096;
const LEASE_MS = 30;

export interface Window {
  /** Of each trial: ms from the end of the lease to the last write; less than 0 when the last one came before. */
  readonly late_ms: readonly number[];
  /** Writes that were on their way at the end of the lease, at most. */
  readonly in_flight: number;
  /** Writes in all, and those that the gate refused. */
  readonly writes: number;
  readonly refused: number;
}

/** `load`: every CPU burns in a thread meanwhile. */
export async function measure(trials: number, depth: number, load: boolean): Promise<Window> {
  const burn = "for (let x = 0;;) { const a = []; for (let i = 0; i < 1e5; i++) a.push({ i }); x += a.length; }";
  const burning = Array.from({ length: load ? availableParallelism() : 0 }, () => new Worker(burn, { eval: true }));
  const image = join(tempDir("ocfs2-fence"), "image");
  writeFileSync(image, Buffer.alloc(depth * PAGE));
  const disk = await StallDisk.open(image);
  const u8 = new Uint8Array(new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true }).buffer);
  const lease = check(native.leaseAlloc(), "lease");
  const ring = new native.Ring(2 * depth, u8, lease);
  const fd = check(native.openFile(disk.path, native.O.RDWR | native.O.DIRECT, 0), "open");
  const late_ms: number[] = [];
  let [in_flight, writes, refused] = [0, 0, 0];
  for (let trial = 0; trial < trials; trial++) {
    const end_ms = native.leaseClockMs() + LEASE_MS;
    native.leaseSet(lease, end_ms);
    for (let [under_way, shut] = [0, false]; under_way > 0 || !shut; ) {
      for (; !shut && under_way < depth; under_way++, writes++) ring.write(fd, 0, PAGE, under_way * PAGE, 0);
      if (!shut) in_flight = Math.max(in_flight, under_way);
      ring.submitAndWait(1, 5000);
      for (let n = ring.reap(); n > 0; n--) {
        under_way--;
        if (ring.cq[2 * n - 1] === -Errno.ESHUTDOWN) {
          shut = true;
          refused++;
        }
      }
    }
    late_ms.push((await disk.lastWrite()) - end_ms);
  }
  ring.close();
  native.closeFd(fd);
  disk.close();
  await Promise.all(burning.map((worker) => worker.terminate()));
  return { late_ms, in_flight, writes, refused };
}
