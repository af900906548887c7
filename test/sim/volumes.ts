/** Volumes that simulated clusters work on. */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { RawOptions } from "../../src/tools/mkfs/options.ts";
import { tempDir } from "../support/cleanup.ts";
import { clusterImage } from "../support/cluster.ts";
import { fsck } from "../support/judges.ts";
import { writeSparse } from "../support/volume.ts";

export const SIM_VOLUMES: readonly { name: string; options: RawOptions }[] = [
  { name: "4K blocks, 4K clusters", options: { blockSize: "4K", clusterSize: "4K" } },
  { name: "1K blocks, 8K clusters, metaecc", options: { blockSize: "1K", clusterSize: "8K", fsFeatures: "metaecc" } },
  {
    name: "2K blocks, 4K clusters, no inline data",
    options: { blockSize: "2K", clusterSize: "4K", fsFeatures: "noinline-data" },
  },
];
const images = new Map<number, { readonly image: Uint8Array; readonly known: string[] }>();

/** What fsck.ocfs2 -fn says that it did not say of the new volume. */
export function judge(image: Uint8Array, known: readonly string[]): string[] {
  const path = join(tempDir("ocfs2-sim", existsSync("/dev/shm") ? { base: "/dev/shm" } : {}), "img");
  writeSparse(path, image);
  const { findings } = fsck(path, known);
  rmSync(path);
  return findings;
}

/** A fresh copy of the volume. */
export function simImage(n: number): { image: Uint8Array; known: string[] } {
  let made = images.get(n);
  if (made === undefined) {
    const image = clusterImage(SIM_VOLUMES[n]!.options, 48);
    made = { image, known: judge(image, []) };
    images.set(n, made);
  }
  return { image: made.image.slice(), known: made.known };
}
