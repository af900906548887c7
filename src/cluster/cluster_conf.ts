/**
 * /etc/ocfs2/cluster.conf in its classic format (ocfs2.cluster.conf(5)), and the time-outs of /etc/default/o2cb. One file for all nodes:
 * a node that read it differently would take its peers for strangers. So nothing is guessed: what is not understood is an error, with
 * its line and what to do.
 */
import { type NodeNum, O2NM_MAX_NODES } from "./node.ts";
import {
  CLUSTER_NAME_LEN,
  DEFAULT_TIMEOUTS,
  type HeartbeatMode,
  type NodeConfig,
  NodeManager,
  O2HB_MAX_DEAD_THRESHOLD,
  O2HB_MIN_DEAD_THRESHOLD,
  O2NM_MAX_NAME_LEN,
  O2NM_MAX_REGIONS,
  parseIpv4,
  type Timeouts,
} from "./nodemanager.ts";

export const DEFAULT_CONF = "/etc/ocfs2/cluster.conf";
export const DEFAULT_O2CB = "/etc/default/o2cb";
export const DEFAULT_PORT = 7777;

export interface ClusterConf {
  readonly name: string;
  heartbeat_mode: HeartbeatMode;
  nodes: NodeConfig[];
  /** UUIDs of the global heartbeat regions. */
  regions: string[];
}

/** One line for a person: what is wrong, where, and what to do. */
export class ConfigError extends Error {
  constructor(where: string, what: string, remedy: string) {
    super(`${where}: ${what}; ${remedy}`);
    this.name = "ConfigError";
  }
}

interface Stanza {
  readonly kind: string;
  readonly line: number;
  readonly values: Map<string, { value: string; line: number }>;
}

const KEYS: Readonly<Record<string, readonly string[]>> = {
  cluster: ["node_count", "heartbeat_mode", "name"],
  node: ["ip_port", "ip_address", "number", "name", "cluster"],
  heartbeat: ["region", "cluster"],
};

function stanzas(text: string, file: string): Stanza[] {
  const out: Stanza[] = [];
  text.split(/\r?\n/).forEach((raw, i) => {
    const line = i + 1;
    const where = `${file}:${line}`;
    const body = raw.replace(/#.*$/, "").trimEnd();
    if (body === "") return;
    const head = /^([A-Za-z_]+)\s*:$/.exec(body);
    if (head !== null) {
      const kind = head[1]!;
      if (KEYS[kind] === undefined)
        throw new ConfigError(where, `unknown stanza "${kind}:"`, "it is cluster:, node: or heartbeat:");
      out.push({ kind, line, values: new Map() });
      return;
    }
    const pair = /^\s+([A-Za-z_0-9]+)\s*=\s*(.*)$/.exec(body);
    const stanza = out.at(-1);
    if (pair === null) {
      if (/^[A-Za-z_0-9]+\s*=/.test(body))
        throw new ConfigError(where, `"${body}" begins in the first column`, "put a tab before it");
      throw new ConfigError(
        where,
        `"${body.trim()}" is neither a stanza nor a parameter`,
        'write "key = value" after a tab',
      );
    }
    const [, key = "", value = ""] = pair;
    if (stanza === undefined)
      throw new ConfigError(where, `"${key}" belongs to no stanza`, "put cluster:, node: or heartbeat: before it");
    if (!KEYS[stanza.kind]!.includes(key))
      throw new ConfigError(where, `${stanza.kind}: has no "${key}"`, `it has ${KEYS[stanza.kind]!.join(", ")}`);
    if (stanza.values.has(key))
      throw new ConfigError(
        where,
        `"${key}" is there twice`,
        `one of them is a blank line and "${stanza.kind}:" away from its stanza`,
      );
    stanza.values.set(key, { value: value.trim(), line });
  });
  return out;
}

class Reader {
  readonly #s: Stanza;
  readonly #file: string;

  constructor(s: Stanza, file: string) {
    this.#s = s;
    this.#file = file;
  }

  fail(key: string, what: string, remedy: string): never {
    const line = this.#s.values.get(key)?.line ?? this.#s.line;
    throw new ConfigError(`${this.#file}:${line}`, what, remedy);
  }

  text(key: string): string {
    const v = this.#s.values.get(key)?.value ?? "";
    if (v === "") this.fail(key, `${this.#s.kind}: lacks "${key}"`, `add "${key} = …" after a tab`);
    return v;
  }

  optional(key: string): string | undefined {
    return this.#s.values.get(key)?.value;
  }

  number(key: string, min: number, max: number): number {
    const v = this.text(key);
    const n = /^\d+$/.test(v) ? Number(v) : Number.NaN;
    if (!(n >= min && n <= max)) this.fail(key, `${key} "${v}" is no number from ${min} to ${max}`, "give one that is");
    return n;
  }
}

export const CLUSTER_NAME = /^[A-Za-z0-9]{1,16}$/;

/** All clusters of the file. Throws ConfigError. */
export function parseClusterConf(text: string, file: string = DEFAULT_CONF): ClusterConf[] {
  const parts = stanzas(text, file);
  const clusters: ClusterConf[] = [];
  for (const s of parts.filter((p) => p.kind === "cluster")) {
    const r = new Reader(s, file);
    const name = r.text("name");
    if (!CLUSTER_NAME.test(name))
      r.fail("name", `cluster name "${name}"`, `up to ${CLUSTER_NAME_LEN} letters and digits are allowed`);
    if (clusters.some((c) => c.name === name)) r.fail("name", `cluster "${name}" is there twice`, "remove one");
    const mode = r.optional("heartbeat_mode") ?? "local";
    if (mode !== "local" && mode !== "global")
      r.fail("heartbeat_mode", `heartbeat_mode "${mode}"`, "it is local or global");
    if (r.optional("node_count") !== undefined) r.number("node_count", 0, O2NM_MAX_NODES);
    clusters.push({ name, heartbeat_mode: mode as HeartbeatMode, nodes: [], regions: [] });
  }
  for (const s of parts.filter((p) => p.kind !== "cluster")) {
    const r = new Reader(s, file);
    const name = r.text("cluster");
    const cluster = clusters.find((c) => c.name === name);
    if (cluster === undefined) {
      const known = clusters.map((c) => c.name).join(", ") || "none";
      return r.fail(
        "cluster",
        `${s.kind}: belongs to cluster "${name}", which is not there (${known})`,
        "correct the name",
      );
    }
    if (s.kind === "node") addNode(cluster, r);
    else addRegion(cluster, r);
  }
  return clusters;
}

function addNode(cluster: ClusterConf, r: Reader): void {
  const name = r.text("name");
  if (name.length > O2NM_MAX_NAME_LEN)
    r.fail("name", `node name "${name}"`, `use at most ${O2NM_MAX_NAME_LEN} letters`);
  const num: NodeNum = r.number("number", 0, O2NM_MAX_NODES - 1);
  const address = r.text("ip_address");
  const ipv4_address =
    parseIpv4(address) ??
    r.fail("ip_address", `ip_address "${address}" is no IPv4 address`, "give one like 192.168.1.7");
  const ipv4_port = r.number("ip_port", 1, 0xfffe);
  for (const other of cluster.nodes) {
    if (other.name === name) r.fail("name", `node "${name}" is there twice`, "remove one");
    if (other.num === num) r.fail("number", `number ${num} is ${other.name}'s already`, "give each node its own");
    if (other.ipv4_address === ipv4_address)
      r.fail("ip_address", `${ipv4_address} is ${other.name}'s already`, "give each node its own address");
  }
  cluster.nodes.push({ name, num, ipv4_address, ipv4_port });
}

function addRegion(cluster: ClusterConf, r: Reader): void {
  const region = r.text("region").toUpperCase();
  if (!/^[0-9A-F]{32}$/.test(region)) r.fail("region", `region "${region}"`, "it is a volume's UUID, 32 hex digits");
  if (cluster.regions.includes(region)) r.fail("region", `region ${region} is there twice`, "remove one");
  if (cluster.regions.length >= O2NM_MAX_REGIONS)
    r.fail("region", "too many regions", `${O2NM_MAX_REGIONS} are allowed`);
  cluster.regions.push(region);
}

/** The file as o2cb writes it. */
export function formatClusterConf(clusters: readonly ClusterConf[]): string {
  const stanza = (kind: string, values: Record<string, string | number>): string =>
    `${kind}:\n${Object.entries(values)
      .map(([k, v]) => `\t${k} = ${v}\n`)
      .join("")}`;
  const out = clusters.flatMap((c) => [
    ...c.regions.map((region) => stanza("heartbeat", { region, cluster: c.name })),
    ...c.nodes.map((n) =>
      stanza("node", {
        ip_port: n.ipv4_port,
        ip_address: n.ipv4_address,
        number: n.num,
        name: n.name,
        cluster: c.name,
      }),
    ),
    stanza("cluster", { node_count: c.nodes.length, heartbeat_mode: c.heartbeat_mode, name: c.name }),
  ]);
  return out.map((s) => `${s}\n`).join("");
}

// ---- time-outs ----

const SETTINGS: Readonly<Record<string, { key: keyof Timeouts; min: number; max: number }>> = {
  O2CB_HEARTBEAT_THRESHOLD: {
    key: "dead_threshold",
    min: O2HB_MIN_DEAD_THRESHOLD + 1,
    max: O2HB_MAX_DEAD_THRESHOLD,
  },
  O2CB_IDLE_TIMEOUT_MS: { key: "idle_timeout_ms", min: 1, max: 0xfffffffe },
  O2CB_KEEPALIVE_DELAY_MS: { key: "keepalive_delay_ms", min: 1, max: 0xfffffffe },
  O2CB_RECONNECT_DELAY_MS: { key: "reconnect_delay_ms", min: 1, max: 0xfffffffe },
};

/** KEY=value lines of a file that a shell reads. */
export function parseO2cbDefaults(text: string): Record<string, string> {
  const out: Record<string, string> = {};
  for (const line of text.split(/\r?\n/)) {
    const m = /^\s*(?:export\s+)?([A-Z0-9_]+)=(?:"([^"]*)"|'([^']*)'|([^\s#]*))/.exec(line);
    if (m !== null) out[m[1]!] = m[2] ?? m[3] ?? m[4] ?? "";
  }
  return out;
}

/** The time-outs of /etc/default/o2cb's text (undefined: there is no such file); the environment goes before it. Throws ConfigError. */
export function timeoutsFrom(
  defaults: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
  file: string = DEFAULT_O2CB,
): Timeouts {
  const from_file = parseO2cbDefaults(defaults ?? "");
  const out: Timeouts = { ...DEFAULT_TIMEOUTS };
  let from_env = false;
  for (const [name, { key, min, max }] of Object.entries(SETTINGS)) {
    const [value, where] = env[name] ? [env[name], "environment"] : [from_file[name] ?? "", file];
    if (value === "") continue;
    const n = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    if (!(n >= min && n <= max))
      throw new ConfigError(
        where,
        `${name}="${value}"`,
        `give a whole number of ${n > max ? `at most ${max}` : `at least ${min}`}, the same on all nodes`,
      );
    out[key] = n;
    from_env ||= where !== file;
  }
  if (out.idle_timeout_ms <= out.keepalive_delay_ms)
    throw new ConfigError(
      from_env ? "environment" : file,
      `O2CB_IDLE_TIMEOUT_MS (${out.idle_timeout_ms}) is not larger than O2CB_KEEPALIVE_DELAY_MS (${out.keepalive_delay_ms})`,
      "raise the first or lower the second, on all nodes",
    );
  return out;
}

/** The settings that an environment has. */
export function settingsOf(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(Object.keys(SETTINGS).flatMap((name) => (env[name] ? [[name, env[name]]] : [])));
}

/** Settings that a node which runs with `timeouts` does not follow, a line each. */
export function unusedSettings(settings: Readonly<Record<string, string>>, timeouts: Readonly<Timeouts>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => {
    const used = timeouts[SETTINGS[name]!.key];
    return String(used) === value ? [] : [`${name}=${value} is without effect, it is ${used} here`];
  });
}

/** Which cluster and node a process is, of what the file and its options say. Throws ConfigError. */
export function nodeManagerFrom(
  clusters: readonly ClusterConf[],
  choice: { cluster?: string | undefined; node: string; timeouts: Readonly<Timeouts>; file?: string },
): NodeManager {
  const file = choice.file ?? DEFAULT_CONF;
  const names = clusters.map((c) => c.name).join(", ");
  if (clusters.length === 0) throw new ConfigError(file, "there is no cluster in it", "ocfs2 cluster add-cluster NAME");
  const wanted = choice.cluster;
  const having = (c: ClusterConf): boolean => c.nodes.some((n) => n.name === choice.node);
  const cluster =
    wanted === undefined ? (clusters.find(having) ?? clusters[0]!) : clusters.find((c) => c.name === wanted);
  if (cluster === undefined) throw new ConfigError(file, `there is no cluster "${wanted}" in it`, `it has ${names}`);
  const node = cluster.nodes.find((n) => n.name === choice.node);
  if (node === undefined)
    throw new ConfigError(
      file,
      `node "${choice.node}" is not in cluster "${cluster.name}" (${cluster.nodes.map((n) => n.name).join(", ") || "no nodes"})`,
      `name another one (mount -o node=NAME, else --node NAME), or add it: ocfs2 cluster add-node ${cluster.name} ${choice.node} --ip ADDRESS`,
    );
  const nodes = new NodeManager(cluster.name, choice.timeouts);
  nodes.heartbeat_mode = cluster.heartbeat_mode;
  for (const n of cluster.nodes) nodes.addNode(n);
  nodes.setLocal(node.num);
  return nodes;
}
