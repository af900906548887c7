/** A volume with many files, made by the library in this process: no mount, one operation a file. */
import { existsSync, rmSync } from "node:fs";
import { OpenVolume } from "../../src/api/open_volume.ts";
import * as ns from "../../src/vfs/namespace.ts";
import { CLUSTER } from "../../test/support/cluster_rig.ts";
import { sh } from "../../test/support/sh.ts";

const BLOCK_BYTES = 4096;
/** Journals, bitmap, groups that are not full. */
const SPARE_BYTES = 512 << 20;
/** Operations between two looks of the event loop. */
const AT_A_TIME = 500;

export interface Tree {
  readonly files: number;
  readonly per_dir: number;
}

/** Directories d000000… below "tree", with so many empty files each. */
export async function manyFiles(
  image: string,
  { files, per_dir }: Tree,
  onStep: (what: string) => void,
): Promise<void> {
  if (existsSync(image)) return;
  try {
    sh(["truncate", "-s", String(Math.ceil(files * BLOCK_BYTES * 1.1) + SPARE_BYTES), image]);
    sh([
      "mkfs.ocfs2",
      "-q",
      "-F",
      "--cluster-stack=o2cb",
      `--cluster-name=${CLUSTER}`,
      "-N",
      "4",
      "-b",
      "4K",
      "-C",
      "4K",
      image,
    ]);
    const v = await OpenVolume.open(image, { nocluster: true, cacheBytes: 256 << 20 });
    const { cred, osb } = v;
    const make = (dir: number, name: string, isDir: boolean): Promise<number> =>
      v.run({ syscall: "mknod" }, (op) => {
        const bytes = Buffer.from(name);
        return (isDir ? ns.mkdir(op, dir, bytes, 0o755, cred) : ns.create(op, dir, bytes, 0o644, cred)).ino;
      });
    const tree = await make(osb.geo.root_blkno, "tree", true);
    for (let made = 0; made < files; ) {
      const dir = await make(tree, `d${String(made / per_dir).padStart(6, "0")}`, true);
      const here = Math.min(per_dir, files - made);
      for (let i = 0; i < here; i += AT_A_TIME)
        await Promise.all(
          Array.from({ length: Math.min(AT_A_TIME, here - i) }, (_, j) =>
            make(dir, `f${String(i + j).padStart(6, "0")}`, false),
          ),
        );
      made += here;
      onStep(`making files: ${made} of ${files}`);
    }
    await v.close();
  } catch (err) {
    rmSync(image, { force: true });
    throw err;
  }
}
