/** Telling the master that a resource is needed here no more (DEREF_LOCKRES): only then may the master forget it or give it away. */
import type { NodeNum } from "../cluster/node.ts";
import type { ViewOf } from "../format/struct.ts";
import { DlmDerefLockres, DlmDerefLockresDone } from "../format/wire/dlm.ts";
import {
  DLM_DEREF_RESPONSE_DONE,
  DLM_DEREF_RESPONSE_INPROG,
  DLM_LOCKID_NAME_MAX,
} from "../format/wire/dlm_constants.ts";
import { DLM_MSG } from "../format/wire/dlm_messages.ts";
import { Errno } from "../lib/errno.ts";
import { ML, mlog } from "../lib/masklog.ts";
import { wait } from "../lib/task.ts";
import { type Answer, type Dlm, nameAt, putName } from "./dlm.ts";
import { type DlmLockRes, RES_DROPPING_REF, RES_SETREF_INPROG } from "./lockres.ts";
import { waitOnLockres } from "./master.ts";
import { calcUsage, doPurgeLockres } from "./thread.ts";

/** dlm_drop_lockres_ref. `done`: a negative errno of the network, or DLM_DEREF_RESPONSE_*. */
export function dropLockresRef(dlm: Dlm, res: DlmLockRes, done: (ret: number) => void): void {
  const m = DlmDerefLockres.alloc();
  m.node_idx = dlm.node_num;
  m.namelen = res.name.length;
  putName(m.name, res.name);
  const to = res.owner;
  dlm.send(DLM_MSG.DEREF_LOCKRES, m.bytes(), to, (err, status) => {
    if (err >= 0 && status < 0) mlog(ML.ERROR, `${res.name}: node ${to} answers DEREF_LOCKRES with ${status}`);
    done(err < 0 ? err : Math.max(status, DLM_DEREF_RESPONSE_DONE));
  });
}

/** dlm_deref_lockres_handler. */
export function derefLockresHandler(dlm: Dlm, m: ViewOf<typeof DlmDerefLockres>, payload: Uint8Array): number {
  if (m.namelen > DLM_LOCKID_NAME_MAX || m.node_idx >= 255) return -Errno.EINVAL;
  const name = nameAt(payload, DlmDerefLockres.fields.name.off, m.namelen);
  const node = m.node_idx;
  const res = dlm.lockres.get(name);
  if (res === undefined) {
    mlog(ML.ERROR, `${name}: node ${node} drops a reference to what is not there`);
    return -Errno.EINVAL;
  }
  // An assertion is under way whose answer may set the bit: it is cleared when that has come.
  if (res.state & RES_SETREF_INPROG) {
    dlm.queueWork(function* () {
      yield* waitOnLockres(dlm, res, RES_SETREF_INPROG);
      const had = clearRef(dlm, res, node);
      const done = DlmDerefLockresDone.alloc();
      done.node_idx = dlm.node_num;
      done.namelen = name.length;
      putName(done.name, name);
      const { err, status }: Answer = yield* wait(dlm.call(DLM_MSG.DEREF_LOCKRES_DONE, done.bytes(), node));
      if (err < 0 || status < 0) mlog(ML.DLM, `${name}: DEREF_LOCKRES_DONE to node ${node}: ${err} ${status}`);
      if (had) calcUsage(dlm, res);
    });
    return DLM_DEREF_RESPONSE_INPROG;
  }
  if (!(res.state & RES_DROPPING_REF) && clearRef(dlm, res, node)) calcUsage(dlm, res);
  return DLM_DEREF_RESPONSE_DONE;
}

function clearRef(_dlm: Dlm, res: DlmLockRes, node: NodeNum): boolean {
  if (!res.hasRef(node)) {
    mlog(ML.ERROR, `${res.name}: node ${node} drops a reference that it does not have`);
    return false;
  }
  res.clearRef(node);
  return true;
}

/** dlm_deref_lockres_done_handler: what was answered with INPROG is done. */
export function derefLockresDoneHandler(dlm: Dlm, m: ViewOf<typeof DlmDerefLockresDone>, payload: Uint8Array): number {
  if (m.namelen > DLM_LOCKID_NAME_MAX || m.node_idx >= 255) return -Errno.EINVAL;
  const res = dlm.lockres.get(nameAt(payload, DlmDerefLockresDone.fields.name.off, m.namelen));
  if (res === undefined) return -Errno.EINVAL;
  if (res.state & RES_DROPPING_REF) doPurgeLockres(dlm, res);
  return 0;
}
