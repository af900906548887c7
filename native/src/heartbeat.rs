//! The disk heartbeat's own thread, one a region: it reads everybody's blocks, writes ours, and moves the lease. Without a
//! thread that needs no JavaScript, a garbage collection or a stuck request would look like a death to the other nodes.
//!
//! A beat is o2hb_do_disk_heartbeat (cluster/heartbeat.c): read the slots, compare our own with what we wrote, write the next,
//! leave a sample for JavaScript, sleep what is left of the interval. Who lives and who is dead is decided in
//! src/cluster/heartbeat.ts, from the samples, of which none is lost while JavaScript pauses for less than QUEUE beats.
//!
//! Two deadlines follow from the submission time of the last completed write of ours, both by a clock that runs while
//! we do not (`lease_clock.rs`): until `lease` nothing but writes may be submitted (`fence.rs`); after `fence` the process ends by SIGKILL.
//! Every thread that might write looks right before it does: a beat that wakes up too late never reaches the disk. What is
//! left is the time between that look and the system call.
//!
//! The end is put off when all nodes' writes hang (`heartbeat_extend`), so a write may complete later than the others' patience. Then the
//! lease stays as it is until JavaScript has made sure that nobody has declared this node dead meanwhile (`heartbeat_prove`). And it is put
//! off before the deadline or not at all: a process that was stopped must not find a reason to go on.
//!
//! Regions of one lease are a group. With local heartbeat each of them is some volume's only sign of life, so the first that is
//! late shuts the lease and ends the process; with global heartbeat they stand for each other, and it takes half of them.

use napi::bindgen_prelude::{FromNapiValue, TypeName};
use napi::{Result, ValueType, sys};
use napi_derive::napi;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::arena::Bytes;
use crate::fence;
use crate::lease_clock::{keep_clock, lease_now_ns};
use crate::{c_path, rc, rc_size, whole, wrong};

/// O2NM_MAX_NODES: one block each.
const SLOTS: usize = 255;
/// Samples that wait for JavaScript; older ones make room, and are counted.
const QUEUE: usize = 64;
/// A sample's header and what it has of each slot; src/native/heartbeat.ts has the tables.
const HEADER: usize = 64;
const SLOT: usize = 32;

/// Stop words.
const RUN: u32 = 0;
const LEAVE: u32 = 1;
const DROP: u32 = 2;

/// A JavaScript function that any thread may call, without arguments.
pub struct Callback {
    raw: sys::napi_threadsafe_function,
}
unsafe impl Send for Callback {}
unsafe impl Sync for Callback {}

impl TypeName for Callback {
    fn type_name() -> &'static str {
        "Function"
    }
    fn value_type() -> ValueType {
        ValueType::Function
    }
}

impl FromNapiValue for Callback {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> Result<Self> {
        let mut name = ptr::null_mut();
        let mut raw = ptr::null_mut();
        let text = c"ocfs2";
        unsafe {
            sys::napi_create_string_utf8(env, text.as_ptr(), -1, &mut name);
            let status = sys::napi_create_threadsafe_function(
                env,
                value,
                ptr::null_mut(),
                name,
                0,
                1,
                ptr::null_mut(),
                None,
                ptr::null_mut(),
                None,
                &mut raw,
            );
            if status != sys::Status::napi_ok {
                return wrong("a function was expected".into());
            }
        }
        Ok(Callback { raw })
    }
}

impl Callback {
    /// JavaScript hears it when it comes to it. An environment that is gone hears nothing.
    pub fn call(&self) {
        unsafe {
            sys::napi_call_threadsafe_function(self.raw, ptr::null_mut(), sys::ThreadsafeFunctionCallMode::nonblocking)
        };
    }

    pub fn release(&self) {
        unsafe { sys::napi_release_threadsafe_function(self.raw, sys::ThreadsafeFunctionReleaseMode::release) };
    }

    /// Whether the thread that made it goes on for its sake.
    pub fn keep_alive(&self, env: sys::napi_env, on: bool) {
        unsafe {
            if on {
                sys::napi_ref_threadsafe_function(env, self.raw);
            } else {
                sys::napi_unref_threadsafe_function(env, self.raw);
            }
        }
    }
}

/// A buffer that O_DIRECT takes.
struct Aligned {
    base: *mut u8,
    layout: Layout,
}
unsafe impl Send for Aligned {}

impl Aligned {
    fn new(len: usize) -> Aligned {
        let layout = Layout::from_size_align(len, 4096).unwrap();
        let base = unsafe { alloc_zeroed(layout) };
        assert!(!base.is_null(), "no memory for the heartbeat");
        Aligned { base, layout }
    }

    fn bytes(&mut self) -> &mut [u8] {
        unsafe { std::slice::from_raw_parts_mut(self.base, self.layout.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        unsafe { dealloc(self.base, self.layout) };
    }
}

struct Region {
    fd: i32,
    offset: u64,
    slot_bytes: usize,
    node: usize,
    generation: u64,
    dead_ms: u32,
    interval_ns: i64,
    lease_ns: i64,
    fence_ns: i64,
    lease: u32,
    global: bool,
    /// Slots that are read: those of nodes that exist.
    first: AtomicU32,
    last: AtomicU32,
    /// Set once the region is steady: from then on it has deadlines.
    armed: AtomicBool,
    /// The lease is not moved any more: this node is leaving, but still heartbeats.
    shut: AtomicBool,
    stop: AtomicU32,
    ended: AtomicBool,
    /// Submission of the last write that completed and was found again; 0: none.
    submitted: AtomicI64,
    /// When the process ends unless a write completes.
    fence_at: AtomicI64,
    /// A write has completed so late that others may have declared us dead: the lease is not moved.
    unproven: AtomicBool,
    lost: AtomicI32,
    samples: Mutex<VecDeque<Vec<u8>>>,
    nap: Mutex<()>,
    wake: Condvar,
    callback: Callback,
}

static REGIONS: Mutex<Vec<Option<Arc<Region>>>> = Mutex::new(Vec::new());
static WATCHED: AtomicBool = AtomicBool::new(false);

/// A thread that panicked while it held the lock has left nothing half done here.
fn regions() -> MutexGuard<'static, Vec<Option<Arc<Region>>>> {
    REGIONS.lock().unwrap_or_else(|e| e.into_inner())
}

fn region(id: u32) -> Result<Arc<Region>> {
    match regions().get(id as usize) {
        Some(Some(r)) => Ok(r.clone()),
        _ => wrong(format!("no heartbeat {id}")),
    }
}

/// The deadline of a group, of its armed regions' values: the first, or in global mode the one with which half of them are late. None
/// when none is armed.
fn group_deadline(all: &[Option<Arc<Region>>], lease: u32, value: impl Fn(&Region) -> i64) -> Option<i64> {
    let armed = |r: &&Arc<Region>| r.lease == lease && r.armed.load(Ordering::Acquire);
    let mut deadlines: Vec<i64> = all.iter().flatten().filter(armed).map(|r| value(r)).collect();
    deadlines.sort_unstable();
    let is_global = all.iter().flatten().filter(armed).all(|r| r.global);
    match deadlines.len() {
        0 => None,
        n if is_global => Some(deadlines[n.div_ceil(2) - 1]),
        _ => Some(deadlines[0]),
    }
}

fn fence_deadline(all: &[Option<Arc<Region>>], lease: u32) -> Option<i64> {
    group_deadline(all, lease, |r| r.fence_at.load(Ordering::Acquire))
}

fn renew(r: &Region) {
    if r.lease == 0 || r.shut.load(Ordering::Acquire) {
        return;
    }
    let all = regions();
    if all.iter().flatten().any(|o| o.lease == r.lease && o.shut.load(Ordering::Acquire)) {
        return;
    }
    let until = |r: &Region| {
        if r.unproven.load(Ordering::Acquire) { 0 } else { r.submitted.load(Ordering::Acquire) + r.lease_ns }
    };
    if let Some(deadline) = group_deadline(&all, r.lease, until) {
        fence::renew(r.lease, deadline);
    }
}

/// Ends the process if the group's deadline has passed.
fn fence_if_late(lease: u32) {
    let deadline = fence_deadline(&regions(), lease);
    if deadline.is_some_and(|at| lease_now_ns() >= at) {
        last_words();
        fence::fence_now();
    }
}

/// No allocation, no lock: this process may be in any state.
fn last_words() {
    let text = b"ocfs2: ERROR: heartbeat write timeout: this node is considered dead by the others and ends itself\n";
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

fn watch() {
    loop {
        {
            let all = regions();
            if all.iter().all(|r| r.is_none()) {
                WATCHED.store(false, Ordering::Release);
                return;
            }
            for r in all.iter().flatten() {
                if fence_deadline(&all, r.lease).is_some_and(|at| lease_now_ns() >= at) {
                    last_words();
                    fence::fence_now();
                }
            }
        }
        // Short, because sleeps do not count a suspend.
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn le64(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

fn le32(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
}

/// crc32_le(0, block) with the checksum's field taken as zero.
fn block_crc(block: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new_with_initial(!0);
    h.update(&block[..12]);
    h.update(&[0; 4]);
    h.update(&block[16..]);
    !h.finalize()
}

/// Fields of o2hb_disk_heartbeat_block; src/format/disk/heartbeat.ts is the table.
fn prepare(block: &mut [u8], node: usize, generation: u64, dead_ms: u32) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seq = now.map_or(1, |d| d.as_secs().max(1));
    block.fill(0);
    block[0..8].copy_from_slice(&seq.to_le_bytes());
    block[8] = node as u8;
    block[16..24].copy_from_slice(&generation.to_le_bytes());
    block[24..28].copy_from_slice(&dead_ms.to_le_bytes());
    let crc = block_crc(block);
    block[12..16].copy_from_slice(&crc.to_le_bytes());
    seq
}

struct Beat {
    start: i64,
    submit: i64,
    complete: i64,
    read_rc: i32,
    write_rc: i32,
    own: u32,
}

impl Region {
    fn pread(&self, buf: &mut [u8], offset: u64) -> i32 {
        let mut done = 0;
        while done < buf.len() {
            let (p, n) = (buf[done..].as_mut_ptr(), buf.len() - done);
            let got = rc_size(|| unsafe { libc::pread(self.fd, p.cast(), n, (offset + done as u64) as i64) });
            if got <= 0 {
                return if got == 0 { -libc::EIO } else { got };
            }
            done += got as usize;
        }
        0
    }

    fn pwrite(&self, buf: &[u8], offset: u64) -> i32 {
        fence_if_late(self.lease);
        let n = rc_size(|| unsafe { libc::pwrite(self.fd, buf.as_ptr().cast(), buf.len(), offset as i64) });
        if n < 0 {
            n
        } else if n as usize == buf.len() {
            0
        } else {
            -libc::EIO
        }
    }

    fn sample(&self, number: u64, beat: &Beat, first: usize, slots: &[u8]) {
        let count = if beat.read_rc == 0 { slots.len() / self.slot_bytes } else { 0 };
        let mut out = vec![0u8; HEADER + SLOTS * SLOT];
        let ms = |ns: i64| ns as f64 / 1e6;
        out[0..8].copy_from_slice(&number.to_le_bytes());
        out[8..16].copy_from_slice(&ms(beat.start).to_le_bytes());
        out[16..24].copy_from_slice(&ms(beat.submit).to_le_bytes());
        out[24..32].copy_from_slice(&ms(beat.complete).to_le_bytes());
        out[32..36].copy_from_slice(&beat.read_rc.to_le_bytes());
        out[36..40].copy_from_slice(&beat.write_rc.to_le_bytes());
        out[40..44].copy_from_slice(&beat.own.to_le_bytes());
        out[44..48].copy_from_slice(&(first as u32).to_le_bytes());
        out[48..52].copy_from_slice(&(count as u32).to_le_bytes());
        for i in 0..count {
            let block = &slots[i * self.slot_bytes..][..self.slot_bytes];
            let to = &mut out[HEADER + i * SLOT..][..SLOT];
            to[0..8].copy_from_slice(&block[0..8]);
            to[8..16].copy_from_slice(&block[16..24]);
            to[16..20].copy_from_slice(&block[24..28]);
            to[20] = block[8];
            to[21] = (block_crc(block) == le32(block, 12)) as u8;
        }
        let mut queue = self.samples.lock().unwrap_or_else(|e| e.into_inner());
        if queue.len() == QUEUE {
            queue.pop_front();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        out[52..56].copy_from_slice(&self.lost.load(Ordering::Relaxed).to_le_bytes());
        queue.push_back(out);
        drop(queue);
        self.callback.call();
    }

    fn run(&self) {
        // As the kernel's thread has it; without the right to it the beat has the process's priority.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
        let mut area = Aligned::new(SLOTS * self.slot_bytes);
        let mut own = Aligned::new(self.slot_bytes.max(512));
        let own_offset = self.offset + (self.node * self.slot_bytes) as u64;
        // What our block may say: the last that the device took, and after it what it said it had not.
        let mut wrote: Option<u64> = None;
        let mut refused: Vec<u64> = Vec::new();
        let mut number = 0u64;
        while self.stop.load(Ordering::Acquire) == RUN {
            keep_clock();
            let start = lease_now_ns();
            let first = self.first.load(Ordering::Relaxed) as usize;
            let count = self.last.load(Ordering::Relaxed) as usize + 1 - first;
            let slots = &mut area.bytes()[..count * self.slot_bytes];
            let mut beat = Beat { start, submit: start, complete: start, read_rc: 0, write_rc: 0, own: 0 };
            beat.read_rc = self.pread(slots, self.offset + (first * self.slot_bytes) as u64);
            // The first look only says what was there before (o2hb_populate_slot_data).
            if number > 0 && beat.read_rc == 0 {
                let mine = &mut slots[(self.node - first) * self.slot_bytes..][..self.slot_bytes];
                beat.own = match wrote {
                    None => 0,
                    Some(_) if mine[8] as usize != self.node => 2,
                    Some(_) if le64(mine, 16) != self.generation => 3,
                    Some(seq) if le64(mine, 0) == seq || refused.contains(&le64(mine, 0)) => 1,
                    Some(_) => 4,
                };
                let block = &mut own.bytes()[..self.slot_bytes];
                let seq = prepare(block, self.node, self.generation, self.dead_ms);
                mine.copy_from_slice(block);
                beat.submit = lease_now_ns();
                beat.write_rc = self.pwrite(block, own_offset);
                beat.complete = lease_now_ns();
                if beat.write_rc != 0 {
                    refused.push(seq);
                } else {
                    wrote = Some(seq);
                    refused.clear();
                    // A slot that somebody else writes is no heartbeat of ours.
                    if beat.own == 1 {
                        let before = self.submitted.swap(beat.submit, Ordering::AcqRel);
                        if self.armed.load(Ordering::Acquire) && beat.submit - before >= self.fence_ns {
                            self.unproven.store(true, Ordering::Release);
                        }
                        self.fence_at.fetch_max(beat.submit + self.fence_ns, Ordering::AcqRel);
                        if self.armed.load(Ordering::Acquire) {
                            renew(self);
                        }
                    }
                }
            }
            let slots = &area.bytes()[..count * self.slot_bytes];
            self.sample(number, &beat, first, slots);
            number += 1;
            if number > 1 {
                self.sleep_until(start + self.interval_ns);
            }
        }
        if self.stop.load(Ordering::Acquire) == LEAVE {
            let block = &mut own.bytes()[..self.slot_bytes];
            prepare(block, self.node, 0, self.dead_ms);
            self.pwrite(block, own_offset);
        }
        // After the last write: without deadlines there is no watch.
        self.armed.store(false, Ordering::Release);
        unsafe { libc::close(self.fd) };
        self.ended.store(true, Ordering::Release);
        self.callback.call();
        self.callback.release();
    }

    fn sleep_until(&self, at: i64) {
        let mut guard = self.nap.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            let left = at - lease_now_ns();
            if left <= 0 || self.stop.load(Ordering::Acquire) != RUN {
                return;
            }
            let left = Duration::from_nanos(left as u64);
            guard = self.wake.wait_timeout(guard, left).unwrap_or_else(|e| e.into_inner()).0;
        }
    }
}

#[napi(object)]
pub struct HeartbeatOptions {
    pub path: String,
    /// Where the area begins, and how long a node's block is, in bytes.
    pub offset: f64,
    pub slot_bytes: u32,
    pub node: u32,
    pub generation_lo: u32,
    pub generation_hi: u32,
    /// What the block says (hb_dead_ms).
    pub dead_ms: u32,
    pub interval_ms: f64,
    /// From the submission of a completed write: until when others may write, and when the process ends.
    pub lease_ms: f64,
    pub fence_ms: f64,
    pub lease: u32,
    /// Half of the regions of this lease may be late (global heartbeat).
    pub global: bool,
    pub first: u32,
    pub last: u32,
}

/// Starts a region's thread; `callback` is called after each beat, and once it has ended. Its number, or -errno (the device).
#[napi]
pub fn heartbeat_start(o: HeartbeatOptions, callback: Callback) -> Result<i32> {
    let (node, slot_bytes) = (o.node as usize, o.slot_bytes as usize);
    if node >= SLOTS || !slot_bytes.is_power_of_two() || !(512..=4096).contains(&slot_bytes) {
        return wrong(format!("heartbeat of node {node} in blocks of {slot_bytes} bytes"));
    }
    if !fence::lease_exists(o.lease) || !(o.interval_ms >= 1.0 && o.lease_ms >= 1.0 && o.fence_ms >= o.lease_ms) {
        return wrong("heartbeat with deadlines that cannot be".into());
    }
    let offset = whole(o.offset, "offset")?;
    let path = c_path(&o.path)?;
    let fd = rc(unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_DIRECT | libc::O_CLOEXEC) });
    if fd < 0 {
        callback.release();
        return Ok(fd);
    }
    let ns = |ms: f64| (ms * 1e6) as i64;
    let r = Arc::new(Region {
        fd,
        offset,
        slot_bytes,
        node,
        generation: (o.generation_hi as u64) << 32 | o.generation_lo as u64,
        dead_ms: o.dead_ms,
        interval_ns: ns(o.interval_ms),
        lease_ns: ns(o.lease_ms),
        fence_ns: ns(o.fence_ms),
        lease: o.lease,
        global: o.global,
        first: AtomicU32::new(0),
        last: AtomicU32::new(0),
        armed: AtomicBool::new(false),
        shut: AtomicBool::new(false),
        stop: AtomicU32::new(RUN),
        ended: AtomicBool::new(false),
        submitted: AtomicI64::new(0),
        fence_at: AtomicI64::new(0),
        unproven: AtomicBool::new(false),
        lost: AtomicI32::new(0),
        samples: Mutex::new(VecDeque::new()),
        nap: Mutex::new(()),
        wake: Condvar::new(),
        callback,
    });
    set_slots(&r, o.first, o.last);
    let mut all = regions();
    let id = all.iter().position(|r| r.is_none()).unwrap_or_else(|| {
        all.push(None);
        all.len() - 1
    });
    let thread = r.clone();
    let started = std::thread::Builder::new().name("ocfs2-heartbeat".into()).spawn(move || thread.run());
    if let Err(e) = started {
        unsafe { libc::close(fd) };
        r.callback.release();
        return Ok(-e.raw_os_error().unwrap_or(libc::EAGAIN));
    }
    all[id] = Some(r);
    if !WATCHED.swap(true, Ordering::AcqRel) {
        // Without its watchdog a region still looks before each write of its own.
        let _ = std::thread::Builder::new().name("ocfs2-fence".into()).stack_size(64 << 10).spawn(watch);
    }
    Ok(id as i32)
}

fn set_slots(r: &Region, first: u32, last: u32) {
    let node = r.node as u32;
    r.first.store(first.min(node), Ordering::Relaxed);
    r.last.store(last.clamp(node, SLOTS as u32 - 1), Ordering::Relaxed);
}

/// Which slots are read: from the lowest to the highest node that exists. Our own always is.
#[napi]
pub fn heartbeat_set_slots(id: u32, first: u32, last: u32) -> Result<()> {
    set_slots(&*region(id)?, first, last);
    Ok(())
}

/// From now on the region has deadlines, counted from its last completed write. False: there was none yet.
#[napi]
pub fn heartbeat_arm(id: u32) -> Result<bool> {
    let r = region(id)?;
    if r.submitted.load(Ordering::Acquire) == 0 {
        return Ok(false);
    }
    r.armed.store(true, Ordering::Release);
    renew(&r);
    Ok(true)
}

/// The others' writes hang too, and all agree to wait: the process does not end before `fence_ms` from now. The lease stays. When it is too
/// late for that already, the process ends.
#[napi]
pub fn heartbeat_extend(id: u32) -> Result<()> {
    let r = region(id)?;
    fence_if_late(r.lease);
    let now = lease_now_ns();
    let extend = |at: i64| if now < at { Some(at.max(now + r.fence_ns)) } else { None };
    let _ = r.fence_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, extend);
    Ok(())
}

/// No other node has declared this one dead, though its writes were so late: the lease may move again.
#[napi]
pub fn heartbeat_prove(id: u32) -> Result<()> {
    let r = region(id)?;
    r.unproven.store(false, Ordering::Release);
    renew(&r);
    Ok(())
}

/// The lease is shut and not moved again, while the heartbeat goes on: what is in flight may drain.
#[napi]
pub fn heartbeat_shut(id: u32) -> Result<()> {
    let r = region(id)?;
    // Under the lock, or a renewal that has just looked would open it again.
    let _all = regions();
    r.shut.store(true, Ordering::Release);
    if r.lease != 0 {
        fence::renew(r.lease, 0);
    }
    Ok(())
}

/// Copies the oldest sample into `bytes` (at least HEADER + 255 slots); false when there is none.
#[napi]
pub fn heartbeat_take(id: u32, bytes: Bytes) -> Result<bool> {
    let r = region(id)?;
    let sample = r.samples.lock().unwrap_or_else(|e| e.into_inner()).pop_front();
    let span = bytes.view();
    bytes.release();
    let Some(sample) = sample else { return Ok(false) };
    let to = span.at(0, sample.len() as u64)?;
    unsafe { ptr::copy_nonoverlapping(sample.as_ptr(), to, sample.len()) };
    Ok(true)
}

/// Ms since the submission of the last completed write; Infinity before the first.
#[napi]
pub fn heartbeat_age_ms(id: u32) -> Result<f64> {
    let at = region(id)?.submitted.load(Ordering::Acquire);
    Ok(if at == 0 { f64::INFINITY } else { (lease_now_ns() - at) as f64 / 1e6 })
}

/// Ends the thread after the beat in which it is. `leave`: it writes generation 0, by which the others know at once.
#[napi]
pub fn heartbeat_stop(id: u32, leave: bool) -> Result<()> {
    let r = region(id)?;
    r.stop.store(if leave { LEAVE } else { DROP }, Ordering::Release);
    let _guard = r.nap.lock().unwrap_or_else(|e| e.into_inner());
    r.wake.notify_all();
    Ok(())
}

/// Whether the thread has ended; then its number is free.
#[napi]
pub fn heartbeat_ended(id: u32) -> Result<bool> {
    let ended = region(id)?.ended.load(Ordering::Acquire);
    if ended {
        regions()[id as usize] = None;
    }
    Ok(ended)
}
