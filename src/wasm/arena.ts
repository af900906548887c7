// The shared memory of a mount and the module that works on it. Blocks, FUSE buffers and direct-I/O buffers live in
// it, and the TypeScript views, the Wasm kernels and the native addon see the same bytes. Without it a block would be
// copied on its way. The module is compiled once a process; each thread instantiates it over the same memory.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const PAGE_BYTES = 65536;
const MIB = 1 << 20;
const MAX_MIB = 4096;

/** Kept free at the end of the memory: kernels read words, so up to 16 bytes behind what they were given. */
const GUARD_BYTES = 64;

export type ArenaExports = Record<string, (...args: number[]) => number>;

/** A module and a memory of WebAssembly, by no name of its: the package's declarations are read by programs that have none for it. */
export type WasmModule = object;
export interface WasmMemory {
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
}

/** What another thread needs to see the same arena; goes through postMessage and workerData as it is. */
export interface ArenaHandle {
  readonly module: WasmModule;
  readonly memory: WasmMemory;
}

let compiled: WebAssembly.Module | undefined;

/**
 * Path of a file that the build puts into dist/, found by walking up from this file: works from src/ in tests and from
 * a bundle in dist/. Throws an Error that says what to run if it is nowhere.
 */
export function builtFile(name: string): string {
  for (let dir = import.meta.dirname; ; dir = dirname(dir)) {
    for (const path of [join(dir, name), join(dir, "dist", name)]) if (existsSync(path)) return path;
    if (dirname(dir) === dir) throw new Error(`dist/${name} is missing: run "npm run setup"`);
  }
}

/** The compiled kernels, from dist/ocfs2.wasm; the same object for every call in a process. */
export function loadModule(): WasmModule {
  compiled ??= new WebAssembly.Module(readFileSync(builtFile("ocfs2.wasm")));
  return compiled;
}

/** The memory, its views, the module's exports over it, and what is left to hand out. */
export class Arena {
  readonly memory: WasmMemory;
  readonly module: WasmModule;
  readonly exports: ArenaExports;
  readonly buffer: SharedArrayBuffer;
  readonly u8: Uint8Array;
  readonly dv: DataView;
  readonly size_bytes: number;
  /** First byte that is not the module's own. */
  readonly heapBase: number;
  private next: number;

  /** Use createArena or attachArena. next: where alloc begins; the end of the memory in a thread that only looks on. */
  constructor(handle: ArenaHandle, fresh: boolean) {
    this.memory = handle.memory;
    this.module = handle.module;
    const instance = new WebAssembly.Instance(handle.module as WebAssembly.Module, {
      env: { memory: handle.memory as WebAssembly.Memory },
    });
    this.exports = instance.exports as unknown as ArenaExports;
    this.buffer = handle.memory.buffer as unknown as SharedArrayBuffer;
    this.u8 = new Uint8Array(this.buffer);
    this.dv = new DataView(this.buffer);
    this.size_bytes = this.buffer.byteLength;
    if (fresh) this.exports["tablesInit"]!();
    this.heapBase = this.exports["heapBase"]!() >>> 0;
    this.next = fresh ? this.heapBase : this.size_bytes;
  }

  /**
   * Takes bytes for good, zeroed, at an address that is a multiple of align (a power of two). For start-up: there is no
   * way to give them back. Throws RangeError if the arena is too small.
   */
  alloc(bytes: number, align = 64): number {
    const addr = Math.ceil(this.next / align) * align;
    if (addr + bytes > this.size_bytes - GUARD_BYTES) {
      throw new RangeError(`arena of ${this.size_bytes / MIB} MiB is too small: ${bytes} bytes wanted at ${addr}`);
    }
    this.next = addr + bytes;
    return addr;
  }

  /** Bytes that alloc can still give. */
  get free_bytes(): number {
    return Math.max(0, this.size_bytes - GUARD_BYTES - this.next);
  }

  get handle(): ArenaHandle {
    return { module: this.module, memory: this.memory };
  }
}

/** A new arena of mib MiB (1 to 4096), all of it reserved at once: a shared memory does not grow under its views. */
export function createArena(mib: number): Arena {
  if (!Number.isInteger(mib) || mib < 1 || mib > MAX_MIB) throw new RangeError(`arena of ${mib} MiB: 1 to ${MAX_MIB}`);
  const pages = (mib * MIB) / PAGE_BYTES;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  return new Arena({ module: loadModule(), memory }, true);
}

/** The same arena in another thread. It cannot alloc: the thread that created the arena hands out its regions. */
export function attachArena(handle: ArenaHandle): Arena {
  return new Arena(handle, false);
}
