//! From a sealed shard to a load that goes: Prepare, what compiling gave, StartAt.

use ring::digest::{Digest, SHA256, digest};
use volcanion_common::ids::Epoch;
use volcanion_common::session::Report;
use volcanion_common::shard::Shard;

use super::moves::Lanes;
use super::{Action, Machine, Now, ORPHAN_TIMEOUT_MIN, Phase};
use crate::session::fence::{Refusal, open_shard};
use crate::session::load::Fault;

impl Machine {
    pub(super) fn on_prepare(
        &mut self,
        sealed: &[u8],
        seal: &[u8],
        now: Now,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let epoch = self.stream.as_ref().map_or(self.epoch, |stream| stream.epoch);
        let shard = open_shard(&self.identity, self.run, epoch, sealed, seal, now.unix_ms)?;
        let (shard, fingerprint) = fingerprint(shard);
        let is_same = self.fingerprint.is_some_and(|ours| ours.as_ref() == fingerprint.as_ref());
        match self.phase {
            Phase::New if self.is_leaving => Err(Refusal::Leaving),
            Phase::Compiling if is_same => Ok(()),
            Phase::Prepared { cores } if is_same => {
                self.send(Report::Prepared { cores }, actions);
                Ok(())
            }
            Phase::Running { started_ns, .. } if is_same => {
                if let Some(monotonic_ns) = started_ns {
                    self.send(Report::Started { monotonic_ns }, actions);
                }
                Ok(())
            }
            // Nothing was started from it yet: the newer cut counts.
            Phase::New | Phase::Compiling | Phase::Prepared { .. } => {
                self.identity.obey_once(seal, shard.expires_unix_ms, now.unix_ms)?;
                if matches!(self.phase, Phase::Prepared { .. }) {
                    actions.push(Action::Discard);
                }
                self.attempts += 1;
                self.phase = Phase::Compiling;
                self.fingerprint = Some(fingerprint);
                self.lanes = Lanes::of(&shard);
                if let Some(ordered) = shard.orphan_timeout {
                    self.orphan_timeout = self.orphan_timeout.min(ordered.max(ORPHAN_TIMEOUT_MIN));
                }
                actions.push(Action::Compile { attempt: self.attempts, shard: Box::new(shard) });
                Ok(())
            }
            Phase::Running { .. } => Err(Refusal::SecondShard),
            Phase::Finished => Err(Refusal::RunOver(self.run)),
        }
    }

    pub(super) fn on_compiled(
        &mut self,
        attempt: u32,
        result: Result<u32, Fault>,
        actions: &mut Vec<Action>,
    ) {
        let is_wanted = attempt == self.attempts && matches!(self.phase, Phase::Compiling);
        match result {
            // A later attempt is under way, or the shard was stopped meanwhile.
            Ok(_) if !is_wanted => {
                if attempt == self.attempts {
                    actions.push(Action::Discard);
                }
            }
            Ok(cores) => {
                self.phase = Phase::Prepared { cores };
                self.send(Report::Prepared { cores }, actions);
            }
            Err(fault) if is_wanted => {
                self.phase = Phase::New;
                self.fingerprint = None;
                self.send(fault.report(), actions);
            }
            Err(_) => {}
        }
    }

    pub(super) fn on_start_at(&mut self, monotonic_ns: u64, now: Now, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::New | Phase::Compiling => {
                self.refuse("StartAt", Refusal::NotPrepared { order: "StartAt" }, actions);
            }
            Phase::Prepared { .. } => {
                // Who joins a run that goes takes over its time.
                let earliest_ns = if self.lanes.joins { 0 } else { now.monotonic_ns };
                let at_ns = monotonic_ns.max(earliest_ns);
                self.phase = Phase::Running { at_ns, started_ns: None };
                actions.push(Action::Start { at_ns });
                // Before the first tick the process may be frozen.
                self.fence_load(actions);
                self.tell_adjustments(actions);
                self.tell_moves(actions);
            }
            Phase::Running { started_ns: Some(monotonic_ns), .. } => {
                self.send(Report::Started { monotonic_ns }, actions);
            }
            Phase::Running { started_ns: None, .. } | Phase::Finished => {}
        }
    }
}

/// The shard, and a digest of what it says apart from who cut it when: by it a repeated Prepare is known.
fn fingerprint(mut shard: Shard) -> (Shard, Digest) {
    let (epoch, expires, orphan_timeout) = (shard.epoch, shard.expires_unix_ms, shard.orphan_timeout);
    (shard.epoch, shard.expires_unix_ms, shard.orphan_timeout) = (Epoch(0), 0, None);
    // A shard that was read from JSON is written as JSON.
    let bytes = serde_json::to_vec(&shard).unwrap_or_default();
    (shard.epoch, shard.expires_unix_ms, shard.orphan_timeout) = (epoch, expires, orphan_timeout);
    (shard, digest(&SHA256, &bytes))
}
