/**
 * The thread of dlmfs: requests of programs, the lock managers of their domains and these domains' messages are all here, so that a lock
 * which this node has costs no hop to another thread, and one that it has not costs none but to the other node. Entry point of
 * dist/dlmfs_worker.js.
 */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { domainSummary } from "../dlm/debug.ts";
import { Dlmfs } from "../fuse/dlmfs.ts";
import { serveTree } from "../fuse/tree_loop.ts";
import { TreeServer } from "../fuse/tree_server.ts";
import { plainArena } from "../lib/arena.ts";
import { Errno } from "../lib/errno.ts";
import { mlogSet } from "../lib/masklog.ts";
import { Loop } from "../native/loop.ts";
import type { LockDomain } from "../stackglue/lock_domain.ts";
import { O2cbDomain } from "../stackglue/o2cb.ts";
import { attachDomain } from "./domain_thread.ts";
import { type LogMasks, logToStderr, setLogMasks } from "./log.ts";
import type { ClusterOfDomain } from "./worker_messages.ts";

export interface DlmfsWorkerData {
  readonly fd: number;
  readonly log_masks: LogMasks;
}
export type FromDlmfs =
  | { readonly t: "wakefd"; readonly wakefd: number }
  /** A program wants this domain: `ToDlmfs` "domain" is the answer. */
  | { readonly t: "join"; readonly name: string }
  /** The domain was left, or could not be joined. */
  | { readonly t: "left"; readonly name: string }
  | { readonly t: "domains"; readonly id: number; readonly domains: readonly Record<string, unknown>[] }
  | { readonly t: "fatal"; readonly message: string };
export type ToDlmfs =
  | { readonly t: "domain"; readonly of: ClusterOfDomain; readonly port: MessagePort }
  /** Another thread of this node has the domain. */
  | { readonly t: "refused"; readonly name: string }
  /** What the domains are like: answered by the same of `FromDlmfs`. */
  | { readonly t: "domains"; readonly id: number }
  | { readonly t: "log"; readonly mask: string; readonly state: "allow" | "off" }
  /** Leave all domains and end, whatever is still open. */
  | { readonly t: "close" };

const { fd, log_masks } = workerData as DlmfsWorkerData;
logToStderr();
setLogMasks(log_masks);
const arena = plainArena(2 << 20);
const loop = new Loop(arena, 64);
const say = (message: FromDlmfs): void => parentPort!.postMessage(message);
const fatal = (err: Error): void => say({ t: "fatal", message: err.message });

type Joined = (err: number, domain: LockDomain | null) => void;
const joining = new Map<string, Joined>();
const joined = new Map<string, O2cbDomain>();

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

function refused(name: string): void {
  const done = joining.get(name)!;
  joining.delete(name);
  done(-Errno.EBUSY, null);
}

const dlmfs = new Dlmfs((name, done) => {
  joining.set(name, done);
  say({ t: "join", name });
});

let closing = false;
function close(): void {
  if (closing) return;
  closing = true;
  dlmfs.close(() => loop.stop());
  loop.wake();
}

const server = new TreeServer(fd, arena, (ask, done) => dlmfs.ask(ask, done), { names_stay: true });
serveTree(loop, fd, server, close);
parentPort!.on("message", (m: ToDlmfs) => {
  if (m.t === "domain") join(m.of, m.port);
  else if (m.t === "refused") refused(m.name);
  else if (m.t === "domains")
    say({ t: "domains", id: m.id, domains: [...joined.values()].map((d) => domainSummary(d.dlm)) });
  else if (m.t === "log") mlogSet(m.mask, m.state);
  else close();
});
say({ t: "wakefd", wakefd: loop.wakefd });
loop.start(() => {
  loop.close();
  parentPort!.close();
});
