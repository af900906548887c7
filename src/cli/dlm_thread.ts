/**
 * The node's side of the thread of programs' locks (dlmfs_worker.ts): it starts with the first that wants it, mounts the locks as files where they are wanted,
 * and carries what programs on sockets and their domains say to each other.
 */
import { Errno } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { closeFd, MNT_DETACH, umount2 } from "../native/index.ts";
import type { FromHost, ToHost } from "../stackglue/remote.ts";
import type { ClusterNode, DomainOfThread } from "./cluster_node.ts";
import type { DlmfsWorkerData, FromDlmfs, ToDlmfs } from "./dlmfs_worker.ts";
import { logMasks } from "./log.ts";
import { RingWorker } from "./ring_worker.ts";
import { type MountedTree, mountFuse } from "./tree_mount.ts";

/** A program's socket. */
export interface DlmClient {
  joined(err: number, node_num: number): void;
  say(m: FromHost): void;
  hangUp(): void;
}

interface Mount extends MountedTree {
  readonly fd: number;
  readonly forgetAbort: () => void;
  readonly ended: () => void;
}

export class DlmThread {
  readonly #node: ClusterNode;
  readonly #worker: RingWorker<ToDlmfs, FromDlmfs>;
  readonly #domains = new Map<string, DomainOfThread>();
  readonly #asked = new Map<number, (domains: readonly Record<string, unknown>[]) => void>();
  readonly #clients = new Map<number, DlmClient>();
  readonly #ended: Promise<void>;
  /** Nobody hears what it is told. */
  has_ended = false;
  #next = 0;
  #mount: Mount | null = null;

  constructor(node: ClusterNode) {
    this.#node = node;
    const workerData: DlmfsWorkerData = { log_masks: logMasks() };
    this.#worker = new RingWorker("./dlmfs_worker.js", workerData, (m) => this.#heard(m));
    this.#worker.onError((err) => this.#broken(err.message));
    this.#ended = new Promise((ok) => this.#worker.onExit(() => ok(this.#end())));
  }

  /** Where the locks are files; null when nowhere. */
  get tree(): MountedTree | null {
    return this.#mount;
  }

  /** Programs have domains over sockets. */
  get isUsed(): boolean {
    return this.#clients.size > 0;
  }

  /** Mounts them there. Throws CliError. */
  mount(dir: string): void {
    let ended = (): void => {};
    const gone = new Promise<void>((ok) => {
      ended = ok;
    });
    this.#mount = { dir, gone, ended, ...mountFuse("dlmfs", dir) };
    this.#worker.tell({ t: "serve", fd: this.#mount.fd });
  }

  #heard(m: FromDlmfs): void {
    switch (m.t) {
      case "join":
        this.#join(m.name);
        break;
      case "left":
        this.#domains.get(m.name)?.close();
        this.#domains.delete(m.name);
        break;
      case "domains":
        this.#asked.get(m.id)?.(m.domains);
        this.#asked.delete(m.id);
        break;
      case "unmounted":
        this.#unmounted();
        break;
      case "joined":
        this.#clients.get(m.c)?.joined(m.err, m.node_num);
        break;
      case "client":
        this.#clients.get(m.c)?.say(m.m);
        break;
      case "hang-up":
        this.#clients.get(m.c)?.hangUp();
        break;
      case "fatal":
        this.#node.stack.fence(m.message);
        break;
    }
  }

  #join(name: string): void {
    if (this.#node.hasDomain(name)) return this.#worker.tell({ t: "refused", name, err: -Errno.EBUSY });
    const unclaim = this.#node.claimDomain(name);
    void this.#node.checkCluster(name).then((err) => {
      unclaim();
      if (this.has_ended) return;
      if (err === 0) this.#open(name);
      else this.#worker.tell({ t: "refused", name, err });
    });
  }

  #open(name: string): void {
    const domain = this.#node.openDomain(name, this.#worker.wake);
    this.#domains.set(name, domain);
    this.#worker.tell({ t: "domain", of: domain.of, port: domain.port }, [domain.port]);
  }

  #unmounted(): void {
    if (this.#mount === null) return;
    this.#mount.forgetAbort();
    closeFd(this.#mount.fd);
    this.#mount.ended();
    this.#mount = null;
  }

  /** It has thrown what nobody caught. Before it has started it has nothing that others wait for. */
  #broken(message: string): void {
    const text = `the thread of the programs' locks: ${message}`;
    if (this.#worker.has_started) return this.#node.stack.fence(text);
    mlog(ML.ERROR, text);
    if (this.#mount !== null) umount2(this.#mount.dir, MNT_DETACH);
  }

  #end(): void {
    this.has_ended = true;
    for (const domain of this.#domains.values()) domain.close();
    this.#unmounted();
    for (const answer of this.#asked.values()) answer([]);
    for (const client of this.#clients.values()) client.hangUp();
  }

  /** A program wants a domain; what it says from then on, and that it has gone. */
  client(name: string, client: DlmClient): { hear(m: ToHost): void; gone(): void } {
    const c = this.#next++;
    this.#clients.set(c, client);
    this.#worker.tell({ t: "client-join", c, name });
    return {
      hear: (m) => this.#worker.tell({ t: "client", c, m }),
      gone: () => {
        if (this.#clients.delete(c)) this.#worker.tell({ t: "client-gone", c });
      },
    };
  }

  /** Switches a set of debug messages of its thread. */
  log(mask: string, state: "allow" | "off"): void {
    this.#worker.tell({ t: "log", mask, state });
  }

  /** What its domains are like (domainSummary). */
  domains(): Promise<readonly Record<string, unknown>[]> {
    return new Promise((ok) => {
      if (this.#domains.size === 0) return ok([]);
      this.#asked.set(this.#next, ok);
      this.#worker.tell({ t: "domains", id: this.#next++ });
    });
  }

  /** Ends it; settles when all domains are left. */
  drop(): Promise<void> {
    if (this.#mount !== null) umount2(this.#mount.dir, MNT_DETACH);
    this.#worker.tell({ t: "close" });
    return this.#ended;
  }
}
