//! A handover: lanes of a scenario get another owner at a moment of run time.
//!
//! Releasing and taking are orders of their own: a taker is told only after every releaser of those lanes has said [`Moved`], with the latest of their moments, or
//! after its death. Every due time is a function of the plan, so "from this moment on" is "from arrival k on".

use crate::units::RunTime;

/// The most moves of one run that an agent takes.
pub const MOVES_MAX: usize = 10_000;

/// What one agent is to release and to take. An agent may release lanes only that it owns, and owns no lane twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Given once in a run, to one order to one agent; an agent hears of them in any order and with gaps.
    pub number: u64,
    /// The scenario's position in the plan.
    pub scenario: u32,
    /// When it is to hold.
    pub from: RunTime,
    /// Lanes that go, ascending.
    pub release: Vec<u32>,
    /// Lanes that come, ascending.
    pub take: Vec<u32>,
}

/// A move holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The move's number.
    pub number: u64,
    /// Since when, or from when on: what was due before it is the old owner's, what is due from it on the new one's. Not before the ordered moment; later where the
    /// order came late, and where released VUs of a closed loop had to end their iterations first.
    pub from: RunTime,
}
