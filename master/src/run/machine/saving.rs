//! What is made durable: parts one at a time, how far the run is, and its end after everything else. What fails is tried again under its number;
//! where another master has taken office, this one steps down.

use std::sync::Arc;

use volcanion_common::session::Order;
use volcanion_common::view::{RunStatus, StopReason};

use super::{Action, Ending, Phase, RunMachine, Save};

const RETRY_FIRST_NS: u64 = 200_000_000;
const RETRY_MAX_NS: u64 = 5_000_000_000;
/// A store that has not taken a part for so long may hold its agents up: they send no more than a few deltas that nobody acknowledged.
const BEHIND_NS: u64 = 2_000_000_000;

/// Durable writes beside the parts, and the pauses after failures.
#[derive(Debug, Default)]
pub(super) struct Saving {
    last_number: u64,
    in_flight: Option<Save>,
    wanted: Option<Save>,
    /// The end, once it is decided.
    ending: Option<Box<Ending>>,
    is_ending_in_flight: bool,
    save_pause: Pause,
    part_pause: Pause,
    /// The part that is next, and since when.
    front: Option<(u64, u64)>,
}

/// The pause after failures.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
    until_ns: Option<u64>,
}

impl Pause {
    pub fn failed(&mut self, now_ns: u64) {
        self.until_ns = Some(now_ns + (RETRY_FIRST_NS << self.failures.min(6)).min(RETRY_MAX_NS));
        self.failures += 1;
    }

    pub fn is_over(&self, now_ns: u64) -> bool {
        self.until_ns.is_none_or(|until| until <= now_ns)
    }

    pub fn until_ns(&self) -> Option<u64> {
        self.until_ns
    }

    /// It is over, and the next failure's is longer.
    pub fn end(&mut self) {
        self.until_ns = None;
    }
}

impl Saving {
    pub fn wake_ns(&self) -> Option<u64> {
        self.save_pause.until_ns.into_iter().chain(self.part_pause.until_ns).min()
    }

    fn see_front(&mut self, number: Option<u64>, now_ns: u64) {
        if number != self.front.map(|(number, _)| number) {
            self.front = number.map(|number| (number, now_ns));
        }
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

impl RunMachine {
    /// The run is so far now; gives the number of the write. A write that was not begun is replaced.
    pub(super) fn save(&mut self, status: RunStatus, stop_reason: Option<StopReason>) -> u64 {
        self.status = status;
        let number = self.saving.next_number();
        let start_at_unix_us = self.start.map(|start| start.unix_us);
        self.saving.wanted = Some(Save { number, status, start_at_unix_us, stop_reason });
        number
    }

    pub(super) fn advance_writes(&mut self) {
        let now_ns = self.now.monotonic_ns;
        self.saving.see_front(self.commits.front(), now_ns);
        if self.saving.part_pause.is_over(now_ns) {
            self.saving.part_pause.end();
            if !self.is_stop_unsaved()
                && let Some(part) = self.commits.begin_next()
            {
                self.out.push(Action::Commit(part));
            }
        }
        if !self.saving.save_pause.is_over(now_ns) {
            return;
        }
        self.saving.save_pause.end();
        if self.phase == Phase::Draining {
            if !self.is_stop_unsaved() {
                // What the run has come to is what counts now.
                self.saving.wanted = None;
            }
            if self.commits.is_empty() && self.saving.in_flight.is_none() && self.saving.wanted.is_none() {
                let number = self.saving.next_number();
                let ending = self.decide_ending(number);
                self.saving.ending = Some(Box::new(ending));
                self.phase = Phase::Ending;
            }
        }
        if self.saving.in_flight.is_none()
            && let Some(save) = self.saving.wanted.take()
        {
            self.saving.in_flight = Some(save.clone());
            self.out.push(Action::Save(save));
        }
        if let Some(ending) = &self.saving.ending
            && !self.saving.is_ending_in_flight
        {
            self.saving.is_ending_in_flight = true;
            self.out.push(Action::End(ending.clone()));
        }
    }

    /// Whether agents cannot say their last because the store does not take what they have said before.
    pub(super) fn is_store_behind(&self) -> bool {
        self.saving.front.is_some_and(|(_, since_ns)| since_ns + BEHIND_NS <= self.now.monotonic_ns)
    }

    /// A run that is cut short is stored as such before its last numbers are: else a next master would find all agents at their end, and take the run for completed.
    fn is_stop_unsaved(&self) -> bool {
        let is_stopping =
            |save: &Option<Save>| save.as_ref().is_some_and(|save| save.status == RunStatus::Stopping);
        self.stop.is_some() && (is_stopping(&self.saving.in_flight) || is_stopping(&self.saving.wanted))
    }

    pub(super) fn committed(&mut self, number: u64) {
        let Some(part) = self.commits.committed(number) else { return };
        self.saving.part_pause = Pause::default();
        for state in &part.agents {
            let Some(i) = self.peer_of(&state.agent, state.incarnation) else { continue };
            debug_assert!(state.seq >= self.peers[i].durable, "an agent's mark never moves down");
            if state.seq > self.peers[i].durable {
                self.peers[i].durable = state.seq;
                self.send(i, Order::Ack(state.seq));
            }
        }
    }

    pub(super) fn commit_failed(&mut self, number: u64, fenced: bool) {
        if fenced {
            return self.step_down();
        }
        if self.commits.failed(number) {
            self.saving.part_pause.failed(self.now.monotonic_ns);
            self.warn_of_the_store();
        }
    }

    pub(super) fn saved(&mut self, number: u64) {
        if self.saving.in_flight.as_ref().is_some_and(|save| save.number == number) {
            self.saving.in_flight = None;
            self.saving.save_pause = Pause::default();
            if (self.phase == Phase::Starting { save: number }) {
                self.start_saved();
            }
        }
        if self.saving.ending.as_ref().is_some_and(|ending| ending.number == number) {
            self.release_all();
        }
    }

    pub(super) fn save_failed(&mut self, number: u64, fenced: bool) {
        if fenced {
            return self.step_down();
        }
        if self.saving.in_flight.as_ref().is_some_and(|save| save.number == number) {
            let failed = self.saving.in_flight.take();
            // A newer one says all that the failed one did.
            self.saving.wanted = self.saving.wanted.take().or(failed);
        } else if self.saving.ending.as_ref().is_some_and(|ending| ending.number == number) {
            self.saving.is_ending_in_flight = false;
        } else {
            return;
        }
        self.saving.save_pause.failed(self.now.monotonic_ns);
        self.warn_of_the_store();
    }

    pub(super) fn warn_of_the_store(&mut self) {
        if !self.warnings.iter().any(|warning| warning.code == "store") {
            self.warn("store", None, "the store did not take a write at once; it was tried again".to_owned());
        }
    }

    fn decide_ending(&mut self, number: u64) -> Ending {
        let total = Arc::clone(self.collector.total());
        let thresholds = self.judge.at_end(&total);
        let broken: Vec<&str> = thresholds.iter().filter(|t| !t.ok).map(|t| t.expr.as_str()).collect();
        let (stop_reason, message) = match &self.stop {
            Some(stop) => (stop.reason, stop.message.clone()),
            None if broken.is_empty() => (StopReason::Completed, None),
            None => (StopReason::Threshold, Some(format!("not kept: {}", broken.join("; ")))),
        };
        let status = match stop_reason {
            StopReason::Completed => RunStatus::Completed,
            StopReason::Cancelled => RunStatus::Cancelled,
            StopReason::Failed | StopReason::Threshold | StopReason::Lost => RunStatus::Failed,
        };
        self.status = status;
        let metrics = Arc::new(self.metrics(Some(stop_reason), thresholds));
        Ending {
            number,
            status,
            stop_reason,
            message,
            ended_at_unix_ms: self.now.unix_ms,
            metrics,
            totals: total,
        }
    }

    /// The end is durable: the agents may forget.
    fn release_all(&mut self) {
        for i in 0..self.peers.len() {
            self.send(i, Order::Release);
            self.hang_up(i);
        }
        self.phase = Phase::Over;
        self.out.push(Action::Done);
    }

    pub(super) fn step_down(&mut self) {
        for i in 0..self.peers.len() {
            self.hang_up(i);
        }
        self.phase = Phase::Over;
        self.out.push(Action::StepDown);
    }
}
