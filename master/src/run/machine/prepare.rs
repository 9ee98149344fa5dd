//! Preparing: every agent gets its sealed shard and compiles it, every clock is measured; then the start is fixed. A refusal, a loss, or
//! 30 s without the last Prepared, and the run fails; whoever had prepared is released.

use volcanion_common::ids::{AgentId, Incarnation};
use volcanion_common::plan::document;
use volcanion_common::session::{Order, ShardState, StopWhy, Welcome};
use volcanion_common::shard::Shard;
use volcanion_common::units::RunTime;
use volcanion_common::view::StopReason;

use super::peer::Clock;
use super::{Action, Phase, RunMachine, Stop, seconds};

/// A sealed shard is not taken after this.
const SHARD_EXPIRES_MS: u64 = 60_000;
/// A clock that is still needed and was not measured is asked for again.
const CLOCK_AGAIN_NS: u64 = seconds(2);

impl RunMachine {
    pub(super) fn welcome_preparing(&mut self, i: usize, welcome: &Welcome) {
        match welcome.state {
            // It may be compiling already; the same shard again changes nothing.
            ShardState::New => self.send_shard(i),
            ShardState::Prepared => self.peers[i].is_prepared = true,
            ShardState::Running | ShardState::Finished => {
                let agent = self.peers[i].id();
                self.fail_preparation(format!("agent `{agent}` says that this run was started on it before"));
            }
        }
        self.ask_clock(i);
    }

    pub(super) fn prepared(&mut self, i: usize) {
        self.peers[i].is_prepared = true;
        if self.phase == Phase::Running && self.peers[i].is_joining() {
            self.send_start(i);
        }
    }

    pub(super) fn clock_measured(&mut self, agent: &AgentId, offset_ns: i64, round_trip_ns: u64) {
        let Some(i) = self.by_name.get(agent).copied() else { return };
        self.peers[i].clock = Some(Clock { offset_ns, round_trip_ns });
        if self.phase == Phase::Running {
            self.send_start(i);
        }
    }

    pub(super) fn ask_clock(&mut self, i: usize) {
        self.peers[i].clock_asked_ns = Some(self.now.monotonic_ns);
        let agent = self.peers[i].id().clone();
        self.out.push(Action::MeasureClock { agent });
    }

    pub(super) fn member(&mut self, agent: &AgentId, incarnation: Incarnation, is_gone: bool) {
        let Some(i) = self.by_name.get(agent).copied() else { return };
        let peer = &mut self.peers[i];
        if peer.state.incarnation != incarnation {
            return;
        }
        let is_back = peer.is_gone && !is_gone;
        peer.is_gone = is_gone;
        peer.is_release_due = (peer.is_release_due || is_back) && !is_gone && peer.state.gap.is_some();
        peer.is_returning &= !is_gone;
        self.lose_if_dead(i);
    }

    pub(super) fn advance_preparing(&mut self, deadline_ns: u64) {
        if self.peers.iter().all(|peer| peer.is_prepared && peer.clock.is_some()) {
            return self.fix_start();
        }
        let now_ns = self.now.monotonic_ns;
        if now_ns >= deadline_ns {
            let message = self.who_is_late();
            return self.fail_preparation(message);
        }
        for i in 0..self.peers.len() {
            if self.peers[i].link.is_up() && self.peers[i].clock.is_none() {
                self.ask_clock_again(i);
            }
        }
    }

    /// Asks for a clock that was asked for some time ago.
    pub(super) fn ask_clock_again(&mut self, i: usize) {
        let asked_ns = self.peers[i].clock_asked_ns;
        if asked_ns.is_none_or(|asked| self.now.monotonic_ns >= asked + CLOCK_AGAIN_NS) {
            self.ask_clock(i);
        }
    }

    /// The run cannot start. Ends it; its agents are released.
    pub(super) fn fail_preparation(&mut self, message: String) {
        self.end_before_start(StopReason::Failed, Some(message), StopWhy::Failed);
    }

    /// Ends a run of which no load was ordered: no report is awaited.
    pub(super) fn end_before_start(&mut self, reason: StopReason, message: Option<String>, why: StopWhy) {
        if self.stop.is_none() {
            self.stop = Some(Stop { reason, message, why, at: RunTime::START });
        }
        self.phase = Phase::Draining;
    }

    fn who_is_late(&self) -> String {
        let late = self.peers.iter().filter(|peer| !peer.is_prepared || peer.clock.is_none());
        let names: Vec<String> = late
            .map(|peer| {
                let what = match (peer.link.is_up(), peer.is_prepared) {
                    (false, _) => match peer.link.why_down() {
                        Some(why) => format!("not reached: {why}"),
                        None => "not reached".to_owned(),
                    },
                    (true, false) => "still compiling".to_owned(),
                    (true, true) => "its clock could not be measured".to_owned(),
                };
                format!("`{}` ({what})", peer.id())
            })
            .collect();
        format!("not every agent was ready within 30 s: {}", names.join(", "))
    }

    /// Of a joiner that is a plan without its lanes: those come as moves.
    pub(super) fn send_shard(&mut self, i: usize) {
        let peer = &self.peers[i];
        let plan = if peer.joiner.is_some() { self.joining.plan() } else { &self.plan };
        let mut document = document::to_json(plan);
        if let Some(fields) = document.as_object_mut() {
            // Said by the shard itself; an agent of the version before knows neither, and takes it all the same.
            fields.shift_remove("trace");
        }
        let shard = Shard {
            run: self.run,
            epoch: self.epoch,
            agent: peer.id().clone(),
            incarnation: peer.state.incarnation,
            expires_unix_ms: self.now.unix_ms.saturating_add(SHARD_EXPIRES_MS),
            seed: self.seed,
            plan: document,
            scenarios: peer.shares.clone(),
            first_vu: peer.joiner.as_ref().map_or(0, |joiner| joiner.first_vu),
            ready_for: peer.joiner.as_ref().map_or_else(Vec::new, |joiner| joiner.ready_for.clone()),
            orphan_timeout: self.orphan_timeout,
            trace: self.trace,
        };
        match serde_json::to_vec(&shard) {
            Ok(bytes) => {
                let seal = self.key.seal(&bytes).into();
                self.send(i, Order::Prepare { sealed_shard: bytes.into(), seal });
            }
            Err(error) if self.peers[i].joiner.is_some() => {
                self.dismiss(i, &format!("its shard cannot be written: {error}"));
            }
            Err(error) => self.fail_preparation(format!("the shards cannot be written: {error}")),
        }
    }
}
