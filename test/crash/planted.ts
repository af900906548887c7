/**
 * Faults that crash tests plant, to see that the judge finds each: a journal, or what lies below it, that breaks one of its promises.
 * They are made on the recording device and by mount options, so the code that is tested needs no switches for them.
 */
import { JBD2_COMMIT_BLOCK, JBD2_DESCRIPTOR_BLOCK, JBD2_MAGIC_NUMBER } from "../../src/format/jbd2/index.ts";
import type { MountOptions } from "../../src/volume/mount_options.ts";
import type { Loses } from "./recording_device.ts";

export interface Planted {
  readonly name: string;
  readonly mount?: Partial<MountOptions>;
  readonly loses?: Loses;
}

/** The type of a log block at the start of what is written, 0 for anything else. */
const logBlock = (data: Uint8Array): number => {
  const dv = new DataView(data.buffer, data.byteOffset, data.length);
  return dv.getUint32(0, false) === JBD2_MAGIC_NUMBER ? dv.getUint32(4, false) : 0;
};

export const PLANTED: readonly Planted[] = [
  { name: "no flushes", mount: { barrier: false } },
  { name: "data is not written before the commit", mount: { data: "writeback" } },
  {
    name: "transactions are half in the log",
    loses: (data) =>
      logBlock(data) === JBD2_DESCRIPTOR_BLOCK ? { from: data.length >> 1, to: data.length } : undefined,
  },
  {
    name: "commit blocks are not written",
    loses: (data) => (logBlock(data) === JBD2_COMMIT_BLOCK ? { from: 0, to: data.length } : undefined),
  },
];
