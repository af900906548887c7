/** A node's status for people: what `ocfs2 cluster cluster-status` and `ocfs2 node status` print of the JSON that its process gives. */

interface Domain {
  readonly name: string;
  readonly state: string;
  readonly nodes: readonly number[];
  readonly locks: number;
  readonly recovering: number | null;
}

export interface NodeStatus {
  readonly node: string;
  readonly number: number;
  readonly cluster: string;
  readonly pid: number;
  readonly heartbeat_mode: string;
  readonly timeouts: { readonly dead_threshold: number; readonly idle_timeout_ms: number };
  readonly nodes: readonly {
    readonly name: string;
    readonly num: number;
    readonly ipv4_address: string;
    readonly ipv4_port: number;
    readonly live: boolean;
    /** Since its block was seen to change; of a node that is live. */
    readonly heartbeat_age_ms?: number;
  }[];
  readonly heartbeat: readonly {
    readonly name: string;
    readonly device: string;
    readonly state: string;
    readonly live: readonly number[];
    readonly age_ms: number;
    readonly worst_gap_ms: number;
  }[];
  readonly connections: readonly {
    readonly node: number;
    readonly state: string;
    readonly queued: number;
    readonly in_flight: number;
    readonly silent_ms?: number;
    readonly last_error: string;
  }[];
  readonly domains: readonly Domain[];
  readonly mounts: readonly {
    readonly dir: string;
    readonly device: string;
    /** False while it is being mounted, or when its thread is stuck; then nothing more is known. */
    readonly answers: boolean;
    readonly slot?: number;
    readonly readonly_reason?: string | null;
  }[];
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
const list = (items: readonly (string | number)[]): string => (items.length === 0 ? "none" : items.join(" "));

/** Columns as wide as what is in them, two blanks between. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const width = head.map((h, i) => Math.max(h.length, ...rows.map((r) => r[i]!.length)));
  return [head, ...rows].map((r) => `  ${r.map((cell, i) => cell.padEnd(width[i]!)).join("  ")}`.trimEnd());
}

function writable(m: NodeStatus["mounts"][number]): string {
  if (!m.answers) return "does not answer: being mounted, or stuck";
  return m.readonly_reason === null ? "yes" : `no: ${m.readonly_reason}`;
}

function section(lines: string[], head: readonly string[], rows: readonly (readonly string[])[]): void {
  if (rows.length > 0) lines.push("", ...table(head, rows));
}

/** Several lines, the last with its end. */
export function statusText(s: NodeStatus): string {
  const dead_ms = s.timeouts.dead_threshold * 2000;
  const lines = [
    `Node ${s.node} (${s.number}) of cluster '${s.cluster}', pid ${s.pid}: ${s.heartbeat_mode} heartbeat, dead after ${seconds(dead_ms)}, idle after ${seconds(s.timeouts.idle_timeout_ms)}`,
  ];
  section(
    lines,
    ["NODE", "NUMBER", "ADDRESS", "HEARTBEAT", "CONNECTION"],
    s.nodes.map((n) => {
      const c = s.connections.find((x) => x.node === n.num);
      const waiting =
        c !== undefined && c.queued + c.in_flight > 0 ? `, ${c.queued + c.in_flight} messages under way` : "";
      const heard = c?.silent_ms === undefined ? "" : `, heard ${seconds(c.silent_ms)} ago${waiting}`;
      const why = c === undefined || c.last_error === "" || c.state === "connected" ? "" : `: ${c.last_error}`;
      const beat = n.heartbeat_age_ms === undefined ? "not seen" : `alive, ${seconds(n.heartbeat_age_ms)} ago`;
      const connection = n.num === s.number ? "this node" : `${c?.state ?? "down"}${heard}${why}`;
      return [n.name, String(n.num), `${n.ipv4_address}:${n.ipv4_port}`, beat, connection];
    }),
  );
  section(
    lines,
    ["HEARTBEAT REGION", "DEVICE", "STATE", "LIVE NODES", "LAST BEAT", "LONGEST GAP"],
    s.heartbeat.map((h) => [
      h.name,
      h.device,
      h.state,
      list(h.live),
      `${seconds(h.age_ms)} ago`,
      seconds(h.worst_gap_ms),
    ]),
  );
  section(
    lines,
    ["LOCK DOMAIN", "STATE", "NODES", "LOCKS", "RECOVERY"],
    s.domains.map((d) => [
      d.name,
      d.state,
      list(d.nodes),
      String(d.locks),
      d.recovering === null ? "none" : `of node ${d.recovering}`,
    ]),
  );
  section(
    lines,
    ["MOUNTED ON", "DEVICE", "SLOT", "WRITABLE"],
    s.mounts.map((m) => [m.dir, m.device, String(m.slot ?? "?"), writable(m)]),
  );
  return `${lines.join("\n")}\n`;
}
