/**
 * A worker thread that sleeps in its ring (native/loop.ts): a message alone does not wake it, a write to its wakefd does. It says the number in its first
 * message; what was posted before waits for that. The number is closed when the thread has ended, and here, where it is written to: by then it would be
 * another file's, a connection's to another node perhaps.
 */
import { resolve } from "node:path";
import { type TransferListItem, Worker } from "node:worker_threads";
import { closeFd, eventfdWake } from "../native/index.ts";

/** What Loop.giveWakefd says. */
export interface WakeFd {
  readonly wakefd: number;
}

export class RingWorker<To, From extends object> {
  readonly #worker: Worker;
  #wakefd = -1;
  /** It has come so far that it hears what it is told. */
  has_started = false;

  /** `file` is beside this one in dist. */
  constructor(file: string, workerData: unknown, heard: (m: From) => void, transfer: readonly TransferListItem[] = []) {
    this.#worker = new Worker(resolve(import.meta.dirname, file), { workerData, transferList: [...transfer] });
    this.#worker.on("message", (m: From | WakeFd) => {
      if ("wakefd" in m) {
        this.#wakefd = m.wakefd;
        this.has_started = true;
        this.wake();
      } else heard(m);
    });
    this.#worker.on("exit", () => {
      if (this.#wakefd >= 0) closeFd(this.#wakefd);
      this.#wakefd = -1;
    });
  }

  tell(m: To, transfer: readonly TransferListItem[] = []): void {
    this.#worker.postMessage(m, transfer);
    this.wake();
  }

  readonly wake = (): void => {
    if (this.#wakefd >= 0) eventfdWake(this.#wakefd);
  };

  onExit(cb: () => void): void {
    this.#worker.once("exit", cb);
  }

  /** It has thrown what nobody caught. */
  onError(cb: (err: Error) => void): void {
    this.#worker.on("error", cb);
  }
}
