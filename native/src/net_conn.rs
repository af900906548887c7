//! One connection of o2net: bytes in, cut into messages and handed to whom they concern; bytes out, never torn. What the messages mean is
//! TypeScript's (src/cluster/tcp.ts, lane.ts); here only the header's magic, length, key and number are looked at.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::{neg_errno, rc_size};

/// struct o2net_msg: magic, data_len, msg_type, pad (16 bits each), sys_status, status, key, msg_num, big-endian.
const HEADER: usize = 24;
const MAX_PAYLOAD: usize = 4096 - HEADER;
const HANDSHAKE: usize = 32;
const MSG_MAGIC: u16 = 0xfa55;
const STATUS_MAGIC: u16 = 0xfa56;
/// Before each message in a lane's inbox: the connection's number and the message's length.
const RECORD: usize = 8;
/// Messages are numbered by who sends them: a lane has its number in the highest byte, the main thread 0.
const LANE_SHIFT: u32 = 24;

/// So much may wait to be sent or to be taken; then nothing more is read.
const HELD_MAX: usize = 4 << 20;
const MAIN_MAX: usize = 1 << 20;
/// So much may wait in a lane's inbox; then nothing more is read from whoever fills it, until its thread has taken half of that. A peer feels it as it
/// does where the kernel's worker is stuck in one message (o2net_rx_until_empty): its socket fills.
const LANE_MAX: usize = 1 << 20;
const READ_AT_ONCE: usize = 64 << 10;

/// Messages for one thread.
pub struct Lane {
    pub wakefd: i32,
    pub inbox: Vec<u8>,
    /// How much of the inbox has been taken.
    pub taken: usize,
    /// It was told that there is something, and has not looked yet.
    pub woken: bool,
    /// It has more than it should, and connections may wait for it (Conn.waits_for).
    pub is_full: bool,
}

pub struct Conn {
    pub fd: OwnedFd,
    pub connecting: bool,
    /// The stream has ended, or the main thread has closed it: nothing more is read.
    pub ended: bool,
    /// The main thread does not want its bytes now.
    pub paused: bool,
    /// The lane that has more than it should, the last of it from here.
    pub waits_for: Option<u32>,
    /// Bytes of the handshake that are to come; they are the main thread's.
    handshake_left: usize,
    /// What comes is no messages: the main thread will close it.
    raw: bool,
    /// A message that has not come whole.
    part: Vec<u8>,
    out: Vec<u8>,
    out_from: usize,
    /// What is the main thread's, until it takes it.
    pub to_main: Vec<u8>,
    pub main_told: bool,
    /// The main thread waits until everything is sent.
    pub wants_drained: bool,
    /// The hub's thread reads it, though a lane reads the others: what it could not take is to be taken.
    pub by_hub: bool,
    /// CLOCK_MONOTONIC in ms of the last bytes that came.
    pub last_rx_ms: f64,
    /// Events that epoll looks for.
    pub watched: u32,
}

impl Conn {
    pub fn new(fd: OwnedFd, connecting: bool) -> Conn {
        Conn {
            fd,
            connecting,
            ended: false,
            paused: false,
            waits_for: None,
            handshake_left: HANDSHAKE,
            raw: false,
            part: Vec::new(),
            out: Vec::new(),
            out_from: 0,
            to_main: Vec::new(),
            main_told: false,
            wants_drained: false,
            by_hub: false,
            last_rx_ms: crate::misc::monotonic_ns() / 1e6,
            watched: 0,
        }
    }

    pub fn shook_hands(&self) -> bool {
        self.handshake_left == 0
    }

    pub fn held(&self) -> usize {
        self.out.len() - self.out_from
    }

    pub fn may_read(&self) -> bool {
        let is_wanted = !self.connecting && !self.ended && !self.paused && self.waits_for.is_none();
        is_wanted && self.to_main.len() < MAIN_MAX && self.held() < HELD_MAX
    }

    /// Takes `bytes`, whole messages, and sends what the kernel takes now. How much is held.
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        if self.held() == 0 && !self.connecting && !self.ended {
            sent = self.write(bytes);
        }
        self.out.extend_from_slice(&bytes[sent..]);
        self.held()
    }

    fn write(&self, bytes: &[u8]) -> usize {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // An error shows when the connection is read.
        let n = rc_size(|| unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) });
        n.max(0) as usize
    }

    /// The kernel takes more.
    pub fn drain(&mut self) {
        while self.held() > 0 {
            let n = self.write(&self.out[self.out_from..]);
            if n == 0 {
                break;
            }
            self.out_from += n;
        }
        // What is sent goes, also where there is always something that is not.
        if self.held() == 0 || self.out_from > HELD_MAX {
            self.out.drain(..self.out_from);
            self.out_from = 0;
        }
    }

    /// Reads what is there. 0, or how the stream ended: -errno, or 1 for an orderly end.
    pub fn receive(&mut self, id: u32, buf: &mut Vec<u8>, keys: &HashMap<u32, u32>, lanes: &mut [Option<Lane>]) -> i32 {
        buf.resize(READ_AT_ONCE, 0);
        while self.may_read() {
            let n = unsafe { libc::recv(self.fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_DONTWAIT) };
            if n == 0 {
                return 1;
            }
            if n < 0 {
                match neg_errno() {
                    e if e == -libc::EINTR => continue,
                    e if e == -libc::EAGAIN => break,
                    e => return e,
                }
            }
            self.last_rx_ms = crate::misc::monotonic_ns() / 1e6;
            self.cut(id, &buf[..n as usize], keys, lanes);
            if (n as usize) < buf.len() {
                break;
            }
        }
        0
    }

    fn cut(&mut self, id: u32, came: &[u8], keys: &HashMap<u32, u32>, lanes: &mut [Option<Lane>]) {
        let n = self.handshake_left.min(came.len());
        self.to_main.extend_from_slice(&came[..n]);
        self.handshake_left -= n;
        let came = &came[n..];
        let mut joined = std::mem::take(&mut self.part);
        let mut bytes = came;
        if !joined.is_empty() {
            joined.extend_from_slice(came);
            bytes = &joined;
        }
        while !bytes.is_empty() {
            if self.raw {
                self.to_main.extend_from_slice(bytes);
                break;
            }
            let need = if bytes.len() < HEADER { HEADER } else { HEADER + u16_at(bytes, 2) as usize };
            self.raw = need > HEADER + MAX_PAYLOAD;
            if self.raw {
                continue;
            }
            if bytes.len() < need {
                self.part = bytes.to_vec();
                break;
            }
            let (message, rest) = bytes.split_at(need);
            let number = lane_of(message, keys);
            match number.and_then(|lane| lanes.get_mut(lane as usize)).and_then(Option::as_mut) {
                Some(lane) => {
                    lane.put(id, message);
                    if lane.is_full {
                        self.waits_for = number;
                    }
                }
                None => self.to_main.extend_from_slice(message),
            }
            bytes = rest;
        }
    }
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// Whose it is: the lane that has taken the key, or that has sent what this is the status of.
fn lane_of(message: &[u8], keys: &HashMap<u32, u32>) -> Option<u32> {
    match u16_at(message, 0) {
        MSG_MAGIC => keys.get(&u32_at(message, 16)).copied(),
        STATUS_MAGIC => Some(u32_at(message, 20) >> LANE_SHIFT).filter(|lane| *lane > 0),
        _ => None,
    }
}

impl Lane {
    fn put(&mut self, conn: u32, message: &[u8]) {
        self.inbox.extend_from_slice(&conn.to_le_bytes());
        self.inbox.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.inbox.extend_from_slice(message);
        self.is_full |= self.inbox.len() - self.taken > LANE_MAX;
    }

    /// As many whole records as `to` takes; how many bytes they have.
    pub fn take(&mut self, to: &mut [u8]) -> usize {
        self.woken = false;
        let from = &self.inbox[self.taken..];
        let mut n = 0;
        while n + RECORD <= from.len() {
            let len = u32::from_le_bytes([from[n + 4], from[n + 5], from[n + 6], from[n + 7]]) as usize;
            if n + RECORD + len > to.len() {
                break;
            }
            n += RECORD + len;
        }
        to[..n].copy_from_slice(&from[..n]);
        self.taken += n;
        // What a lane that never comes to the end of it has taken goes, too.
        if self.taken == self.inbox.len() || self.taken > LANE_MAX {
            self.inbox.drain(..self.taken);
            self.taken = 0;
        }
        self.is_full &= self.inbox.len() - self.taken > LANE_MAX / 2;
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_peer_that_reads_slowly_does_not_make_it_grow() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let mut conn = Conn::new(here.into(), false);
        let mut sent = 0;
        let mut next = 0u32;
        let mut bytes = || -> Vec<u8> {
            (0..16 << 10)
                .flat_map(|_| {
                    next += 1;
                    next.to_le_bytes()
                })
                .collect()
        };
        let mut send = |conn: &mut Conn| {
            let b = bytes();
            sent += b.len();
            conn.send(&b);
        };
        while conn.held() < 1 << 20 {
            send(&mut conn);
        }
        // It reads as much as is sent, so that there is always something that waits.
        let mut took = vec![0; 64 << 10];
        let mut came = 0u32;
        let mut read = |n: usize| {
            there.read_exact(&mut took[..n]).unwrap();
            for word in took[..n].chunks_exact(4) {
                came += 1;
                assert_eq!(u32_at(word, 0).swap_bytes(), came);
            }
        };
        for _ in 0..1024 {
            send(&mut conn);
            read(64 << 10);
            conn.drain();
            assert!(conn.held() > 0);
            assert!(conn.out.len() < 16 << 20, "{} bytes of which {} are held", conn.out.len(), conn.held());
        }
        for _ in 1024..sent >> 16 {
            read(64 << 10);
            conn.drain();
        }
        assert_eq!((conn.held(), conn.out.len()), (0, 0));
    }
}
