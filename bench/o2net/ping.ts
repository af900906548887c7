/** One end of bench/o2net/run.mjs: node 1 answers, node 2 asks and prints. The last argument is the number. */
import { NodeManager } from "../../src/cluster/nodemanager.ts";
import { Quorum } from "../../src/cluster/quorum.ts";
import { O2netStack } from "../../src/cluster/tcp.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { tcpTransport } from "../../src/native/tcp_transport.ts";

const TYPE = 500;
const KEY = 1;
const ROUNDS = 20_000;
const MANY = 200_000;
const AT_ONCE = 100;

const me = Number(process.argv.at(-1));
const nodes = new NodeManager("bench");
for (const n of [1, 2]) nodes.addNode({ name: `n${n}`, num: n, ipv4_address: `127.9.0.${n}`, ipv4_port: 17999 });
nodes.setLocal(me);
const live = new Set([1, 2]);
const hb = { liveNodes: () => live, onNodes: () => () => {} };
const quorum = new Quorum(me, () => {});
const net = new O2netStack({ nodes, hb, quorum, transport: tcpTransport, clock: systemClock });
const payload = new Uint8Array(64);

function oneByOne(done: () => void): void {
  const took_us: number[] = [];
  const next = (): void => {
    const start = performance.now();
    net.send(TYPE, KEY, payload, 1, () => {
      took_us.push((performance.now() - start) * 1000);
      if (took_us.length < ROUNDS) return next();
      took_us.sort((a, b) => a - b);
      const at = (part: number): string => took_us[Math.floor(ROUNDS * part)]!.toFixed(1);
      process.stdout.write(`one at a time: median ${at(0.5)} us, 99 % within ${at(0.99)} us\n`);
      done();
    });
  };
  next();
}

function manyAtOnce(done: () => void): void {
  let left = MANY;
  let in_flight = 0;
  const start = performance.now();
  const fill = (): void => {
    for (; in_flight < AT_ONCE && left > 0; left--) {
      in_flight++;
      net.send(TYPE, KEY, payload, 1, () => {
        in_flight--;
        if (left > 0) fill();
        else if (in_flight === 0) {
          const per_s = MANY / ((performance.now() - start) / 1000);
          process.stdout.write(`${AT_ONCE} at a time: ${Math.round(per_s)} messages a second\n`);
          done();
        }
      });
    }
  };
  fill();
}

net.register(TYPE, KEY, payload.length, () => 0);
net.startListening((failure) => {
  if (failure !== "") throw new Error(failure);
  process.send?.("ready");
  if (me === 2) oneByOne(() => manyAtOnce(() => process.exit(0)));
});
