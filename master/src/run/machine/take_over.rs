//! Taking up a run that another master left: what is durable is known, what the agents really do is learnt from their Welcomes. A run whose start was never
//! fixed is ended, and its agents are told to forget it.

use volcanion_common::session::StopWhy;
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::view::{RunStatus, StopReason};

use super::{
    Action, LAST_DELTAS_WITHIN, Now, Phase, RunMachine, STOP_GRACEFUL_MAX, Start, Stop, TakenUp, seconds,
};
use crate::merge::complete::Collector;
use crate::merge::inbox::Inbox;
use crate::merge::lag::AgentLag;

/// How long the agents of a run that is given up are looked for.
const RELEASE_WITHIN_NS: u64 = seconds(3);
/// How long intervals stay open after a take-over, so that what the agents kept is in before rules are judged.
const HOLD_NS: u64 = seconds(3);

impl RunMachine {
    /// Takes up a run that another master, or this one before its restart, left. The first actions connect to its agents.
    pub fn resume(taken: TakenUp, now: Now) -> (Self, Vec<Action>) {
        let mut machine = Self::of(taken.run, now);
        machine.status = taken.status;
        machine.warnings = taken.warnings;
        machine.judge.begin_at(taken.total.to);
        machine.collector =
            Collector::resume(machine.plan.interval, machine.peers.len(), taken.total, taken.next_part);
        machine.resume_joined(taken.joined);
        for state in taken.agents {
            let Some(i) = machine.peer_of(&state.agent, state.incarnation) else { continue };
            let peer = &mut machine.peers[i];
            peer.durable = state.seq;
            peer.inbox = Inbox::after(state.seq);
            peer.lag = AgentLag::from_bytes(&state.lag);
            // Should it be there again, it is to be told so.
            peer.is_gone = state.gap.is_some();
            peer.state = state;
            peer.state.lag = Vec::new();
            peer.state.scenarios.resize_with(machine.plan.scenarios.len(), Default::default);
        }
        machine.resume_changes(taken.changes);
        machine.resume_moves(taken.moves);
        match taken.start_at_unix_us {
            Some(unix_us) => {
                machine.go_on(unix_us, taken.stop_reason);
                machine.lose_replaced();
            }
            None => machine.give_up_unstarted(),
        }
        // Readers see at once what is known, not an empty run until the next interval.
        machine.publish();
        machine.advance();
        let actions = machine.take_actions();
        (machine, actions)
    }

    fn go_on(&mut self, unix_us: u64, stop_reason: Option<StopReason>) {
        let ago_us = i128::from(self.now.unix_ms) * 1_000 - i128::from(unix_us);
        let at_ns = i128::from(self.now.monotonic_ns) - ago_us * 1_000;
        self.start = Some(Start { at_ns: i64::try_from(at_ns).unwrap_or(i64::MIN), unix_us });
        self.hold_until_ns = self.now.monotonic_ns + HOLD_NS;
        self.phase = Phase::Running;
        for i in 0..self.peers.len() {
            self.peers[i].is_prepared = true;
            // What the last master said to it is not known.
            self.peers[i].link.said(self.now.monotonic_ns);
        }
        let cut_short = stop_reason.filter(|reason| *reason != StopReason::Completed);
        if let (RunStatus::Stopping, Some(reason)) = (self.status, cut_short) {
            let (why, message) = match reason {
                StopReason::Cancelled => (StopWhy::Cancelled, None),
                StopReason::Threshold => (StopWhy::Threshold, Some("a threshold was not kept".to_owned())),
                _ => (StopWhy::Failed, Some("the run could not go on".to_owned())),
            };
            // When it was stopped is not stored; up to the last committed moment is what is sure.
            self.stop = Some(Stop { reason, message, why, at: self.collector.total().to });
            let graceful: Micros = self.plan.graceful_stop().min(STOP_GRACEFUL_MAX);
            let deadline_ns = self.hold_until_ns + graceful.saturating_add(LAST_DELTAS_WITHIN).as_nanos();
            self.phase = Phase::Stopping { deadline_ns };
        }
    }

    fn give_up_unstarted(&mut self) {
        let message = Some("its master was lost before the load began; start it again".to_owned());
        self.stop =
            Some(Stop { reason: StopReason::Lost, message, why: StopWhy::Failed, at: RunTime::START });
        self.phase = Phase::Releasing { deadline_ns: self.now.monotonic_ns + RELEASE_WITHIN_NS };
    }

    /// Ends the run once every agent was reached or cannot be: the end releases those that were.
    pub(super) fn advance_releasing(&mut self, deadline_ns: u64) {
        let is_settled =
            self.peers.iter().all(|peer| peer.link.is_up() || peer.link.is_down() || peer.is_gone);
        if is_settled || self.now.monotonic_ns >= deadline_ns {
            self.phase = Phase::Draining;
        }
    }
}
