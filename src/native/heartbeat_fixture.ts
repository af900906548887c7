/** A process that heartbeats, for the tests that stop it: its last argument has the options. Says "armed" once it has deadlines. */
import { DiskHeartbeat } from "./heartbeat.ts";
import { fenceTrigger } from "./index.ts";

const options = JSON.parse(process.argv.at(-1)!, (key, v) => (key === "generation" ? BigInt(v) : v));
// In place of /proc/sysrq-trigger.
if (options.trigger !== undefined) fenceTrigger(options.trigger, "b".charCodeAt(0));
let beats = 0;
const hb = new DiskHeartbeat(
  options,
  () => {
    if (++beats === 4) process.stdout.write(hb.arm() ? "armed\n" : "not armed\n");
  },
  () => {},
);
// As if all nodes asked for time, all the time.
if (options.extend === true) setInterval(() => hb.extend(), 1);
