/**
 * A node of ours that takes locks and nothing else: heartbeat, o2net and o2dlm over the real disk and network, no file system. Arguments:
 * cluster.conf, the node's name, the image. Commands on standard input, events as lines on standard output.
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { nodeManagerFrom, parseClusterConf, timeoutsFrom } from "../../src/cluster/cluster_conf.ts";
import { startDiskRegion } from "../../src/cluster/disk_region.ts";
import { ClusterStack } from "../../src/cluster/stack.ts";
import { dumpDomain } from "../../src/dlm/debug.ts";
import { DlmNode } from "../../src/dlm/node.ts";
import { systemClock, systemRandom } from "../../src/lib/clock.ts";
import { leaseAlloc } from "../../src/native/index.ts";
import { tcpTransport } from "../../src/native/tcp_transport.ts";
import { type DomainLock, EX, type LockLevel, NL, PR } from "../../src/stackglue/lock_domain.ts";
import { O2cbDomain } from "../../src/stackglue/o2cb.ts";
import { findHeartbeatArea } from "../../src/tools/heartbeat_area.ts";

const [conf = "", name = "", image = ""] = process.argv.slice(-3);
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const nodes = nodeManagerFrom(parseClusterConf(readFileSync(conf, "utf8"), conf), {
  node: name,
  timeouts: timeoutsFrom(undefined, process.env),
});
const stack = new ClusterStack({
  nodes,
  clock: systemClock,
  transport: tcpTransport,
  fence(why) {
    say(`fence ${why}`);
    process.exit(1);
  },
});
const address = (ip: string): number => ip.split(".").reduce((n, part) => n * 256 + Number(part), 0);
const node = new DlmNode({
  net: stack.net,
  hb: stack.hb,
  clock: systemClock,
  random: systemRandom,
  nodes: () =>
    nodes.nodes().map((n) => ({ num: n.num, ipv4_port: n.ipv4_port, ipv4_address: address(n.ipv4_address) })),
  regions: () => [],
  fatal(err) {
    say(`fatal ${err.message}`);
    process.exit(1);
  },
});

stack.start((failure) => {
  if (failure !== "") {
    say(`failed ${failure}`);
    process.exit(1);
  }
  const area = findHeartbeatArea(image);
  startDiskRegion(
    stack.hb,
    systemRandom,
    { name: area.uuid, path: image, offset_bytes: area.offset_bytes, slot_bytes: area.slot_bytes, lease: leaseAlloc() },
    (why) => say(why === "" ? "steady" : `failed ${why}`),
  );
});

let domain: O2cbDomain | null = null;
const locks = new Map<string, DomainLock>();
const LEVELS: Readonly<Record<string, LockLevel>> = { NL, PR, EX };

const commands: Readonly<Record<string, (...args: string[]) => void>> = {
  join(uuid) {
    O2cbDomain.join(node, uuid!, (err, joined) => {
      domain = joined;
      if (joined !== null) joined.onNodeDown = (n) => say(`evicted ${n}`);
      say(`joined ${err}`);
    });
  },
  /** lock NAME NL|PR|EX [try] [lvb] */
  lock(lock_name, level, ...options) {
    let lock = locks.get(lock_name!);
    if (lock === undefined) {
      const made = domain!.newLock(lock_name!, {
        ast: (status) =>
          say(`ast ${lock_name} ${status} ${Buffer.from(made.lvb).toString("hex").replace(/0+$/, "")}`.trimEnd()),
        bast: (wanted) => say(`bast ${lock_name} ${wanted}`),
      });
      locks.set(lock_name!, (lock = made));
    }
    domain!.convert(lock, LEVELS[level!]!, { trylock: options.includes("try"), lvb: options.includes("lvb") });
  },
  lvb(lock_name, hex) {
    const { lvb } = locks.get(lock_name!)!;
    lvb.fill(0);
    lvb.set(Buffer.from(hex!, "hex"));
  },
  unlock(lock_name) {
    domain!.unlock(locks.get(lock_name!)!, (status) => say(`unlocked ${lock_name} ${status}`));
    locks.delete(lock_name!);
  },
  owner(lock_name) {
    const res = domain!.dlm.lockres.get(lock_name!);
    say(`owner ${lock_name} ${res === undefined ? "none" : res.owner} ${res?.refNodes().join(",") ?? ""}`.trimEnd());
  },
  dump() {
    process.stderr.write(dumpDomain(domain!.dlm));
  },
  leave() {
    domain!.leave(() => {
      node.close();
      stack.stop(() => {
        say("left");
        process.exit(0);
      });
    });
  },
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const [what, ...args] = line.split(" ");
  commands[what!]!(...args);
});
