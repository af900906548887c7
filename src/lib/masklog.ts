import { isMainThread } from "node:worker_threads";

/**
 * masklog: debug messages in named sets, switched on and off at run time (cluster/masklog.c). Near to free when off:
 * guard anything that builds a string with mlogOn. The kernel's names, without its VOTE and KTHREAD, which have nothing to tell here; and
 * three of our own at the end.
 */
export const ML = {
  /** o2net: what is refused or unknown. */
  TCP: 0,
  /** o2net: each message. */
  MSG: 1,
  /** o2net: sockets come and go. */
  SOCKET: 2,
  /** o2hb: who is up, who is down. */
  HEARTBEAT: 3,
  /** o2hb: each beat. */
  HB_BIO: 4,
  /** locks as files: each request. */
  DLMFS: 5,
  /** o2dlm: each of its messages by name. */
  DLM: 6,
  /** o2dlm: who joins, who leaves. */
  DLM_DOMAIN: 7,
  /** o2dlm: resources that are not needed any more. */
  DLM_THREAD: 8,
  /** o2dlm: who masters what. */
  DLM_MASTER: 9,
  /** o2dlm: recovery of a dead node's locks. */
  DLM_RECOVERY: 10,
  /** dlmglue: each change of a lock's level. */
  DLM_GLUE: 11,
  /** o2net: attempts to connect. */
  CONN: 12,
  /** the quorum: who heartbeats, who is connected. */
  QUORUM: 13,
  /** dlmglue: locks that other nodes want. */
  BASTS: 14,
  /** nodes and regions that come and go. */
  CLUSTER: 15,
  JOURNAL: 16,
  ALLOC: 17,
  FUSE: 18,
  ERROR: 30,
  NOTICE: 31,
} as const;
export type MlMask = (typeof ML)[keyof typeof ML];

let on = (1 << ML.ERROR) | (1 << ML.NOTICE);
let sink: (line: string) => void = (line) => process.stderr.write(`${line}\n`);

export const mlogOn = (mask: MlMask): boolean => (on & (1 << mask)) !== 0;

/** Writes one line if the mask is on. Arguments are appended, separated by blanks. */
export function mlog(mask: MlMask, text: string, ...args: unknown[]): void {
  if ((on & (1 << mask)) === 0) return;
  const name = Object.entries(ML).find(([, v]) => v === mask)![0];
  sink(`ocfs2: ${name}: ${[text, ...args].join(" ")}`);
}

/** "allow" switches a mask on, "off" switches it off; unknown names are refused with false. */
export function mlogSet(name: string, state: "allow" | "off"): boolean {
  const bit = (ML as Record<string, number>)[name.toUpperCase()];
  if (bit === undefined) return false;
  on = state === "allow" ? on | (1 << bit) : on & ~(1 << bit);
  return true;
}

/** Every mask by its name, and whether it is on. */
export const mlogStates = (): [name: string, state: "allow" | "off"][] =>
  Object.entries(ML).map(([name, mask]) => [name, mlogOn(mask) ? "allow" : "off"]);

export function mlogSink(fn: (line: string) => void): void {
  sink = fn;
}
for (const name of (process.env["OCFS2_LOG"] ?? "").split(",").filter(Boolean)) {
  if (!mlogSet(name, "allow") && isMainThread)
    sink(`ocfs2: OCFS2_LOG: there is no mask ${name}; there are ${Object.keys(ML).join(", ")}`);
}
