//! Memory that JavaScript and the kernel share. Without this file a wrong offset would let the kernel write over the
//! heap of the process: every address that crosses is checked here, and only here.
//!
//! The base of a WebAssembly.Memory that does not grow, of a SharedArrayBuffer and of an ArrayBuffer never moves; a
//! reference keeps the object alive. An arena is registered for the life of its thread.

use napi::bindgen_prelude::{FromNapiValue, TypeName};
use napi::{Result, ValueType, sys};
use napi_derive::napi;
use std::cell::RefCell;
use std::ptr;

use crate::wrong;

/// The bytes of a typed array (over an ArrayBuffer, a SharedArrayBuffer or a Wasm memory), kept alive by a reference.
pub struct Bytes {
    pub base: *mut u8,
    pub len: usize,
    env: sys::napi_env,
    reference: sys::napi_ref,
}

impl TypeName for Bytes {
    fn type_name() -> &'static str {
        "TypedArray"
    }
    fn value_type() -> ValueType {
        ValueType::Object
    }
}

impl FromNapiValue for Bytes {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> Result<Self> {
        let mut is_typed = false;
        let mut kind = 0;
        let mut count = 0usize;
        let mut data = ptr::null_mut();
        let mut reference = ptr::null_mut();
        unsafe {
            if sys::napi_is_typedarray(env, value, &mut is_typed) != sys::Status::napi_ok || !is_typed {
                return wrong("a typed array was expected".into());
            }
            let status = sys::napi_get_typedarray_info(
                env,
                value,
                &mut kind,
                &mut count,
                &mut data,
                ptr::null_mut(),
                ptr::null_mut(),
            );
            if status != sys::Status::napi_ok {
                return wrong("the typed array has no memory".into());
            }
            if sys::napi_create_reference(env, value, 1, &mut reference) != sys::Status::napi_ok {
                return wrong("the typed array cannot be referenced".into());
            }
        }
        // napi_typedarray_type: int8, uint8, uint8c, int16, uint16, int32, uint32, float32, float64, bigint64, biguint64
        let width = [1usize, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8].get(kind as usize).copied().unwrap_or(1);
        Ok(Bytes { base: data.cast(), len: count * width, env, reference })
    }
}

impl Bytes {
    /// Without JavaScript.
    #[cfg(test)]
    pub fn of(memory: &mut [u64]) -> Bytes {
        Bytes {
            base: memory.as_mut_ptr().cast(),
            len: size_of_val(memory),
            env: ptr::null_mut(),
            reference: ptr::null_mut(),
        }
    }

    /// Lets the array be collected. Only on the thread that made it, while its environment lives.
    pub fn release(self) {
        unsafe { sys::napi_delete_reference(self.env, self.reference) };
    }

    pub fn view(&self) -> Span {
        Span { base: self.base, len: self.len }
    }
}

/// Base and length of an arena, to be copied where it is needed.
#[derive(Clone, Copy)]
pub struct Span {
    pub base: *mut u8,
    pub len: usize,
}

impl Span {
    /// The address of `len` bytes at offset `addr`; throws when they are not all inside.
    #[inline]
    pub fn at(&self, addr: u64, len: u64) -> Result<*mut u8> {
        if addr <= self.len as u64 && len <= self.len as u64 - addr {
            return Ok(unsafe { self.base.add(addr as usize) });
        }
        wrong(format!("{len} bytes at {addr} are outside of the arena of {} bytes", self.len))
    }

    /// As `at`, for numbers as JavaScript hands them over.
    #[inline]
    pub fn at_f64(&self, addr: f64, len: f64) -> Result<(*mut u8, usize)> {
        // Written so that NaN fails; the sum of two numbers below 2^53 is exact enough for the comparison.
        if addr >= 0.0 && len >= 0.0 && addr + len <= self.len as f64 {
            return Ok((unsafe { self.base.add(addr as usize) }, len as usize));
        }
        wrong(format!("{len} bytes at {addr} are outside of the arena of {} bytes", self.len))
    }
}

thread_local! {
    static ARENAS: RefCell<Vec<Bytes>> = const { RefCell::new(Vec::new()) };
}

/// Registers the memory behind `bytes` and returns this thread's handle for it.
#[napi]
pub fn arena_register(bytes: Bytes) -> u32 {
    ARENAS.with_borrow_mut(|arenas| {
        arenas.push(bytes);
        arenas.len() as u32 - 1
    })
}

/// The arena behind a handle of this thread.
#[inline]
pub fn arena(id: u32) -> Result<Span> {
    ARENAS.with_borrow(|arenas| match arenas.get(id as usize) {
        Some(bytes) => Ok(bytes.view()),
        None => wrong(format!("no arena {id} on this thread")),
    })
}

/// How far the arena's base is past a page boundary, in bytes: 0 for a Wasm memory, mostly 16 for an ArrayBuffer.
#[napi]
pub fn arena_misalign(id: u32) -> Result<u32> {
    Ok((arena(id)?.base as usize % 4096) as u32)
}

/// mlock2(MLOCK_ONFAULT) over the arena: pages stay once they have been touched. 0 or -errno (-ENOMEM above RLIMIT_MEMLOCK).
#[napi]
pub fn arena_lock_on_fault(id: u32) -> Result<i32> {
    let a = arena(id)?;
    Ok(crate::rc(unsafe { libc::mlock2(a.base.cast(), a.len, libc::MLOCK_ONFAULT) }))
}

/// madvise(MADV_DONTFORK) over the arena: a child does not get the pages, so pinned pages are never copied on write. 0 or -errno.
#[napi]
pub fn arena_dont_fork(id: u32) -> Result<i32> {
    let a = arena(id)?;
    Ok(crate::rc(unsafe { libc::madvise(a.base.cast(), a.len, libc::MADV_DONTFORK) }))
}
