/** The configuration tree of a node that runs: what its folders and attributes set going (`ocfs2 node start --configfs DIR`). */
import { readlinkSync } from "node:fs";
import { ConfigTree } from "../cluster/configfs.ts";
import { startDiskRegion } from "../cluster/disk_region.ts";
import { systemRandom } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { slotBytesOf } from "../tools/heartbeat_area.ts";
import type { ClusterNode } from "./cluster_node.ts";

function pathOfFd(pid: number, fd: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/fd/${fd}`);
  } catch {
    return undefined;
  }
}

/** The tree shows the cluster that the node was started in; nodes and regions come and go in it. */
export function configTreeOf(node: ClusterNode, setLog: (name: string, state: "allow" | "off") => void): ConfigTree {
  const { stack, number } = node;
  return new ConfigTree(
    {
      makeCluster() {
        // The process is a node of one cluster; it was told which when it was started.
        throw new FsError(Errno.ENOSPC, "configfs", { what: "start a node of that cluster" });
      },
      dropCluster() {},
      startListening(done) {
        if (stack.nodes.this_node !== number) return done(-Errno.EBUSY);
        stack.net.startListening((failure) => {
          if (failure !== "") mlog(ML.ERROR, `o2net: ${failure}`);
          done(failure === "" ? 0 : -Errno.EADDRNOTAVAIL);
        });
      },
      stopListening: () => stack.net.stopListening(),
      startRegion(region, done) {
        try {
          const { name, path, block_bytes, start_block } = region;
          // It would write over the slots of other nodes, which would not see it.
          const expected = slotBytesOf(path);
          if (block_bytes !== expected) {
            mlog(
              ML.ERROR,
              `o2hb: block_bytes ${block_bytes} of region ${name} is wrong for ${path}: it is ${expected}`,
            );
            return done(-Errno.EINVAL);
          }
          const where = { path, offset_bytes: start_block * block_bytes, slot_bytes: block_bytes };
          startDiskRegion(stack.hb, systemRandom, { name, ...where, lease: node.lease }, (failure) =>
            done(failure === "" ? 0 : -Errno.EIO),
          );
        } catch (err) {
          if (!(err instanceof FsError)) throw err;
          mlog(ML.ERROR, `o2hb: ${err.message}`);
          done(-err.errno);
        }
      },
      stopRegion: (name, done) => stack.hb.region(name)?.stop(true, done) ?? done(),
      isRegionPinned: (name) => node.isPinned(name),
      deviceOf: (name) => node.deviceOf(name),
      isConnected: (num) => stack.net.connectedNodes().has(num),
      setLog,
      pathOfFd,
    },
    { nodes: stack.nodes, hb: stack.hb },
  );
}
