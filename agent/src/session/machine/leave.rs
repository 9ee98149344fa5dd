//! How an agent leaves a run: one that is elastic is handed over first, the others are stopped as before.
//!
//! Handing over, the agent says Draining and loads on until the leader has moved its lanes away; then it ends what is in flight, and reports everything. Where nobody moves them in
//! time it stops: a leader that has no other agent does not hold it for ever, nor does one that is gone.

use volcanion_common::session::Report;
use volcanion_common::session::command::KILLED;
use volcanion_common::units::Micros;

use super::{Action, Machine, Now, Phase};
use crate::session::load::Fault;

/// How long requests in flight may go on when the agent leaves.
pub const LEAVE_GRACEFUL: Micros = Micros::from_secs(1);
/// How long iterations in flight may go on once others have the lanes.
pub const HANDED_OVER_GRACEFUL: Micros = Micros::from_secs(10);
/// How long an agent that drains waits for the next move of its lanes, while it has a stream to a leader.
pub const HAND_OVER_WAIT: Micros = Micros::from_secs(15);
/// How long handing over may take in all: as long as VUs may take to end an iteration, and some more.
pub const HAND_OVER_MAX: Micros = Micros::from_secs(60);

/// An agent that is about to hand over its part.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandOver {
    since_ns: u64,
    /// When the leader last moved lanes.
    moved_ns: u64,
    is_over: bool,
}

impl Machine {
    pub(super) fn on_leave(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !self.is_leaving {
            self.is_leaving = true;
            if self.begin_hand_over(now, actions) {
                return;
            }
            self.send(Report::Draining, actions);
            self.warn("draining", "the agent was told to leave and stopped its part");
            self.stop(LEAVE_GRACEFUL, "the agent leaves", actions);
        }
    }

    /// The agent takes no new run; of an elastic one it hands its part over, the others go on.
    pub(super) fn on_drain(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.begin_hand_over(now, actions);
    }

    /// Ends the load, and tells whoever leads why.
    pub(super) fn on_kill(&mut self, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Finished) {
            return;
        }
        let fault = Fault { code: KILLED.to_owned(), message: "the kill switch was thrown".to_owned() };
        self.send(fault.report(), actions);
        self.fault = Some(fault);
        self.warn(KILLED, "the kill switch ended the load");
        self.stop(Micros::ZERO, "the kill switch", actions);
    }

    /// Whether the part is handed over rather than stopped.
    fn begin_hand_over(&mut self, now: Now, actions: &mut Vec<Action>) -> bool {
        if self.hand_over.is_some_and(|hand_over| !hand_over.is_over) {
            return true;
        }
        let can = self.lanes.is_elastic && matches!(self.phase, Phase::Running { .. }) && !self.is_orphaned;
        if can && self.hand_over.is_none() {
            self.hand_over =
                Some(HandOver { since_ns: now.monotonic_ns, moved_ns: now.monotonic_ns, is_over: false });
            self.send(Report::Draining, actions);
            return true;
        }
        false
    }

    /// Whether the agent waits for its lanes to be moved away.
    pub fn is_handing_over(&self) -> bool {
        self.hand_over.is_some() && matches!(self.phase, Phase::Running { .. })
    }

    /// The leader moves lanes: it has heard that the agent drains.
    pub(super) fn lanes_move(&mut self, now: Now) {
        if let Some(hand_over) = &mut self.hand_over {
            hand_over.moved_ns = now.monotonic_ns;
        }
    }

    /// Ends the load once the lanes are with others, or nobody takes them.
    pub(super) fn see_hand_over(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.stream.is_none() {
            // A leader that is upgraded, or followed by another, has its time once it is back.
            self.lanes_move(now);
        }
        let Some(HandOver { since_ns, moved_ns, is_over: false }) = self.hand_over else { return };
        if !matches!(self.phase, Phase::Running { .. }) {
            return;
        }
        let has_waited =
            |from_ns: u64, time: Micros| now.monotonic_ns >= from_ns.saturating_add(time.as_nanos());
        let is_given_up = has_waited(since_ns, HAND_OVER_MAX)
            || (has_waited(moved_ns, HAND_OVER_WAIT) && !self.lanes.are_moving());
        let graceful = if self.lanes.are_gone(self.run_time(now)) {
            HANDED_OVER_GRACEFUL
        } else if is_given_up {
            self.warn(
                "draining",
                "the agent was told to leave, nobody took over its part in time, and it stopped it",
            );
            LEAVE_GRACEFUL
        } else {
            return;
        };
        self.hand_over = Some(HandOver { since_ns, moved_ns, is_over: true });
        self.stop(graceful, "the agent drains", actions);
    }
}
