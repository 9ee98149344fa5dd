//! Running: deltas come in, intervals close, parts are committed, rules with `abort` are judged, figures are published.

use std::collections::BTreeMap;
use std::sync::Arc;

use volcanion_common::delta::Delta;
use volcanion_common::ids::Seq;
use volcanion_common::plan::Arrival;
use volcanion_common::session::{DeltaFrame, Order, StopWhy};
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::view::metrics::ThresholdView;
use volcanion_common::view::{Metrics, RunStatus, StopReason};

use super::peer::Peer;
use super::{Action, LAST_DELTAS_WITHIN, Phase, RunMachine};
use crate::merge::complete::LATE;
use crate::merge::document::{self, Figures};
use crate::merge::inbox::Taken;
use crate::merge::lag::AgentLag;

/// A delta that ends later than this after all grace is not believed.
const BEYOND_THE_END: Micros = Micros::from_secs(3_600);
/// After the plan's end the run is shown as `stopping` only where it does not end by then.
const SHOW_STOPPING_AFTER: Micros = Micros::from_secs(1);

impl RunMachine {
    pub(super) fn frame(&mut self, i: usize, frame: DeltaFrame) {
        if !matches!(self.phase, Phase::Running | Phase::Stopping { .. } | Phase::Draining | Phase::Ending) {
            return;
        }
        let seq = frame.seq;
        match self.peers[i].inbox.take(frame) {
            Taken::Incomplete => {}
            // Its Ack was lost; what is not durable yet is acknowledged by its commit.
            Taken::Repeated => {
                let durable = self.peers[i].durable;
                if seq <= durable {
                    self.send(i, Order::Ack(durable));
                }
            }
            Taken::Whole(seq, bytes) => match self.read(&bytes) {
                Ok(delta) => self.delta(i, seq, delta),
                Err(reason) => {
                    let reason = format!("its numbers cannot be read: {reason}");
                    self.turn_away(i);
                    self.lose(i, &reason);
                }
            },
            Taken::Broken(_) => self.break_stream(i),
        }
    }

    fn delta(&mut self, i: usize, seq: Seq, mut delta: Delta) {
        if self.peers[i].is_over() && !self.is_taken_back(i) {
            return;
        }
        let is_lag_due = AgentLag::is_due(seq, i, self.peers.len());
        let peer = &mut self.peers[i];
        if let Some(start_ns) = peer.link.their_start_ns {
            let their_ns = start_ns.saturating_add(delta.to.0.saturating_mul(1_000));
            peer.link.their_clock_was(their_ns, self.now.monotonic_ns);
        }
        peer.state.add(seq, &mut delta, &self.closed_steps);
        self.narrow_gap(i);
        let peer = &mut self.peers[i];
        peer.lag.add(&delta);
        if is_lag_due {
            peer.state.lag = peer.lag.to_bytes();
        }
        self.collector.add(i, delta, &peer.state);
        peer.state.lag = Vec::new();
    }

    fn read(&self, bytes: &[u8]) -> Result<Delta, String> {
        let delta = Delta::from_bytes(bytes).map_err(|error| error.to_string())?;
        let steps = self.closed_steps.len() as u64;
        let latest = self.last_moment().plus(BEYOND_THE_END);
        let last_step =
            delta.series.keys().map(|key| key.step).chain(delta.errors.keys().map(|key| key.0)).max();
        let last_scenario = delta.scenarios.keys().max().copied();
        if last_step.is_some_and(|step| u64::from(step) >= steps) {
            return Err("a step that the plan does not have".to_owned());
        }
        if last_scenario.is_some_and(|scenario| scenario as usize >= self.plan.scenarios.len()) {
            return Err("a scenario that the plan does not have".to_owned());
        }
        if delta.to > latest {
            return Err("a time long after the plan's end".to_owned());
        }
        if delta.series.values().any(|series| series.failed > series.requests) {
            return Err("more failures than requests".to_owned());
        }
        Ok(delta)
    }

    pub(super) fn finished(&mut self, i: usize, last_seq: Seq) {
        let is_awaited = matches!(self.phase, Phase::Running | Phase::Stopping { .. });
        let peer = &mut self.peers[i];
        if is_awaited && peer.state.last_seq.is_none() {
            peer.state.last_seq = Some(last_seq.max(peer.state.seq));
            if peer.state.is_whole() {
                self.close_gap(i);
                self.collector.note(i, &self.peers[i].state);
            }
        }
    }

    pub(super) fn draining(&mut self, i: usize) {
        self.peers[i].is_draining = true;
        let what = if self.plan.elastic { "hands its part over" } else { "ends its part early" };
        self.warn("draining", Some(i), format!("the agent was told to leave and {what}"));
    }

    pub(super) fn advance_running(&mut self) {
        if self.status == RunStatus::Preparing && self.now.monotonic_ns >= self.at_run_time(RunTime::START) {
            self.save(RunStatus::Running, None);
        }
        for i in 0..self.peers.len() {
            let peer = &self.peers[i];
            if peer.clock.is_none() && peer.link.is_up() && peer.state.start_late_us.is_none() {
                self.ask_clock_again(i);
            }
        }
        self.lose_faulted();
        self.lose_dead();
        self.close_intervals();
        if self.phase != Phase::Running {
            return;
        }
        if self.peers.iter().all(|peer| peer.is_over()) {
            if !self.moving.is_writing() {
                self.conclude();
            }
        } else if self.run_now() >= self.planned_end() {
            let deadline_ns = self.at_run_time(self.last_moment().plus(LAST_DELTAS_WITHIN));
            // After a take-over the plan's end may be long past: the agents still get their chance.
            let deadline_ns = deadline_ns.max(self.hold_until_ns + LAST_DELTAS_WITHIN.as_nanos());
            self.phase = Phase::Stopping { deadline_ns };
            for i in 0..self.peers.len() {
                self.tell_stop(i);
            }
        }
    }

    /// Closes every interval that is due.
    pub(super) fn close_intervals(&mut self) {
        let is_held = self.now.monotonic_ns < self.hold_until_ns;
        if self.peers.iter().all(|peer| peer.is_over()) {
            return;
        }
        let run_now = self.run_now();
        // A joiner has said nothing yet, and owes nothing.
        let is_awaited = |peer: &&Peer| !peer.is_over() && (peer.joiner.is_none() || peer.state.seq.0 > 0);
        let awaited = self.peers.iter().filter(is_awaited);
        let heard = awaited.map(|peer| peer.state.reported_to).min().unwrap_or(run_now);
        let mut is_any_closed = false;
        while self.collector.is_due(run_now, heard) {
            let closes_at = self.collector.closes_at();
            if is_held && heard < closes_at {
                break;
            }
            self.account_missed(closes_at, false);
            self.intervals_late += u64::from(heard < closes_at);
            let parts = self.collector.close();
            self.take_parts(parts);
            self.judge_at(closes_at, heard >= closes_at);
            is_any_closed = true;
        }
        if is_any_closed {
            self.publish();
        }
    }

    pub(super) fn take_parts(&mut self, mut parts: Vec<Arc<crate::merge::Part>>) {
        if self.has_unsaid
            && let Some(last) = parts.last_mut()
        {
            self.has_unsaid = false;
            Arc::make_mut(last).warnings = Some(self.warnings.clone());
        }
        parts.iter().for_each(|part| self.judge.add(&part.delta));
        self.commits.extend(parts);
    }

    fn judge_at(&mut self, time: RunTime, is_complete: bool) {
        if self.phase == Phase::Running
            && let Some(expr) = self.judge.aborts(self.collector.total(), time, is_complete)
        {
            self.begin_stop(StopReason::Threshold, StopWhy::Threshold, Some(format!("not kept: {expr}")));
        }
    }

    /// Counts what lost agents, and such as ended early, had still to start, up to a moment of run time.
    /// At a planned end, `is_end`, everybody's: an agent may have been stopped by a master of which nothing more is known.
    pub(super) fn account_missed(&mut self, until: RunTime, is_end: bool) {
        let until = until.min(self.load_end());
        self.account_late(until, is_end);
        let is_end = is_end && self.stop.is_none() && self.is_exact();
        let until = self.moving.settled_until(until);
        for (i, peer) in self.peers.iter_mut().enumerate() {
            let since = match &peer.state.gap {
                Some(gap) => gap.to,
                None if peer.stopped_early() || is_end && peer.state.is_whole() => peer.state.reported_to,
                None => continue,
            };
            let first = peer.state.missed_to.max(since);
            // One that stopped early and said its last word late: what it did not start was due before.
            let last = RunTime(until.0.saturating_sub(1));
            let first = if peer.state.gap.is_some() { first } else { first.min(last) };
            // What its end came too late for lies in closed intervals, apart from what lies in the open one.
            let opened_at = self.collector.opened_at().min(until).max(first);
            for (from, to) in [(first, opened_at), (opened_at, until)] {
                if from >= to {
                    continue;
                }
                let scenarios: BTreeMap<_, _> = if peer.state.gap.is_some() {
                    peer.planned.arrivals(from, to).collect()
                } else {
                    // All its numbers are in, but when exactly it stopped is not said: what it did not start tells.
                    peer.planned.not_started(&peer.state, to).collect()
                };
                for (index, scenario) in &scenarios {
                    if let Some(counts) = peer.state.scenarios.get_mut(*index as usize) {
                        counts.missed += scenario.missed;
                    }
                }
                peer.state.missed_to = to;
                if !scenarios.is_empty() {
                    self.collector.add_missed(i, from, to, scenarios, &peer.state);
                }
            }
        }
    }

    /// Whether the plan says to the last arrival what every agent starts.
    fn is_exact(&self) -> bool {
        self.plan.scenarios.iter().all(|scenario| {
            let executor = &scenario.executor;
            let is_drawn = executor.open_loop().is_some_and(|open| open.arrival == Arrival::Poisson);
            !is_drawn && executor.start_level().is_none()
        })
    }

    pub(super) fn publish(&mut self) {
        let totals = Arc::clone(self.collector.total());
        let thresholds = self.judge.live(&totals);
        let metrics = Arc::new(self.metrics(None, thresholds));
        self.out.push(Action::Publish { metrics, totals });
    }

    pub(super) fn metrics(&self, stop_reason: Option<StopReason>, thresholds: Vec<ThresholdView>) -> Metrics {
        document::build(Figures {
            run: self.run,
            plan: &self.plan,
            status: self.status,
            stop_reason,
            unix_ms: self.now.unix_ms,
            total: self.collector.total(),
            current_rps: self.collector.current_rps(),
            agents: self.peers.iter().map(|peer| (&peer.state, peer.lag.all())).collect(),
            warnings: &self.warnings,
            thresholds,
            start_skew_ms: self.start_skew_ms(),
        })
    }

    pub(super) fn steady_wake_ns(&self) -> Option<u64> {
        let faults = self.peers.iter().filter_map(|peer| peer.fault.as_ref().map(|fault| fault.deadline_ns));
        let next = match self.phase {
            Phase::Running | Phase::Stopping { .. } => {
                let mut next =
                    self.at_run_time(self.collector.closes_at().plus(LATE)).max(self.hold_until_ns);
                if self.status == RunStatus::Preparing {
                    next = next.min(self.at_run_time(RunTime::START));
                }
                if self.phase == Phase::Running {
                    next = next.min(self.at_run_time(self.planned_end()));
                }
                Some(next)
            }
            _ => None,
        };
        faults.chain(next).min()
    }

    pub(super) fn show_stopping_if_late(&mut self) {
        let is_late = self.run_now() >= self.planned_end().plus(SHOW_STOPPING_AFTER);
        if self.stop.is_none() && self.status != RunStatus::Stopping && is_late {
            self.save(RunStatus::Stopping, Some(StopReason::Completed));
        }
    }

    /// When the last iteration is started at the latest.
    pub(super) fn planned_end(&self) -> RunTime {
        RunTime::START.plus(self.plan.duration())
    }

    /// When the last request ends at the latest.
    pub(super) fn last_moment(&self) -> RunTime {
        self.planned_end().plus(self.plan.graceful_stop())
    }

    /// Up to when iterations were to be started: the planned end, or the stop.
    pub(super) fn load_end(&self) -> RunTime {
        self.stop.as_ref().map_or(self.planned_end(), |stop| stop.at.min(self.planned_end()))
    }
}
