/**
 * The arena: one stretch of memory that the disk is read into, Wasm works on, and replies are written from. Everything
 * above speaks of addresses (byte offsets) in it. src/wasm/arena.ts makes the real one; tests may use a plain one.
 */
export interface Arena {
  readonly u8: Uint8Array<ArrayBufferLike>;
  readonly dv: DataView<ArrayBufferLike>;
  /** Reserves `len_bytes` for good (at set-up only); throws ENOMEM when the arena is used up. */
  alloc(len_bytes: number, align?: number): number;
}

/** A plain arena over ordinary memory, for tests without Wasm. */
export function plainArena(size_bytes: number): Arena {
  const u8 = new Uint8Array(size_bytes);
  let next = 4096;
  return {
    u8,
    dv: new DataView(u8.buffer),
    alloc(len, align = 4096) {
      const at = Math.ceil(next / align) * align;
      if (at + len > size_bytes) throw new Error(`arena of ${size_bytes} bytes is used up`);
      next = at + len;
      return at;
    },
  };
}
