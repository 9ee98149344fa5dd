//! Promises broken on purpose, by wrappers of this world around parts that are whole: so that it is known that a broken one is found.

use std::collections::BTreeMap;
use std::sync::Arc;

use volcanion_common::ids::AgentId;
use volcanion_common::session::{Move, Report};
use volcanion_common::view::metrics::CompletenessView;
use volcanion_master::run::machine::Event;

use crate::store::Write;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    None,
    /// The store says that a part is durable, and writes it afterwards.
    AcknowledgesBeforeTheCommit,
    /// The coordinator takes a delta that comes again for a new one.
    MergesRepeatedDeltas,
    /// The store takes writes of every epoch.
    NoFenceInTheStore,
    /// An agent follows every leader, whatever its epoch.
    AgentIgnoresEpochs,
    /// The engine goes on beyond the instant until which it may.
    EngineIgnoresItsFence,
    /// An agent says that it has let lanes go, and keeps them.
    KeepsReleasedLanes,
    /// A part goes into the store after the run's end.
    ChangesAnEndedRun,
    /// The result does not say what is missing.
    NamesNoGap,
}

impl Sabotage {
    pub const ALL: [Self; 8] = [
        Self::AcknowledgesBeforeTheCommit,
        Self::MergesRepeatedDeltas,
        Self::NoFenceInTheStore,
        Self::AgentIgnoresEpochs,
        Self::EngineIgnoresItsFence,
        Self::KeepsReleasedLanes,
        Self::ChangesAnEndedRun,
        Self::NamesNoGap,
    ];

    /// What an engine hears of a move.
    pub fn moved(self, mut order: Move) -> Move {
        if self == Self::KeepsReleasedLanes {
            order.release.clear();
        }
        order
    }

    /// What comes to the store.
    pub fn written(self, mut write: Write) -> Write {
        if let (Self::NamesNoGap, Write::End(ending)) = (self, &mut write) {
            let mut metrics = (*ending.metrics).clone();
            metrics.completeness = CompletenessView { complete: true, gaps: Vec::new() };
            ending.metrics = Arc::new(metrics);
        }
        write
    }

    /// What a coordinator hears, whose newest deltas are `taken`.
    pub fn heard(self, event: Event, taken: &mut BTreeMap<AgentId, u64>) -> Event {
        let Event::Report { agent, stream, report: Report::Delta(mut frame) } = event else { return event };
        if self == Self::MergesRepeatedDeltas {
            let newest = taken.entry(agent.clone()).or_default();
            if frame.seq.0 <= *newest {
                frame.seq.0 = *newest + 1;
            }
            *newest = frame.seq.0;
        }
        Event::Report { agent, stream, report: Report::Delta(frame) }
    }
}
