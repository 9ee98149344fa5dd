//! Random loss, repetition and reordering between simulated agents, the machine, a store that fails, and masters that die: totals are the sum of what was reported,
//! or what is missing lies in a named gap.

use std::collections::VecDeque;

use proptest::prelude::*;
use volcanion_common::plan::Level;
use volcanion_common::units::Rate;

use super::*;

const PLAN_SECONDS: u64 = 6;
const RATE: u64 = 40;

/// Reproducible chance: xorshift64*.
pub(super) struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// An agent: one delta a second, kept until acknowledged.
struct SimAgent {
    name: &'static str,
    /// Its arrivals a second.
    rate: u64,
    /// Produced and not acknowledged.
    outbox: VecDeque<(u64, Delta)>,
    last_seq: u64,
    produced_ms: u64,
    sent_requests: u64,
    is_dead: bool,
    is_finish_due: bool,
}

impl SimAgent {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            rate: RATE / 2,
            outbox: VecDeque::new(),
            last_seq: 0,
            produced_ms: 0,
            sent_requests: 0,
            is_dead: false,
            is_finish_due: false,
        }
    }

    fn produce(&mut self, until_ms: u64) {
        while !self.is_dead && self.produced_ms + 1_000 <= until_ms.min(PLAN_SECONDS * 1_000) {
            let from_ms = self.produced_ms;
            self.produced_ms += 1_000;
            self.last_seq += 1;
            self.sent_requests += self.rate;
            self.outbox.push_back((self.last_seq, delta(from_ms, self.produced_ms, self.rate)));
            self.is_finish_due = self.produced_ms == PLAN_SECONDS * 1_000;
        }
    }

    fn acknowledged(&mut self, seq: u64) {
        assert!(seq <= self.last_seq);
        self.outbox.retain(|(ours, _)| *ours > seq);
    }
}

struct World {
    b: Bench,
    agents: Vec<SimAgent>,
    chance: Chance,
    /// Acknowledgements and closings up to here were looked at.
    looked: usize,
    is_calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let b = Bench::running(open_plan(RATE, PLAN_SECONDS, json!({})), &["a", "b"]);
        let agents = vec![SimAgent::new("a"), SimAgent::new("b")];
        Self { b, agents, chance: Chance(seed.max(1)), looked: 0, is_calm: false }
    }

    fn look(&mut self) {
        for action in &self.b.seen[self.looked..] {
            if let Action::Send { agent, order: Order::Ack(seq), .. } = action {
                let agent = self.agents.iter_mut().find(|a| a.name == agent.0).expect("an agent");
                agent.acknowledged(seq.0);
            }
        }
        self.looked = self.b.seen.len();
    }

    fn faults(&mut self) {
        if self.is_calm {
            return;
        }
        let chance = &mut self.chance;
        if chance.one_in(30) {
            self.b = self.b.taken_over(300);
            self.looked = 0;
            for i in 0..self.agents.len() {
                if self.agents[i].is_dead {
                    self.b.gone(self.agents[i].name);
                }
            }
            return;
        }
        self.b.store_answers = !chance.one_in(4);
        if self.b.store_answers {
            self.b.answer_writes();
        } else if chance.one_in(2)
            && let Some(Action::Commit(part)) = self.b.writes.first().cloned()
        {
            self.b.writes.remove(0);
            // Half of the failures are none: the part is durable, only the answer is lost.
            if chance.one_in(2) {
                self.b.store(part.clone());
            }
            self.b.event(Event::CommitFailed { part: part.number, fenced: false });
        }
        let i = (chance.next() % 2) as usize;
        let others_live = self.agents.iter().filter(|agent| !agent.is_dead).count() > 1;
        let name = self.agents[i].name;
        if self.chance.one_in(60) && others_live {
            self.agents[i].is_dead = true;
            self.b.gone(name);
        }
        let has_stream = self.b.streams.contains_key(&name.into());
        if has_stream && (self.agents[i].is_dead || self.chance.one_in(6)) {
            self.b.lost(name);
        }
    }

    /// The agent says what it has to say on its stream, with faults.
    fn talk(&mut self, i: usize) {
        let name = self.agents[i].name;
        let Some((stream, hello)) = self.b.streams.get(&name.into()).cloned() else { return };
        if self.agents[i].is_dead {
            self.b.lost(name);
            return;
        }
        self.agents[i].acknowledged(hello.last_seq.0);
        let over = self.agents[i].is_finish_due;
        self.b.open(name, if over { ShardState::Finished } else { ShardState::Running });
        let mut reports: Vec<Report> = Vec::new();
        for (seq, delta) in self.agents[i].outbox.iter().take(8) {
            reports.extend(frames(*seq, delta));
        }
        if over && self.agents[i].outbox.len() <= 8 {
            reports.push(Report::Finished { last_seq: Seq(self.agents[i].last_seq) });
        }
        if !self.is_calm && reports.len() > 1 {
            let place = self.chance.next() as usize % (reports.len() - 1);
            match self.chance.next() % 6 {
                0 => drop(reports.remove(place)),
                1 => reports.swap(place, place + 1),
                2 => reports.insert(place, reports[place].clone()),
                _ => {}
            }
        }
        for report in reports {
            if self.b.streams.get(&name.into()).is_some_and(|(ours, _)| *ours == stream) {
                self.b.report(name, report);
            }
        }
    }

    fn run(&mut self) {
        let mut run_ms = 0;
        while !self.b.is_over {
            run_ms += 130;
            assert!(run_ms < (PLAN_SECONDS + 2 + 15) * 1_000 + 20_000, "every run reaches its end");
            self.is_calm = run_ms > PLAN_SECONDS * 1_000 + 3_000;
            if self.is_calm {
                self.b.store_answers = true;
                self.b.answer_writes();
            }
            self.b.at_ms(run_ms);
            self.faults();
            for i in 0..self.agents.len() {
                self.agents[i].produce(run_ms);
                self.talk(i);
            }
            self.look();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn totals_are_what_was_sent_or_lie_in_a_named_gap(seed in any::<u64>()) {
        let mut world = World::new(seed);
        world.run();
        let ending = world.b.ending();
        prop_assert_eq!(ending.status, RunStatus::Completed);
        let m = &ending.metrics;
        let sent: u64 = world.agents.iter().map(|agent| agent.sent_requests).sum();
        let missing = sent - m.total_requests;
        let gaps: u64 = m.completeness.gaps.iter().map(|gap| gap.at_most_requests).sum();
        prop_assert!(missing <= gaps, "{} of {} sent are missing, gaps of {}", missing, sent, gaps);
        for agent in &world.agents {
            let gap = m.completeness.gaps.iter().find(|gap| gap.agent == agent.name);
            // Whoever died after its last number was in has none.
            prop_assert!(gap.is_none() || agent.is_dead, "{:?}", gap);
        }
        // Whatever was planned was started, missed, or lies in a gap.
        prop_assert_eq!(m.iterations + m.dropped_iterations + m.missed_iterations + gaps, RATE * PLAN_SECONDS);
    }
}

/// Agents that only take changes of level, and a master that is asked for many.
struct LedWorld {
    b: Bench,
    /// What each agent has taken.
    taken: BTreeMap<&'static str, Vec<Change>>,
    chance: Chance,
    looked: usize,
    requests: u64,
}

impl LedWorld {
    fn new(seed: u64) -> Self {
        let scenario =
            json!({ "executor": "externally-controlled", "rate": "10/s", "duration": "1h", "max_vus": 100 });
        let b = Bench::running(plan(scenario, json!({})), &["a", "b"]);
        let taken = BTreeMap::from([("a", Vec::new()), ("b", Vec::new())]);
        Self { b, taken, chance: Chance(seed.max(1)), looked: 0, requests: 0 }
    }

    fn step(&mut self) {
        let later_ns = self.chance.next() % 300 * MS;
        self.b.at_ns(self.b.now.monotonic_ns + later_ns);
        if self.chance.one_in(2) {
            self.requests += 1;
            let level = Level::Rate(Rate::per_second(self.chance.next() % 50));
            self.b.event(Event::AdjustRequested { request: self.requests, scenario: 0, level });
        }
        self.b.store_answers = !self.chance.one_in(3);
        if self.b.store_answers {
            self.b.answer_writes();
        } else if let Some(Action::SaveChange(save)) = self.b.writes.first().cloned()
            && self.chance.one_in(2)
        {
            self.b.writes.remove(0);
            if self.chance.one_in(2) {
                self.b.stored.changes.insert(save.change.number, save.change);
            }
            self.b.event(Event::ChangeFailed { change: save.change.number, fenced: false });
        }
        if self.chance.one_in(20) {
            self.b = self.b.taken_over(300);
            self.looked = 0;
        }
        for name in ["a", "b"] {
            if self.chance.one_in(8) && self.b.streams.contains_key(&name.into()) {
                self.b.lost(name);
            }
        }
        self.deliver();
    }

    /// Opens what is to be opened, and hands over what was sent on streams that are still there.
    fn deliver(&mut self) {
        for name in ["a", "b"] {
            if self.b.streams.contains_key(&name.into()) {
                let taken = self.taken[name].len() as u64;
                self.b.open_with(name, ShardState::Running, taken);
            }
        }
        while self.looked < self.b.seen.len() {
            self.looked += 1;
            let Action::Send { agent, stream, order: Order::Adjust(change) } =
                self.b.seen[self.looked - 1].clone()
            else {
                continue;
            };
            if self.b.streams.get(&agent).is_none_or(|(newest, _)| *newest != stream) {
                continue;
            }
            let name = if agent.0 == "a" { "a" } else { "b" };
            let taken = self.taken.get_mut(name).expect("an agent");
            match taken.get(change.number as usize - 1) {
                Some(known) => assert_eq!(*known, change, "one number is one change"),
                None => {
                    assert_eq!(change.number, taken.len() as u64 + 1, "they come in order");
                    assert!(taken.last().is_none_or(|last| last.at <= change.at));
                    taken.push(change);
                }
            }
            self.b.report(name, Report::Adjusted { number: change.number, from: change.at });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_agent_takes_the_same_changes_in_the_same_order_whatever_is_lost(seed in any::<u64>()) {
        let mut world = LedWorld::new(seed);
        (0..150).for_each(|_| world.step());
        // Calm: what is durable is with everybody.
        world.b.store_answers = true;
        world.b.answer_writes();
        for _ in 0..60 {
            world.b.at_ns(world.b.now.monotonic_ns + 200 * MS);
            world.deliver();
        }
        let durable: Vec<Change> = world.b.stored.changes.values().copied().collect();
        prop_assert!(durable.len() > 5, "{} changes of {} requests", durable.len(), world.requests);
        prop_assert_eq!(&world.taken["a"], &durable);
        prop_assert_eq!(&world.taken["b"], &durable);
    }
}
