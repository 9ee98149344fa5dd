//! The two arrival-rate executors on one core: each arrival is started, put in the queue, or dropped and counted.
//!
//! Takes the core's arrivals and, at each look, whether a VU is there; gives what becomes of each arrival. It has no clock and no VUs of
//! its own. Invariant: started + dropped = the arrivals that were due, once the schedule is closed.

use std::collections::VecDeque;

use volcanion_common::plan::WhenBusy;

use super::arrivals::{Arrivals, NewLanes, NewRate};

/// How long a core must have stood still for it to be a pause, and of how much of one the arrivals still start, late.
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

/// A span in which the core did not run at all (the process was stopped, the machine slept), in nanoseconds from the scenario's start.
/// What it missed but for the last [`PAUSE_NS`] is not caught up. A core that is merely busy has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// The last sign of life before it.
    pub from_ns: u64,
    /// The first one after it; where it is no later than `from_ns` there was no pause.
    pub to_ns: u64,
}

impl Pause {
    /// Whether an arrival that nobody has looked at yet was missed in it.
    #[inline]
    fn swallowed(self, intended_ns: u64) -> bool {
        self.from_ns < intended_ns && intended_ns.saturating_add(PAUSE_NS) < self.to_ns
    }
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
    /// It is not started at all: no VU could take it.
    Dropped,
    /// It is not started at all: it fell into a pause.
    Paused,
}

/// The open-loop schedule of one core in one scenario.
#[derive(Debug)]
pub struct ArrivalRate {
    arrivals: Arrivals,
    /// The next arrival that was not looked at, where there is one before the next turn.
    next_ns: Option<u64>,
    queue: VecDeque<u64>,
    when_busy: WhenBusy,
}

impl ArrivalRate {
    /// Nothing is due before time 0 of the scenario.
    pub fn new(mut arrivals: Arrivals, when_busy: WhenBusy) -> Self {
        let next_ns = arrivals.next_before_turn();
        Self { arrivals, next_ns, queue: VecDeque::new(), when_busy }
    }

    /// When it is to be looked at next, in nanoseconds from the scenario's start; nothing where all arrivals were looked at.
    #[inline]
    pub fn next_ns(&self) -> Option<u64> {
        self.next_ns.or_else(|| self.arrivals.turn_ns())
    }

    /// Arrivals that wait for a VU.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// What becomes of one arrival that is due; to be asked again until there is nothing. `pause` is the newest one.
    #[inline]
    pub fn take(&mut self, now_ns: u64, room: Room, pause: Pause) -> Option<Start> {
        if room != Room::Full
            && let Some(intended_ns) = self.queue.pop_front()
        {
            return Some(start(intended_ns, room));
        }
        loop {
            let Some(intended_ns) = self.next_ns else {
                if !self.arrivals.go_over_until(now_ns) {
                    return None;
                }
                self.next_ns = self.arrivals.next_before_turn();
                continue;
            };
            if intended_ns > now_ns {
                return None;
            }
            self.next_ns = self.arrivals.next_before_turn();
            if pause.swallowed(intended_ns) {
                return Some(Start::Paused);
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

    /// Another rate from a moment on: what waits for a VU waits on.
    pub fn adjust(&mut self, new: NewRate) {
        self.next_ns = self.arrivals.adjust(new, self.next_ns);
    }

    /// Other lanes from a moment on: what was due before it, and waits for a VU, waits on.
    pub fn moved(&mut self, new: NewLanes) {
        self.next_ns = self.arrivals.moved(new, self.next_ns);
    }

    /// Ends it: no arrival starts any more. Gives the number of those that wait, which are dropped by that.
    pub fn close(&mut self) -> u64 {
        self.next_ns = None;
        self.arrivals.forget_turns();
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
    const NONE: Pause = Pause { from_ns: 0, to_ns: 0 };

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
        assert_eq!(schedule.take(0, Room::Growable, NONE), Some(Start::OnNew { intended_ns: 0 }));
        assert_eq!(schedule.take(25 * MS, Room::Full, NONE), None);
        assert_eq!((schedule.queued(), schedule.next_ns()), (2, Some(30 * MS)));
        assert_eq!(schedule.take(25 * MS, Room::Free, NONE), Some(Start::OnFree { intended_ns: 10 * MS }));
        assert_eq!(schedule.take(25 * MS, Room::Free, NONE), Some(Start::OnFree { intended_ns: 20 * MS }));
        assert_eq!(schedule.take(25 * MS, Room::Free, NONE), None);
        assert_eq!(schedule.take(45 * MS, Room::Full, NONE), None);
        assert_eq!((schedule.close(), schedule.next_ns()), (2, None));
        assert_eq!(schedule.take(u64::MAX, Room::Free, NONE), None);
    }

    #[test]
    fn a_process_that_was_frozen_does_not_catch_up() {
        let mut schedule = schedule(10, WhenBusy::Queue);
        assert_eq!(schedule.take(5 * MS, Room::Free, NONE), Some(Start::OnFree { intended_ns: 0 }));
        let (now_ns, pause) = (2_500 * MS, Pause { from_ns: 250 * MS, to_ns: 2_450 * MS });
        // What was due before it, and was not looked at only because the core was busy, starts late.
        for intended_ns in [100 * MS, 200 * MS] {
            assert_eq!(schedule.take(now_ns, Room::Free, pause), Some(Start::OnFree { intended_ns }));
        }
        let mut paused = 0;
        while schedule.take(now_ns, Room::Free, pause) == Some(Start::Paused) {
            paused += 1;
        }
        // Those of its last second start late: 1.5 s, the one that was given out, is the first of them.
        assert_eq!((paused, schedule.next_ns()), (12, Some(1_600 * MS)));
    }

    #[test]
    fn a_queue_loses_nothing_however_late_it_is_looked_at_by_a_core_that_is_busy() {
        let mut schedule = schedule(10, WhenBusy::Queue);
        assert_eq!(schedule.take(4_000 * MS, Room::Full, NONE), None);
        assert_eq!(schedule.queued(), 41);
        let late: Vec<_> = std::iter::from_fn(|| schedule.take(9_000 * MS, Room::Free, NONE)).collect();
        let whole: Vec<_> = (0..50).map(|k| Start::OnFree { intended_ns: k * 100 * MS }).collect();
        assert_eq!(late, whole);
    }

    proptest! {
        #[test]
        fn every_arrival_is_started_or_dropped_whatever_is_free(
            rate in 1u64..2_000,
            queues in any::<bool>(),
            looks in prop::collection::vec((0u64..400 * MS, 0u8..3, any::<bool>()), 1..200),
        ) {
            let when_busy = if queues { WhenBusy::Queue } else { WhenBusy::Drop };
            let mut schedule = schedule(rate, when_busy);
            let (mut now_ns, mut started, mut dropped) = (0, 0, 0);
            for (later_ns, room, was_paused) in looks {
                // A pause is a long one, or none.
                let pause = Pause { from_ns: now_ns, to_ns: if was_paused { now_ns + 4 * later_ns } else { 0 } };
                now_ns = pause.to_ns.max(now_ns + later_ns);
                let room = [Room::Free, Room::Growable, Room::Full][usize::from(room)];
                while let Some(start) = schedule.take(now_ns, room, pause) {
                    match start {
                        Start::Dropped => dropped += 1,
                        Start::Paused => {
                            prop_assert!(was_paused);
                            dropped += 1;
                        }
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
