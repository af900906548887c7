/**
 * The edges of a mount's FUSE side, handed in: the connection to the kernel, the turns of the thread, and threads that send notifications.
 * dev_fuse.ts has the real ones; the simulator plays the kernel (test/sim/whole/kernel).
 */

/** Added to the negative errno of a reply that failed (native/src/fuse_dev.rs), so that it differs from that of the read. */
export { REPLY_FAILED } from "../native/index.ts";

/** One open /dev/fuse. Addresses are the arena's. */
export interface FuseChannel {
  /** Reads a request: its bytes, or -errno (-EAGAIN: none; -ENODEV: unmounted; -ECONNABORTED: aborted; -ENOENT: taken back, read again). */
  read(addr: number, len_bytes: number): number;
  /** Writes a reply: its bytes, or -errno (-ENOENT: nobody waits for it). */
  write(addr: number, len_bytes: number): number;
  /** Both in one call. A reply that fails gives REPLY_FAILED - errno, and nothing is read. */
  replyAndRead(reply_addr: number, reply_len_bytes: number, addr: number, len_bytes: number): number;
  /** Calls once, in a later turn, when there is something to read, or nothing will come any more. */
  whenReadable(cb: () => void): void;
}

/** The thread's turns (native/loop.ts). */
export interface Turns {
  /** Runs in each turn; true: it has more to do at once. The result ends it. */
  addWork(work: () => boolean): () => void;
  /** The next turn does not wait. */
  wake(): void;
  after(ms: number, cb: () => void): () => void;
}

/** A thread that sends one notification at a time. Each may block for as long as a request of ours is parked. */
export interface NotifierThread {
  send(message: Uint8Array): void;
  /** The thread has brought the message into the kernel, and sleeps there until something is free. */
  sleepsInKernel(): boolean;
  /** The result of the message that was sent, once; undefined while it is under way, and when there is none. A turn begins when there is one. */
  finished(): number | undefined;
  stop(): void;
}
