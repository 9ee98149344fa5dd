//! Promises broken on purpose, by wrappers of this world around parts that are whole: so that it is known that a broken one is found.

use std::collections::BTreeMap;

use volcanion_common::ids::AgentId;
use volcanion_common::session::Report;
use volcanion_master::run::machine::Event;

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
}

impl Sabotage {
    pub const ALL: [Self; 5] = [
        Self::AcknowledgesBeforeTheCommit,
        Self::MergesRepeatedDeltas,
        Self::NoFenceInTheStore,
        Self::AgentIgnoresEpochs,
        Self::EngineIgnoresItsFence,
    ];

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
