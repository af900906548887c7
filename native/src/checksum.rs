//! Checksums over the arena by the CPU's instructions, in the kernel's raw form: no inversion before or after.

use napi::Result;

use crate::arena::arena;

/// crc32_le(seed, ...) of include/linux/crc32.h over `len` bytes at `addr`.
pub fn crc32_le(arena_id: u32, addr: f64, len: f64, seed: u32) -> Result<u32> {
    let (p, len) = arena(arena_id)?.at_f64(addr, len)?;
    let bytes = unsafe { std::slice::from_raw_parts(p, len) };
    let mut hasher = crc32fast::Hasher::new_with_initial(!seed);
    hasher.update(bytes);
    Ok(!hasher.finalize())
}

/// crc32c(seed, ...) of include/linux/crc32c.h over `len` bytes at `addr`.
pub fn crc32c(arena_id: u32, addr: f64, len: f64, seed: u32) -> Result<u32> {
    let (p, len) = arena(arena_id)?.at_f64(addr, len)?;
    let bytes = unsafe { std::slice::from_raw_parts(p, len) };
    Ok(!crc32c::crc32c_append(!seed, bytes))
}
