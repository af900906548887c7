/** The thread of the programs' locks where it cannot even start. What it does when it runs is in test/cluster and test/e2e. */
import { expect, test } from "vitest";
import { until } from "../../test/support/until.ts";
import type { ClusterNode } from "./cluster_node.ts";
import { DlmThread } from "./dlm_thread.ts";

test("a thread of the programs' locks that does not start is the program's loss, not the node's; it ended with all its mounts", async () => {
  const said: string[] = [];
  const node = { stack: { fence: () => void said.push("fenced") } } as unknown as ClusterNode;
  // Beside the sources there is no bundle of the thread's program.
  const thread = new DlmThread(node);
  thread.client("locks", { joined() {}, say() {}, hangUp: () => void said.push("hung up") });
  await until(() => thread.has_ended);
  expect(said).toEqual(["hung up"]);
});
