/**
 * masklog: debug messages in named sets, switched on and off at run time (cluster/masklog.c). Near to free when off:
 * guard anything that builds a string with mlogOn.
 */
export const ML = {
  TCP: 0,
  MSG: 1,
  SOCKET: 2,
  HEARTBEAT: 3,
  HB_BIO: 4,
  DLMFS: 5,
  DLM: 6,
  DLM_DOMAIN: 7,
  DLM_THREAD: 8,
  DLM_MASTER: 9,
  DLM_RECOVERY: 10,
  DLM_GLUE: 11,
  QUORUM: 12,
  BASTS: 13,
  CLUSTER: 14,
  JOURNAL: 15,
  EXTENT: 16,
  ALLOC: 17,
  INODE: 18,
  DIR: 19,
  FUSE: 20,
  DIO: 21,
  SUPER: 22,
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
for (const name of (process.env["OCFS2_LOG"] ?? "").split(",").filter(Boolean)) mlogSet(name, "allow");
