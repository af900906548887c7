// What a twin works on: some bytes, and views of them. Stands in for the Wasm module's linear memory.

export interface TwinMemory {
  readonly u8: Uint8Array;
  readonly dv: DataView;
  /** The same bytes as words, for Atomics; starts at the first word-aligned byte of u8, which must be its first. */
  readonly i32: Int32Array;
}

/** Views of u8, whose first byte must be 4-aligned in its buffer for the twins that use Atomics. */
export function twinMemory(u8: Uint8Array): TwinMemory {
  const aligned = (u8.byteOffset & 3) === 0;
  return {
    u8,
    dv: new DataView(u8.buffer, u8.byteOffset, u8.byteLength),
    i32: aligned ? new Int32Array(u8.buffer, u8.byteOffset, u8.byteLength >>> 2) : new Int32Array(0),
  };
}
