//! The agents of a run: those that fit the plan's choice, the least loaded first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use volcanion_common::ids::{AgentId, RunId};
use volcanion_common::plan::AgentChoice;
use volcanion_common::registry::{Fleet, Member, MemberState};

/// There are not enough agents for a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NoAgents {
    text: String,
    /// There are enough, but other runs hold them: they will be free again.
    pub are_held: bool,
}

impl NoAgents {
    /// There is no place in the line either.
    pub(super) fn of_a_full_line(waiting: usize) -> Self {
        let text = format!(
            "other runs hold the agents, and {waiting} runs wait for some already, which is the most; stop one, or start more agents"
        );
        Self { text, are_held: false }
    }
}

/// Which agents carry runs of this master, and how many; and who waits for some.
#[derive(Debug, Default)]
pub struct Held {
    runs: BTreeMap<AgentId, u32>,
    exclusive: BTreeMap<AgentId, u32>,
    /// In the order of their coming.
    line: Vec<(RunId, AgentChoice)>,
    /// Goes up whenever somebody who waits should look again.
    news: watch::Sender<u64>,
}

impl Held {
    /// Runs that wait for agents.
    pub(super) fn waiting(&self) -> usize {
        self.line.len()
    }

    pub(super) fn stand(&mut self, run: RunId, choice: &AgentChoice) {
        self.line.push((run, choice.clone()));
    }

    pub(super) fn leave(&mut self, run: RunId) {
        self.line.retain(|(waiting, _)| *waiting != run);
        self.tell();
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn tell(&self) {
        self.news.send_modify(|news| *news += 1);
    }

    /// Whether a run waits for this agent, one that stands before `run` where that waits itself.
    fn is_claimed(&self, member: &Member, run: Option<RunId>) -> bool {
        let before = self.line.iter().take_while(|(waiting, _)| Some(*waiting) != run);
        before.into_iter().any(|(_, choice)| fits(choice, member))
    }

    fn take(&mut self, members: &[Member], exclusive: bool) {
        for member in members {
            *self.runs.entry(member.id.clone()).or_default() += 1;
            if exclusive {
                *self.exclusive.entry(member.id.clone()).or_default() += 1;
            }
        }
    }

    fn give_back(&mut self, members: &[Member], exclusive: bool) {
        let less = |counts: &mut BTreeMap<AgentId, u32>, id: &AgentId| {
            if let Some(count) = counts.get_mut(id) {
                *count = count.saturating_sub(1);
            }
            counts.retain(|_, count| *count > 0);
        };
        for member in members {
            less(&mut self.runs, &member.id);
            if exclusive {
                less(&mut self.exclusive, &member.id);
            }
        }
        self.tell();
    }

    /// Runs that an agent carries.
    pub fn runs(&self, agent: &AgentId) -> u32 {
        self.runs.get(agent).copied().unwrap_or(0)
    }

    /// Whether it cannot be had: another run has it for itself, or this one wants it for itself and another is on it.
    fn is_taken(&self, member: &Member, exclusive: bool) -> bool {
        self.is_reserved(&member.id) || exclusive && self.runs(&member.id) > 0
    }

    fn is_reserved(&self, agent: &AgentId) -> bool {
        self.exclusive.contains_key(agent)
    }
}

/// Takes the agents of a run; of one that waits in the line, `run` says which.
///
/// # Errors
/// Not enough fit; says what was looked for and what is there.
pub(super) fn take(
    held: &Arc<Mutex<Held>>,
    choice: &AgentChoice,
    fleet: &Fleet,
    run: Option<RunId>,
) -> Result<Reservation, NoAgents> {
    // Chosen and taken under one lock, so that nobody takes them in between.
    let mut counts = held.lock().unwrap_or_else(PoisonError::into_inner);
    let members = choose(choice, fleet, &counts, run)?;
    counts.take(&members, choice.exclusive);
    Ok(Reservation { held: Arc::clone(held), members, exclusive: choice.exclusive })
}

/// Chooses the agents of a run: `choice.count` of those that fit (all where it is absent), least loaded first, then by name.
fn choose(
    choice: &AgentChoice,
    fleet: &Fleet,
    held: &Held,
    run: Option<RunId>,
) -> Result<Vec<Member>, NoAgents> {
    let is_free = |member: &&Member| {
        fits(choice, member) && !held.is_taken(member, choice.exclusive) && !held.is_claimed(member, run)
    };
    let mut members: Vec<Member> = fleet.members.values().filter(is_free).cloned().collect();
    members.sort_by_key(|member| (held.runs(&member.id), member.id.clone()));
    let wanted = choice.count.map_or(1, |count| count.max(1)) as usize;
    if members.len() < wanted {
        return Err(no_agents(choice, fleet, held, members.len()));
    }
    members.truncate(choice.count.map_or(usize::MAX, |_| wanted));
    Ok(members)
}

/// Agents that could join a run that goes: those that fit its choice, and are free for it.
pub fn free_for(choice: &AgentChoice, fleet: &Fleet, held: &Held, run: &Reservation) -> Vec<Member> {
    let is_free = |member: &&Member| {
        let is_its_own = run.members.iter().any(|own| own.id == member.id);
        is_its_own || !held.is_taken(member, choice.exclusive) && !held.is_claimed(member, None)
    };
    let members = fleet.members.values().filter(|member| fits(choice, member)).filter(is_free);
    members.cloned().collect()
}

fn fits(choice: &AgentChoice, member: &Member) -> bool {
    let has_label = |(key, value): (&String, &String)| member.labels.get(key) == Some(value);
    member.state != MemberState::Draining && choice.labels.iter().all(has_label)
}

fn no_agents(choice: &AgentChoice, fleet: &Fleet, held: &Held, fitting: usize) -> NoAgents {
    let wanted = choice.count.unwrap_or(1).max(1);
    let labels: Vec<_> = choice.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labelled = if labels.is_empty() { String::new() } else { format!(" with {}", labels.join(", ")) };
    let alone = if choice.exclusive { " without another run" } else { "" };
    let mut text =
        format!("the plan wants {wanted} agent{s}{labelled}{alone}, and {fitting} fit", s = plural(wanted));
    let there = fleet.members.len();
    if there == 0 {
        text.push_str("; none is registered: start one with `volcanion agent`");
    } else {
        let count = |is: &dyn Fn(&Member) -> bool| fleet.members.values().filter(|member| is(member)).count();
        let draining = count(&|member| member.state == MemberState::Draining);
        let reserved = count(&|member| held.is_reserved(&member.id));
        let carrying = count(&|member| held.runs(&member.id) > 0);
        text.push_str(&format!(
            "; registered: {there} (draining {draining}, reserved by another run {reserved}, carrying a run {carrying})"
        ));
    }
    if !fleet.connected {
        text.push_str("; the registry does not answer, so newer ones are not known");
    }
    let registered = fleet.members.values().filter(|member| fits(choice, member)).count();
    NoAgents { text, are_held: registered >= wanted as usize }
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Agents that a run has taken; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    held: Arc<Mutex<Held>>,
    members: Vec<Member>,
    exclusive: bool,
}

impl Reservation {
    /// Counts a run on each of the members.
    pub(super) fn new(held: &Arc<Mutex<Held>>, members: Vec<Member>, exclusive: bool) -> Self {
        held.lock().unwrap_or_else(PoisonError::into_inner).take(&members, exclusive);
        Self { held: Arc::clone(held), members, exclusive }
    }

    /// The agents.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Takes more agents, all or none; whether they are still free for it.
    pub fn join(&mut self, members: &[Member]) -> bool {
        let is_own = |member: &Member| self.members.iter().any(|own| own.id == member.id);
        // A name is counted once, whichever of its processes it was taken with.
        let new: Vec<Member> = members.iter().filter(|member| !is_own(member)).cloned().collect();
        {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            if new.iter().any(|member| held.is_taken(member, self.exclusive)) {
                return false;
            }
            held.take(&new, self.exclusive);
        }
        self.members.extend(new);
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.give_back(&self.members, self.exclusive);
    }
}

#[cfg(test)]
mod tests {
    use volcanion_common::ids::Incarnation;

    use super::*;
    use crate::fleet::Agents;

    fn member(id: &str, zone: &str, state: MemberState) -> Member {
        Member {
            id: id.into(),
            incarnation: Incarnation(1),
            address: "127.0.0.1:1".to_owned(),
            metrics_address: None,
            version: "0".to_owned(),
            labels: [("zone".to_owned(), zone.to_owned())].into(),
            cores: 1,
            capacity: 1.0,
            requests_per_s: None,
            state,
        }
    }

    fn agents() -> Agents {
        let members = [
            member("a", "x", MemberState::Ready),
            member("b", "x", MemberState::Busy),
            member("c", "y", MemberState::Ready),
            member("d", "y", MemberState::Draining),
        ];
        let members = members.into_iter().map(|member| (member.id.clone(), member)).collect();
        Agents::of(
            tokio::sync::watch::Sender::new(Fleet { members: Arc::new(members), connected: true })
                .subscribe(),
        )
    }

    fn names(reservation: &Reservation) -> String {
        reservation.members().iter().map(|member| member.id.0.as_str()).collect()
    }

    fn count(count: u32) -> AgentChoice {
        AgentChoice { count: Some(count), ..AgentChoice::default() }
    }

    #[test]
    fn all_that_are_not_draining_take_part_unless_a_number_is_given() {
        assert_eq!(names(&agents().reserve(&AgentChoice::default()).unwrap()), "abc");
        let labels = [("zone".to_owned(), "y".to_owned())].into();
        assert_eq!(names(&agents().reserve(&AgentChoice { labels, ..AgentChoice::default() }).unwrap()), "c");
    }

    #[test]
    fn the_least_loaded_come_first_and_are_given_back() {
        let agents = agents();
        let first = agents.reserve(&count(2)).unwrap();
        assert_eq!(names(&first), "ab");
        assert_eq!(names(&agents.reserve(&count(2)).unwrap()), "ca");
        assert_eq!(agents.views()[0].load, 1);
        drop(first);
        assert_eq!(names(&agents.reserve(&count(2)).unwrap()), "ab");
    }

    #[test]
    fn a_reserved_agent_takes_no_other_run() {
        let agents = agents();
        let alone = AgentChoice { exclusive: true, ..count(2) };
        let held = agents.reserve(&alone).unwrap();
        assert_eq!(names(&held), "ab");
        assert_eq!(names(&agents.reserve(&AgentChoice::default()).unwrap()), "c");
        let error = agents.reserve(&alone).unwrap_err().to_string();
        assert_eq!(
            error,
            "the plan wants 2 agents without another run, and 1 fit; registered: 4 (draining 1, reserved by another run 2, \
             carrying a run 2)"
        );
    }

    #[test]
    fn an_empty_fleet_says_how_to_fill_it() {
        let agents = Agents::of(tokio::sync::watch::Sender::new(Fleet::default()).subscribe());
        let error = agents.reserve(&AgentChoice::default()).unwrap_err().to_string();
        assert!(error.contains("start one with `volcanion agent`"), "{error}");
        assert!(error.contains("the registry does not answer"), "{error}");
    }
}
