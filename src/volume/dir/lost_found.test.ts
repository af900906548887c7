/** lost+found as libocfs2 makes it where directories are not inline: its size lacks the trailer of its block. */
import { describe, expect, test } from "vitest";
import { fsck, haveTool, mkfsImage, openImage } from "../../../test/support/volume.ts";
import { create, getattr, lookup, nameOf, readdir, unlink } from "../../vfs/namespace.ts";

const CRED = { uid: 0, gid: 0, umask: 0 };

describe.skipIf(!haveTool("mkfs.ocfs2"))("lost+found of mkfs.ocfs2", () => {
  test.each(["noinline-data", "noinline-data,noindexed-dirs,metaecc", "metaecc"])("is a directory: %s", (features) => {
    const image = mkfsImage(["-b", "4K", "-C", "4K", `--fs-features=${features}`], 64);
    const known = fsck(image).findings;
    const v = openImage(image);
    const { osb } = v;
    const { ino } = osb.runSync((op) => lookup(op, osb.geo.root_blkno, nameOf("lost+found")))!;
    const list = (): string[] => {
      const names: string[] = [];
      let pos = 0;
      for (let end = false; !end; ) {
        end = true;
        pos = osb.runSync((op) =>
          readdir(op, ino, pos, (_ino, _type, addr, len, next) => {
            names.push(Buffer.from(osb.cache.u8.slice(addr, addr + len)).toString());
            pos = next;
            end = false;
            return true;
          }),
        );
      }
      return names.sort();
    };
    expect(list()).toEqual([".", ".."]);
    const wanted = Array.from({ length: 600 }, (_, i) => `#${i}-${"x".repeat(30)}`);
    for (const name of wanted) osb.runSync((op) => create(op, ino, nameOf(name), 0o644, CRED));
    expect(list()).toEqual([".", "..", ...wanted].sort());
    expect(osb.runSync((op) => getattr(op, ino)).size % 4096).toBe(0);
    for (const name of wanted.slice(5)) osb.runSync((op) => unlink(op, ino, nameOf(name)));
    v.close();
    expect(fsck(image, known).findings).toEqual(known);
  });
});
