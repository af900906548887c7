/** Questions about domains go to the thread that has the domain; who has none answers as a node without it. */
import { expect, test } from "vitest";
import type { MsgHandler, O2net } from "../cluster/node.ts";
import { DlmQueryJoinRequest, DlmQueryNodeinfo } from "../format/wire/dlm.ts";
import { DLM_MOD_KEY } from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { seededRandom } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { SimClock } from "../lib/sim_clock.ts";
import { putName } from "./dlm.ts";
import { ModKeyRouter } from "./mod_key.ts";

const DOMAIN = "things";
/** "Join, but nobody is in it here": code 2 in the highest byte. */
const JOIN_OK_NO_MAP = 2 << 24;

function bed(): { router: ModKeyRouter; ask: (type: number, payload: Uint8Array) => number[] } {
  const handlers = new Map<number, MsgHandler>();
  const net: O2net = {
    node_num: 1,
    send() {},
    register(type, _key, _max_len, handler) {
      handlers.set(type, handler);
      return () => handlers.delete(type);
    },
    whenRegistered: (done) => done(),
  };
  const live = new Set([1, 2]);
  const hb = { liveNodes: () => live, onNodes: () => () => {} };
  const more = { nodes: () => [], regions: () => [], fatal() {} };
  const router = new ModKeyRouter({ net, hb, clock: new SimClock(), random: seededRandom(1), ...more });
  const ask = (type: number, payload: Uint8Array): number[] => {
    const answers: number[] = [];
    const said = handlers.get(type)!(payload, 2);
    if (typeof said === "function") said((status) => answers.push(status));
    else answers.push(typeof said === "number" ? said : said.status);
    // The receive buffer is used again.
    payload.fill(0xff);
    return answers;
  };
  return { router, ask };
}

function queryJoin(): Uint8Array {
  const q = DlmQueryJoinRequest.alloc();
  q.node_idx = 2;
  q.name_len = DOMAIN.length;
  putName(q.domain, DOMAIN);
  return q.bytes();
}

const { type } = DLM_MSG.QUERY_JOIN;

test("a domain's thread answers for it, also later", () => {
  const { router, ask } = bed();
  expect(ask(type, queryJoin())).toEqual([JOIN_OK_NO_MAP]);
  let later: (status: number) => void = () => {};
  const end = router.netFor(DOMAIN).register(type, DLM_MOD_KEY, 2048, () => (answer) => (later = answer));
  const answers = ask(type, queryJoin());
  expect(answers).toEqual([]);
  later(7);
  expect(answers).toEqual([7]);
  end();
  expect(ask(type, queryJoin())).toEqual([JOIN_OK_NO_MAP]);
});

test("a thread that left the domain while the question was on its way: no status that a node without the domain would not give", () => {
  const { router, ask } = bed();
  const net = router.netFor(DOMAIN);
  const gone: MsgHandler = () => (answer) => answer(-Errno.ENOPROTOOPT);
  for (const msg of [DLM_MSG.QUERY_JOIN, DLM_MSG.QUERY_NODEINFO]) net.register(msg.type, DLM_MOD_KEY, 4000, gone);
  expect(ask(type, queryJoin())).toEqual([JOIN_OK_NO_MAP]);
  const info = DlmQueryNodeinfo.alloc();
  info.qn_nodenum = 2;
  info.qn_namelen = DOMAIN.length;
  putName(info.qn_domain, DOMAIN);
  expect(ask(DLM_MSG.QUERY_NODEINFO.type, info.bytes())).toEqual([-Errno.EINVAL]);
});
