//! How long load may go on, and a shard is kept, while no leader is heard.

use volcanion_common::units::Micros;

use super::{Action, Machine, Now, ORPHAN_KEEP, Phase, STREAM_TRUST};
use crate::session::fence::Tombstone;

impl Machine {
    pub(super) fn on_tick(&mut self, lease_until_ns: u64, now: Now, actions: &mut Vec<Action>) {
        let silent = Micros(now.monotonic_ns.saturating_sub(self.heard_ns) / 1_000);
        let is_silent = silent >= self.orphan_timeout;
        let is_first_look = self.lease_until_ns == 0;
        if lease_until_ns <= now.monotonic_ns || !is_first_look && self.lease_until_ns <= now.monotonic_ns {
            self.lease_lapsed_ns = now.monotonic_ns;
        }
        self.lease_until_ns = lease_until_ns;
        if is_silent {
            self.close(format!("no word of the leader for {}", self.orphan_timeout), actions);
        }
        match self.phase {
            Phase::Running { .. } if !self.is_orphaned => {
                let reason = if is_silent {
                    format!("no word of a leader for {}", self.orphan_timeout)
                } else if self.may_load_until_ns() <= now.monotonic_ns {
                    "neither a leader's stream nor a live registry entry".to_owned()
                } else {
                    return self.fence_load(actions);
                };
                self.is_orphaned = true;
                self.warn("orphaned", &format!("load was stopped: {reason}"));
                self.stop(Micros::ZERO, &reason, actions);
            }
            Phase::Running { .. } => {}
            Phase::New => {}
            Phase::Compiling | Phase::Prepared { .. } => {
                if is_silent {
                    actions.push(Action::Discard);
                    self.forget(Some(Tombstone::GivenUp), actions);
                }
            }
            Phase::Finished => {
                if silent >= self.orphan_timeout.saturating_add(ORPHAN_KEEP) {
                    self.forget(Some(Tombstone::GivenUp), actions);
                }
            }
        }
    }

    /// Tells the engine itself how long it may go on, so that load ends in time even where this task, or the whole process, is
    /// held up.
    pub(super) fn fence_load(&mut self, actions: &mut Vec<Action>) {
        let until_ns = self.may_load_until_ns();
        if until_ns != self.allowed_until_ns {
            self.allowed_until_ns = until_ns;
            actions.push(Action::AllowUntil { monotonic_ns: until_ns });
        }
    }

    /// Until when load may go on by what is known now.
    fn may_load_until_ns(&self) -> u64 {
        let trusted_ns = self.spoken_ns.saturating_add(STREAM_TRUST.as_nanos());
        let stream_ns = self.stream.as_ref().map_or(0, |_| trusted_ns);
        let is_lapsed = self.spoken_ns < self.lease_lapsed_ns;
        let lease_ns = if is_lapsed { 0 } else { self.lease_until_ns };
        stream_ns.max(lease_ns).min(self.heard_ns.saturating_add(self.orphan_timeout.as_nanos()))
    }
}
