/** Volumes in files for the library's tests, made by Debian's mkfs.ocfs2 and judged by fsck.ocfs2. */
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type OpenOptions, Volume } from "../../src/api/index.ts";
import { tempDir } from "../support/cleanup.ts";
import { fsck, fsckClean } from "../support/judges.ts";
import { missing, sh } from "../support/sh.ts";

export const lacksTools = missing("mkfs.ocfs2", "fsck.ocfs2").length > 0;

/** The path of a new image. */
export function newImage(mkfs: readonly string[] = [], size_mib = 256): string {
  const image = join(tempDir("ocfs2-lib"), "image");
  writeFileSync(image, "");
  truncateSync(image, size_mib * 2 ** 20);
  sh(["mkfs.ocfs2", "-q", "-F", "-M", "local", ...mkfs, image]);
  return image;
}

/** Runs `use` on an open volume, closes it, and lets fsck.ocfs2 judge what is left. */
export async function onVolume<T>(image: string, use: (v: Volume) => Promise<T>, options?: OpenOptions): Promise<T> {
  const known = fsck(image).findings;
  const v = await Volume.open(image, options);
  try {
    return await use(v);
  } finally {
    await v.close();
    await fsckClean(image, known);
  }
}
