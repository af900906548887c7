/**
 * The cluster as the kernel's configfs shows it: /cluster/NAME/{node,heartbeat}/…, driven by mkdir, rmdir and attributes of text. Pure: paths
 * and text in, text or -errno out; fuse/tree_server.ts makes a mounted file system of it. Limits and errnos are nodemanager.c's
 * and heartbeat.c's, so that scripts which drive the kernel's tree drive ours.
 */
import { Errno } from "../lib/errno.ts";
import { FsError } from "../lib/fs_error.ts";
import { mlogStates } from "../lib/masklog.ts";
import type { Heartbeat } from "./heartbeat.ts";
import { O2NM_MAX_NODES } from "./node.ts";
import {
  FENCE_METHODS,
  type NodeConfig,
  type NodeManager,
  O2NM_MAX_NAME_LEN,
  O2NM_MAX_REGIONS,
  parseIpv4,
  type Timeouts,
} from "./nodemanager.ts";

/** What the tree sets going outside of itself. */
export interface ConfigfsHooks {
  /** mkdir of a cluster. Throws FsError (ENOSPC: there is one). */
  makeCluster(name: string): { nodes: NodeManager; hb: Heartbeat };
  /** rmdir of the cluster, which has no nodes and no regions any more. */
  dropCluster(): void;
  /** `local` is set: the node listens. `done` gets 0 or -errno. */
  startListening(done: (err: number) => void): void;
  stopListening(): void;
  /** `dev` is written: heartbeat starts; `done` gets 0 once it is steady, or -errno. */
  startRegion(region: RegionConfig, done: (err: number) => void): void;
  /** rmdir of a region that heartbeats: a farewell, then `done`. */
  stopRegion(name: string, done: () => void): void;
  /** A mount depends on it. */
  isRegionPinned(name: string): boolean;
  /** The device of a region that was not started here; "" when unknown. */
  deviceOf(name: string): string;
  /** Connected to it: it may not be taken out (o2nm_depend_item of the connection). */
  isConnected(num: number): boolean;
  /** A log mask is switched, here and on the threads of the mounts. */
  setLog(name: string, state: "allow" | "off"): void;
  /** The path behind a file descriptor of a process, undefined when there is none. */
  pathOfFd(pid: number, fd: number): string | undefined;
}

export interface RegionConfig {
  readonly name: string;
  block_bytes: number;
  start_block: number;
  blocks: number;
  path: string;
}

/** A node as far as it has been told; it joins the node manager when it has its number. */
interface NodeItem {
  readonly name: string;
  num?: number;
  ipv4_port?: number;
  ipv4_address?: string;
}

export type Answer = (err: number) => void;

/** A file: its text, and what a write of a whole text does. A number is -errno, or 0; undefined: `done` is called later. */
export interface Attribute {
  readonly mode: number;
  show(): string;
  store?(text: string, pid: number, done: Answer): number | undefined;
}

/** A folder. mkdir and rmdir are missing where the kernel makes the folders itself (-EPERM). */
export interface Folder {
  names(): string[];
  get(name: string): Entry | undefined;
  mkdir?(name: string): number;
  rmdir?(name: string, done: Answer): number | undefined;
}

export type Entry = { readonly dir: Folder } | { readonly file: Attribute };

const RW = 0o644;
const RO = 0o444;

/** simple_strtoul with the base in the text, and nothing behind it but one newline; undefined otherwise. */
export function strtoul(text: string): number | undefined {
  const m = /^(0[xX][0-9a-fA-F]+|\d*)\n?$/.exec(text);
  if (m === null) return undefined;
  const digits = m[1]!;
  if (digits === "") return 0;
  return /^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
}

const folder = (entries: () => Record<string, Entry>, more: Pick<Folder, "mkdir" | "rmdir"> = {}): Folder => ({
  names: () => Object.keys(entries()),
  get: (name) => (Object.hasOwn(entries(), name) ? entries()[name] : undefined),
  ...more,
});

/** Runs what may throw FsError; 0 or its -errno. */
function errnoOf(run: () => void): number {
  try {
    run();
    return 0;
  } catch (err) {
    if (err instanceof FsError) return -err.errno;
    throw err;
  }
}

export class ConfigTree {
  readonly #hooks: ConfigfsHooks;
  #cluster: { nodes: NodeManager; hb: Heartbeat } | null;
  /** Nodes that have a folder, by name; those of the node manager among them. */
  readonly #items = new Map<string, NodeItem>();
  readonly #regions = new Map<string, RegionConfig>();

  constructor(hooks: ConfigfsHooks, cluster: { nodes: NodeManager; hb: Heartbeat } | null = null) {
    this.#hooks = hooks;
    this.#cluster = cluster;
  }

  /** The entry at a path, undefined when there is none. "" is the root. */
  resolve(path: readonly string[]): Entry | undefined {
    let at: Entry = { dir: this.#root() };
    for (const name of path) {
      if (!("dir" in at)) return undefined;
      const next: Entry | undefined = at.dir.get(name);
      if (next === undefined) return undefined;
      at = next;
    }
    return at;
  }

  #root(): Folder {
    return folder(() => ({ cluster: { dir: this.#clusters() }, logmask: { dir: this.#logmasks() } }));
  }

  /** As /sys/fs/o2cb/logmask. The kernel's "deny" keeps a mask off that another would switch on; ours have no others. */
  #logmasks(): Folder {
    return folder(() =>
      Object.fromEntries(
        mlogStates().map(([name, state]) => [
          name,
          {
            file: {
              mode: RW,
              show: () => `${state}\n`,
              store: (text) => {
                const word = text.replace(/\n$/, "").toLowerCase();
                if (word !== "allow" && word !== "off" && word !== "deny") return -Errno.EINVAL;
                this.#hooks.setLog(name, word === "allow" ? "allow" : "off");
                return 0;
              },
            },
          },
        ]),
      ),
    );
  }

  #clusters(): Folder {
    return folder(
      () => (this.#cluster === null ? {} : { [this.#cluster.nodes.cluster]: { dir: this.#clusterDir(this.#cluster) } }),
      {
        mkdir: (name) => {
          if (this.#cluster !== null) return this.#cluster.nodes.cluster === name ? -Errno.EEXIST : -Errno.ENOSPC;
          return errnoOf(() => {
            this.#cluster = this.#hooks.makeCluster(name);
          });
        },
        rmdir: (name) => {
          const cluster = this.#cluster;
          if (cluster === null || cluster.nodes.cluster !== name) return -Errno.ENOENT;
          if (this.#nodeItems().length > 0 || this.#regionNames().length > 0) return -Errno.ENOTEMPTY;
          this.#cluster = null;
          this.#hooks.dropCluster();
          return 0;
        },
      },
    );
  }

  #clusterDir(c: { nodes: NodeManager; hb: Heartbeat }): Folder {
    const timeout = (key: keyof Timeouts): Entry => ({
      file: {
        mode: RW,
        show: () => `${c.nodes.timeouts[key]}\n`,
        store: (text) => {
          const n = strtoul(text);
          if (n === undefined) return -Errno.EINVAL;
          return errnoOf(() => c.nodes.setTimeouts({ [key]: n }));
        },
      },
    });
    return folder(() => ({
      idle_timeout_ms: timeout("idle_timeout_ms"),
      keepalive_delay_ms: timeout("keepalive_delay_ms"),
      reconnect_delay_ms: timeout("reconnect_delay_ms"),
      fence_method: {
        file: {
          mode: RW,
          show: () => `${c.nodes.fence_method}\n`,
          store: (text) => {
            const method = FENCE_METHODS.find((m) => `${m}\n` === text.toLowerCase());
            if (method === undefined) return -Errno.EINVAL;
            return errnoOf(() => c.nodes.setFenceMethod(method));
          },
        },
      },
      node: { dir: this.#nodesDir(c.nodes) },
      heartbeat: { dir: this.#heartbeatDir(c) },
    }));
  }

  // ---- nodes ----------------------------------------------------------------------------------------------------------

  /** Those of the node manager, whoever put them there, and those that are still being made. */
  #nodeItems(): NodeItem[] {
    const nodes = this.#cluster?.nodes;
    if (nodes === undefined) return [];
    for (const [name, item] of this.#items)
      if (item.num !== undefined && nodes.nodeByName(name) === undefined) this.#items.delete(name);
    for (const n of nodes.nodes()) if (!this.#items.has(n.name)) this.#items.set(n.name, { ...n });
    return [...this.#items.values()];
  }

  #nodesDir(nodes: NodeManager): Folder {
    return folder(
      () => Object.fromEntries(this.#nodeItems().map((item) => [item.name, { dir: this.#nodeDir(nodes, item) }])),
      {
        mkdir: (name) => {
          if (name.length > O2NM_MAX_NAME_LEN) return -Errno.ENAMETOOLONG;
          if (this.#nodeItems().some((item) => item.name === name)) return -Errno.EEXIST;
          this.#items.set(name, { name });
          return 0;
        },
        rmdir: (name) => {
          const item = this.#nodeItems().find((i) => i.name === name);
          if (item === undefined) return -Errno.ENOENT;
          if (item.num !== undefined) {
            const is_local = nodes.this_node === item.num;
            if (is_local && this.#cluster!.hb.regions().length > 0) return -Errno.EBUSY;
            if (!is_local && this.#hooks.isConnected(item.num)) return -Errno.EBUSY;
            if (is_local) {
              this.#hooks.stopListening();
              nodes.clearLocal();
            }
            nodes.removeNode(item.num);
          }
          this.#items.delete(name);
          return 0;
        },
      },
    );
  }

  #nodeDir(nodes: NodeManager, item: NodeItem): Folder {
    return folder(() => ({
      num: {
        file: {
          mode: RW,
          show: () => `${item.num ?? 0}\n`,
          store: (text) => this.#storeNum(nodes, item, text),
        },
      },
      ipv4_port: {
        file: {
          mode: RW,
          show: () => `${item.ipv4_port ?? 0}\n`,
          store: (text) => {
            const n = strtoul(text);
            if (n === undefined || n === 0) return -Errno.EINVAL;
            if (n >= 0xffff) return -Errno.ERANGE;
            if (item.ipv4_port !== undefined) return -Errno.EBUSY;
            item.ipv4_port = n;
            return 0;
          },
        },
      },
      ipv4_address: {
        file: {
          mode: RW,
          show: () => `${item.ipv4_address ?? "0.0.0.0"}\n`,
          store: (text) => {
            const m = /^\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}/.exec(text);
            if (m === null) return -Errno.EINVAL;
            const address = parseIpv4(m[0]);
            if (address === undefined) return -Errno.ERANGE;
            if (this.#nodeItems().some((i) => i.ipv4_address === address)) return -Errno.EEXIST;
            if (item.ipv4_address !== undefined) return -Errno.EBUSY;
            item.ipv4_address = address;
            return 0;
          },
        },
      },
      local: {
        file: {
          mode: RW,
          show: () => `${item.num !== undefined && nodes.this_node === item.num ? 1 : 0}\n`,
          store: (text, _pid, done) => this.#storeLocal(nodes, item, text, done),
        },
      },
    }));
  }

  #storeNum(nodes: NodeManager, item: NodeItem, text: string): number {
    const n = strtoul(text);
    if (n === undefined) return -Errno.EINVAL;
    if (n >= O2NM_MAX_NODES) return -Errno.ERANGE;
    const { ipv4_address, ipv4_port } = item;
    if (ipv4_address === undefined || ipv4_port === undefined) return -Errno.EINVAL;
    if (nodes.node(n) !== undefined) return -Errno.EEXIST;
    if (item.num !== undefined) return -Errno.EBUSY;
    const node: NodeConfig = { name: item.name, num: n, ipv4_address, ipv4_port };
    const err = errnoOf(() => nodes.addNode(node));
    if (err === 0) item.num = n;
    return err;
  }

  #storeLocal(nodes: NodeManager, item: NodeItem, text: string, done: Answer): number | undefined {
    const n = strtoul(text);
    if (n === undefined || item.num === undefined) return -Errno.EINVAL;
    const me = nodes.this_node;
    if (n !== 0) {
      if (me !== undefined) return me === item.num ? 0 : -Errno.EBUSY;
      nodes.setLocal(item.num);
      this.#hooks.startListening((err) => {
        if (err !== 0) nodes.clearLocal();
        done(err);
      });
      return undefined;
    }
    if (me === item.num) {
      // The kernel's heartbeat ends then, under whatever is mounted.
      if (this.#cluster!.hb.regions().length > 0) return -Errno.EBUSY;
      this.#hooks.stopListening();
      nodes.clearLocal();
    }
    return 0;
  }

  // ---- heartbeat ------------------------------------------------------------------------------------------------------

  #regionNames(): string[] {
    const hb = this.#cluster?.hb;
    return [...new Set([...(hb?.regions().map((r) => r.name) ?? []), ...this.#regions.keys()])];
  }

  #heartbeatDir(c: { nodes: NodeManager; hb: Heartbeat }): Folder {
    return folder(
      () => ({
        dead_threshold: {
          file: {
            mode: RW,
            show: () => `${c.nodes.timeouts.dead_threshold}\n`,
            store: (text) => {
              const m = /^(\d*)\n?$/.exec(text);
              if (m === null) return -Errno.EINVAL;
              // Out of range or too late: taken, and without effect (o2hb_dead_threshold_set).
              const n = Number(m[1]);
              return n === 0 ? 0 : errnoOf(() => c.nodes.setTimeouts({ dead_threshold: n }));
            },
          },
        },
        mode: {
          file: {
            mode: RW,
            show: () => `${c.nodes.heartbeat_mode}\n`,
            store: (text) => {
              const word = text.replace(/\n$/, "").toLowerCase();
              const mode = word === "" ? undefined : (["local", "global"] as const).find((m) => m.startsWith(word));
              if (mode === undefined) return -Errno.EINVAL;
              if (this.#regionNames().length === 0) c.nodes.heartbeat_mode = mode;
              return 0;
            },
          },
        },
        ...Object.fromEntries(this.#regionNames().map((name) => [name, { dir: this.#regionDir(c.hb, name) }])),
      }),
      {
        mkdir: (name) => {
          if (name.length > 32) return -Errno.ENAMETOOLONG;
          if (name === "dead_threshold" || name === "mode" || this.#regionNames().includes(name)) return -Errno.EEXIST;
          if (c.nodes.heartbeat_mode === "global" && this.#regionNames().length >= O2NM_MAX_REGIONS)
            return -Errno.EFBIG;
          this.#regions.set(name, { name, block_bytes: 0, start_block: 0, blocks: 0, path: "" });
          return 0;
        },
        rmdir: (name, done) => {
          if (!this.#regionNames().includes(name)) return -Errno.ENOENT;
          if (this.#hooks.isRegionPinned(name)) return -Errno.EBUSY;
          this.#regions.delete(name);
          if (c.hb.region(name) === undefined) return 0;
          this.#hooks.stopRegion(name, () => done(0));
          return undefined;
        },
      },
    );
  }

  #regionDir(hb: Heartbeat, name: string): Folder {
    const mine = this.#regions.get(name);
    const is_running = (): boolean => hb.region(name) !== undefined;
    const number = (key: "block_bytes" | "start_block" | "blocks", check: (n: number) => number): Entry => ({
      file: {
        mode: RW,
        show: () => `${mine?.[key] ?? 0}\n`,
        store: (text) => {
          if (is_running() || mine === undefined) return -Errno.EINVAL;
          const n = strtoul(text);
          const err = n === undefined ? -Errno.EINVAL : check(n);
          if (err === 0) mine[key] = n!;
          return err;
        },
      },
    });
    return folder(() => ({
      block_bytes: number("block_bytes", (n) => {
        if (n > 4096 || n < 512) return -Errno.ERANGE;
        return (n & (n - 1)) === 0 ? 0 : -Errno.EINVAL;
      }),
      start_block: number("start_block", (n) => (Number.isSafeInteger(n) ? 0 : -Errno.EINVAL)),
      blocks: number("blocks", (n) => (n === 0 || n > O2NM_MAX_NODES ? -Errno.ERANGE : 0)),
      dev: {
        file: {
          mode: RW,
          show: () => {
            if (!is_running()) return "";
            const path = mine?.path || this.#hooks.deviceOf(name);
            return path === "" ? "" : `${path.slice(path.lastIndexOf("/") + 1)}\n`;
          },
          store: (text, pid, done) => this.#storeDev(mine, is_running(), text, pid, done),
        },
      },
      pid: { file: { mode: RO, show: () => (is_running() ? `${process.pid}\n` : "") } },
    }));
  }

  /** A file descriptor of the process that writes, as the kernel takes it. */
  #storeDev(
    mine: RegionConfig | undefined,
    running: boolean,
    text: string,
    pid: number,
    done: Answer,
  ): number | undefined {
    if (running || mine === undefined || this.#cluster?.nodes.this_node === undefined) return -Errno.EINVAL;
    const fd = /^\d+\n?$/.test(text) ? Number.parseInt(text, 10) : undefined;
    const path = fd === undefined ? undefined : this.#hooks.pathOfFd(pid, fd);
    if (path === undefined) return -Errno.EINVAL;
    if (mine.blocks === 0 || mine.start_block === 0 || mine.block_bytes === 0) return -Errno.EINVAL;
    mine.path = path;
    this.#hooks.startRegion(mine, done);
    return undefined;
  }
}
