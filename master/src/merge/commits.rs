//! Parts on their way to the store: one at a time, and however long the store is away no more than [`PARTS_MAX`] of them.
//!
//! Agents that report send 8 deltas that nobody acknowledged and then none, but what lost ones do not start makes a part each interval. Beyond the bound, the two
//! neighbours that are shortest together become one: totals and agents' states stay exact, the history of that time gets coarser, evenly.
//!
//! Invariants: parts leave in the order of their numbers, which have no gaps; one that was tried never changes, since the store may have it already.

use std::collections::VecDeque;
use std::sync::Arc;

use volcanion_common::delta::Delta;
use volcanion_common::units::Micros;

use super::Part;

/// Parts that wait at most. A full queue folds, it refuses nothing.
pub const PARTS_MAX: usize = 64;

/// Parts that wait for their commit, one of them being committed. In the order of their numbers.
#[derive(Debug, Default)]
pub struct CommitQueue {
    parts: VecDeque<Arc<Part>>,
    is_in_flight: bool,
    /// By so much the numbers of later parts are lower than when they were made.
    folded: u64,
}

impl CommitQueue {
    /// Appends parts.
    pub fn extend(&mut self, parts: Vec<Arc<Part>>) {
        for mut part in parts {
            if self.folded > 0 {
                Arc::make_mut(&mut part).number -= self.folded;
            }
            self.parts.push_back(part);
            if self.parts.len() > PARTS_MAX {
                self.fold_shortest();
            }
        }
    }

    /// The part to be committed now; none while one is in flight.
    pub fn begin_next(&mut self) -> Option<Arc<Part>> {
        if self.is_in_flight {
            return None;
        }
        let part = self.parts.front()?;
        self.is_in_flight = true;
        Some(Arc::clone(part))
    }

    /// The part of this number is durable; `None` where it was not the one in flight.
    pub fn committed(&mut self, number: u64) -> Option<Arc<Part>> {
        let is_it = self.is_in_flight && self.parts.front().is_some_and(|part| part.number == number);
        if !is_it {
            return None;
        }
        self.is_in_flight = false;
        self.parts.pop_front()
    }

    /// The part of this number is to be tried again; whether it was the one in flight.
    pub fn failed(&mut self, number: u64) -> bool {
        let is_it = self.is_in_flight && self.parts.front().is_some_and(|part| part.number == number);
        self.is_in_flight = self.is_in_flight && !is_it;
        is_it
    }

    /// The number of the part that is to be durable next.
    pub fn front(&self) -> Option<u64> {
        self.parts.front().map(|part| part.number)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Makes one of two neighbours. The first part may have been tried, and is left alone.
    fn fold_shortest(&mut self) {
        let together = |i: &usize| {
            let (earlier, later) = (&self.parts[*i], &self.parts[*i + 1]);
            later.to().max(earlier.to()).since(earlier.from().min(later.from()))
        };
        let Some(i) = (1..self.parts.len() - 1).min_by_key(together) else { return };
        let Some(later) = self.parts.remove(i + 1) else { return };
        fold(Arc::make_mut(&mut self.parts[i]), &later);
        self.parts.iter_mut().skip(i + 1).for_each(|part| Arc::make_mut(part).number -= 1);
        self.folded += 1;
    }
}

/// Makes one part of two that follow each other; it has the first one's number.
fn fold(part: &mut Part, later: &Part) {
    let has_any = |delta: &Delta| delta.to.since(delta.from) > Micros::ZERO;
    let earlier_total = part.checkpoint.take();
    part.checkpoint =
        later.checkpoint.clone().or_else(|| earlier_total.map(|total| plus(total, &later.delta)));
    if !has_any(&part.delta) {
        part.delta = Arc::clone(&later.delta);
    } else if has_any(&later.delta) {
        Arc::make_mut(&mut part.delta).add(&later.delta);
    }
    for state in &later.agents {
        let is_same = |ours: &&mut super::AgentState| {
            (&ours.agent, ours.incarnation) == (&state.agent, state.incarnation)
        };
        match part.agents.iter_mut().find(is_same) {
            Some(ours) => ours.clone_from(state),
            None => part.agents.push(state.clone()),
        }
    }
}

fn plus(mut total: Arc<Delta>, delta: &Delta) -> Arc<Delta> {
    if delta.to.since(delta.from) > Micros::ZERO {
        Arc::make_mut(&mut total).add(delta);
    }
    total
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use volcanion_common::ids::{AgentId, Incarnation};
    use volcanion_common::units::RunTime;

    use super::*;
    use crate::merge::AgentState;
    use crate::merge::complete::Collector;

    const AGENTS: usize = 3;

    fn delta(from_ms: u64, to_ms: u64, started: u64) -> Delta {
        let scenario = volcanion_common::delta::ScenarioDelta { started, ..Default::default() };
        let (from, to) = (RunTime(from_ms * 1_000), RunTime(to_ms * 1_000));
        Delta { from, to, scenarios: [(0, scenario)].into(), ..Delta::default() }
    }

    fn started(delta: &Delta) -> u64 {
        delta.scenarios.values().map(|scenario| scenario.started).sum()
    }

    /// A store: takes parts without gaps, each once, and adds them up.
    #[derive(Default)]
    struct Kept {
        parts: u64,
        total: u64,
        agents: BTreeMap<AgentId, AgentState>,
    }

    impl Kept {
        fn take(&mut self, part: &Part) {
            self.parts += 1;
            assert_eq!(part.number, self.parts, "numbers have no gaps");
            self.total += started(&part.delta);
            for state in &part.agents {
                let before = self.agents.insert(state.agent.clone(), state.clone());
                assert!(before.is_none_or(|before| before.seq <= state.seq), "marks never move down");
            }
            let held: u64 = self.agents.values().map(AgentState::iterations).sum();
            assert_eq!(held, self.total, "marks and deltas go in together");
            if let Some(total) = &part.checkpoint {
                assert_eq!(started(total), self.total, "a checkpoint is the total up to its part");
            }
        }
    }

    proptest! {
        /// However the store comes and goes, what it has in the end is everything, and the queue keeps its bound.
        #[test]
        fn a_queue_that_folds_loses_nothing(
            seconds in prop::collection::vec((prop::collection::vec(0u64..9, AGENTS), 0u8..8), 1..400),
            away_from in 0usize..200,
            away_for in 0usize..400,
        ) {
            let mut collector = Collector::new(Micros::from_secs(1), AGENTS);
            let mut states: Vec<AgentState> = (0..AGENTS)
                .map(|i| AgentState::new(AgentId(format!("a{i}")), Incarnation(1), 1))
                .collect();
            let (mut queue, mut kept, mut tried) = (CommitQueue::default(), Kept::default(), None);
            for (second, (counts, luck)) in seconds.iter().enumerate() {
                let (from_ms, to_ms) = (second as u64 * 1_000, (second as u64 + 1) * 1_000);
                for (i, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    let mut delta = delta(from_ms, to_ms, *count);
                    let state = &mut states[i];
                    state.add(state.seq.next(), &mut delta, &[]);
                    collector.add(i, delta, state);
                }
                queue.extend(collector.close());
                prop_assert!(queue.parts.len() <= PARTS_MAX);
                let is_away = (away_from..away_from + away_for).contains(&second);
                while let Some(part) = queue.begin_next() {
                    // One whose answer was lost is the same when it comes again.
                    if let Some(before) = tried.take() {
                        prop_assert_eq!(&before, &part);
                    } else if !is_away || *luck == 0 {
                        kept.take(&part);
                    }
                    if is_away {
                        queue.failed(part.number);
                        tried = (kept.parts == part.number).then_some(part);
                        break;
                    }
                    queue.committed(part.number);
                }
            }
            while let Some(part) = queue.begin_next() {
                if kept.parts < part.number {
                    kept.take(&part);
                }
                queue.committed(part.number);
            }
            prop_assert_eq!(kept.total, started(collector.total()));
            let states: BTreeMap<_, _> = states.into_iter().map(|state| (state.agent.clone(), state)).collect();
            let said = states.into_iter().filter(|(_, state)| state.seq.0 > 0);
            prop_assert_eq!(kept.agents, said.collect());
        }
    }
}
