//! What is true: every iteration that any engine really started, every delta that was ever sent, what the store said when. The machines never see it; the
//! invariants are held against it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use volcanion_common::delta::Delta;
use volcanion_common::ids::{AgentId, Incarnation, RunId, Seq};
use volcanion_common::session::DeltaFrame;
use volcanion_common::view::RunStatus;

use crate::engine::Begun;
use crate::store::Stored;

/// A process of an agent.
pub type Who = (AgentId, Incarnation);

/// Figures that must add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub started: u64,
    pub completed: u64,
    pub dropped: u64,
    pub interrupted: u64,
    pub missed: u64,
}

impl Counts {
    pub fn of(delta: &Delta) -> Self {
        let mut counts = Self { requests: delta.requests(), ..Self::default() };
        for scenario in delta.scenarios.values() {
            counts.started += scenario.started;
            counts.completed += scenario.completed;
            counts.dropped += scenario.dropped;
            counts.interrupted += scenario.interrupted;
            counts.missed += scenario.missed;
        }
        counts
    }

    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.started += other.started;
        self.completed += other.completed;
        self.dropped += other.dropped;
        self.interrupted += other.interrupted;
        self.missed += other.missed;
    }
}

/// All runs.
#[derive(Default)]
pub struct Oracle {
    pub runs: BTreeMap<RunId, RunTruth>,
}

/// One run.
#[derive(Default)]
pub struct RunTruth {
    pub accepted_ns: u64,
    /// Who began what; nobody else may.
    arrivals: BTreeMap<(u64, u32, u64, u64), Who>,
    /// Who has an iteration of a VU going, and may send for it.
    vus: BTreeMap<(u32, u64), Who>,
    pub shards: BTreeMap<Who, ShardTruth>,
    /// What the parts in the store come to.
    stored: Counts,
    parts: u64,
    /// The status and the counts when the end became durable.
    end: Option<(RunStatus, Counts)>,
    /// The true instants that the agents were ordered to start at, where the order was not late; and by leaders of which epochs.
    pub starts_ns: Vec<u64>,
    pub start_epochs: Vec<u64>,
    /// The longest round trip of a measured clock.
    pub round_trip_ns_max: u64,
    /// How many masters took it up.
    pub take_overs: u64,
    /// Changes of level that each agent's load heard of; whether one came late to any.
    pub changes_heard: BTreeMap<Who, usize>,
    pub was_level_late: bool,
}

/// One agent's part of a run.
#[derive(Default)]
pub struct ShardTruth {
    pub started: u64,
    /// Deltas by seq, from 1: the bytes, and the counts up to and with it.
    sent: Vec<(Bytes, Counts)>,
    pub last_start_ns: u64,
    /// Where its run time begins: for one whose order came late, when it came.
    pub began_ns: u64,
}

impl ShardTruth {
    /// What all deltas up to one come to.
    fn up_to(&self, seq: Seq) -> Option<Counts> {
        match seq.0 {
            0 => Some(Counts::default()),
            n => self.sent.get(n as usize - 1).map(|(_, counts)| *counts),
        }
    }
}

impl RunTruth {
    /// An engine has started an iteration.
    pub fn begun(&mut self, who: &Who, begun: Begun, now_ns: u64) -> Result<(), String> {
        let shard = self.shards.entry(who.clone()).or_default();
        shard.started += 1;
        shard.last_start_ns = now_ns;
        let other = match begun {
            Begun::Arrival { copy, scenario, segment, number, .. } => {
                match self.arrivals.entry((copy, scenario, segment, number)) {
                    Entry::Vacant(place) => {
                        place.insert(who.clone());
                        return Ok(());
                    }
                    Entry::Occupied(place) => place.get().clone(),
                }
            }
            Begun::Vu { scenario, number } => match self.vus.insert((scenario, number), who.clone()) {
                None => return Ok(()),
                Some(other) => other,
            },
        };
        Err(format!("{begun:?} was begun by {} {} and again by {} {}", other.0, other.1, who.0, who.1))
    }

    /// A VU has ended its iteration.
    pub fn ended(&mut self, who: &Who, scenario: u32, vu: u64) {
        if self.vus.get(&(scenario, vu)) == Some(who) {
            self.vus.remove(&(scenario, vu));
        }
    }

    /// The process is dead, or may not send any more: whatever it had going is over, or sends nothing. What it begins later all the same is its fault.
    pub fn let_go(&mut self, who: &Who) {
        self.vus.retain(|_, owner| owner != who);
    }

    /// An agent sends a delta: the first time a new one, then the same bytes for ever.
    pub fn sent(&mut self, who: &Who, frame: &DeltaFrame) -> Result<(), String> {
        if frame.count != 1 {
            return Err(format!("a delta of {} frames", frame.count));
        }
        let sent = &mut self.shards.entry(who.clone()).or_default().sent;
        let index = frame.seq.0 as usize;
        if index == sent.len() + 1 {
            let delta = Delta::from_bytes(&frame.body).map_err(|error| error.to_string())?;
            let mut counts = sent.last().map(|(_, counts)| *counts).unwrap_or_default();
            counts.add(Counts::of(&delta));
            sent.push((frame.body.clone(), counts));
            return Ok(());
        }
        match index.checked_sub(1).and_then(|index| sent.get(index)) {
            Some((bytes, _)) if *bytes == frame.body => Ok(()),
            Some(_) => Err(format!("delta {} of {} was sent again and is another", frame.seq, who.0)),
            None => Err(format!("delta {} of {} came after {}", frame.seq, who.0, sent.len())),
        }
    }

    /// A write of this run has become durable: the total is what the agents' deltas up to their marks come to, each once.
    pub fn stored(&mut self, stored: &Stored) -> Result<(), String> {
        let Some((newest, part)) = stored.parts.last_key_value() else { return Ok(()) };
        if *newest != stored.parts.len() as u64 {
            return Err(format!("part {newest} is the {}th", stored.parts.len()));
        }
        if *newest > self.parts {
            self.parts = *newest;
            self.stored.add(Counts::of(&part.delta));
            if let Some(total) = &part.checkpoint
                && Counts::of(total) != self.stored
            {
                return Err(format!(
                    "part {newest} brings a total of {:?}, it is {:?}",
                    Counts::of(total),
                    self.stored
                ));
            }
        }
        let mut expected = Counts::default();
        for (who, state) in &stored.agents {
            let known = self.shards.get(who).map_or(Some(Counts::default()), |shard| shard.up_to(state.seq));
            let counts = known.ok_or_else(|| format!("{} never sent {}", who.0, state.seq))?;
            expected.add(counts);
            expected.missed += state.scenarios.iter().map(|scenario| scenario.missed).sum::<u64>();
            let said: u64 = state.scenarios.iter().map(|scenario| scenario.started).sum();
            if (said, state.requests) != (counts.started, counts.requests) {
                return Err(format!(
                    "{} up to {}: {said} started and {} requests are stored, {counts:?} were sent",
                    who.0, state.seq, state.requests
                ));
            }
        }
        if expected != self.stored {
            return Err(format!(
                "the total is {:?}, the deltas up to the marks are {expected:?}",
                self.stored
            ));
        }
        self.check_end(stored)
    }

    fn check_end(&mut self, stored: &Stored) -> Result<(), String> {
        let Some(ending) = &stored.ending else { return Ok(()) };
        let metrics = &ending.metrics;
        if (metrics.total_requests, metrics.iterations) != (self.stored.requests, self.stored.started)
            || metrics.missed_iterations != self.stored.missed
        {
            return Err(format!(
                "the result says {} requests, {} iterations, {} missed; stored is {:?}",
                metrics.total_requests, metrics.iterations, metrics.missed_iterations, self.stored
            ));
        }
        let end = (ending.status, self.stored);
        match &self.end {
            None => self.end = Some(end),
            Some(before) if *before != end => {
                return Err(format!("an ended run was {before:?} and is {end:?}"));
            }
            Some(_) => {}
        }
        Ok(())
    }

    pub fn totals(&self) -> Counts {
        self.stored
    }
}
