/** Directories that have each other's blocks: see test/props/dir_fuzz.test.ts for what one block alone may say. */
import { expect, test } from "vitest";
import { haveTool, mkfsImage, openImage } from "../../../test/support/volume.ts";
import { Errno } from "../../lib/errno.ts";
import { create, mkdir, nameOf, rename } from "../../vfs/namespace.ts";
import { dinodeOf, inodeLockModify } from "../inode.ts";

const CRED = { uid: 0, gid: 0, umask: 0 };

test.skipIf(!haveTool("mkfs.ocfs2"))("a rename between two directories that have one block is an error", () => {
  const v = openImage(mkfsImage(["-b", "4K", "-C", "4K", "--fs-features=noinline-data,noindexed-dirs"], 32));
  const { osb } = v;
  const [a, b] = ["a", "b"].map(
    (name) => osb.runSync((op) => mkdir(op, osb.geo.root_blkno, nameOf(name), 0o755, CRED)).ino,
  ) as [number, number];
  osb.runSync((op) => create(op, a, nameOf("x"), 0o644, CRED));
  osb.runSync((op) => {
    const [of_a, of_b] = [a, b].map((ino) => dinodeOf(op, inodeLockModify(op, osb.inodes.get(ino))));
    of_b!.i_list.l_recs.at(0).e_blkno = of_a!.i_list.l_recs.at(0).e_blkno;
  });
  osb.inodes.get(b).dropCaches();
  expect(() => osb.runSync((op) => rename(op, a, nameOf("x"), b, nameOf("y")))).toThrow(
    expect.objectContaining({ errno: Errno.EIO }),
  );
  v.close();
});
