#!/usr/bin/env node
/** What a message and its status cost between two processes on the loopback: node bench/o2net/run.mjs */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { loadTs } from "../../test/support/run_ts.mjs";

const self = fileURLToPath(import.meta.url);
if (process.send !== undefined) await loadTs("bench/o2net/ping.ts");
else {
  process.env.OCFS2_LOG = "";
  const answers = fork(self, ["1"], { stdio: ["ignore", "inherit", "ignore", "ipc"] });
  answers.once("message", () => {
    const asks = fork(self, ["2"], { stdio: ["ignore", "inherit", "ignore", "ipc"] });
    asks.once("exit", (code) => {
      answers.kill();
      process.exitCode = code ?? 1;
    });
  });
}
