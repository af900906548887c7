/**
 * A disk in memory whose I/O completes later, in random order, only when somebody waits (`pump`). It shows what a
 * MemoryDevice hides: operations that are run again, writes that are in flight while the next operation runs.
 * A write takes the memory's contents when it completes, not when it was submitted: the harshest reading of "in flight".
 */

import type { IoDone } from "../../src/block/device.ts";
import { MemoryDevice } from "../../src/block/memory_device.ts";
import type { Arena } from "../../src/lib/arena.ts";
import { type Random, seededRandom } from "../../src/lib/clock.ts";

export class DelayedDevice extends MemoryDevice {
  readonly #queue: (() => void)[] = [];
  readonly #random: Random;

  constructor(arena: Arena, data: Uint8Array, seed: number) {
    super(arena, data, { name: "delayed" });
    this.#random = seededRandom(seed);
  }

  #later(run: () => void): void {
    this.#queue.push(run);
  }

  override read(addr: number, len: number, offset: number, done: IoDone): void {
    this.#later(() => super.read(addr, len, offset, done));
  }

  override write(addr: number, len: number, offset: number, done: IoDone, dsync?: boolean): void {
    this.#later(() => super.write(addr, len, offset, done, dsync));
  }

  override readv(iov: readonly number[], offset: number, done: IoDone): void {
    this.#later(() => this.#vector(iov, offset, done, (a, l, o, cb) => super.read(a, l, o, cb)));
  }

  override writev(iov: readonly number[], offset: number, done: IoDone): void {
    this.#later(() => this.#vector(iov, offset, done, (a, l, o, cb) => super.write(a, l, o, cb)));
  }

  override flush(done: IoDone): void {
    const { written } = this.durability;
    this.#later(() => {
      this.durability.flush(written);
      done(0);
    });
  }

  #vector(
    iov: readonly number[],
    offset: number,
    done: IoDone,
    one: (addr: number, len: number, at: number, cb: IoDone) => void,
  ): void {
    let total = 0;
    let failure = 0;
    for (let i = 0; i < iov.length; i += 2)
      one(iov[i]!, iov[i + 1]!, offset + total, (res) => {
        if (res < 0) failure = res;
        else total += res;
      });
    done(failure < 0 ? failure : total);
  }

  get inFlight(): number {
    return this.#queue.length;
  }

  /** Something else that may happen while the disk works: a random event of a LockDomain. False when there is none. */
  alsoHappens: () => boolean = () => false;

  override pump(): boolean {
    if ((this.#queue.length === 0 || this.#random.u32() % 3 === 0) && this.alsoHappens()) return true;
    if (this.#queue.length === 0) return false;
    const i = this.#random.u32() % this.#queue.length;
    const [run] = this.#queue.splice(i, 1);
    run!();
    return true;
  }
}
