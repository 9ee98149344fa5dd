//! The two arrival-rate executors on one core: each arrival is started, put in the queue, or dropped and counted.
//!
//! Takes the core's arrivals and, at each look, whether a VU is there; gives what becomes of each arrival. It has no clock and no VUs of
//! its own. Invariant: started + dropped = the arrivals that were due, once the schedule is closed.

use std::collections::VecDeque;

use volcanion_common::plan::WhenBusy;

use super::arrivals::Arrivals;

/// An arrival that nobody looked at for so long is dropped: the process did not run, and does not catch up.
pub const PAUSE_NS: u64 = 1_000_000_000;

/// The most arrivals that wait for a VU on one core; past it they are dropped and counted.
const QUEUE_MAX: usize = 1 << 20;

/// Who could take an arrival now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// A VU waits.
    Free,
    /// All are busy; one more may be made.
    Growable,
    /// All are busy, and there are as many as there may be.
    Full,
}

/// What becomes of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A waiting VU starts it.
    OnFree {
        /// When it was due, in nanoseconds from the scenario's start.
        intended_ns: u64,
    },
    /// A new VU starts it.
    OnNew {
        /// When it was due, in nanoseconds from the scenario's start.
        intended_ns: u64,
    },
    /// It is not started at all.
    Dropped,
}

/// The open-loop schedule of one core in one scenario.
#[derive(Debug)]
pub struct ArrivalRate {
    arrivals: Arrivals,
    /// The next arrival that was not looked at.
    next_ns: Option<u64>,
    queue: VecDeque<u64>,
    when_busy: WhenBusy,
}

impl ArrivalRate {
    /// Nothing is due before time 0 of the scenario.
    pub fn new(mut arrivals: Arrivals, when_busy: WhenBusy) -> Self {
        let next_ns = arrivals.next();
        Self { arrivals, next_ns, queue: VecDeque::new(), when_busy }
    }

    /// When it is to be looked at next, in nanoseconds from the scenario's start; nothing where all arrivals were looked at.
    #[inline]
    pub fn next_ns(&self) -> Option<u64> {
        self.next_ns
    }

    /// Arrivals that wait for a VU.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// What becomes of one arrival that is due; to be asked again until there is nothing.
    #[inline]
    pub fn take(&mut self, now_ns: u64, room: Room) -> Option<Start> {
        if room != Room::Full
            && let Some(intended_ns) = self.queue.pop_front()
        {
            return Some(start(intended_ns, room));
        }
        loop {
            let intended_ns = self.next_ns.filter(|next_ns| *next_ns <= now_ns)?;
            self.next_ns = self.arrivals.next();
            if now_ns - intended_ns > PAUSE_NS {
                return Some(Start::Dropped);
            }
            if room != Room::Full {
                return Some(start(intended_ns, room));
            }
            if self.when_busy == WhenBusy::Drop || self.queue.len() >= QUEUE_MAX {
                return Some(Start::Dropped);
            }
            self.queue.push_back(intended_ns);
        }
    }

    /// Ends it: no arrival starts any more. Gives the number of those that wait, which are dropped by that.
    pub fn close(&mut self) -> u64 {
        self.next_ns = None;
        let queued = self.queue.len() as u64;
        self.queue = VecDeque::new();
        queued
    }
}

fn start(intended_ns: u64, room: Room) -> Start {
    match room {
        Room::Free => Start::OnFree { intended_ns },
        _ => Start::OnNew { intended_ns },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volcanion_common::plan::executor::OpenLoop;
    use volcanion_common::plan::{Arrival, Executor, profile::Profile};
    use volcanion_common::shard::ScenarioShare;
    use volcanion_common::units::{Micros, Rate};

    const MS: u64 = 1_000_000;

    fn schedule(rate: u64, when_busy: WhenBusy) -> ArrivalRate {
        let open = OpenLoop { arrival: Arrival::Uniform, pre_allocated_vus: 0, max_vus: 1, when_busy };
        let executor = Executor::ConstantArrivalRate {
            rate: Rate::per_second(rate),
            duration: Micros::from_secs(5),
            open,
        };
        let profile = Profile::of_arrivals(&executor).unwrap();
        let share = ScenarioShare { lanes: 1, owned: vec![0] };
        ArrivalRate::new(Arrivals::new(Arrival::Uniform, profile, &share, 0, 0), when_busy)
    }

    #[test]
    fn a_queued_arrival_keeps_its_intended_start() {
        let mut schedule = schedule(100, WhenBusy::Queue);
        assert_eq!(schedule.take(0, Room::Growable), Some(Start::OnNew { intended_ns: 0 }));
        assert_eq!(schedule.take(25 * MS, Room::Full), None);
        assert_eq!((schedule.queued(), schedule.next_ns()), (2, Some(30 * MS)));
        assert_eq!(schedule.take(25 * MS, Room::Free), Some(Start::OnFree { intended_ns: 10 * MS }));
        assert_eq!(schedule.take(25 * MS, Room::Free), Some(Start::OnFree { intended_ns: 20 * MS }));
        assert_eq!(schedule.take(25 * MS, Room::Free), None);
        assert_eq!(schedule.take(45 * MS, Room::Full), None);
        assert_eq!((schedule.close(), schedule.next_ns()), (2, None));
        assert_eq!(schedule.take(u64::MAX, Room::Free), None);
    }

    #[test]
    fn a_process_that_was_frozen_does_not_catch_up() {
        let mut schedule = schedule(10, WhenBusy::Queue);
        let now_ns = 2_500 * MS;
        let mut dropped = 0;
        while schedule.take(now_ns, Room::Free) == Some(Start::Dropped) {
            dropped += 1;
        }
        // Those of the last second start late: 1.5 s, the one that was given out, is the first of them.
        assert_eq!((dropped, schedule.next_ns()), (15, Some(1_600 * MS)));
    }

    proptest! {
        #[test]
        fn every_arrival_is_started_or_dropped_whatever_is_free(
            rate in 1u64..2_000,
            queues in any::<bool>(),
            looks in prop::collection::vec((0u64..400 * MS, 0u8..3), 1..200),
        ) {
            let when_busy = if queues { WhenBusy::Queue } else { WhenBusy::Drop };
            let mut schedule = schedule(rate, when_busy);
            let (mut now_ns, mut started, mut dropped) = (0, 0, 0);
            for (later_ns, room) in looks {
                now_ns += later_ns;
                let room = [Room::Free, Room::Growable, Room::Full][usize::from(room)];
                while let Some(start) = schedule.take(now_ns, room) {
                    match start {
                        Start::Dropped => dropped += 1,
                        Start::OnFree { intended_ns } | Start::OnNew { intended_ns } => {
                            prop_assert!(room != Room::Full && intended_ns <= now_ns);
                            started += 1;
                        }
                    }
                }
            }
            dropped += schedule.close();
            let due = (0..5 * rate).filter(|k| k * 1_000_000_000 / rate <= now_ns).count() as u64;
            prop_assert_eq!(started + dropped, due);
        }
    }
}
