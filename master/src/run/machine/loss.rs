//! Loss: an agent is dead when its stream is gone **and** the registry says that its entry is; or when it says itself that it cannot go on. What it did since it was last
//! heard is a gap with a bound; what it had still to do is counted as missed.

use volcanion_common::delta::Warning;
use volcanion_common::plan::OnAgentLoss;
use volcanion_common::session::command::KILLED;
use volcanion_common::session::{Order, StopWhy};
use volcanion_common::units::RunTime;
use volcanion_common::view::StopReason;

use super::peer::Fault;
use super::{Phase, RunMachine, seconds};

/// How long the last deltas of an agent that reported a fault are awaited.
const AFTER_FAULT_NS: u64 = seconds(3);

impl RunMachine {
    pub(super) fn fault(&mut self, i: usize, code: &str, message: &str) {
        if code == KILLED {
            // Whichever master threw it, the run is not to go on elsewhere.
            return self.stop_requested();
        }
        match self.phase {
            Phase::Preparing { .. } | Phase::Starting { .. } => {
                let agent = self.peers[i].id();
                self.fail_preparation(format!("agent `{agent}` cannot do its part ({code}): {message}"));
            }
            Phase::Running | Phase::Stopping { .. } => {
                let since = self.run_now();
                let deadline_ns = self.now.monotonic_ns + AFTER_FAULT_NS;
                let peer = &mut self.peers[i];
                if peer.fault.is_none() && !peer.is_over() {
                    let message = format!("{code}: {message}");
                    peer.state.warnings.push(Warning {
                        code: "agent_fault".to_owned(),
                        message: message.clone(),
                        since,
                        until: since,
                        ..Warning::default()
                    });
                    peer.fault = Some(Fault { message, deadline_ns });
                }
            }
            Phase::Releasing { .. } | Phase::Draining | Phase::Ending | Phase::Over => {}
        }
    }

    /// Gives up agents that reported a fault, once their last deltas are in or did not come.
    pub(super) fn lose_faulted(&mut self) {
        let not_before_ns = if self.is_store_behind() { self.now.monotonic_ns + AFTER_FAULT_NS } else { 0 };
        for i in 0..self.peers.len() {
            if let Some(fault) = &mut self.peers[i].fault {
                fault.deadline_ns = fault.deadline_ns.max(not_before_ns);
            }
            let peer = &self.peers[i];
            let Some(fault) = &peer.fault else { continue };
            if peer.state.gap.is_none()
                && (peer.state.is_whole() || fault.deadline_ns <= self.now.monotonic_ns)
            {
                let reason = fault.message.clone();
                self.give_up(i, &reason, self.run_now());
            }
        }
    }

    /// Gives up agents that are gone, once they know it themselves.
    pub(super) fn lose_dead(&mut self) {
        (0..self.peers.len()).for_each(|i| self.lose_if_dead(i));
    }

    pub(super) fn lose_if_dead(&mut self, i: usize) {
        if !self.peers[i].is_gone || self.peers[i].link.is_up() {
            return;
        }
        match self.phase {
            Phase::Preparing { .. } | Phase::Starting { .. } => {
                let agent = self.peers[i].id();
                self.fail_preparation(format!("agent `{agent}` was lost while the run was prepared"));
            }
            // It may load for as long as it trusts the stream that it does not know to be gone.
            Phase::Running | Phase::Stopping { .. }
                if self.peers[i].is_awaited_dead(self.now.monotonic_ns) => {}
            Phase::Running | Phase::Stopping { .. } => {
                let peer = &mut self.peers[i];
                peer.state.was_unheard |= !peer.is_over() && !peer.is_idle_joiner();
                self.lose(i, "its stream is gone and its registry entry ran out");
            }
            Phase::Releasing { .. } | Phase::Draining | Phase::Ending | Phase::Over => {}
        }
    }

    /// Gives an agent up, unless nothing more is awaited of it anyway.
    pub(super) fn lose(&mut self, i: usize, reason: &str) {
        if !self.peers[i].is_over() {
            self.give_up(i, reason, self.run_now());
        }
    }

    /// Gives up an agent that may be alive, and cut off so that it does not hear that the run is over: it may load to the end of what it was to do.
    pub(super) fn lose_unheard(&mut self, i: usize, reason: &str) {
        if !self.peers[i].is_over() {
            self.give_up(i, reason, self.last_moment());
        }
    }

    /// `to`: after it nothing was sent.
    fn give_up(&mut self, i: usize, reason: &str, to: RunTime) {
        if self.peers[i].is_idle_joiner() {
            return self.dismiss(i, reason);
        }
        self.hold_what_is_written(i);
        let fallback_rate = self.mean_closed_rate();
        let peer = &mut self.peers[i];
        let gap = peer.planned.gap(&peer.state, to, fallback_rate);
        peer.state.gap = Some(gap);
        peer.state.missed_to = gap.to;
        peer.fault = None;
        self.collector.note(i, &peer.state);
        // Where it can still hear, it stops at once.
        self.send(i, Order::Release);
        self.hang_up(i);
        let message = format!(
            "agent `{}` was lost: {reason}; at most {}{} requests of it are missing",
            self.peers[i].id(),
            if gap.estimate { "about " } else { "" },
            gap.at_most_requests,
        );
        self.warn("agent_lost", Some(i), message.clone());
        if self.plan.on_agent_loss == OnAgentLoss::Abort {
            self.begin_stop(
                StopReason::Failed,
                StopWhy::Failed,
                Some(format!("{message} (on_agent_loss: abort)")),
            );
        }
    }

    /// Requests a second of an agent's closed loops, where nothing is known of the agent itself.
    fn mean_closed_rate(&self) -> f64 {
        let heard = || self.peers.iter().filter(|peer| peer.state.seq.0 > 0);
        match heard().count() {
            0 => 0.0,
            count => heard().map(|peer| peer.state.closed_rate_max).sum::<f64>() / count as f64,
        }
    }
}
