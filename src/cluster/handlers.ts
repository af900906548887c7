/** Who answers which message (o2net_register_handler), and how an answer becomes a status. The same on the main thread and on a lane. */
import {
  O2NET_ERR_DIED,
  O2NET_ERR_NO_HNDLR,
  O2NET_ERR_NONE,
  O2NET_ERR_OVERFLOW,
  O2NET_MAX_PAYLOAD_BYTES,
} from "../format/wire/o2net.ts";
import { Errno } from "../lib/errno.ts";
import { einval, FsError } from "../lib/fs_error.ts";
import { ML, mlog, mlogOn } from "../lib/masklog.ts";
import type { MsgHandler, NodeNum } from "./node.ts";

const SYS_ERRNO: Readonly<Record<number, number>> = {
  [O2NET_ERR_NO_HNDLR]: -Errno.ENOPROTOOPT,
  [O2NET_ERR_OVERFLOW]: -Errno.EOVERFLOW,
  [O2NET_ERR_DIED]: -Errno.EHOSTDOWN,
};
/** o2net_sys_err_to_errno; a number that the kernel does not know either is an error of the peer. */
export const sysErrToErrno = (sys: number): number => (sys === O2NET_ERR_NONE ? 0 : (SYS_ERRNO[sys] ?? -Errno.EINVAL));

interface Handler {
  readonly max_len: number;
  readonly func: MsgHandler;
}

export type Answer = (sys_status: number, status: number) => void;

/** A message as the log shows it (ML.MSG). */
export const messageText = (msg_type: number, key: number, msg_num: number): string =>
  `type ${msg_type} key ${(key >>> 0).toString(16)} number ${msg_num >>> 0}`;

export class Handlers {
  /** By key, then by type. */
  readonly #by_key = new Map<number, Map<number, Handler>>();

  hasKey(key: number): boolean {
    return this.#by_key.has(key >>> 0);
  }

  /** Throws FsError: EINVAL (no type, a max_len that no message has), EEXIST. */
  register(msg_type: number, key: number, max_len: number, func: MsgHandler): () => void {
    key >>>= 0;
    if (max_len > O2NET_MAX_PAYLOAD_BYTES || msg_type === 0) throw einval("o2net.register", { msg_type, max_len });
    let types = this.#by_key.get(key);
    if (types === undefined) this.#by_key.set(key, (types = new Map()));
    if (types.has(msg_type)) throw new FsError(Errno.EEXIST, "o2net.register", { msg_type, key });
    const handler = { max_len, func };
    types.set(msg_type, handler);
    return () => {
      const now = this.#by_key.get(key);
      if (now?.get(msg_type) !== handler) return;
      now.delete(msg_type);
      if (now.size === 0) this.#by_key.delete(key);
    };
  }

  /** Has a message handled; `answer` is called once, now or later, and what the handler wants done behind it follows. */
  dispatch(msg_type: number, key: number, payload: Uint8Array, from: NodeNum, answer: Answer): void {
    const handler = this.#by_key.get(key)?.get(msg_type);
    if (handler === undefined) {
      if (mlogOn(ML.TCP)) mlog(ML.TCP, `no handler for type ${msg_type} key ${key.toString(16)}`);
      answer(O2NET_ERR_NO_HNDLR, 0);
    } else if (payload.length > handler.max_len) answer(O2NET_ERR_OVERFLOW, 0);
    else {
      const said = handler.func(payload, from);
      if (typeof said === "number") answer(O2NET_ERR_NONE, said);
      else if (typeof said === "function") said((later) => answer(O2NET_ERR_NONE, later));
      else {
        answer(O2NET_ERR_NONE, said.status);
        said.after();
      }
    }
  }
}
