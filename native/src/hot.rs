//! The calls of every turn, bound to Node-API by hand. The binding that #[napi] generates keeps a scope for borrowed
//! values, which costs more than these functions do: 97 ns a call against 22, with four numbers 118 against 39
//! (bench/kernels/native_call.mjs). They take and give numbers only, and borrow nothing.

use napi::bindgen_prelude::Object;
use napi::{Env, JsValue, Result, sys};
use napi_derive::napi;
use std::ffi::CString;
use std::ptr;

use crate::{checksum, fence, file, fuse_dev, misc, net, ring};

trait Argument: Sized {
    /// The number behind a value, or nothing when it is none.
    unsafe fn take(env: sys::napi_env, value: sys::napi_value) -> Option<Self>;
}

macro_rules! argument {
    ($type:ty, $get:path, $zero:expr) => {
        impl Argument for $type {
            #[inline]
            unsafe fn take(env: sys::napi_env, value: sys::napi_value) -> Option<Self> {
                let mut number = $zero;
                (unsafe { $get(env, value, &mut number) } == sys::Status::napi_ok).then_some(number)
            }
        }
    };
}
argument!(i32, sys::napi_get_value_int32, 0);
argument!(u32, sys::napi_get_value_uint32, 0);
argument!(f64, sys::napi_get_value_double, 0.0);

trait Answer {
    unsafe fn give(self, env: sys::napi_env) -> sys::napi_value;
}

macro_rules! answer {
    ($type:ty, $create:path) => {
        impl Answer for $type {
            #[inline]
            unsafe fn give(self, env: sys::napi_env) -> sys::napi_value {
                let mut value = ptr::null_mut();
                unsafe { $create(env, self, &mut value) };
                value
            }
        }
    };
}
answer!(i32, sys::napi_create_int32);
answer!(u32, sys::napi_create_uint32);
answer!(f64, sys::napi_create_double);

impl Answer for () {
    unsafe fn give(self, _: sys::napi_env) -> sys::napi_value {
        ptr::null_mut()
    }
}

impl<T: Answer> Answer for Result<T> {
    #[inline]
    unsafe fn give(self, env: sys::napi_env) -> sys::napi_value {
        match self {
            Ok(value) => unsafe { value.give(env) },
            Err(e) => unsafe { throw(env, &e.reason) },
        }
    }
}

#[cold]
unsafe fn throw(env: sys::napi_env, what: &str) -> sys::napi_value {
    let what = CString::new(what).unwrap_or_default();
    unsafe { sys::napi_throw_error(env, c"InvalidArg".as_ptr(), what.as_ptr()) };
    ptr::null_mut()
}

/// A Node-API callback around a function of numbers, put into the exports under its JavaScript name.
macro_rules! export {
    ($env:expr, $exports:expr, $name:literal, $function:path $(, $arg:ident: $type:ty)*) => {{
        unsafe extern "C" fn call(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
            const COUNT: usize = { const NAMES: &[&str] = &[$(stringify!($arg)),*]; NAMES.len() };
            let mut argc = COUNT;
            let mut args = [ptr::null_mut(); COUNT];
            unsafe {
                if COUNT > 0 {
                    sys::napi_get_cb_info(env, info, &mut argc, args.as_mut_ptr(), ptr::null_mut(), ptr::null_mut());
                }
                let [$($arg),*] = args;
                $(
                    let Some($arg) = <$type as Argument>::take(env, $arg) else {
                        return throw(env, concat!($name, ": ", stringify!($arg), " is not a number"));
                    };
                )*
                let _ = &mut args;
                $function($($arg),*).give(env)
            }
        }
        let mut function = ptr::null_mut();
        unsafe {
            let name = concat!($name, "\0").as_ptr().cast();
            sys::napi_create_function($env, name, -1, Some(call), ptr::null_mut(), &mut function);
            sys::napi_set_named_property($env, $exports, name, function);
        }
    }};
}

#[napi(module_exports)]
pub fn export_hot(exports: Object, env: Env) -> Result<()> {
    let (e, x) = (env.raw(), exports.raw());
    export!(e, x, "ringEnter", ring::ring_enter, ring: u32, count: u32, min: u32, timeout_ms: f64);
    export!(e, x, "ringReap", ring::ring_reap, ring: u32);
    export!(e, x, "ringInFlight", ring::ring_in_flight, ring: u32);
    export!(e, x, "fuseRead", fuse_dev::fuse_read, arena: u32, fd: i32, addr: f64, len: f64);
    export!(e, x, "fuseWrite", fuse_dev::fuse_write, arena: u32, fd: i32, addr: f64, len: f64);
    export!(e, x, "fuseWritev", fuse_dev::fuse_writev, arena: u32, fd: i32, addr1: f64, len1: f64, addr2: f64, len2: f64);
    export!(
        e, x, "fuseReplyAndRead", fuse_dev::fuse_reply_and_read,
        arena: u32, fd: i32, reply_addr: f64, reply_len: f64, buf_addr: f64, buf_len: f64
    );
    export!(e, x, "crc32Le", checksum::crc32_le, arena: u32, addr: f64, len: f64, seed: u32);
    export!(e, x, "crc32c", checksum::crc32c, arena: u32, addr: f64, len: f64, seed: u32);
    export!(e, x, "leaseSet", fence::lease_set, lease: u32, deadline_ms: f64);
    export!(e, x, "leaseGet", fence::lease_get, lease: u32);
    export!(e, x, "eventfdWake", file::eventfd_wake, fd: i32);
    export!(e, x, "eventfdDrain", file::eventfd_drain, fd: i32);
    export!(e, x, "laneReading", net::lane_reading, hub: u32, lane: u32);
    export!(e, x, "laneRead", net::lane_read, hub: u32, lane: u32, conn: u32);
    export!(e, x, "laneTake", net::lane_take, hub: u32, lane: u32, memory: u32, addr: f64, len: f64);
    export!(e, x, "laneSend", net::lane_send, hub: u32, conn: u32, memory: u32, addr: f64, len: f64);
    export!(e, x, "leaseClockMs", misc::lease_clock_ms);
    export!(e, x, "monotonicNs", misc::monotonic_ns);
    Ok(())
}
