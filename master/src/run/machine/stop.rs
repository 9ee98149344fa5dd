//! Stopping: nobody starts anything new, the last deltas come in; then the last parts, and the end.

use volcanion_common::session::StopWhy;
use volcanion_common::view::{RunStatus, StopReason};

use super::{LAST_DELTAS_WITHIN, Phase, RunMachine, STOP_GRACEFUL_MAX, Stop};

impl RunMachine {
    pub(super) fn stop_requested(&mut self) {
        match self.phase {
            Phase::Preparing { .. } | Phase::Starting { .. } => {
                self.end_before_start(StopReason::Cancelled, None, StopWhy::Cancelled);
            }
            Phase::Running | Phase::Stopping { .. } => {
                self.begin_stop(StopReason::Cancelled, StopWhy::Cancelled, None);
            }
            Phase::Releasing { .. } | Phase::Draining | Phase::Ending | Phase::Over => {}
        }
    }

    /// Ends the load before its time; the first reason stands.
    pub(super) fn begin_stop(&mut self, reason: StopReason, why: StopWhy, message: Option<String>) {
        if self.stop.is_some() {
            return;
        }
        self.stop = Some(Stop { reason, message, why, at: self.run_now() });
        let graceful = self.plan.graceful_stop().min(STOP_GRACEFUL_MAX);
        let deadline_ns = self.now.monotonic_ns + graceful.saturating_add(LAST_DELTAS_WITHIN).as_nanos();
        self.phase = Phase::Stopping { deadline_ns };
        self.save(RunStatus::Stopping, Some(reason));
        for i in 0..self.peers.len() {
            self.tell_stop(i);
        }
    }

    pub(super) fn advance_stopping(&mut self, deadline_ns: u64) {
        self.show_stopping_if_late();
        self.dismiss_idle();
        self.lose_faulted();
        self.lose_dead();
        self.close_intervals();
        if self.is_store_behind() {
            // Their time begins when it takes something again.
            let from_now_ns = self.now.monotonic_ns + LAST_DELTAS_WITHIN.as_nanos();
            self.phase = Phase::Stopping { deadline_ns: deadline_ns.max(from_now_ns) };
        } else if self.now.monotonic_ns >= deadline_ns {
            for i in 0..self.peers.len() {
                self.lose_unheard(i, "its last numbers did not come in time");
            }
        }
        if self.peers.iter().all(|peer| peer.is_over()) && !self.moving.is_writing() {
            self.conclude();
        }
    }

    /// Nothing more is awaited of the agents.
    pub(super) fn conclude(&mut self) {
        let mut had_parts = self.peers.iter().filter(|peer| !peer.is_idle_joiner());
        if self.stop.is_none() && had_parts.all(|peer| peer.state.is_lost()) {
            let message = Some("every agent was lost".to_owned());
            self.stop =
                Some(Stop { reason: StopReason::Lost, message, why: StopWhy::Failed, at: self.run_now() });
        }
        self.settle_free();
        self.account_missed(self.load_end(), true);
        let parts = self.collector.flush();
        self.take_parts(parts);
        self.publish();
        self.phase = Phase::Draining;
    }
}
