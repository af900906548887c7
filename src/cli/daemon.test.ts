/** A mount whose volume thread cannot even start. The life of one that does is in test/e2e. */
import { expect, test } from "vitest";
import type { ExistingVolume } from "../tools/mkfs/existing.ts";
import type { ClusterNode } from "./cluster_node.ts";
import { Daemon } from "./daemon.ts";
import { parseMountOptions } from "./mount_opts.ts";

test("a mount whose thread does not start fails, and the node with its other mounts goes on; it was fenced", async () => {
  const done: string[] = [];
  const node = {
    ofVolume: () => null,
    serve: () => ({ close: () => void done.push("domain closed") }),
    leaveRegion: async () => void done.push("region left"),
    stack: { fence: () => void done.push("fenced") },
  } as unknown as ClusterNode;
  const cluster = { node, volume: { uuid: "0123" } as ExistingVolume };
  // Beside the sources there is no bundle of the thread's program.
  const daemon = new Daemon({ device: "/dev/null", dir: "/nowhere", options: parseMountOptions([]), cluster });
  await expect(daemon.ready).rejects.toThrow("volume_worker");
  expect(await daemon.closed).toBe("the volume thread ended");
  expect(done).toEqual(["domain closed", "region left"]);
});
