//! A change of an externally-controlled scenario's level.

use crate::plan::Level;
use crate::units::RunTime;

/// The most changes of one run.
pub const CHANGES_MAX: usize = 10_000;

/// From a moment of run time on a scenario has another level; the same moment for all agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// From 1, without gaps over all scenarios of a run; an agent takes them in this order.
    pub number: u64,
    /// The scenario's position in the plan.
    pub scenario: u32,
    /// When it begins; never before an earlier change.
    pub at: RunTime,
    /// Of all agents together.
    pub level: Level,
}
