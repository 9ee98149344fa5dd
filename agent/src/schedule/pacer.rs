//! The one timer of a core: a timerfd on CLOCK_MONOTONIC, armed at absolute instants.
//!
//! The runtime's own timer rounds up to a millisecond, which is a median delay of about that; this one wakes within tens of
//! microseconds. It is armed for the next event of the core, but no nearer than a quantum: whatever falls due until it fires is
//! handled at one wake. A core that polls busily has no use for it while it spins.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use volcanion_common::units::Micros;

/// The usual quantum: the least distance from now at which the timer is armed.
pub const QUANTUM: Micros = Micros(50);
/// The greatest one: with more it would be no better than the runtime's own timer.
pub const QUANTUM_MAX: Micros = Micros::from_millis(1);

/// See the module. Needs the runtime of its core.
#[derive(Debug)]
pub struct Pacer {
    timer: AsyncFd<OwnedFd>,
    /// 0: not armed.
    armed_ns: u64,
    quantum_ns: u64,
}

impl Pacer {
    /// A timer that is not armed.
    ///
    /// # Errors
    /// The system gives no timer, or there is no file left for it.
    #[expect(
        deprecated,
        reason = "it is unsound for types that do not own their descriptor; this one does, and the successor is unsafe"
    )]
    pub fn new(quantum: Micros) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Self { timer, armed_ns: 0, quantum_ns: quantum.as_nanos() })
    }

    /// Makes it fire at `at_ns` or, where that is nearer than the quantum, a quantum after `now_ns`.
    ///
    /// # Errors
    /// The system refuses the instant.
    pub fn arm(&mut self, at_ns: u64, now_ns: u64) -> io::Result<()> {
        let armed_ns = at_ns.max(now_ns + self.quantum_ns);
        if (at_ns..=armed_ns).contains(&self.armed_ns) {
            return Ok(());
        }
        let at =
            Timespec { tv_sec: (armed_ns / 1_000_000_000) as i64, tv_nsec: (armed_ns % 1_000_000_000) as _ };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        self.armed_ns = armed_ns;
        Ok(())
    }

    /// Ready once the timer has fired; it is not armed any more then.
    ///
    /// # Errors
    /// The runtime's I/O is gone.
    pub fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.timer.poll_read_ready(cx))?;
        // Nothing is read: arming anew forgets the expiration, and the runtime is told of the next one by its edge.
        guard.clear_ready();
        self.armed_ns = 0;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send::clock::now_ns;

    #[tokio::test]
    async fn it_fires_no_earlier_than_armed_again_and_again() {
        for quantum in [Micros::ZERO, QUANTUM, Micros(400)] {
            let mut pacer = Pacer::new(quantum).unwrap();
            for distance_ns in [0, 200_000, 1_000_000, 60_000, 300_000] {
                let start_ns = now_ns();
                pacer.arm(start_ns + 5_000_000_000, start_ns).unwrap();
                pacer.arm(start_ns + distance_ns, start_ns).unwrap();
                std::future::poll_fn(|cx| pacer.poll_fired(cx)).await.unwrap();
                let took_ns = now_ns() - start_ns;
                assert!(took_ns >= distance_ns.max(quantum.as_nanos()), "{took_ns} for {distance_ns}");
                assert!(took_ns < 1_000_000_000, "{took_ns} for {distance_ns}");
            }
        }
    }
}
