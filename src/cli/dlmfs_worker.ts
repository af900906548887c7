/**
 * The thread of programs' locks, as files (dlmfs) and through the library (LockSpace.join): requests of programs, the lock managers of their domains and these
 * domains' messages are all here, so that a lock which this node has costs no hop to another thread, and one that it has not costs none but to
 * the other node. Entry point of dist/dlmfs_worker.js.
 */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { domainSummary } from "../dlm/debug.ts";
import { Dlmfs } from "../fuse/dlmfs.ts";
import { serveTree } from "../fuse/tree_loop.ts";
import { TreeServer } from "../fuse/tree_server.ts";
import { plainArena } from "../lib/arena.ts";
import { mlogSet } from "../lib/masklog.ts";
import { Loop } from "../native/loop.ts";
import { O2cbDomain } from "../stackglue/o2cb.ts";
import { DomainHost, type FromHost, type ToHost } from "../stackglue/remote.ts";
import { type Joined, SharedDomains } from "../stackglue/shared_domains.ts";
import { attachDomain } from "./domain_thread.ts";
import { type LogMasks, logToStderr, setLogMasks } from "./log.ts";
import type { WakeFd } from "./ring_worker.ts";
import type { ClusterOfDomain } from "./worker_messages.ts";

export interface DlmfsWorkerData {
  readonly log_masks: LogMasks;
}
export type FromDlmfs =
  /** A program wants this domain: `ToDlmfs` "domain" or "refused" is the answer. */
  | { readonly t: "join"; readonly name: string }
  /** The domain was left, or could not be joined. */
  | { readonly t: "left"; readonly name: string }
  | { readonly t: "domains"; readonly id: number; readonly domains: readonly Record<string, unknown>[] }
  /** The files' mount is gone. */
  | { readonly t: "unmounted" }
  /** To the program `c`: it has its domain, or not. */
  | { readonly t: "joined"; readonly c: number; readonly err: number; readonly node_num: number }
  | { readonly t: "client"; readonly c: number; readonly m: FromHost }
  /** What `c` says makes no sense. */
  | { readonly t: "hang-up"; readonly c: number }
  | { readonly t: "fatal"; readonly message: string };
export type ToDlmfs =
  /** Serves the files through an open /dev/fuse. */
  | { readonly t: "serve"; readonly fd: number }
  | { readonly t: "domain"; readonly of: ClusterOfDomain; readonly port: MessagePort }
  /** Another thread of this node has the domain, or the node is in no state to join one. */
  | { readonly t: "refused"; readonly name: string; readonly err: number }
  /** What the domains are like: answered by the same of `FromDlmfs`. */
  | { readonly t: "domains"; readonly id: number }
  | { readonly t: "log"; readonly mask: string; readonly state: "allow" | "off" }
  /** A program that came over a socket wants a domain, says something, has gone. */
  | { readonly t: "client-join"; readonly c: number; readonly name: string }
  | { readonly t: "client"; readonly c: number; readonly m: ToHost }
  | { readonly t: "client-gone"; readonly c: number }
  /** Leave all domains and end, whatever is still open. */
  | { readonly t: "close" };

const { log_masks } = workerData as DlmfsWorkerData;
logToStderr();
setLogMasks(log_masks);
const loop = new Loop(plainArena(1 << 20), 64);
const say = (message: FromDlmfs): void => parentPort!.postMessage(message);
const fatal = (err: Error): void => say({ t: "fatal", message: err.message });

// Domains ------------------------------------------------------------------------------------------------------------------
const joining = new Map<string, Joined>();
const joined = new Map<string, O2cbDomain>();
const domains = new SharedDomains((name, done) => {
  joining.set(name, done);
  say({ t: "join", name });
});

function join(of: ClusterOfDomain, port: MessagePort): void {
  const name = of.domain;
  const done = joining.get(name)!;
  joining.delete(name);
  const attached = attachDomain(loop, of, port, fatal);
  const end = (): void => {
    attached.close();
    joined.delete(name);
    say({ t: "left", name });
  };
  O2cbDomain.join(attached.node, name, (err, domain) => {
    if (domain === null) {
      end();
      return done(err, null);
    }
    joined.set(name, domain);
    const leave = domain.leave.bind(domain);
    domain.leave = (left) =>
      leave((status) => {
        end();
        left(status);
      });
    done(0, domain);
  });
}

function refused(name: string, err: number): void {
  const done = joining.get(name)!;
  joining.delete(name);
  done(err, null);
}

// Programs -----------------------------------------------------------------------------------------------------------------
const dlmfs = new Dlmfs((name, done) => domains.join(name, done));

function serve(fd: number): void {
  const server = new TreeServer(fd, plainArena(1 << 20), (ask, done) => dlmfs.ask(ask, done), {
    names_stay: true,
    makers_own: true,
  });
  serveTree(loop, fd, server, () => {
    say({ t: "unmounted" });
    if (!closing) dlmfs.close(() => {});
  });
  loop.wake();
}

/** By the number of their socket; null while they join. */
const clients = new Map<number, DomainHost | null>();

function clientJoins(c: number, name: string): void {
  clients.set(c, null);
  domains.join(name, (err, domain) => {
    // It has not waited.
    if (!clients.has(c) && domain !== null) return domain.leave(() => {});
    if (domain === null) clients.delete(c);
    else clients.set(c, new DomainHost(domain, (m) => say({ t: "client", c, m })));
    say({ t: "joined", c, err, node_num: domain?.node_num ?? 0 });
  });
}

function clientGone(c: number, done: () => void): void {
  const host = clients.get(c);
  clients.delete(c);
  if (host) host.close(done);
  else done();
}

let closing = false;
function close(): void {
  if (closing) return;
  closing = true;
  let left = 1 + clients.size;
  const end = (): void => {
    if (--left === 0) loop.stop();
  };
  for (const c of [...clients.keys()]) clientGone(c, end);
  dlmfs.close(end);
  loop.wake();
}

function heard(m: ToDlmfs): void {
  switch (m.t) {
    case "serve":
      return serve(m.fd);
    case "domain":
      return join(m.of, m.port);
    case "refused":
      return refused(m.name, m.err);
    case "domains":
      return say({ t: "domains", id: m.id, domains: [...joined.values()].map((d) => domainSummary(d.dlm)) });
    case "log":
      return void mlogSet(m.mask, m.state);
    case "client-join":
      return clientJoins(m.c, m.name);
    case "client":
      if (clients.get(m.c)?.heard(m.m) === false) say({ t: "hang-up", c: m.c });
      return;
    case "client-gone":
      return clientGone(m.c, () => {});
    case "close":
      return close();
  }
}

parentPort!.on("message", heard);
parentPort!.postMessage({ wakefd: loop.giveWakefd() } satisfies WakeFd);
loop.start(() => {
  loop.close();
  parentPort!.close();
});
