//! Starting: one instant for all, far enough ahead to reach everybody, durable before anybody hears of it, and told to each agent on its own
//! monotonic clock.

use volcanion_common::session::{Order, ShardState, StopWhy, Welcome};
use volcanion_common::units::Micros;
use volcanion_common::view::RunStatus;

use super::{Phase, RunMachine, STOP_GRACEFUL_MAX, Start, seconds};

/// The shortest time between sending StartAt and the start.
const LEAD_MIN_NS: u64 = 500_000_000;
/// For making the instant durable before it is sent; doubled as often as the store needs.
pub(super) const SAVE_MARGIN_NS: u64 = 150_000_000;
/// Beyond what the store may take for a write at all.
pub(super) const SAVE_MARGIN_MAX_NS: u64 = seconds(60);

impl RunMachine {
    /// Everybody is ready: fixes the start and makes it durable.
    pub(super) fn fix_start(&mut self) {
        let ahead_ns = self.lead_ns().saturating_add(self.save_margin_ns);
        let at_ns = i64::try_from(self.now.monotonic_ns.saturating_add(ahead_ns)).unwrap_or(i64::MAX);
        let unix_us = self.now.unix_ms.saturating_mul(1_000).saturating_add(ahead_ns / 1_000);
        self.start = Some(Start { at_ns, unix_us });
        let save = self.save(RunStatus::Preparing, None);
        self.phase = Phase::Starting { save };
    }

    /// The start is durable: sends it, unless that took so long that it would come too late. Then the next one is further ahead, so that a slow
    /// store delays the run and does not keep it from starting for ever.
    pub(super) fn start_saved(&mut self) {
        let Some(start) = self.start else { return };
        let left_ns = i128::from(start.at_ns) - i128::from(self.now.monotonic_ns);
        if left_ns < i128::from(self.lead_ns()) {
            self.save_margin_ns = (self.save_margin_ns * 2).min(SAVE_MARGIN_MAX_NS);
            return self.fix_start();
        }
        self.phase = Phase::Running;
        for i in 0..self.peers.len() {
            self.send_start(i);
        }
    }

    /// Tells an agent the start, where it waits for it and its clock is known; and before it the changes of level that were asked for meanwhile.
    pub(super) fn send_start(&mut self, i: usize) {
        let peer = &self.peers[i];
        let is_waiting = peer.is_prepared && peer.state.start_late_us.is_none() && peer.state.seq.0 == 0;
        let (Some(start), Some(clock)) = (self.start, peer.clock) else { return };
        if is_waiting && !peer.is_over() {
            let at_ns = i128::from(start.at_ns) + i128::from(clock.offset_ns);
            self.send_changes(i);
            self.send(i, Order::StartAt { monotonic_ns: u64::try_from(at_ns).unwrap_or(0) });
        }
    }

    pub(super) fn started(&mut self, i: usize, monotonic_ns: u64) {
        self.peers[i].link.their_start_ns = Some(monotonic_ns);
        let (Some(start), Some(clock)) = (self.start, self.peers[i].clock) else { return };
        if self.peers[i].joiner.is_some() {
            // The start was past when it came.
            self.peers[i].state.start_late_us.get_or_insert(0);
        } else if self.peers[i].state.start_late_us.is_none() {
            let ours_ns = i128::from(monotonic_ns) - i128::from(clock.offset_ns);
            let late_us = (ours_ns - i128::from(start.at_ns)) / 1_000;
            self.peers[i].state.start_late_us = Some(late_us as i64);
        }
    }

    /// A stream came up again, or for the first time after a take-over.
    pub(super) fn welcome_running(&mut self, i: usize, welcome: &Welcome) {
        let is_new_here = welcome.state == ShardState::New && self.peers[i].is_joining();
        self.peers[i].is_prepared = !is_new_here;
        if self.peers[i].joiner.is_some()
            && matches!(welcome.state, ShardState::Running | ShardState::Finished)
        {
            self.peers[i].state.start_late_us.get_or_insert(0);
        }
        self.has_changes(i, welcome.adjusted);
        self.welcome_moves(i, welcome);
        match welcome.state {
            ShardState::New if is_new_here => {
                if self.phase == Phase::Running {
                    self.send_shard(i);
                    self.ask_clock(i);
                }
            }
            ShardState::New => {
                return self.lose(i, "its process says that it knows nothing of the run");
            }
            ShardState::Prepared if self.phase == Phase::Running => {
                if self.peers[i].clock.is_none() {
                    self.ask_clock(i);
                }
                self.send_start(i);
            }
            ShardState::Running => {
                self.correct_start(welcome);
                if self.phase == Phase::Running && !self.peers[i].is_over() {
                    self.send_changes(i);
                }
            }
            ShardState::Prepared | ShardState::Finished => {}
        }
        self.tell_stop(i);
    }

    /// Tells an agent that the run is being stopped, if it is.
    pub(super) fn tell_stop(&mut self, i: usize) {
        let graceful = self.plan.graceful_stop().min(STOP_GRACEFUL_MAX);
        let why = match (&self.stop, self.phase) {
            (Some(stop), Phase::Stopping { .. }) => stop.why,
            // The plan's end has passed: whoever is Prepared only has missed it.
            (None, Phase::Stopping { .. })
                if self.peers[i].state.start_late_us.is_none() && self.peers[i].state.seq.0 == 0 =>
            {
                StopWhy::Failed
            }
            _ => return,
        };
        if !self.peers[i].is_over() {
            self.send(i, Order::Stop { why, graceful });
        }
    }

    /// The latest minus the earliest start, in milliseconds.
    pub(super) fn start_skew_ms(&self) -> Option<f64> {
        let first = || self.peers.iter().filter(|peer| peer.joiner.is_none());
        let late_us = || first().filter_map(|peer| peer.state.start_late_us);
        let (least, most) = (late_us().min()?, late_us().max()?);
        Some((most - least) as f64 / 1e3)
    }

    /// After a take-over the start is known by the wall clock only, which may have been set since. What an agent says of its run time is
    /// better.
    fn correct_start(&mut self, welcome: &Welcome) {
        const TOLERANCE: Micros = Micros::from_millis(500);
        let run_now = self.run_now();
        let Some(start) = &mut self.start else { return };
        let is_off = welcome.run_time.since(run_now).max(run_now.since(welcome.run_time)) > TOLERANCE;
        if welcome.run_time.0 > 0 && is_off && self.hold_until_ns > self.now.monotonic_ns {
            start.at_ns = (i128::from(self.now.monotonic_ns) - i128::from(welcome.run_time.0) * 1_000) as i64;
        }
    }

    pub(super) fn lead_ns(&self) -> u64 {
        let longest_ns =
            self.peers.iter().filter_map(|peer| peer.clock.map(|clock| clock.round_trip_ns)).max();
        LEAD_MIN_NS.max(longest_ns.unwrap_or(0).saturating_mul(4))
    }
}
