//! A user: starts runs wherever a master leads, stops some, changes levels; and waits for the end of the world, when everything is looked at once more.

use uuid::Uuid;
use volcanion_common::ids::RunId;
use volcanion_common::plan::Level;
use volcanion_common::registry::{Member, MemberState};
use volcanion_common::units::{Micros, Rate};
use volcanion_master::run::machine::{Event, NewRun};

use crate::masters::epoch_of;
use crate::plans;
use crate::store::Write;
use crate::verdict;
use crate::world::{Item, MS, SECOND, World, tell};

/// What a run may take beyond its plan and all grace, once nothing goes wrong.
const END_WITHIN: u64 = 15 * SECOND;
/// How long agents may take to be prepared, before the run fails.
const PREPARE_WITHIN: u64 = 30 * SECOND;
/// How long a user tries to start a run after the faults have ceased.
const TRIES_WITHIN: u64 = 20 * SECOND;
/// How long an agent may keep what nobody acknowledged (the orphan timeout and ten minutes), and a little.
const KEPT_WITHIN: u64 = 660 * SECOND;

impl World {
    /// Starts a run, as soon as somebody leads and has agents.
    pub fn user_starts(&mut self, left: u32) {
        let again = Item::UserStarts { left };
        if self.now_ns() > self.faults.until_ns + TRIES_WITHIN {
            return;
        }
        let leading: Vec<usize> = (0..self.masters.len())
            .filter(|master| {
                self.masters[*master].is_alive && epoch_of(self.masters[*master].office).is_some()
            })
            .collect();
        if leading.is_empty() {
            return self.agenda.after(300 * MS, again);
        }
        let master = self.chance.pick(&leading);
        let node = &self.masters[master];
        let Some(epoch) = epoch_of(node.office) else { return };
        let members: Vec<Member> =
            node.view.members.values().filter(|m| m.state != MemberState::Draining).cloned().collect();
        if members.is_empty() {
            return self.agenda.after(300 * MS, again);
        }
        let run = RunId(Uuid::from_u128(u128::from(self.chance.next())));
        let plan = plans::draw(&mut self.chance);
        tell!(self, "{run} is asked of m{master} with {} agents: {}", members.len(), plans::words(&plan));
        let seed = self.chance.next();
        let (key, orphan_timeout) = (self.key.clone(), None);
        let new = NewRun { run, epoch, plan, members, key, seed, orphan_timeout, trace: None };
        self.submit(master, epoch.0, run, Write::Insert(Box::new(new)));
        if left > 1 {
            let later_ns = self.chance.about_ms(3_000);
            self.agenda.after(later_ns, Item::UserStarts { left: left - 1 });
        }
    }

    /// A run's record is durable, or it is not known whether it is.
    pub fn inserted(&mut self, master: usize, new: NewRun, is_durable: bool) {
        let run = new.run;
        if !is_durable {
            return self.agenda.after(500 * MS, Item::UserStarts { left: 1 });
        }
        if epoch_of(self.masters[master].office) != Some(new.epoch) {
            // The next master has read it.
            return;
        }
        let seconds = new.plan.duration().as_nanos() / SECOND + 1;
        if self.chance.percent(15) {
            let at_ns = self.chance.below((seconds + 1) * SECOND);
            self.agenda.after(at_ns, Item::UserStops { run });
        }
        if plans::is_controlled(&new.plan) {
            self.agenda.after(300 * MS, Item::UserAdjusts { run, left: 6 });
        }
        self.begin_run(master, new);
    }

    fn master_of(&self, run: RunId) -> Option<usize> {
        (0..self.masters.len()).find(|master| self.masters[*master].runs().any(|there| there == run))
    }

    pub fn user_stops(&mut self, run: RunId) {
        if let Some(master) = self.master_of(run) {
            tell!(self, "{run} is to stop");
            self.run_event(master, run, Event::StopRequested);
        }
    }

    pub fn user_adjusts(&mut self, run: RunId, left: u32) {
        let Some(master) = self.master_of(run) else { return };
        let level = Level::Rate(Rate::per_second(self.chance.below(40)));
        let request = u64::from(left);
        self.run_event(master, run, Event::AdjustRequested { request, scenario: 0, level });
        if left > 1 {
            let later_ns = self.chance.about_ms(900);
            self.agenda.after(later_ns, Item::UserAdjusts { run, left: left - 1 });
        }
    }

    /// Whether everything has come to its end, and in time.
    pub fn review(&mut self) {
        self.agenda.after(SECOND, Item::Review);
        let now_ns = self.now_ns();
        let calm_ns = self.faults.until_ns;
        let mut latest_ns = calm_ns;
        for (run, stored) in &self.store.runs {
            let accepted_ns = self.oracle.runs.get(run).map_or(0, |truth| truth.accepted_ns);
            let plan_ns = stored.plan.duration().saturating_add(grace(stored)).as_nanos();
            let prepare_ns = if stored.start_at_unix_us.is_none() { PREPARE_WITHIN } else { 0 };
            let until_ns = calm_ns.max(accepted_ns) + plan_ns + END_WITHIN + prepare_ns;
            latest_ns = latest_ns.max(until_ns);
            if stored.ending.is_none() {
                if now_ns > until_ns {
                    let what = format!("{run} has not ended, {}", stored.status.name());
                    self.violate(what);
                }
                return;
            }
        }
        if self.store.runs.is_empty() && now_ns < calm_ns + TRIES_WITHIN {
            return;
        }
        // All runs have ended: everybody forgets them.
        let held = self.agents.iter().filter(|agent| !agent.runs.is_empty()).count();
        let driven = self.masters.iter().map(|master| master.runs().count()).sum::<usize>();
        if held + driven > 0 {
            if now_ns > latest_ns + KEPT_WITHIN {
                self.violate(format!("{held} agents and {driven} drivers hold runs that ended long ago"));
            }
            let loading = self.agents.iter().filter(|a| a.runs.values().any(|run| run.is_loading())).count();
            if loading > 0 && now_ns > latest_ns + 35 * SECOND {
                self.violate(format!("{loading} agents load for runs that ended long ago"));
            }
            return;
        }
        let runs: Vec<RunId> = self.store.runs.keys().copied().collect();
        for run in runs {
            if let (Some(stored), Some(truth)) = (self.store.runs.get(&run), self.oracle.runs.get(&run)) {
                let checked = verdict::check(stored, truth, self.faults.wall_apart_ms);
                self.check(checked.map_err(|what| format!("{run}: {what}")));
            }
        }
        self.is_done = true;
    }
}

fn grace(stored: &crate::store::Stored) -> Micros {
    stored.plan.graceful_stop()
}
