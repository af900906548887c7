/** Volumes with something of everything in them, to be damaged: extent trees, indexed folders, buckets of xattrs, shared clusters. */
import { join } from "node:path";
import { buildC } from "../support/build_c.ts";
import { tempDir } from "../support/cleanup.ts";
import { mkfs } from "../support/images.ts";
import { withMount } from "../support/mount.ts";
import { run } from "../support/sh.ts";
import { unpackVolume } from "../support/volumes.ts";

const KINDS: readonly (readonly string[])[] = [
  ["-b", "4K", "-C", "4K", "-N", "2", "-J", "size=4M"],
  ["-b", "1K", "-C", "4K", "-N", "2", "-J", "size=4M", "--fs-features=metaecc"],
  ["-b", "512", "-C", "4K", "-N", "1", "-J", "size=4M"],
];
const SIZE_MIB = 96;

/** The paths of the images, and of a kernel's volume with a dirty journal. */
export async function makeBases(): Promise<string[]> {
  const dir = tempDir("ocfs2-fuzz");
  const program = buildC("workload.c");
  const paths: string[] = [];
  for (const [i, args] of KINDS.entries()) {
    const path = join(dir, `base${i}`);
    mkfs(path, SIZE_MIB, args);
    await withMount(path, async (at) => {
      await run([program, "-k", "8", at, "names", "storm", "reflink", "xattr", "special", "bigdir", "churn"]);
    });
    paths.push(path);
  }
  const dirty = join(dir, "dirty");
  unpackVolume("dirty", dirty);
  return [...paths, dirty];
}
