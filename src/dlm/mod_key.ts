/**
 * The messages of o2dlm that go to a node and not to a domain (key DLM_MOD_KEY: who may join) have one handler a node, but each mount has
 * its lock manager on a thread of its own. They are handed to the one whose domain they name; for a domain that nobody here
 * is in, this node answers as one without it.
 */
import type { MsgHandler, NodeNum, O2net } from "../cluster/node.ts";
import {
  DlmAssertJoined,
  DlmCancelJoin,
  DlmQueryJoinRequest,
  DlmQueryNodeinfo,
  DlmQueryRegion,
} from "../format/wire/dlm.ts";
import { DLM_MOD_KEY } from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { Errno } from "../lib/errno.ts";
import { assert } from "../lib/fs_error.ts";
import { DlmNode, type DlmNodeOptions } from "./node.ts";

/** Where each of these messages has the length and the bytes of the domain's name. */
const NAMES: ReadonlyMap<number, { readonly len: number; readonly name: number }> = new Map([
  [
    DLM_MSG.QUERY_JOIN.type,
    { len: DlmQueryJoinRequest.fields.name_len.off, name: DlmQueryJoinRequest.fields.domain.off },
  ],
  [DLM_MSG.ASSERT_JOINED.type, { len: DlmAssertJoined.fields.name_len.off, name: DlmAssertJoined.fields.domain.off }],
  [DLM_MSG.CANCEL_JOIN.type, { len: DlmCancelJoin.fields.name_len.off, name: DlmCancelJoin.fields.domain.off }],
  [DLM_MSG.QUERY_REGION.type, { len: DlmQueryRegion.fields.qr_namelen.off, name: DlmQueryRegion.fields.qr_domain.off }],
  [
    DLM_MSG.QUERY_NODEINFO.type,
    { len: DlmQueryNodeinfo.fields.qn_namelen.off, name: DlmQueryNodeinfo.fields.qn_domain.off },
  ],
]);

function domainOf(type: number, payload: Uint8Array): string {
  const at = NAMES.get(type);
  const len = at === undefined ? 0 : (payload[at.len] ?? 0);
  return at === undefined ? "" : Buffer.from(payload.subarray(at.name, at.name + len)).toString("latin1");
}

export class ModKeyRouter {
  readonly #net: O2net;
  readonly #domains = new Map<string, Map<number, MsgHandler>>();

  constructor(options: DlmNodeOptions) {
    this.#net = options.net;
    // What this node says of domains that it is not in.
    new DlmNode({ ...options, net: this.#over((type, max_len, nobody) => this.#listen(type, max_len, nobody)) });
  }

  #listen(type: number, max_len: number, nobody: MsgHandler): () => void {
    return this.#net.register(type, DLM_MOD_KEY, max_len, (payload, from) => {
      const handler = this.#domains.get(domainOf(type, payload))?.get(type);
      if (handler === undefined) return nobody(payload, from);
      const said = handler(payload, from);
      if (typeof said !== "function") return said;
      const copy = payload.slice();
      // Its thread left the domain while the question was on its way there.
      return (answer) =>
        said((status) => {
          const now = status === -Errno.ENOPROTOOPT ? nobody(copy, from) : status;
          assert(typeof now === "number", "o2dlm answers at once for a domain that it is not in");
          answer(now);
        });
    });
  }

  /** o2net for the lock manager of one domain. */
  netFor(domain: string): O2net {
    const handlers = new Map<number, MsgHandler>();
    this.#domains.set(domain, handlers);
    return this.#over((type, _max_len, handler) => {
      handlers.set(type, handler);
      return () => {
        handlers.delete(type);
        if (handlers.size === 0 && this.#domains.get(domain) === handlers) this.#domains.delete(domain);
      };
    });
  }

  #over(registerModKey: (type: number, max_len: number, handler: MsgHandler) => () => void): O2net {
    const net = this.#net;
    return {
      get node_num(): NodeNum {
        return net.node_num;
      },
      send: (type, key, payload, to, done) => net.send(type, key, payload, to, done),
      register: (type, key, max_len, handler) =>
        key === DLM_MOD_KEY ? registerModKey(type, max_len, handler) : net.register(type, key, max_len, handler),
      whenRegistered: (done) => net.whenRegistered(done),
    };
  }
}
