/**
 * What this node knows of its locks, in the text that the kernel shows in debugfs as ocfs2/UUID/locking_state (ocfs2_dlm_seq_show,
 * version 4): `ocfs2 debugfs -R fs_locks` prints it, and so does debugfs.ocfs2 of a copy. One lock a line.
 */
import { printableLockName } from "../format/wire/lock_name.ts";
import type { DlmGlue } from "./dlmglue.ts";
import { type LockRes, NL } from "./lock_res.ts";

export const LOCKING_STATE_VERSION = 4;

/** l_flags, as far as there is such a state here. */
export const OCFS2_LOCK = {
  ATTACHED: 0x1,
  BUSY: 0x2,
  BLOCKED: 0x4,
  LOCAL: 0x8,
  NEEDS_REFRESH: 0x10,
  REFRESHING: 0x20,
  INITIALIZED: 0x40,
  FREEING: 0x80,
  QUEUED: 0x100,
  NOCACHE: 0x200,
} as const;

export const OCFS2_AST = { INVALID: 0, ATTACH: 1, CONVERT: 2, DOWNCONVERT: 3 } as const;
export const OCFS2_UNLOCK = { INVALID: 0, CANCEL_CONVERT: 1, DROP_LOCK: 2 } as const;

const LVB_BYTES = 64;
const NO_LVB = "0x0\t".repeat(LVB_BYTES);

function flagsOf(res: LockRes): number {
  const f = OCFS2_LOCK;
  let flags: number = f.INITIALIZED;
  if (res.dl !== null && (res.level !== NL || res.requested === null)) flags |= f.ATTACHED;
  if (res.requested !== null) flags |= f.BUSY;
  if (res.blocking !== NL) flags |= f.BLOCKED;
  if (res.downconverting) flags |= f.QUEUED;
  if (res.freeing) flags |= f.FREEING;
  if (res.ops.nocache === true) flags |= f.NOCACHE;
  return flags;
}

function actionOf(res: LockRes): number {
  if (res.requested === null) return OCFS2_AST.INVALID;
  if (res.requested < res.level) return OCFS2_AST.DOWNCONVERT;
  return res.level === NL ? OCFS2_AST.ATTACH : OCFS2_AST.CONVERT;
}

function unlockActionOf(res: LockRes): number {
  if (res.cancelling) return OCFS2_UNLOCK.CANCEL_CONVERT;
  return res.freeing ? OCFS2_UNLOCK.DROP_LOCK : OCFS2_UNLOCK.INVALID;
}

function lvbOf(res: LockRes): string {
  if (res.dl === null || res.ops.uses_lvb !== true) return NO_LVB;
  let text = "";
  for (const byte of res.lvb) text += `0x${byte.toString(16)}\t`;
  return text;
}

function line(glue: DlmGlue, res: LockRes): string {
  const { pr, ex, refreshes } = glue.stats.of(res.stats);
  const hex = (n: number): string => `0x${n.toString(16)}`;
  const state = [
    hex(LOCKING_STATE_VERSION),
    printableLockName(res.name),
    res.level,
    hex(flagsOf(res)),
    hex(actionOf(res)),
    hex(unlockActionOf(res)),
    res.pr_holders,
    res.ex_holders,
    res.requested ?? res.level,
    res.blocking,
  ];
  const stats = [
    ...[pr.gets, ex.gets, pr.fails, ex.fails, pr.total_ns, ex.total_ns, pr.max_us, ex.max_us],
    ...[refreshes, pr.last_us, ex.last_us, glue.waitsSinceUs(res)],
  ];
  return `${state.join("\t")}\t${lvbOf(res)}${stats.join("\t")}\t\n`;
}

/** Of locks whose printable name `filter` wants. Without other nodes the domain knows no lock, and there is nothing to show. */
export function* lockingState(glue: DlmGlue, filter: (name: string) => boolean = () => true): Generator<string> {
  for (const res of glue.attached) if (filter(printableLockName(res.name))) yield line(glue, res);
}
