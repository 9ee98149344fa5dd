//! Lanes that change hands: with agents that keep their orders as real ones do, everything planned is started once, missed, or in a named gap.

use std::collections::VecDeque;

use proptest::prelude::*;
use volcanion_common::plan::profile::Profile;
use volcanion_common::session::Move;
use volcanion_common::shard::ScenarioShare;
use volcanion_common::shard::segments::Segments;
use volcanion_common::shard::split::{Weight, split};
use volcanion_common::units::Rate;

use super::random::Chance;
use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];
const SECONDS: u64 = 20;
const RATE: u64 = 90;

/// An agent of one open loop that owns what it was ordered to, and says so.
struct Owner {
    name: &'static str,
    segments: Segments,
    moved: Vec<Moved>,
    /// What it was ordered; what is confirmed has its moment in `moved`.
    known: Vec<Move>,
    outbox: VecDeque<(u64, Delta)>,
    last_seq: u64,
    produced_ms: u64,
    sent_requests: u64,
    is_dead: bool,
    is_draining: bool,
    is_finished: bool,
    /// How late it takes orders.
    slow_ms: u64,
}

impl Owner {
    fn new(name: &'static str, share: &ScenarioShare) -> Self {
        let profile = Profile::of_rate(Rate::per_second(RATE), Micros::from_secs(SECONDS));
        Self {
            name,
            segments: Segments::of(profile, share),
            moved: Vec::new(),
            known: Vec::new(),
            outbox: VecDeque::new(),
            last_seq: 0,
            produced_ms: 0,
            sent_requests: 0,
            is_dead: false,
            is_draining: false,
            is_finished: false,
            slow_ms: 100,
        }
    }

    /// Takes an order once; says since when it holds.
    fn order(&mut self, order: &Move, now_ms: u64) -> Moved {
        if let Some(moved) = self.moved.iter().find(|moved| moved.number == order.number) {
            return *moved;
        }
        let owned = &self.segments.holding().last().owned;
        assert!(order.release.iter().all(|lane| owned.contains(lane)), "{}: {order:?}", self.name);
        assert!(!order.take.iter().any(|lane| owned.contains(lane)), "{}: {order:?}", self.name);
        let from = order.from.max(RunTime((now_ms + self.slow_ms) * 1_000));
        let since_start = self.segments.moved(from.since(RunTime::START), &order.release, &order.take);
        let moved = Moved { number: order.number, from: RunTime::START.plus(since_start) };
        self.known.push(order.clone());
        self.moved.push(moved);
        moved
    }

    fn produce(&mut self, now_ms: u64) {
        let end_ms = SECONDS * 1_000;
        let is_gone = self.is_draining
            && self.segments.holding().last().is_empty()
            && self.moved.iter().all(|moved| moved.from.0 <= now_ms * 1_000);
        let cut_ms = if is_gone || now_ms >= end_ms { now_ms.min(end_ms) } else { now_ms / 1_000 * 1_000 };
        if self.is_dead || self.is_finished || cut_ms <= self.produced_ms {
            return;
        }
        let before = |ms: u64| self.segments.count_before(ms * 1_000_000);
        let requests = before(cut_ms) - before(self.produced_ms);
        self.last_seq += 1;
        self.outbox.push_back((self.last_seq, delta(self.produced_ms, cut_ms, requests)));
        self.sent_requests += requests;
        self.produced_ms = cut_ms;
        self.is_finished = is_gone || cut_ms == end_ms;
    }

    fn die(&mut self, now_ms: u64) {
        let before = |ms: u64| self.segments.count_before(ms * 1_000_000);
        if !self.is_finished {
            self.sent_requests += before(now_ms) - before(self.produced_ms).min(before(now_ms));
        }
        self.is_dead = true;
    }
}

struct World {
    b: Bench,
    owners: Vec<Owner>,
    looked: usize,
    now_ms: u64,
}

impl World {
    fn new(more: Value) -> Self {
        let plan = open_plan(RATE, SECONDS, more);
        let weights = [Weight { cores: 1, capacity: 1.0 }; NAMES.len()];
        let shares = split(&plan, &weights).1;
        let b = Bench::running(plan, &NAMES);
        let owners = NAMES.iter().zip(shares).map(|(name, shares)| Owner::new(name, &shares[0])).collect();
        Self { b, owners, looked: 0, now_ms: 0 }
    }

    fn owner(&mut self, name: &str) -> &mut Owner {
        self.owners.iter_mut().find(|owner| owner.name == name).expect("an owner")
    }

    /// Opens what is to be opened; agents hear what was sent, and say what they have.
    fn talk(&mut self) {
        for i in 0..self.owners.len() {
            let name = self.owners[i].name;
            let now_ms = self.now_ms;
            self.owners[i].produce(now_ms);
            if !self.b.streams.contains_key(&name.into()) {
                continue;
            }
            if self.owners[i].is_dead {
                self.b.lost(name);
                continue;
            }
            let (stream, hello) = self.b.streams[&name.into()].clone();
            let owner = &mut self.owners[i];
            owner.outbox.retain(|(seq, _)| *seq > hello.last_seq.0);
            let state = if owner.is_finished { ShardState::Finished } else { ShardState::Running };
            let (moved, is_draining) = (owner.moved.clone(), owner.is_draining);
            self.b.open_moved(name, state, moved);
            self.hear();
            let mut reports: Vec<Report> = Vec::new();
            if is_draining {
                reports.push(Report::Draining);
            }
            let owner = &self.owners[i];
            owner.outbox.iter().take(8).for_each(|(seq, delta)| reports.extend(frames(*seq, delta)));
            if owner.is_finished && owner.outbox.len() <= 8 {
                reports.push(Report::Finished { last_seq: Seq(owner.last_seq) });
            }
            for report in reports {
                if self.b.streams.get(&name.into()).is_some_and(|(ours, _)| *ours == stream) {
                    self.b.report(name, report);
                }
            }
            self.hear();
        }
    }

    /// Agents hear what was sent to them, where they live.
    fn hear(&mut self) {
        while self.looked < self.b.seen.len() {
            self.looked += 1;
            let Action::Send { agent, stream, order } = self.b.seen[self.looked - 1].clone() else {
                continue;
            };
            let is_newest = self.b.streams.get(&agent).is_some_and(|(newest, _)| *newest == stream);
            let now_ms = self.now_ms;
            let owner = self.owner(&agent.0);
            match order {
                Order::Ack(seq) if !owner.is_dead => owner.outbox.retain(|(ours, _)| *ours > seq.0),
                Order::Move(order) if !owner.is_dead && is_newest => {
                    let moved = owner.order(&order, now_ms);
                    self.b.report(&agent.0, Report::Moved(moved));
                }
                _ => {}
            }
        }
    }

    fn step(&mut self) {
        self.now_ms += 130;
        self.b.at_ms(self.now_ms);
        self.hear();
        self.talk();
    }

    fn run_to(&mut self, ms: u64) {
        while self.now_ms < ms && !self.b.is_over {
            self.step();
        }
    }

    fn run(&mut self) {
        self.run_to(SECONDS * 1_000 + 60_000);
        assert!(self.b.is_over, "every run reaches its end");
    }

    fn kill(&mut self, name: &str) {
        let now_ms = self.now_ms;
        self.owner(name).die(now_ms);
        self.b.gone(name);
        if self.b.streams.contains_key(&name.into()) {
            self.b.lost(name);
        }
    }

    /// What must hold of every run: gives what was missed, and what lies in gaps.
    fn check(&self) -> (u64, u64) {
        let m = &self.b.ending().metrics;
        let sent: u64 = self.owners.iter().map(|owner| owner.sent_requests).sum();
        let gaps: u64 = m.completeness.gaps.iter().map(|gap| gap.at_most_requests).sum();
        assert!(
            m.total_requests <= sent && sent - m.total_requests <= gaps,
            "{} of {sent}, gaps {gaps}",
            m.total_requests
        );
        for owner in self.owners.iter().filter(|owner| !owner.is_dead) {
            assert!(!m.completeness.gaps.iter().any(|gap| gap.agent == owner.name), "{:?}", m.completeness);
        }
        let planned = m.iterations + m.dropped_iterations + m.missed_iterations + gaps;
        assert_eq!(
            planned,
            RATE * SECONDS,
            "missed {} gaps {gaps} iterations {}",
            m.missed_iterations,
            m.iterations
        );
        (m.missed_iterations, gaps)
    }
}

#[test]
fn what_a_lost_agent_had_goes_to_the_others() {
    let mut world = World::new(json!({ "on_agent_loss": "redistribute" }));
    world.run_to(5_000);
    world.kill("b");
    world.run();
    let (missed, gaps) = world.check();
    // It is given up 4.5 s after the last word, and its lanes are taken 0.65 s later.
    assert!(missed > 0 && missed <= RATE / 3, "{missed}");
    assert!(gaps > 0 && gaps <= RATE / 3 * 6, "{gaps}");
    assert_eq!(world.b.stored.moves.len(), 2, "one order to each of the two that are left");
    let last = |name: &str| {
        world.owners.iter().find(|o| o.name == name).unwrap().segments.holding().last().owned.len()
    };
    assert!(last("a").abs_diff(last("c")) <= 1 && last("a") + last("c") == 100);
}

#[test]
fn what_a_lost_agent_had_is_missed_where_the_plan_says_so() {
    let mut world = World::new(json!({ "on_agent_loss": "continue" }));
    world.run_to(5_000);
    world.kill("b");
    world.run();
    let (missed, _) = world.check();
    assert!(missed > RATE / 3 * 8, "{missed}");
    assert!(world.b.stored.moves.is_empty());
}

#[test]
fn an_agent_that_drains_hands_over_without_a_dent() {
    let mut world = World::new(json!({ "elastic": true }));
    world.run_to(4_000);
    world.owner("c").is_draining = true;
    world.b.report("c", Report::Draining);
    world.run();
    assert_eq!(world.check(), (0, 0), "nothing is missed and nothing missing");
    let drained = world.owners.iter().find(|owner| owner.name == "c").unwrap();
    assert!(
        drained.is_finished && drained.produced_ms < 7_000,
        "it is soon done: {} ms",
        drained.produced_ms
    );
    let orders: Vec<Order> =
        world.b.orders("a").into_iter().filter(|order| matches!(order, Order::Move(_))).collect();
    let [Order::Move(taken)] = orders.as_slice() else { panic!("{orders:?}") };
    assert_eq!(taken.from, drained.moved[0].from, "from the moment of the release on");
}

#[test]
fn what_nobody_can_take_is_not_released_and_what_nobody_took_is_missed() {
    let mut world = World::new(json!({ "elastic": true }));
    world.run_to(4_000);
    for name in NAMES {
        world.owner(name).is_draining = true;
        world.b.report(name, Report::Draining);
    }
    world.run();
    let asked: Vec<&str> = world.b.stored.moves.values().map(|kept| kept.agent.0.as_str()).collect();
    assert_eq!(asked, ["a"], "after it there was nobody left");
    let (missed, gaps) = world.check();
    assert!(missed.abs_diff(RATE / 3 * 15) < RATE / 3 * 2 && gaps == 0, "{missed}");
}

#[test]
fn a_release_that_came_late_is_taken_from_when_it_held() {
    let mut world = World::new(json!({ "elastic": true }));
    world.owner("c").slow_ms = 2_500;
    world.owner("a").slow_ms = 900;
    world.run_to(4_000);
    world.owner("c").is_draining = true;
    world.b.report("c", Report::Draining);
    world.run();
    let (missed, gaps) = world.check();
    assert_eq!((missed, gaps), (0, 0), "the takers heard of it in time");

    // Those that take too late leave a hole, which is counted.
    let mut world = World::new(json!({ "elastic": true }));
    world.owner("a").slow_ms = 2_500;
    world.run_to(4_000);
    world.owner("c").is_draining = true;
    world.b.report("c", Report::Draining);
    world.run();
    let (missed, gaps) = world.check();
    assert!(missed > 0 && missed < RATE && gaps == 0, "{missed}, {gaps}");
    assert!(world.b.warnings().contains(&"late_move".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn everything_planned_is_started_once_or_missed_or_in_a_gap(seed in any::<u64>()) {
        let mut chance = Chance(seed.max(1));
        let mut world = World::new(json!({ "elastic": true }));
        for owner in &mut world.owners {
            owner.slow_ms = [50, 100, 300, 1_500][(chance.next() % 4) as usize];
        }
        while world.now_ms < (SECONDS - 3) * 1_000 && !world.b.is_over {
            if chance.one_in(40) {
                world.b = world.b.taken_over(300);
                world.looked = 0;
                let dead: Vec<&str> = world.owners.iter().filter(|o| o.is_dead).map(|o| o.name).collect();
                dead.into_iter().for_each(|name| world.b.gone(name));
            }
            world.b.store_answers = !chance.one_in(4);
            if world.b.store_answers {
                world.b.answer_writes();
            } else if let Some(Action::SaveMoves(save)) = world.b.writes.first().cloned() && chance.one_in(2) {
                world.b.writes.remove(0);
                if chance.one_in(2) {
                    world.b.store_moves(&save.moves);
                }
                world.b.event(Event::MovesFailed { batch: save.batch, fenced: false });
            }
            let name = NAMES[(chance.next() % 3) as usize];
            let living = world.owners.iter().filter(|owner| !owner.is_dead && !owner.is_draining).count();
            let is_going = !world.owner(name).is_dead && !world.owner(name).is_finished;
            if chance.one_in(70) && living > 1 && is_going {
                world.kill(name);
            } else if chance.one_in(50) && living > 1 && is_going {
                world.owner(name).is_draining = true;
            }
            if chance.one_in(5) && world.b.streams.contains_key(&name.into()) {
                world.b.lost(name);
            }
            world.step();
        }
        world.b.store_answers = true;
        world.b.answer_writes();
        world.run();
        world.check();
    }
}
