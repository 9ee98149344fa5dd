//! Changes of level: each is taken once, in the order of their numbers, and holds from its moment on; one that comes too late for that holds from the
//! nearest moment that every load core can still keep, and the report says so.
//!
//! What comes before the start is kept and told to the load together with it. A load that is over takes no change, but the report is the same, so that a leader
//! knows from when on the agent would have had it.

use volcanion_common::session::Report;
use volcanion_common::session::change::{CHANGES_MAX, Change};
use volcanion_common::units::{Micros, RunTime};

use super::{Action, Machine, Now, Phase};
use crate::session::fence::Refusal;
use crate::session::load::Adjustment;

/// Within this every load core hears of a change: what is ordered nearer than that is late.
pub const HEARD_WITHIN: Micros = Micros::from_millis(100);

impl Machine {
    pub(super) fn on_adjust(&mut self, change: Change, now: Now, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::New | Phase::Compiling) {
            return self.refuse("Adjust", Refusal::NotPrepared { order: "Adjust" }, actions);
        }
        let next = self.adjustments.len() as u64 + 1;
        if change.number > next || (change.number == next && self.adjustments.len() >= CHANGES_MAX) {
            // Those that are missing come on a new stream.
            return self.close(format!("change {} came where {next} was due", change.number), actions);
        }
        if change.number == next {
            let from = change.at.max(self.earliest(now));
            let adjustment = Adjustment { change, from };
            self.adjustments.push(adjustment);
            if matches!(self.phase, Phase::Running { .. }) {
                actions.push(Action::Adjust(adjustment));
            }
        }
        let known = change.number.checked_sub(1).and_then(|i| self.adjustments.get(usize::try_from(i).ok()?));
        if let Some(Adjustment { change, from }) = known {
            self.send(Report::Adjusted { number: change.number, from: *from }, actions);
        }
    }

    /// Tells a leader once more of what was taken late; that the others were taken is in the Welcome.
    pub(super) fn say_late_adjustments(&self, actions: &mut Vec<Action>) {
        for Adjustment { change, from } in
            self.adjustments.iter().filter(|known| known.from > known.change.at)
        {
            self.send(Report::Adjusted { number: change.number, from: *from }, actions);
        }
    }

    /// Tells a load that was just started what was taken before.
    pub(super) fn tell_adjustments(&self, actions: &mut Vec<Action>) {
        actions.extend(self.adjustments.iter().copied().map(Action::Adjust));
    }

    /// The nearest moment of run time that every core can keep.
    fn earliest(&self, now: Now) -> RunTime {
        match self.phase {
            Phase::Running { at_ns, .. } => {
                let heard_ns = now.monotonic_ns.saturating_add(HEARD_WITHIN.as_nanos());
                RunTime(heard_ns.saturating_sub(at_ns).div_ceil(1_000))
            }
            Phase::Finished => self.reported,
            _ => RunTime::START,
        }
    }
}
