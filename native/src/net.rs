//! The network of a node: connections that its main thread makes and that its volume threads use. A message between two lock managers
//! would otherwise cross two threads on each side (12 to 60 µs each); so a volume thread has a lane: it sends on the connection
//! itself, and reads it itself, for its messages and for everybody's. Who connects, who is accepted, what a lost connection means is
//! decided on the main thread (src/cluster/tcp.ts), which gets what concerns no lane.
//!
//! A hub is the connections of one main thread. Its own thread waits for what no other waits for: connections to be made or accepted, room
//! for what could not be sent, and bytes while there is no lane. One lane reads for all; when it goes, the next one does. One
//! lock for everything: nobody waits for anything while he holds it. The one that reads should be the one that gets what is read: when
//! another has got everything for a few times, it takes over.

use napi::bindgen_prelude::Buffer;
use napi::{Result, sys};
use napi_derive::napi;
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::arena::arena;
use crate::heartbeat::Callback;
use crate::net_conn::{Conn, Lane};
use crate::{rc, rc_size, wrong};

const BACKLOG: i32 = 64;
/// While so much waits for the main thread, nobody is accepted.
const EVENTS_MAX: usize = 256;
/// A lane whose thread is stuck in something else does not hold up others' messages for longer.
const LOOK_MS: i32 = 100;
/// What epoll says of the eventfd.
const WAKE: u64 = u64::MAX;
/// After so many reads that brought nothing for the reader, but for one other lane, that lane reads.
const MISSES_MAX: u32 = 3;
/// As many lanes as the numbers of messages tell apart (net_conn.rs).
const LANES_MAX: usize = 127;

/// What the main thread is told; `src/native/tcp_transport.ts` has the numbers.
const ACCEPTED: u32 = 0;
const CONNECTED: u32 = 1;
const DATA: u32 = 2;
const DRAINED: u32 = 3;
const CLOSED: u32 = 4;

#[napi(object)]
pub struct NetEvent {
    pub kind: u32,
    /// The connection; of ACCEPTED the listener.
    pub id: u32,
    /// Of CLOSED: 0 or errno. Of ACCEPTED: the connection.
    pub value: i32,
    /// Of ACCEPTED: where it came from.
    pub address: String,
    pub port: u32,
}

#[derive(Default)]
struct State {
    next: u32,
    conns: HashMap<u32, Conn>,
    listeners: HashMap<u32, OwnedFd>,
    lanes: Vec<Option<Lane>>,
    keys: HashMap<u32, u32>,
    reader: Option<u32>,
    /// Moves whenever the reader is to look which connections it waits for.
    reading: u32,
    /// Whom the last reads were for, none of them for the reader, and how many these were.
    missed: Option<u32>,
    misses: u32,
    events: VecDeque<NetEvent>,
    told: bool,
    stopping: bool,
    /// Nothing is accepted for a moment.
    resting: bool,
    buf: Vec<u8>,
}

struct Hub {
    epoll: OwnedFd,
    wake: OwnedFd,
    callback: Callback,
    state: Mutex<State>,
}

static HUBS: Mutex<Vec<Option<Arc<Hub>>>> = Mutex::new(Vec::new());

fn hubs() -> MutexGuard<'static, Vec<Option<Arc<Hub>>>> {
    HUBS.lock().unwrap_or_else(|e| e.into_inner())
}

fn hub(id: u32) -> Result<Arc<Hub>> {
    match hubs().get(id as usize) {
        Some(Some(h)) => Ok(h.clone()),
        _ => wrong(format!("no network hub {id}")),
    }
}

fn signal(fd: i32) {
    let one = 1u64;
    unsafe { libc::write(fd, (&raw const one).cast(), 8) };
}

fn event(kind: u32, id: u32, value: i32) -> NetEvent {
    NetEvent { kind, id, value, address: String::new(), port: 0 }
}

fn sockaddr(address: &str, port: u32) -> Option<libc::sockaddr_in> {
    let ip: Ipv4Addr = address.parse().ok()?;
    let mut a: libc::sockaddr_in = unsafe { mem::zeroed() };
    a.sin_family = libc::AF_INET as u16;
    a.sin_port = (port as u16).to_be();
    a.sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
    Some(a)
}

fn socket() -> std::result::Result<OwnedFd, i32> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let fd = rc(unsafe { libc::socket(libc::AF_INET, kind, 0) });
    if fd < 0 { Err(fd) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
}

fn set_option(fd: &OwnedFd, level: i32, name: i32) {
    let one = 1i32;
    unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const one).cast(), 4) };
}

fn bind(fd: &OwnedFd, at: &libc::sockaddr_in) -> i32 {
    let len = mem::size_of::<libc::sockaddr_in>() as u32;
    rc(unsafe { libc::bind(fd.as_raw_fd(), (at as *const libc::sockaddr_in).cast(), len) })
}

impl State {
    fn id(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// What `conn` waits for is told to epoll, and what came is told to who it is for.
    fn settle(&mut self, hub: &Hub, id: u32) {
        let Some(c) = self.conns.get_mut(&id) else { return };
        if !c.to_main.is_empty() && !c.main_told && !c.paused {
            c.main_told = true;
            self.events.push_back(event(DATA, id, 0));
        }
        if c.wants_drained && c.held() == 0 {
            c.wants_drained = false;
            self.events.push_back(event(DRAINED, id, 0));
        }
        if c.by_hub && c.may_read() && c.shook_hands() && self.reader.is_some() {
            c.by_hub = false;
            self.reading += 1;
            self.tell_reader();
        }
        let Some(c) = self.conns.get_mut(&id) else { return };
        let reads = c.may_read() && (self.reader.is_none() || !c.shook_hands() || c.by_hub);
        let mut want = if reads { libc::EPOLLIN as u32 } else { 0 };
        if c.connecting || c.held() > 0 {
            want |= libc::EPOLLOUT as u32;
        }
        if c.ended || want == c.watched {
            return;
        }
        c.watched = want;
        let mut ev = libc::epoll_event { events: want, u64: id as u64 };
        unsafe { libc::epoll_ctl(hub.epoll.as_raw_fd(), libc::EPOLL_CTL_MOD, c.fd.as_raw_fd(), &mut ev) };
    }

    fn settle_all(&mut self, hub: &Hub) {
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            self.settle(hub, id);
        }
    }

    /// What waited for room in a lane is read again.
    fn room_in(&mut self, hub: &Hub, lane: u32) {
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            let Some(c) = self.conns.get_mut(&id).filter(|c| c.waits_for == Some(lane)) else { continue };
            c.waits_for = None;
            self.settle(hub, id);
        }
    }

    fn tell_reader(&mut self) {
        if let Some(Some(lane)) = self.reader.map(|l| &self.lanes[l as usize]) {
            signal(lane.wakefd);
        }
    }

    /// Wakes the lanes that have got something, but for the one that reads.
    fn wake_lanes(&mut self, reads: Option<u32>) {
        let mut for_reader = false;
        let mut other = None;
        let mut others = 0;
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            let Some(lane) = lane.as_mut().filter(|l| l.taken < l.inbox.len()) else { continue };
            if reads == Some(i as u32) {
                for_reader = true;
                continue;
            }
            other = Some(i as u32);
            others += 1;
            if !lane.woken {
                lane.woken = true;
                signal(lane.wakefd);
            }
        }
        if reads.is_none() || reads != self.reader || (!for_reader && others == 0) {
            return;
        }
        let missed = other.filter(|_| others == 1 && !for_reader);
        self.misses = if missed.is_some() && missed == self.missed { self.misses + 1 } else { missed.is_some() as u32 };
        self.missed = missed;
        if self.misses >= MISSES_MAX {
            self.reader = missed;
            self.missed = None;
            self.misses = 0;
            self.reading += 1;
            self.tell_reader();
        }
    }

    fn read(&mut self, hub: &Hub, id: u32, by: Option<u32>) -> i32 {
        let State { conns, lanes, keys, buf, .. } = self;
        let Some(c) = conns.get_mut(&id) else { return -libc::ENOTCONN };
        if c.ended {
            return -libc::ENOTCONN;
        }
        let end = c.receive(id, buf, keys, lanes);
        self.wake_lanes(by);
        if end != 0 {
            self.end(hub, id, if end < 0 { -end } else { 0 });
            return -libc::ENOTCONN;
        }
        0
    }

    /// The stream is over. What it has brought is told before.
    fn end(&mut self, hub: &Hub, id: u32, errno: i32) {
        self.settle(hub, id);
        let Some(c) = self.conns.get_mut(&id) else { return };
        c.ended = true;
        let mut ev = libc::epoll_event { events: 0, u64: 0 };
        unsafe { libc::epoll_ctl(hub.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, c.fd.as_raw_fd(), &mut ev) };
        self.events.push_back(event(CLOSED, id, errno));
    }

    fn connected(&mut self, hub: &Hub, id: u32) {
        let Some(c) = self.conns.get_mut(&id) else { return };
        let mut errno = 0i32;
        let mut len = 4u32;
        let fd = c.fd.as_raw_fd();
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut errno).cast(), &mut len) };
        c.connecting = false;
        if errno != 0 {
            self.end(hub, id, errno);
        } else {
            self.events.push_back(event(CONNECTED, id, 0));
        }
    }

    /// Whether connections are waited for. Who is not accepted waits in the kernel, as far as its backlog goes.
    fn rest(&mut self, hub: &Hub, on: bool) {
        self.resting = on;
        for (id, l) in &self.listeners {
            let events = if on { 0 } else { libc::EPOLLIN as u32 };
            let mut ev = libc::epoll_event { events, u64: *id as u64 };
            unsafe { libc::epoll_ctl(hub.epoll.as_raw_fd(), libc::EPOLL_CTL_MOD, l.as_raw_fd(), &mut ev) };
        }
    }

    /// What is done again and again, whatever comes.
    fn look(&mut self, hub: &Hub) {
        if self.resting && self.events.len() < EVENTS_MAX {
            self.rest(hub, false);
        }
        // A lane's thread that is busy with something else.
        if self.reader.is_some() {
            for id in self.conns.keys().copied().collect::<Vec<_>>() {
                self.read(hub, id, None);
                self.settle(hub, id);
            }
        }
    }

    fn accept(&mut self, hub: &Hub, listener: u32) {
        while let Some(l) = self.listeners.get(&listener) {
            if self.events.len() >= EVENTS_MAX {
                return self.rest(hub, true);
            }
            let mut from: libc::sockaddr_in = unsafe { mem::zeroed() };
            let mut len = mem::size_of::<libc::sockaddr_in>() as u32;
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let fd =
                rc_size(|| unsafe { libc::accept4(l.as_raw_fd(), (&raw mut from).cast(), &mut len, flags) as isize });
            if fd == -libc::ECONNABORTED {
                continue;
            }
            if fd == -libc::EAGAIN {
                return;
            }
            // No descriptors, no memory: it would be tried again at once, and for ever.
            if fd < 0 {
                return self.rest(hub, true);
            }
            let value = self.add(hub, unsafe { OwnedFd::from_raw_fd(fd) }, false) as i32;
            let address = Ipv4Addr::from(from.sin_addr.s_addr.to_ne_bytes()).to_string();
            let port = u16::from_be(from.sin_port) as u32;
            self.events.push_back(NetEvent { kind: ACCEPTED, id: listener, value, address, port });
        }
    }

    fn add(&mut self, hub: &Hub, fd: OwnedFd, connecting: bool) -> u32 {
        set_option(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY);
        let id = self.id();
        let mut conn = Conn::new(fd, connecting);
        // The main thread says when it is ready for what an accepted connection brings.
        conn.paused = !connecting;
        conn.watched = if connecting { libc::EPOLLOUT as u32 } else { 0 };
        let mut ev = libc::epoll_event { events: conn.watched, u64: id as u64 };
        unsafe { libc::epoll_ctl(hub.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, conn.fd.as_raw_fd(), &mut ev) };
        self.conns.insert(id, conn);
        id
    }
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Runs `f`, then tells the main thread what it has to hear.
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut s = self.state();
        let value = f(&mut s);
        if !s.events.is_empty() && !s.told {
            s.told = true;
            self.callback.call();
        }
        value
    }

    fn run(&self) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let mut looked = Instant::now();
        loop {
            let n = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), 64, LOOK_MS) };
            let done = self.with(|s| {
                if s.stopping {
                    return true;
                }
                for e in events.iter().take(n.max(0) as usize) {
                    self.one(s, e.u64, e.events);
                }
                if n == 0 || looked.elapsed() >= Duration::from_millis(LOOK_MS as u64) {
                    looked = Instant::now();
                    s.look(self);
                }
                false
            });
            if done {
                return;
            }
        }
    }

    fn one(&self, s: &mut State, token: u64, events: u32) {
        if token == WAKE {
            let mut word = 0u64;
            unsafe { libc::read(self.wake.as_raw_fd(), (&raw mut word).cast(), 8) };
            return;
        }
        let id = token as u32;
        if s.listeners.contains_key(&id) {
            return s.accept(self, id);
        }
        let Some(c) = s.conns.get_mut(&id) else { return };
        if c.connecting {
            s.connected(self, id);
        } else {
            c.drain();
            // A reset is told whether it was asked for or not: it is read for what it is.
            if events & !(libc::EPOLLOUT as u32) != 0 {
                let gone = events & (libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0 && !c.may_read();
                if gone {
                    s.end(self, id, 0);
                } else {
                    s.read(self, id, None);
                }
            }
        }
        s.settle(self, id);
    }
}

// The main thread ----------------------------------------------------------------------------------------------------

/// Starts a hub; `on_event` is called when there are events to be taken. Its number, or -errno.
#[napi]
pub fn net_start(on_event: Callback) -> i32 {
    let epoll = rc(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
    let wake = rc(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) });
    if epoll < 0 || wake < 0 {
        return epoll.min(wake);
    }
    let (epoll, wake) = unsafe { (OwnedFd::from_raw_fd(epoll), OwnedFd::from_raw_fd(wake)) };
    let mut ev = libc::epoll_event { events: libc::EPOLLIN as u32, u64: WAKE };
    unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, wake.as_raw_fd(), &mut ev) };
    let hub = Arc::new(Hub { epoll, wake, callback: on_event, state: Mutex::default() });
    let running = hub.clone();
    if std::thread::Builder::new().name("ocfs2-net".into()).spawn(move || running.run()).is_err() {
        return -libc::EAGAIN;
    }
    let mut all = hubs();
    all.push(Some(hub));
    all.len() as i32 - 1
}

/// Ends a hub and all its connections.
#[napi]
pub fn net_stop(id: u32) -> Result<()> {
    let hub = hub(id)?;
    hubs()[id as usize] = None;
    let mut s = hub.state();
    s.stopping = true;
    s.conns.clear();
    s.listeners.clear();
    drop(s);
    signal(hub.wake.as_raw_fd());
    hub.callback.release();
    Ok(())
}

/// The next event, or null.
#[napi]
pub fn net_event(id: u32) -> Result<Option<NetEvent>> {
    let hub = hub(id)?;
    let mut s = hub.state();
    let event = s.events.pop_front();
    s.told = event.is_some();
    Ok(event)
}

/// A number for the listener, or -errno.
#[napi]
pub fn net_listen(id: u32, address: String, port: u32) -> Result<i32> {
    let hub = hub(id)?;
    let Some(at) = sockaddr(&address, port) else { return Ok(-libc::EINVAL) };
    let fd = match socket() {
        Ok(fd) => fd,
        Err(e) => return Ok(e),
    };
    set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR);
    let mut r = bind(&fd, &at);
    if r == 0 {
        r = rc(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) });
    }
    if r < 0 {
        return Ok(r);
    }
    let mut s = hub.state();
    let listener = s.id();
    let mut ev = libc::epoll_event { events: libc::EPOLLIN as u32, u64: listener as u64 };
    unsafe { libc::epoll_ctl(hub.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut ev) };
    s.listeners.insert(listener, fd);
    Ok(listener as i32)
}

/// A number for the connection, whose success or failure is an event; -errno when it cannot even begin.
#[napi]
pub fn net_connect(id: u32, local: String, address: String, port: u32) -> Result<i32> {
    let hub = hub(id)?;
    let (Some(from), Some(to)) = (sockaddr(&local, 0), sockaddr(&address, port)) else { return Ok(-libc::EINVAL) };
    let fd = match socket() {
        Ok(fd) => fd,
        Err(e) => return Ok(e),
    };
    let mut r = bind(&fd, &from);
    if r == 0 {
        let len = mem::size_of::<libc::sockaddr_in>() as u32;
        r = rc(unsafe { libc::connect(fd.as_raw_fd(), (&raw const to).cast(), len) });
    }
    if r < 0 && r != -libc::EINPROGRESS {
        return Ok(r);
    }
    Ok(hub.state().add(&hub, fd, true) as i32)
}

/// What a connection has brought for the main thread.
#[napi]
pub fn net_take(id: u32, conn: u32) -> Result<Buffer> {
    let hub = hub(id)?;
    Ok(hub.with(|s| {
        let bytes = s.conns.get_mut(&conn).map_or(Vec::new(), |c| {
            c.main_told = false;
            mem::take(&mut c.to_main)
        });
        s.settle(&hub, conn);
        bytes.into()
    }))
}

/// Sends whole messages. How many bytes are held because the other side does not take them; then DRAINED follows.
#[napi]
pub fn net_write(id: u32, conn: u32, bytes: &[u8]) -> Result<u32> {
    let hub = hub(id)?;
    Ok(hub.with(|s| {
        let held = s.conns.get_mut(&conn).map_or(0, |c| {
            let held = c.send(bytes);
            c.wants_drained |= held > 0;
            held
        });
        s.settle(&hub, conn);
        held as u32
    }))
}

/// Whether the main thread takes what a connection brings.
#[napi]
pub fn net_pause(id: u32, conn: u32, on: bool) -> Result<()> {
    let hub = hub(id)?;
    hub.with(|s| {
        if let Some(c) = s.conns.get_mut(&conn) {
            c.paused = on;
            c.main_told &= !on;
        }
        s.settle(&hub, conn);
    });
    Ok(())
}

/// Ms since the last bytes came, whoever's they were.
#[napi]
pub fn net_silent_ms(id: u32, conn: u32) -> Result<f64> {
    let hub = hub(id)?;
    let s = hub.state();
    let now_ms = crate::misc::monotonic_ns() / 1e6;
    Ok(s.conns.get(&conn).map_or(0.0, |c| now_ms - c.last_rx_ms))
}

/// Ends a connection or a listener, without an event.
#[napi]
pub fn net_close(id: u32, number: u32) -> Result<()> {
    let hub = hub(id)?;
    let mut s = hub.state();
    s.listeners.remove(&number);
    if let Some(c) = s.conns.remove(&number) {
        // Whoever waits for it in a ring keeps it open, and in the epoll: so its end has to be seen, and not by us.
        let mut ev = libc::epoll_event { events: 0, u64: 0 };
        unsafe {
            libc::epoll_ctl(hub.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, c.fd.as_raw_fd(), &mut ev);
            libc::shutdown(c.fd.as_raw_fd(), libc::SHUT_RDWR)
        };
    }
    Ok(())
}

// Lanes: any thread --------------------------------------------------------------------------------------------------

/// A lane for this thread, which is woken through `wakefd`; its number, or -ENOSPC.
#[napi]
pub fn lane_open(id: u32, wakefd: i32) -> Result<i32> {
    let hub = hub(id)?;
    Ok(hub.with(|s| {
        // 0 is the main thread's. A number is used again as late as may be: statuses for its last user may be on their way.
        if s.lanes.is_empty() {
            s.lanes.push(None);
        }
        let lane = if s.lanes.len() <= LANES_MAX {
            s.lanes.push(None);
            s.lanes.len() - 1
        } else {
            match (1..s.lanes.len()).find(|i| s.lanes[*i].is_none()) {
                Some(free) => free,
                None => return -libc::ENOSPC,
            }
        };
        s.lanes[lane] = Some(Lane { wakefd, inbox: Vec::new(), taken: 0, woken: false, is_full: false });
        if s.reader.is_none() {
            s.reader = Some(lane as u32);
            s.reading += 1;
            s.settle_all(&hub);
        }
        lane as i32
    }))
}

#[napi]
pub fn lane_close(id: u32, lane: u32) -> Result<()> {
    let hub = hub(id)?;
    hub.with(|s| {
        s.keys.retain(|_, l| *l != lane);
        s.lanes[lane as usize] = None;
        s.room_in(&hub, lane);
        if s.reader == Some(lane) {
            s.reader = s.lanes.iter().position(Option::is_some).map(|l| l as u32);
            s.reading += 1;
            s.tell_reader();
            s.settle_all(&hub);
        }
    });
    Ok(())
}

/// Messages with `key` come to the lane, or to the main thread again.
#[napi]
pub fn lane_divert(id: u32, lane: u32, key: u32, on: bool) -> Result<()> {
    let hub = hub(id)?;
    let mut s = hub.state();
    if on {
        s.keys.insert(key, lane);
    } else if s.keys.get(&key) == Some(&lane) {
        s.keys.remove(&key);
    }
    Ok(())
}

/// The descriptor of a connection, to wait for it; -1 when it is gone.
#[napi]
pub fn lane_fd(id: u32, conn: u32) -> Result<i32> {
    let hub = hub(id)?;
    let s = hub.state();
    Ok(s.conns.get(&conn).filter(|c| !c.ended).map_or(-1, |c| c.fd.as_raw_fd()))
}

/// 0 when another lane reads; else a number that moves when the connections to wait for may be others.
pub fn lane_reading(id: u32, lane: u32) -> Result<u32> {
    let hub = hub(id)?;
    let s = hub.state();
    Ok(if s.reader == Some(lane) { s.reading } else { 0 })
}

/// Reads what a connection has, for all. 0: wait for it again. -EAGAIN: somebody else waits for it now. -ENOTCONN: it has ended.
pub fn lane_read(id: u32, lane: u32, conn: u32) -> Result<i32> {
    let hub = hub(id)?;
    Ok(hub.with(|s| {
        let r = s.read(&hub, conn, Some(lane));
        let Some(c) = s.conns.get_mut(&conn) else { return r };
        if r == 0 && !c.may_read() {
            c.by_hub = true;
        }
        let by_hub = c.by_hub;
        s.settle(&hub, conn);
        if r == 0 && (by_hub || s.reader != Some(lane)) { -libc::EAGAIN } else { r }
    }))
}

/// Moves messages to `len` bytes of the arena; how many bytes they have. Each has the connection's number and its length before it.
pub fn lane_take(id: u32, lane: u32, memory: u32, addr: f64, len: f64) -> Result<i32> {
    let (p, n) = arena(memory)?.at_f64(addr, len)?;
    let hub = hub(id)?;
    let to = unsafe { std::slice::from_raw_parts_mut(p, n) };
    hub.with(|s| {
        let Some(Some(l)) = s.lanes.get_mut(lane as usize) else { return wrong(format!("no lane {lane}")) };
        let was_full = l.is_full;
        let n = l.take(to);
        if was_full && !l.is_full {
            s.room_in(&hub, lane);
        }
        Ok(n as i32)
    })
}

/// Sends whole messages. Bytes that are held, or -ENOTCONN.
pub fn lane_send(id: u32, conn: u32, memory: u32, addr: f64, len: f64) -> Result<i32> {
    let (p, n) = arena(memory)?.at_f64(addr, len)?;
    let hub = hub(id)?;
    let mut s = hub.state();
    let bytes = unsafe { std::slice::from_raw_parts(p, n) };
    let Some(c) = s.conns.get_mut(&conn).filter(|c| !c.ended) else { return Ok(-libc::ENOTCONN) };
    let held = c.send(bytes);
    if held > 0 {
        s.settle(&hub, conn);
    }
    Ok(held as i32)
}

/// The callback keeps the main thread's loop alive, or does not.
#[napi]
pub fn net_ref(env: napi::Env, id: u32, on: bool) -> Result<()> {
    let raw: sys::napi_env = env.raw();
    hub(id)?.callback.keep_alive(raw, on);
    Ok(())
}
