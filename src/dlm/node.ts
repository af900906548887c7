/**
 * o2dlm on one node: the domains it is in, and the messages that go to the node and not to a domain (dlm_init): who may join, whether
 * both sides know the same nodes and heartbeat regions.
 */
import type { NodeNum, O2hb, O2net } from "../cluster/node.ts";
import type { View, ViewOf } from "../format/struct.ts";
import {
  DlmAssertJoined,
  DlmCancelJoin,
  DlmQueryJoinRequest,
  DlmQueryNodeinfo,
  DlmQueryRegion,
} from "../format/wire/dlm.ts";
import {
  DLM_MOD_KEY,
  JOIN_DISALLOW,
  JOIN_OK,
  JOIN_OK_NO_MAP,
  JOIN_PROTOCOL_MISMATCH,
  O2NM_MAX_NAME_LEN,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG, type DlmMessage } from "../format/wire/dlm_messages.ts";
import type { Clock, Random } from "../lib/clock.ts";
import { Errno } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { setJoiningNode } from "./cleanup.ts";
import { DLM_CTXT_LEAVING, DLM_CTXT_NEW, type Dlm, nameAt, type ProtocolVersion, RECO_ACTIVE } from "./dlm.ts";
import { OWNER_UNKNOWN } from "./lockres.ts";
import { notifyMles } from "./mle.ts";

export interface ClusterNode {
  readonly num: NodeNum;
  readonly ipv4_port: number;
  /** As a number, the first byte highest. */
  readonly ipv4_address: number;
}

export interface DlmNodeOptions {
  readonly net: O2net;
  readonly hb: O2hb;
  readonly clock: Clock;
  readonly random: Random;
  /** cluster.conf: a node that joins must have the same. */
  nodes(): readonly ClusterNode[];
  /** Regions of the global heartbeat; none under local heartbeat. */
  regions(): readonly string[];
  /** A state that must not be: the node must stop its heartbeat and its writes, and die. */
  fatal(err: Error): void;
}

const REGION_NAME_LEN = 32;

export class DlmNode {
  readonly net: O2net;
  readonly hb: O2hb;
  readonly clock: Clock;
  readonly random: Random;
  readonly node_num: NodeNum;
  readonly mod_key = DLM_MOD_KEY;
  readonly domains = new Map<string, Dlm>();
  readonly #o: DlmNodeOptions;
  readonly #ends: (() => void)[] = [];

  constructor(options: DlmNodeOptions) {
    this.#o = options;
    this.net = options.net;
    this.hb = options.hb;
    this.clock = options.clock;
    this.random = options.random;
    this.node_num = options.net.node_num;
    this.#register(DLM_MSG.QUERY_JOIN, (m, payload) => this.#queryJoin(m, payload));
    this.#register(DLM_MSG.ASSERT_JOINED, (m, payload) => this.#assertJoined(m, payload));
    this.#register(DLM_MSG.CANCEL_JOIN, (m, payload) => this.#cancelJoin(m, payload));
    this.#register(DLM_MSG.QUERY_REGION, (m, payload) => this.#queryRegion(m, payload));
    this.#register(DLM_MSG.QUERY_NODEINFO, (m, payload) => this.#queryNodeinfo(m, payload));
  }

  #register<F>(msg: DlmMessage<F>, handler: (m: View<F>, payload: Uint8Array) => number): void {
    const { size } = msg.struct;
    this.#ends.push(
      this.net.register(msg.type, DLM_MOD_KEY, msg.max_len, (payload) => {
        if (payload.length < size) {
          const whole = new Uint8Array(size);
          whole.set(payload);
          payload = whole;
        }
        return handler(msg.struct.from(payload), payload);
      }),
    );
  }

  /** No domain may be left. */
  close(): void {
    for (const end of this.#ends.splice(0)) end();
  }

  nodes(): readonly ClusterNode[] {
    return this.#o.nodes();
  }

  regions(): readonly string[] {
    return this.#o.regions();
  }

  fatal(err: Error): void {
    this.#o.fatal(err);
  }

  forget(dlm: Dlm): void {
    if (this.domains.get(dlm.name) === dlm) this.domains.delete(dlm.name);
  }

  #domain(payload: Uint8Array, off: number, len: number): Dlm | undefined {
    return len > O2NM_MAX_NAME_LEN ? undefined : this.domains.get(nameAt(payload, off, len));
  }

  /** dlm_query_join_handler. */
  #queryJoin(q: ViewOf<typeof DlmQueryJoinRequest>, payload: Uint8Array): number {
    const packet = (code: number, dlm_minor = 0, fs_minor = 0): number =>
      (code << 24) | (dlm_minor << 16) | (fs_minor << 8);
    const node = q.node_idx;
    if (!this.hb.liveNodes().has(node)) return packet(JOIN_DISALLOW);
    const dlm = this.#domain(payload, DlmQueryJoinRequest.fields.domain.off, q.name_len);
    if (dlm === undefined) return packet(JOIN_OK_NO_MAP);
    // It may not see one yet that has left or come.
    const { node_map } = q;
    for (const n of dlm.domain_map) if (!(node_map[n >> 3]! & (1 << (n & 7)))) return packet(JOIN_DISALLOW);
    if (dlm.state === DLM_CTXT_LEAVING) return packet(JOIN_OK_NO_MAP);
    if (dlm.joining_node !== OWNER_UNKNOWN) return packet(JOIN_DISALLOW);
    // It was faster.
    if (dlm.state === DLM_CTXT_NEW) return packet(JOIN_OK_NO_MAP);
    if (dlm.reco.state & RECO_ACTIVE || dlm.recovery_map.has(node) || dlm.domain_map.has(node))
      return packet(JOIN_DISALLOW);
    const ours = [dlm.dlm_proto, dlm.fs_proto];
    const theirs = [
      { major: q.dlm_proto_major, minor: q.dlm_proto_minor },
      { major: q.fs_proto_major, minor: q.fs_proto_minor },
    ];
    if (!ours.every((v, i) => speaks(v, theirs[i]!))) {
      mlog(ML.NOTICE, `${dlm.name}: node ${node} wants to join with another protocol`);
      return packet(JOIN_PROTOCOL_MISMATCH);
    }
    setJoiningNode(dlm, node);
    return packet(JOIN_OK, dlm.dlm_proto.minor, dlm.fs_proto.minor);
  }

  /** dlm_assert_joined_handler. */
  #assertJoined(m: ViewOf<typeof DlmAssertJoined>, payload: Uint8Array): number {
    const dlm = this.#domain(payload, DlmAssertJoined.fields.domain.off, m.name_len);
    if (dlm === undefined) return 0;
    const node = m.node_idx;
    // Not asked for: the kernel stops.
    if (dlm.joining_node !== node) {
      mlog(ML.ERROR, `${dlm.name}: node ${node} joins without having asked`);
      return -Errno.EINVAL;
    }
    if (dlm.reco.state & RECO_ACTIVE) return -Errno.EAGAIN;
    dlm.enter();
    dlm.domain_map.set(node);
    dlm.live_nodes_map.set(node);
    dlm.exit_domain_map.clear(node);
    dlm.reco.origin.clear();
    setJoiningNode(dlm, OWNER_UNKNOWN);
    mlog(ML.DLM_DOMAIN, `o2dlm: node ${node} joins domain ${dlm.name} (${dlm.domain_map})`);
    notifyMles(dlm, node, true);
    dlm.exit();
    return 0;
  }

  /** dlm_cancel_join_handler. */
  #cancelJoin(m: ViewOf<typeof DlmCancelJoin>, payload: Uint8Array): number {
    const dlm = this.#domain(payload, DlmCancelJoin.fields.domain.off, m.name_len);
    if (dlm === undefined) return 0;
    if (dlm.joining_node !== m.node_idx) {
      mlog(ML.ERROR, `${dlm.name}: node ${m.node_idx} takes back a wish to join that it did not have`);
      return -Errno.EINVAL;
    }
    dlm.enter();
    setJoiningNode(dlm, OWNER_UNKNOWN);
    dlm.exit();
    return 0;
  }

  /** Only one whose wish to join was granted may ask further; both questions came with 1.1. */
  #joining(dlm: Dlm | undefined, node: NodeNum): dlm is Dlm {
    if (dlm !== undefined && dlm.joining_node === node && dlm.dlm_proto.minor > 0) return true;
    mlog(ML.ERROR, `node ${node} asks about a domain that it does not join`);
    return false;
  }

  /** dlm_query_region_handler. */
  #queryRegion(m: ViewOf<typeof DlmQueryRegion>, payload: Uint8Array): number {
    const dlm = this.#domain(payload, DlmQueryRegion.fields.qr_domain.off, m.qr_namelen);
    if (!this.#joining(dlm, m.qr_node)) return -Errno.EINVAL;
    const local = [...this.regions()].sort();
    const n = m.qr_numregions;
    if (n > m.qr_regions.length / REGION_NAME_LEN) return -Errno.EINVAL;
    const remote = Array.from({ length: n }, (_, i) =>
      nameAt(payload, DlmQueryRegion.fields.qr_regions.off + i * REGION_NAME_LEN, REGION_NAME_LEN).replace(
        /\0.*$/s,
        "",
      ),
    ).sort();
    if (local.length === remote.length && local.every((r, i) => r === remote[i])) return 0;
    mlog(ML.ERROR, `domain ${dlm.name}: node ${m.qr_node} heartbeats on [${remote}], this node on [${local}]`);
    return -Errno.EINVAL;
  }

  /** dlm_query_nodeinfo_handler. */
  #queryNodeinfo(m: ViewOf<typeof DlmQueryNodeinfo>, payload: Uint8Array): number {
    const dlm = this.#domain(payload, DlmQueryNodeinfo.fields.qn_domain.off, m.qn_namelen);
    if (!this.#joining(dlm, m.qn_nodenum)) return -Errno.EINVAL;
    const text = (n: ClusterNode): string =>
      `${n.num}=${[24, 16, 8, 0].map((s) => (n.ipv4_address >>> s) & 255).join(".")}:${n.ipv4_port}`;
    const remote = new Set<string>();
    for (let i = 0; i < m.qn_numnodes; i++) {
      const n = m.qn_nodes.at(i);
      remote.add(text({ num: n.ni_nodenum, ipv4_port: n.ni_ipv4_port, ipv4_address: n.ni_ipv4_address }));
    }
    const local = new Set(this.nodes().map(text));
    const differ = [...remote].filter((n) => !local.has(n)).concat([...local].filter((n) => !remote.has(n)));
    if (differ.length === 0) return 0;
    mlog(ML.ERROR, `domain ${dlm.name}: node ${m.qn_nodenum} has another cluster.conf: ${differ.join(" ")}`);
    return -Errno.EINVAL;
  }
}

/** dlm_protocol_compare: whether one that speaks up to `theirs` can join a domain that speaks `ours`. */
function speaks(ours: ProtocolVersion, theirs: ProtocolVersion): boolean {
  return ours.major === theirs.major && ours.minor <= theirs.minor;
}
