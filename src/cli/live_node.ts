/** The running mounts of a device, for debugfs: which node has it, and what that says over its control socket. */
import { realpathSync } from "node:fs";
import { DebugfsError, type LiveNode } from "../tools/debugfs/index.ts";
import { Control } from "./control.ts";
import { type MountRecord, mountRecords } from "./run_dir.ts";

function recordFor(device: string, node: string | undefined): MountRecord {
  const real = realpathSync(device);
  const found = mountRecords().filter((r) => r.device === real && (node === undefined || r.node === node));
  const first = found[0];
  if (first === undefined) {
    const who = node === undefined ? "any node of this machine" : `node ${node} of this machine`;
    throw new DebugfsError(
      `${device} is not mounted by ${who}: "ocfs2 mount" it first, or give a copy of the state with -f`,
    );
  }
  if (found.length > 1)
    throw new DebugfsError(
      `${device} is mounted by the nodes ${found.map((r) => r.node).join(", ")} of this machine: say which one with --node`,
    );
  return first;
}

const gone = (r: MountRecord): DebugfsError =>
  new DebugfsError(
    `the mount of ${r.device} on ${r.dir} (pid ${r.pid}) does not answer: it is stopped, stuck, or gone`,
  );

/** `node`: which one, where several nodes of this machine have a volume mounted. */
export function liveNode(node: string | undefined): LiveNode {
  return {
    async *locks(device, what, names) {
      const record = recordFor(device, node);
      const control = await Control.open(record.dir);
      if (control === undefined) throw gone(record);
      try {
        let answer = await control.askSoon({ type: "locks", what, names });
        for (;;) {
          if (answer === null || answer.type === "silent") throw gone(record);
          if (answer.type === "error") throw new DebugfsError(String(answer["message"]));
          const text = String(answer["text"]);
          if (text === "") return;
          yield text;
          answer = await control.next();
        }
      } finally {
        control.close();
      }
    },
    async netStats(device) {
      const record = recordFor(device, node);
      if (record.cluster === null)
        throw new DebugfsError(`${device} is mounted on ${record.dir} without a cluster: there are no connections`);
      const control = await Control.openNode(record.node);
      const answer = await control?.askSoon({ type: "net-stats" });
      control?.close();
      if (!answer || answer.type === "silent") throw gone(record);
      return String(answer["text"]);
    },
  };
}
