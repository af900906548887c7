//! The clock that leases are counted in: CLOCK_BOOTTIME, and the time that a machine stood still without noticing.
//!
//! A guest whose hypervisor stopped it goes on with the clock it had: CLOCK_BOOTTIME counts a suspend, but not that (kvm-clock is set
//! back; a counter of few bits wraps). The others' clocks went on, and have declared it dead. The time-stamp counter, where it is a
//! clock at all, goes on too, unless somebody sets it back. So the time is CLOCK_BOOTTIME or what the counter says, whichever
//! is later; the counter by more than `SLACK_NS`, as it is not set by NTP.
//!
//! A counter that stands still or starts anew is behind, and then CLOCK_BOOTTIME is the time, as it is on machines whose counter the
//! kernel does not take for a clock (not x86, or not listed in available_clocksource). What is not seen: a guest whose counter was
//! stopped with it, as that of one that was restored from a snapshot.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// What the counter may be ahead by: its rate is measured, and CLOCK_BOOTTIME's is not constant.
const SLACK_NS: i64 = 250_000_000;
/// A rate is measured over at least this, and two clocks are read together if nothing came in between for longer than that.
const MEASURE_NS: i64 = 500_000_000;
const TOGETHER_NS: i64 = 1_000_000;

/// CLOCK_BOOTTIME in nanoseconds.
#[inline]
pub fn boottime_ns() -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut t) };
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn counter() -> u64 {
    0
}

/// Whether the kernel takes the counter for a clock: the same on all CPUs, and of one rate.
fn counter_is_clock() -> bool {
    let listed = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    cfg!(target_arch = "x86_64") && listed.is_ok_and(|l| l.split_whitespace().any(|name| name == "tsc"))
}

/// The lease clock as two numbers: each may be read without the other.
struct LeaseClock {
    /// Nanoseconds that CLOCK_BOOTTIME did not count.
    frozen: AtomicI64,
    /// What the counter's time is ahead of the counter, in nanoseconds.
    offset: AtomicI64,
    /// Nanoseconds a tick, the bits of an f64; 0: not measured.
    rate: AtomicU64,
    /// When the measuring began: counter and CLOCK_BOOTTIME.
    since: [AtomicI64; 2],
    /// One thread at a time keeps it.
    kept: AtomicBool,
}

impl LeaseClock {
    const fn new() -> LeaseClock {
        LeaseClock {
            frozen: AtomicI64::new(0),
            offset: AtomicI64::new(0),
            rate: AtomicU64::new(0),
            since: [const { AtomicI64::new(0) }; 2],
            kept: AtomicBool::new(false),
        }
    }

    /// The time by CLOCK_BOOTTIME, and how far the counter's is ahead of it; None while its rate is not known.
    #[inline]
    fn look(&self, ticks: u64, boot: i64) -> (i64, Option<i64>) {
        let by_boot = boot + self.frozen.load(Ordering::Acquire);
        let rate = f64::from_bits(self.rate.load(Ordering::Acquire));
        let ahead = || (ticks as f64 * rate) as i64 + self.offset.load(Ordering::Acquire) - by_boot;
        (by_boot, (rate != 0.0).then(ahead))
    }

    /// The counter must have been read before CLOCK_BOOTTIME: what comes in between is not taken for a stand-still.
    #[inline]
    fn now(&self, ticks: u64, boot: i64) -> i64 {
        match self.look(ticks, boot) {
            (by_boot, Some(ahead)) if ahead > SLACK_NS => by_boot + ahead,
            (by_boot, _) => by_boot,
        }
    }

    /// Sets the counter's time by CLOCK_BOOTTIME, or counts what that has missed. To be called every few seconds, with both clocks read together.
    fn keep(&self, ticks: u64, boot: i64) {
        match self.look(ticks, boot) {
            (by_boot, None) => self.measure(ticks, boot, by_boot),
            (_, Some(ahead)) if ahead > SLACK_NS => {
                self.frozen.fetch_add(ahead, Ordering::AcqRel);
            }
            (_, Some(ahead)) => {
                self.offset.fetch_sub(ahead, Ordering::AcqRel);
                if ahead < -SLACK_NS {
                    // It stood still, or its rate is not what was measured: measured again.
                    self.since[1].store(0, Ordering::Relaxed);
                    self.rate.store(0, Ordering::Release);
                }
            }
        }
    }

    fn measure(&self, ticks: u64, boot: i64, by_boot: i64) {
        let [ticks0, boot0] = [0, 1].map(|i| self.since[i].load(Ordering::Relaxed));
        let [dt, passed] = [ticks as i64 - ticks0, boot - boot0];
        if boot0 == 0 || dt <= 0 || passed < 0 {
            self.since[0].store(ticks as i64, Ordering::Relaxed);
            self.since[1].store(boot, Ordering::Relaxed);
        } else if passed >= MEASURE_NS {
            let rate = passed as f64 / dt as f64;
            self.offset.store(by_boot - (ticks as f64 * rate) as i64, Ordering::Release);
            self.rate.store(rate.to_bits(), Ordering::Release);
        }
    }
}

static CLOCK: LeaseClock = LeaseClock::new();
static USABLE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();

/// The time, in nanoseconds. Leases and the heartbeat's deadlines are counted in it.
#[inline]
pub fn lease_now_ns() -> i64 {
    let ticks = counter();
    CLOCK.now(ticks, boottime_ns())
}

/// Of the heartbeat's threads, each beat.
pub fn keep_clock() {
    if !*USABLE.get_or_init(counter_is_clock) || CLOCK.kept.swap(true, Ordering::AcqRel) {
        return;
    }
    let before = boottime_ns();
    let ticks = counter();
    let boot = boottime_ns();
    if boot - before < TOGETHER_NS {
        CLOCK.keep(ticks, boot);
    }
    CLOCK.kept.store(false, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    /// 2 GHz, and a counter that is not 0 at boot.
    fn ticks(s: f64) -> u64 {
        (s * 2e9) as u64 + (1 << 50)
    }

    /// A clock that was kept every two seconds until second 10 of both.
    fn kept() -> LeaseClock {
        let clock = LeaseClock::new();
        for s in [100, 102, 104, 106, 108, 110] {
            clock.keep(ticks(s as f64), s * S);
        }
        clock
    }

    fn near(a: i64, b: i64) {
        assert!((a - b).abs() < S / 1000, "{a} is not {b}");
    }

    #[test]
    fn is_boottime_while_both_go_on() {
        let clock = kept();
        assert_eq!(clock.now(ticks(111.0), 111 * S), 111 * S);
        // Read a while after the counter.
        assert_eq!(clock.now(ticks(111.0), 115 * S), 115 * S);
        // NTP slows it.
        assert_eq!(clock.now(ticks(111.001), 111 * S), 111 * S);
    }

    #[test]
    fn goes_on_while_boottime_stands_still() {
        let clock = kept();
        near(clock.now(ticks(150.0), 111 * S), 150 * S);
        // And stays there, kept or not.
        clock.keep(ticks(150.0), 111 * S);
        near(clock.now(ticks(151.0), 112 * S), 151 * S);
        clock.keep(ticks(152.0), 113 * S);
        near(clock.now(ticks(152.5), 113 * S + S / 2), 152 * S + S / 2);
        // A second time.
        near(clock.now(ticks(190.0), 114 * S), 190 * S);
    }

    #[test]
    fn is_boottime_where_the_counter_stands_still_or_starts_anew() {
        for restarted in [ticks(110.5), 1000] {
            let clock = kept();
            assert_eq!(clock.now(restarted, 170 * S), 170 * S);
            clock.keep(restarted, 170 * S);
            assert_eq!(clock.now(restarted + 2_000_000_000, 171 * S), 171 * S);
            for s in 1..5 {
                clock.keep(restarted + 2_000_000_000 * s, (170 + s as i64) * S);
            }
            near(clock.now(restarted + 2_000_000_000 * 50, 175 * S), 220 * S);
        }
    }

    #[test]
    fn a_rate_that_was_measured_across_a_stand_still_is_measured_again() {
        let clock = LeaseClock::new();
        clock.keep(ticks(100.0), 100 * S);
        clock.keep(ticks(150.0), 102 * S);
        for s in [104, 106, 108, 110] {
            clock.keep(ticks(s as f64 + 48.0), s * S);
            assert_eq!(clock.now(ticks(s as f64 + 48.5), s * S + S / 2), s * S + S / 2);
        }
        near(clock.now(ticks(198.0), 111 * S), 150 * S);
    }

    #[test]
    fn without_a_counter_it_is_boottime() {
        assert_eq!(LeaseClock::new().now(ticks(500.0), 7 * S), 7 * S);
        keep_clock();
        near(lease_now_ns(), boottime_ns());
    }
}
