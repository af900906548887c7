/** A disk in memory: for tests, and as the base of the recording device. Answers every call before it returns. */
import type { Arena } from "../lib/arena.ts";
import { Errno } from "../lib/errno.ts";
import { type BlockDevice, Durability, type IoDone } from "./device.ts";

export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly readonly: boolean;
  readonly alignment_bytes = 512;
  readonly data: Uint8Array;
  readonly durability = new Durability();
  readonly #arena: Arena;

  constructor(arena: Arena, data: Uint8Array, options: { readonly?: boolean; name?: string } = {}) {
    this.#arena = arena;
    this.data = data;
    this.readonly = options.readonly ?? false;
    this.name = options.name ?? "memory";
  }

  get size_bytes(): number {
    return this.data.length;
  }

  read(addr: number, len: number, offset: number, done: IoDone): void {
    if (offset < 0 || offset + len > this.data.length) return done(-Errno.EIO);
    this.#arena.u8.set(this.data.subarray(offset, offset + len), addr);
    done(len);
  }

  write(addr: number, len: number, offset: number, done: IoDone, dsync = false): void {
    if (this.readonly) return done(-Errno.EROFS);
    if (offset < 0 || offset + len > this.data.length) return done(-Errno.EIO);
    this.data.set(this.#arena.u8.subarray(addr, addr + len), offset);
    if (!dsync) this.durability.written++;
    done(len);
  }

  readv(iov: readonly number[], offset: number, done: IoDone): void {
    this.#each(iov, offset, done, (addr, len, at, cb) => this.read(addr, len, at, cb));
  }

  writev(iov: readonly number[], offset: number, done: IoDone): void {
    this.#each(iov, offset, done, (addr, len, at, cb) => this.write(addr, len, at, cb));
  }

  #each(
    iov: readonly number[],
    offset: number,
    done: IoDone,
    one: (addr: number, len: number, at: number, cb: IoDone) => void,
  ): void {
    let total = 0;
    let failure = 0;
    for (let i = 0; i < iov.length && failure === 0; i += 2) {
      one(iov[i]!, iov[i + 1]!, offset + total, (res) => {
        if (res < 0) failure = res;
        else total += res;
      });
    }
    done(failure < 0 ? failure : total);
  }

  flush(done: IoDone): void {
    this.durability.flush(this.durability.written);
    done(0);
  }

  discard(_offset: number, _len: number, done: IoDone): void {
    done(0);
  }

  submit(): void {}

  pump(): boolean {
    return false;
  }

  close(): void {}
}
