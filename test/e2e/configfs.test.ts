/**
 * The configuration tree of a node that runs, as scripts use it: ls, cat, echo, mkdir and rmdir on a mounted folder. A region that is
 * described and started there heartbeats on its volume, and ends with its folder.
 */
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { HeartbeatBlock } from "../../src/format/disk/index.ts";
import { findHeartbeatArea } from "../../src/tools/heartbeat_area.ts";
import { atExit, tempDir } from "../support/cleanup.ts";
import { sparseFile } from "../support/images.ts";
import { repoRoot } from "../support/rig.ts";
import { missing, sh, trySh } from "../support/sh.ts";

const NAME = `cfg${process.pid}`;
const ocfs2 = (...args: string[]): string => sh([process.execPath, join(repoRoot, "bin/ocfs2"), ...args]);

const why = process.getuid?.() !== 0 ? "mounting needs root" : missing("mkfs.ocfs2").length > 0 ? "no mkfs.ocfs2" : "";
if (why !== "") console.warn(`SKIPPED: the configuration tree: ${why}`);

test.skipIf(why !== "")("a node's configuration tree is read, changed, and starts and ends a heartbeat", () => {
  const dir = tempDir("ocfs2-configfs");
  const [conf, tree, image] = [join(dir, "cluster.conf"), join(dir, "config"), join(dir, "image")];
  mkdirSync(tree);
  ocfs2("cluster", "--config-file", conf, "add-cluster", "tree");
  // An address of its own for each run.
  const net = `127.${1 + ((process.pid >> 8) % 250)}.${process.pid % 256}`;
  ocfs2("cluster", "--config-file", conf, "add-node", "tree", NAME, "--ip", `${net}.1`, "--number", "1");
  ocfs2("cluster", "--config-file", conf, "add-node", "tree", "other", "--ip", `${net}.2`, "--number", "2");
  ocfs2("node", "start", "--config", conf, "--node", NAME, "--configfs", tree);
  atExit(() => trySh([process.execPath, join(repoRoot, "bin/ocfs2"), "node", "stop", "--node", NAME]));
  // Touched by other processes only: this one must not wait for the mount in a thread of libuv.
  const bash = (script: string): string => sh(["bash", "-c", `cd ${tree}/cluster/tree && ${script}`]);
  const refused = (script: string): string => trySh(["bash", "-c", `cd ${tree}/cluster/tree && ${script}`]).stderr;

  expect(bash("ls; ls node; cat idle_timeout_ms node/other/num").split("\n")).toEqual([
    ...["fence_method", "heartbeat", "idle_timeout_ms", "keepalive_delay_ms", "node", "reconnect_delay_ms"],
    ...[NAME, "other", "30000", "2", ""],
  ]);
  bash("echo 40000 > idle_timeout_ms && grep -qx 40000 idle_timeout_ms");
  bash(`mkdir node/new && cd node/new && echo 7777 > ipv4_port && echo ${net}.3 > ipv4_address && echo 3 > num`);
  expect(ocfs2("node", "status", "--node", NAME)).toMatch(
    new RegExp(`^ *new +3 +${net}\\.3:7777 +not seen +down$`, "m"),
  );
  expect(refused("echo 4 > node/new/num")).toContain("busy");
  expect(refused("mkdir ../another")).toContain("No space left");
  expect(refused("touch x")).toContain("not permitted");
  expect(refused("rm idle_timeout_ms")).toContain("not permitted");
  bash("rmdir node/new && test ! -e node/new");
  bash("echo allow > ../../logmask/DLM_MASTER");
  expect(ocfs2("cluster", "log", "--node", NAME)).toMatch(/^DLM_MASTER allow$/m);

  sparseFile(image, 64);
  sh(["mkfs.ocfs2", "-q", "-F", "-N", "2", "--cluster-stack=o2cb", "--cluster-name=tree", image]);
  const { uuid, offset_bytes, slot_bytes } = findHeartbeatArea(image);
  const start_with = (block_bytes: number): string =>
    `cd heartbeat/${uuid} && echo ${block_bytes} > block_bytes && echo 255 > blocks &&` +
    ` echo ${offset_bytes / block_bytes} > start_block && exec 3<>${image} && echo 3 > dev`;
  bash(`mkdir heartbeat/${uuid}`);
  expect(refused(start_with(4096))).toContain("Invalid argument");
  bash(start_with(slot_bytes));
  const block = (): HeartbeatBlock => HeartbeatBlock.from(readFileSync(image), offset_bytes + slot_bytes);
  expect([block().hb_node, block().hb_generation !== 0n]).toEqual([1, true]);
  expect(bash(`cat heartbeat/${uuid}/dev`)).toBe("image\n");
  expect(refused(`rmdir node/${NAME}`)).toContain("busy");
  // A mount takes the heartbeat that is there, and leaves it there.
  mkdirSync(join(dir, "mnt"));
  const mount = ["mount", "-o", `node=${NAME},config=${conf}`, image, join(dir, "mnt")];
  ocfs2(...mount);
  expect(refused(`rmdir heartbeat/${uuid}`)).toContain("busy");
  ocfs2("umount", join(dir, "mnt"));
  expect(block().hb_generation).not.toBe(0n);
  bash(`rmdir heartbeat/${uuid}`);
  expect(block().hb_generation).toBe(0n);

  // A node that is not the local one any more mounts nothing, and says what to do.
  bash(`echo 0 > node/${NAME}/local`);
  expect(trySh([process.execPath, join(repoRoot, "bin/ocfs2"), ...mount])).toMatchObject({
    status: 32,
    stderr: expect.stringMatching(
      /^ocfs2 mount: node \S+ is taken out of its cluster [^\n]* write 1 to its "local" there[^\n]*\n$/,
    ),
  });
  bash(`echo 1 > node/${NAME}/local`);

  // Unmounted by hand: the node mounts it anew, here or elsewhere, and takes nobody else's mount away.
  const other = join(dir, "elsewhere");
  mkdirSync(other);
  const start = ["node", "start", "--config", conf, "--node", NAME, "--configfs"];
  const isThere = (at: string): boolean =>
    trySh(["grep", "-q", ` ${at} fuse.ocfs2-configfs `, "/proc/mounts"]).status === 0;
  ocfs2("umount", tree);
  ocfs2(...start, tree);
  expect(isThere(tree)).toBe(true);
  ocfs2("umount", tree);
  ocfs2(...start, other);
  expect([isThere(tree), isThere(other)]).toEqual([false, true]);
  sh(["umount", other]);
  sh(["mount", "-t", "tmpfs", "tmpfs", other]);

  ocfs2("node", "stop", "--node", NAME);
  sh(["umount", other]);
  expect(readdirSync(tree)).toEqual([]);
});
