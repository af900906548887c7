// Twin of asm/blockqueue.ts: ordering block requests and merging them into runs.

import type { BlockqueueKernels } from "../kernels.ts";
import type { TwinMemory } from "./memory.ts";

const REQ = 16;
const RUN = 24;

export function blockqueueTwin(m: TwinMemory): BlockqueueKernels {
  const { u8, dv } = m;
  return {
    bqSort(reqs, n, _scratch) {
      const list = Array.from({ length: n }, (_, i) => {
        const at = reqs + REQ * i;
        return { blkno: dv.getBigUint64(at, true), bytes: u8.slice(at, at + REQ) };
      });
      list.sort((a, b) => (a.blkno < b.blkno ? -1 : a.blkno > b.blkno ? 1 : 0));
      list.forEach((r, i) => {
        u8.set(r.bytes, reqs + REQ * i);
      });
    },
    bqMerge(reqs, n, block_bytes, max_blocks, max_iovs, runs, iovs) {
      type Iov = { addr: number; len: number };
      const merged: { blkno: bigint; blocks: number; first: number; iovs: Iov[] }[] = [];
      for (let i = 0; i < n; i++) {
        const blkno = dv.getBigUint64(reqs + REQ * i, true);
        const addr = dv.getUint32(reqs + REQ * i + 8, true);
        const run = merged.at(-1);
        const iov = run?.iovs.at(-1);
        const follows = run && run.blkno + BigInt(run.blocks) === blkno && run.blocks < max_blocks;
        if (follows && iov && iov.addr + iov.len === addr) {
          iov.len += block_bytes;
          run.blocks++;
        } else if (follows && run.iovs.length < max_iovs) {
          run.iovs.push({ addr, len: block_bytes });
          run.blocks++;
        } else {
          merged.push({ blkno, blocks: 1, first: i, iovs: [{ addr, len: block_bytes }] });
        }
      }
      let niovs = 0;
      merged.forEach((run, i) => {
        const at = runs + RUN * i;
        dv.setBigUint64(at, run.blkno, true);
        dv.setUint32(at + 8, run.blocks, true);
        dv.setUint32(at + 12, niovs, true);
        dv.setUint32(at + 16, run.iovs.length, true);
        dv.setUint32(at + 20, run.first, true);
        for (const iov of run.iovs) {
          dv.setUint32(iovs + 8 * niovs, iov.addr, true);
          dv.setUint32(iovs + 8 * niovs + 4, iov.len, true);
          niovs++;
        }
      });
      return merged.length;
    },
  };
}
