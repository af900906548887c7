import { expect, test } from "vitest";
import * as ns from "../src/vfs/namespace.ts";
import { nameOf } from "../src/volume/dir/name.ts";
import { clusterImage, SimCluster } from "./support/cluster.ts";
import { fsck } from "./support/volume.ts";

test("two nodes", () => {
  const image = clusterImage(["-b", "4K", "-C", "4K"], 64);
  const c = new SimCluster({ seed: 1, image });
  const a = c.mount(1);
  const b = c.mount(2);
  expect(a.osb.slot_num).toBe(0);
  expect(b.osb.slot_num).toBe(1);
  const root = a.osb.geo.root_blkno;
  const cred = { uid: 0, gid: 0, umask: 0o22 };
  for (let i = 0; i < 20; i++) {
    const [x, y] = i % 2 ? [a, b] : [b, a];
    const f = c.op(x, (op) => ns.create(op, root, nameOf(`f${i}`), 0o644, cred));
    expect(c.op(y, (op) => ns.lookup(op, root, nameOf(`f${i}`)))!.ino).toBe(f.ino);
  }
  c.umount(a);
  c.umount(b);
  const judged = fsck(image);
  expect(judged.clean, judged.output).toBe(true);
  console.log(c.events, c.clock.now_ms, c.trace_hash);
});
