//! Agents' deltas → parts of the run's history → the metrics document.
//!
//! Takes frames as agents send them and gives [`Part`]s, each the merged deltas of a span with the state of every agent that it
//! moves; [`document`] makes of the total what clients read. Pure: no clock, no I/O. Invariants: a delta goes into exactly one part;
//! the total is the sum of the parts; percentiles come from merged histograms only.

pub mod agent_state;
pub mod commits;
pub mod complete;
pub mod controlled;
pub mod document;
pub mod inbox;
pub mod lag;
mod moves;
pub mod planned;
pub mod validity;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use volcanion_common::delta::Delta;
use volcanion_common::units::RunTime;
use volcanion_common::view::metrics::WarningView;

pub use agent_state::{AgentState, Gap, ScenarioCounts};

/// What one commit makes durable: merged deltas, and where each agent stands once they are in.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// From 1, without gaps. A number that the store has already is the same part, sent again.
    pub number: u64,
    /// The deltas of the span (`delta.from` to `delta.to`), merged over the agents. Empty where only states move (an agent that was
    /// lost, one that finished without numbers); its span is empty then too.
    pub delta: Arc<Delta>,
    /// The new states of the agents whose state this part moves; each replaces what was stored of that agent. `seq` in them is
    /// the high-water mark, and never moves down.
    pub agents: Vec<AgentState>,
    /// Every 30 s of run time: the total up to and with this part, so that a take-over need not sum an hour.
    pub checkpoint: Option<Arc<Delta>>,
    /// Where the master had something new to say of the run: all that it had to say so far.
    pub warnings: Option<Vec<WarningView>>,
}

impl Part {
    /// The first moment of its span.
    pub fn from(&self) -> RunTime {
        self.delta.from
    }

    /// The moment after its span.
    pub fn to(&self) -> RunTime {
        self.delta.to
    }
}
