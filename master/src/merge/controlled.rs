//! What an externally-controlled scenario asks of one agent, and at most can have had of it.
//!
//! Takes the changes of its level as they are ordered, and since when each held where the agent said so. What an agent that is not heard any more did with a change that
//! it never confirmed is not known: it may have taken it in time, late, or not at all. It takes them in order, so at every moment its rate was the last
//! confirmed one or that of an unconfirmed change that had begun: no more than the greatest of them.

use super::moves::Moves;
use volcanion_common::plan::{Executor, Level};
use volcanion_common::session::Change;
use volcanion_common::shard::ScenarioShare;
use volcanion_common::shard::holding::Holding;
use volcanion_common::shard::segments::Segments;
use volcanion_common::units::{Micros, Rate, RunTime};

/// Arrivals beside those of the greatest rate that going over from one spacing to another can bring.
const ARRIVALS_OF_A_JOINT: u64 = 2;

/// One agent's part of it.
#[derive(Debug)]
pub struct Controlled {
    start: RunTime,
    duration: Micros,
    /// The share at the start, and what became of it.
    share: ScenarioShare,
    holding: Holding,
    moves: Moves,
    first: Level,
    /// Ascending by number.
    changes: Vec<Known>,
    /// Of an open loop, as asked for: every change, since when it held or is to hold.
    segments: Option<Segments>,
}

/// A change, as far as it is known what became of it.
#[derive(Clone, Copy, Debug)]
struct Known {
    change: Change,
    /// The ordered moment, unless the agent named a later one.
    from: RunTime,
    is_confirmed: bool,
}

impl Controlled {
    /// Of a scenario that begins at `start`; `None` where its level is the plan's alone.
    pub fn new(executor: &Executor, start: RunTime, share: &ScenarioShare) -> Option<Self> {
        let (first, duration) = (executor.start_level()?, executor.duration());
        let (share, holding) = (share.clone(), Holding::new(share));
        let (moves, changes) = (Moves::default(), Vec::new());
        let mut controlled = Self { start, duration, share, holding, moves, first, changes, segments: None };
        controlled.segments = controlled.first_segment();
        Some(controlled)
    }

    /// A change was ordered. In the order of their numbers, each once.
    pub fn ordered(&mut self, change: Change) {
        let known = Known { change, from: change.at, is_confirmed: false };
        self.changes.push(known);
        if let Some(segments) = &mut self.segments {
            push(segments, self.start, &known);
        }
    }

    /// Lanes go and come from a moment on, whatever the order in which that and the changes are heard of.
    pub fn moved(&mut self, from: RunTime, release: &[u32], take: &[u32]) {
        let from = from.since(self.start);
        if self.moves.add(from, release, take) {
            self.holding.moved(from, release, take);
            if let Some(segments) = &mut self.segments {
                segments.moved(from, release, take);
            }
        } else {
            self.holding = Holding::new(&self.share);
            for (from, release, take) in self.moves.in_order() {
                self.holding.moved(*from, release, take);
            }
            self.segments = self.asked();
        }
    }

    /// Arrivals of any lanes in [from, to); `None` for a closed loop.
    pub fn arrivals_of(&self, lanes: &ScenarioShare, from: RunTime, to: RunTime) -> Option<u64> {
        let since = |time: RunTime| time.since(self.start).as_nanos();
        self.segments.as_ref().map(|segments| segments.count_of(lanes, since(from), since(to)))
    }

    /// The agent has taken a change, which holds since `from`; whether it is one of this scenario's.
    pub fn confirmed(&mut self, number: u64, from: RunTime) -> bool {
        let Ok(i) = self.changes.binary_search_by_key(&number, |known| known.change.number) else {
            return false;
        };
        let known = &mut self.changes[i];
        known.is_confirmed = true;
        if known.from < from {
            known.from = from;
            self.segments = self.asked();
        }
        true
    }

    /// The agent has taken every change up to this one, as ordered unless it says otherwise.
    pub fn confirmed_up_to(&mut self, number: u64) {
        let taken = self.changes.iter_mut().take_while(|known| known.change.number <= number);
        taken.for_each(|known| known.is_confirmed = true);
    }

    /// Arrivals that the levels ask for before a moment; `None` for a closed loop.
    pub fn arrivals_before(&self, time: RunTime) -> Option<u64> {
        self.segments.as_ref().map(|segments| segments.count_before(time.since(self.start).as_nanos()))
    }

    /// The most arrivals that it can have had before a moment; `None` for a closed loop.
    pub fn most_before(&self, time: RunTime) -> Option<u64> {
        if self.changes.iter().all(|known| known.is_confirmed) {
            return self.arrivals_before(time);
        }
        let mut segments = self.first_segment()?;
        let (mut most, mut joints) = (self.first, 0);
        for known in self.changes.iter().filter(|known| known.from < time) {
            let is_more = rate(known.change.level) > rate(most);
            joints += u64::from(!known.is_confirmed);
            if known.is_confirmed || is_more {
                push(&mut segments, self.start, known);
                most = known.change.level;
            }
        }
        let has_any = self.holding.pieces().iter().any(|(_, share)| !share.is_empty());
        let joints = if has_any { joints * ARRIVALS_OF_A_JOINT } else { 0 };
        Some(segments.count_before(time.since(self.start).as_nanos()).saturating_add(joints))
    }

    /// The most VUs that a closed loop was to have here in [from, to); what held before `from` counts.
    pub fn vus_between(&self, from: RunTime, to: RunTime) -> u64 {
        let mut most = vus(self.first);
        for known in &self.changes {
            if known.from <= from {
                most = vus(known.change.level);
            } else if known.from < to {
                most = most.max(vus(known.change.level));
            }
        }
        most_of(&self.holding, from.since(self.start), to.since(self.start), most)
    }

    fn first_segment(&self) -> Option<Segments> {
        match self.first {
            Level::Rate(rate) => {
                let mut segments = Segments::new(rate, self.duration, &self.share);
                for (from, release, take) in self.moves.in_order() {
                    segments.moved(*from, release, take);
                }
                Some(segments)
            }
            Level::Vus(_) => None,
        }
    }

    fn asked(&self) -> Option<Segments> {
        let mut segments = self.first_segment()?;
        self.changes.iter().for_each(|known| push(&mut segments, self.start, known));
        Some(segments)
    }
}

/// The most of so many numbers that are held at any moment of [from, to).
pub(super) fn most_of(holding: &Holding, from: Micros, to: Micros, numbers: u64) -> u64 {
    let pieces = holding.pieces();
    let ends = pieces.iter().skip(1).map(|(next, _)| *next).chain([Micros(u64::MAX)]);
    let held = pieces.iter().zip(ends).filter(|((since, _), end)| *end > from && *since < to);
    let counts = held.map(|((_, share), _)| share.count_below(numbers));
    counts.max().unwrap_or_else(|| holding.at(from).count_below(numbers))
}

fn push(segments: &mut Segments, start: RunTime, known: &Known) {
    segments.push(known.change.at.since(start), known.from.since(start), rate(known.change.level));
}

fn rate(level: Level) -> Rate {
    if let Level::Rate(rate) = level { rate } else { Rate::ZERO }
}

fn vus(level: Level) -> u64 {
    if let Level::Vus(vus) = level { vus } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volcanion_common::plan::executor::OpenLoop;
    use volcanion_common::plan::{Arrival, Control, WhenBusy};

    const OPEN: OpenLoop =
        OpenLoop { arrival: Arrival::Uniform, pre_allocated_vus: 1, max_vus: 9, when_busy: WhenBusy::Drop };

    fn rates(first: u64, share: &ScenarioShare) -> Controlled {
        let control = Control::Rate { rate: Rate::per_second(first), open: OPEN };
        let executor = Executor::ExternallyControlled { control, duration: Micros::from_secs(10) };
        Controlled::new(&executor, RunTime(1_000_000), share).unwrap()
    }

    fn at(ms: u64) -> RunTime {
        RunTime(ms * 1_000)
    }

    fn to(number: u64, at_ms: u64, rate: u64) -> Change {
        Change { number, scenario: 0, at: at(at_ms), level: Level::Rate(Rate::per_second(rate)) }
    }

    #[test]
    fn what_was_not_confirmed_counts_at_its_most() {
        let mut agent = rates(100, &ScenarioShare::whole(4));
        agent.ordered(to(1, 2_000, 300));
        agent.ordered(to(2, 4_000, 50));
        assert_eq!(agent.arrivals_before(at(5_000)), Some(100 + 600 + 50));
        assert_eq!(agent.most_before(at(5_000)), Some(100 + 900 + 4), "it may not have gone down");
        assert!(agent.confirmed(1, at(2_500)) && !agent.confirmed(7, at(0)));
        assert_eq!(agent.arrivals_before(at(5_000)), Some(150 + 450 + 50), "it was late");
        assert_eq!(agent.most_before(at(5_000)), Some(150 + 750 + 2));
        agent.confirmed_up_to(2);
        assert_eq!(agent.most_before(at(5_000)), agent.arrivals_before(at(5_000)));
        assert_eq!(agent.arrivals_before(at(60_000)), Some(150 + 450 + 350), "the scenario ends at 11 s");
    }

    #[test]
    fn vus_of_a_span_are_the_most_in_it() {
        let control = Control::Vus { vus: 2, max_vus: 9 };
        let executor = Executor::ExternallyControlled { control, duration: Micros::from_secs(10) };
        let mut agent = Controlled::new(&executor, RunTime::START, &ScenarioShare::whole(9)).unwrap();
        let set = |number, ms, vus| Change { number, scenario: 0, at: at(ms), level: Level::Vus(vus) };
        agent.ordered(set(1, 1_000, 8));
        agent.ordered(set(2, 2_000, 1));
        assert_eq!(agent.arrivals_before(at(9_000)), None);
        let most = |from, to| agent.vus_between(at(from), at(to));
        assert_eq!([most(0, 1_000), most(0, 1_001), most(1_000, 1_500), most(2_000, 9_000)], [2, 8, 8, 1]);
    }

    proptest! {
        /// Whatever an agent does with changes of which nobody hears, the bound holds.
        #[test]
        fn no_agent_can_have_had_more(
            first in 0u64..300,
            lanes in 1u32..30,
            every in 1u32..4,
            changes in prop::collection::vec((1u64..3_000, 0u64..300, 0u64..4_000), 1..6),
            taken in 0usize..6,
            known in 0usize..6,
            time in 0u64..12_000,
        ) {
            let owned: Vec<u32> = (0..lanes).filter(|lane| lane % every == 0).collect();
            let share = ScenarioShare { lanes, owned };
            let (mut master, mut truth) = (rates(first, &share), rates(first, &share));
            let taken = taken.min(changes.len());
            let (mut at_ms, mut from_ms) = (1_000, 0);
            for (i, (later, rate, late)) in changes.iter().enumerate() {
                at_ms += later;
                let change = to(i as u64 + 1, at_ms, *rate);
                master.ordered(change);
                if i < taken {
                    from_ms = from_ms.max(at_ms + late);
                    truth.ordered(change);
                    truth.confirmed(change.number, at(from_ms));
                    if i < known {
                        master.confirmed(change.number, at(from_ms));
                    }
                }
            }
            prop_assert!(truth.arrivals_before(at(time)) <= master.most_before(at(time)));
        }
    }
}
