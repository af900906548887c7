/**
 * A notifier thread: sends notifications one at a time, each of which may block until the volume thread has served the writes that
 * it causes. That is why it is a thread of its own. Entry point of dist/notifier_worker.js.
 *
 * It owns no asynchronous work: it sleeps on its mailbox (Atomics.wait) and nothing else.
 */
import { readlinkSync } from "node:fs";
import { basename } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { eventfdWake, fuseNotify } from "../native/index.ts";
import { MAILBOX, type NotifierWorkerData, STATE } from "./dev_fuse.ts";

const { fd, wakefd, mailbox } = workerData as NotifierWorkerData;
const words = new Int32Array(mailbox);
const bytes = new Uint8Array(mailbox);
const tid = Number(basename(readlinkSync("/proc/thread-self")));

parentPort!.postMessage("started");
for (;;) {
  const state = Atomics.load(words, MAILBOX.STATE);
  if (state === STATE.STOP) break;
  if (state !== STATE.SEND) {
    Atomics.wait(words, MAILBOX.STATE, state);
    continue;
  }
  const len = Atomics.load(words, MAILBOX.LEN);
  // Copied: the addon takes ordinary memory.
  const message = bytes.slice(MAILBOX.MESSAGE_OFF, MAILBOX.MESSAGE_OFF + len);
  Atomics.store(words, MAILBOX.IN_KERNEL, tid);
  const result = fuseNotify(fd, message);
  Atomics.store(words, MAILBOX.IN_KERNEL, 0);
  Atomics.store(words, MAILBOX.RESULT, result);
  // Unless it was told to stop meanwhile.
  Atomics.compareExchange(words, MAILBOX.STATE, STATE.SEND, STATE.DONE);
  eventfdWake(wakefd);
}
