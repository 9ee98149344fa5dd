//! Deltas of many agents → whole intervals → parts.
//!
//! An interval closes when every agent that is awaited is in, or [`LATE`] after its end. A delta belongs to the interval that its last moment lies in. One
//! that comes after its interval was closed becomes one more part, of the same span, at the next closing.
//!
//! Invariants: each delta goes into exactly one part; for each agent parts leave in the order of its seqs; the running total is the sum of
//! the parts that left.

use std::collections::BTreeMap;
use std::sync::Arc;

use volcanion_common::delta::{Delta, ScenarioDelta};
use volcanion_common::units::{Micros, RunTime};

use super::{AgentState, Part};

/// How long after its end an interval waits for those that are not in.
pub const LATE: Micros = Micros::from_millis(500);
/// How often a part carries the total.
const CHECKPOINT_EVERY: Micros = Micros::from_secs(30);

/// Gathers deltas into intervals.
#[derive(Debug)]
pub struct Collector {
    interval: Micros,
    /// Intervals that are closed: also the number of the one that is open.
    closed: u64,
    /// By interval; closed ones among them hold what came late.
    pending: BTreeMap<u64, Pending>,
    /// The interval that each agent's newest delta went to, by its position.
    newest: Vec<u64>,
    next_part: u64,
    total: Arc<Delta>,
    checkpoint_at: RunTime,
    current_rps: f64,
}

#[derive(Debug, Default)]
struct Pending {
    delta: Option<Delta>,
    /// The state of each agent after its newest delta in here, by its position.
    agents: BTreeMap<usize, AgentState>,
}

impl Pending {
    /// The newest state counts; a lag that is to be kept stays until there is a newer one.
    fn put(&mut self, agent: usize, state: &AgentState) {
        let before = self.agents.insert(agent, state.clone());
        if let (Some(before), Some(now)) = (before, self.agents.get_mut(&agent))
            && now.lag.is_empty()
        {
            now.lag = before.lag;
        }
    }
}

impl Collector {
    /// Gathers deltas of so many agents.
    pub fn new(interval: Micros, agents: usize) -> Self {
        Self::resume(interval, agents, Delta::default(), 1)
    }

    /// Goes on with a total and the number of the next part.
    pub fn resume(interval: Micros, agents: usize, total: Delta, next_part: u64) -> Self {
        let interval = Micros(interval.0.max(1));
        let checkpoint_at = total.to.plus(CHECKPOINT_EVERY);
        let closed = total.to.0 / interval.0;
        Self {
            interval,
            closed,
            pending: BTreeMap::new(),
            newest: vec![0; agents],
            next_part,
            total: Arc::new(total),
            checkpoint_at,
            current_rps: 0.0,
        }
    }

    /// One more agent, at the next position.
    pub fn add_agent(&mut self) {
        self.newest.push(0);
    }

    /// Everything that left as parts.
    pub fn total(&self) -> &Arc<Delta> {
        &self.total
    }

    /// Requests a second of the newest whole interval.
    pub fn current_rps(&self) -> f64 {
        self.current_rps
    }

    /// Takes in an agent's next delta, with its state after it.
    pub fn add(&mut self, agent: usize, delta: Delta, state: &AgentState) {
        let index = self.index_of(delta.to).max(self.newest[agent]);
        self.newest[agent] = index;
        let pending = self.pending.entry(index).or_default();
        match &mut pending.delta {
            Some(merged) => merged.add(&delta),
            // The first is moved, not copied.
            none => *none = Some(delta),
        }
        pending.put(agent, state);
    }

    /// Takes in a change of an agent's state without a delta.
    pub fn note(&mut self, agent: usize, state: &AgentState) {
        let index = self.closed.max(self.newest[agent]);
        self.newest[agent] = index;
        self.pending.entry(index).or_default().put(agent, state);
    }

    /// Takes in arrivals of a lost agent in [from, to), a span up to within the open interval: nobody owned them.
    pub fn add_missed(
        &mut self,
        agent: usize,
        from: RunTime,
        to: RunTime,
        scenarios: BTreeMap<u32, ScenarioDelta>,
        state: &AgentState,
    ) {
        self.add(agent, Delta { from, to, scenarios, ..Delta::default() }, state);
    }

    /// The open interval's first moment.
    pub fn opened_at(&self) -> RunTime {
        RunTime(self.closed * self.interval.0)
    }

    /// The moment after the open interval.
    pub fn closes_at(&self) -> RunTime {
        RunTime((self.closed + 1) * self.interval.0)
    }

    /// Whether the open interval is to be closed: `heard` is up to when all that are awaited have reported.
    pub fn is_due(&self, now: RunTime, heard: RunTime) -> bool {
        heard >= self.closes_at() || now >= self.closes_at().plus(LATE)
    }

    /// Closes the open interval. The parts: what came late for older ones, then its own.
    pub fn close(&mut self) -> Vec<Arc<Part>> {
        let later = self.pending.split_off(&(self.closed + 1));
        let due = std::mem::replace(&mut self.pending, later);
        self.current_rps = due.get(&self.closed).and_then(|p| p.delta.as_ref()).map_or(0.0, rate);
        self.closed += 1;
        due.into_values().map(|pending| self.make_part(pending)).collect()
    }

    /// Closes everything: nothing more is awaited.
    pub fn flush(&mut self) -> Vec<Arc<Part>> {
        let due = std::mem::take(&mut self.pending);
        if let Some((newest, _)) = due.last_key_value() {
            self.closed = self.closed.max(newest + 1);
        }
        due.into_values().map(|pending| self.make_part(pending)).collect()
    }

    fn index_of(&self, to: RunTime) -> u64 {
        to.0.saturating_sub(1) / self.interval.0
    }

    fn make_part(&mut self, pending: Pending) -> Arc<Part> {
        let delta = pending.delta.unwrap_or_default();
        if delta.from < delta.to {
            // Copies the total only where a reader still holds the one before.
            Arc::make_mut(&mut self.total).add(&delta);
        }
        let number = self.next_part;
        self.next_part += 1;
        let checkpoint = (self.total.to >= self.checkpoint_at).then(|| {
            self.checkpoint_at = self.total.to.plus(CHECKPOINT_EVERY);
            Arc::clone(&self.total)
        });
        Arc::new(Part {
            number,
            delta: Arc::new(delta),
            agents: pending.agents.into_values().collect(),
            checkpoint,
            warnings: None,
        })
    }
}

fn rate(delta: &Delta) -> f64 {
    match delta.to.since(delta.from) {
        Micros::ZERO => 0.0,
        span => delta.requests() as f64 / span.as_secs_f64(),
    }
}
