//! A model of the engine: one shard's load as the session's machine sees it. It walks over **all** arrivals of the plan one by one, by the plan's own profile,
//! and takes those of the lanes that it owns: no arithmetic of the product's schedules is used, so the two can disagree.
//!
//! As the real one it looks at its fence before it sends, does not catch up after a freeze, cuts at the boundaries of run time, counts every arrival as
//! started or dropped, and ends each iteration as completed or interrupted. What an iteration takes, and whether a VU is free, is chance.

use std::collections::VecDeque;

use volcanion_agent::session::load::{Adjustment, LoadEvent};
use volcanion_common::delta::{Delta, ScenarioDelta};
use volcanion_common::plan::profile::Profile;
use volcanion_common::plan::{Executor, Level, Plan, document};
use volcanion_common::series::{Outcome, Series, SeriesKey};
use volcanion_common::session::Move;
use volcanion_common::shard::{ScenarioShare, Shard};
use volcanion_common::units::{Micros, RunTime};

use crate::chance::Chance;

/// A core that stood still for longer was frozen.
const FROZEN_NS: u64 = 1_000_000_000;
/// A core looks at least this often.
const LOOK_EVERY_NS: u64 = 100_000_000;
/// And at most this often, so that there are not too many looks.
const LOOK_PAUSE_NS: u64 = 8_000_000;

/// Where a move came too late, it holds so much later than now.
const HEARD_WITHIN_US: u64 = 50_000;

/// An iteration that was started: what nobody else may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Begun {
    /// Arrival of a scenario: of which copy of the plan (by its first VU), its segment's number (0: the plan's own), its own number, when it was due in
    /// microseconds of run time.
    Arrival { copy: u64, scenario: u32, segment: u64, number: u64, due_us: u64 },
    /// A VU's.
    Vu { scenario: u32, number: u64 },
}

/// What a look gives.
#[derive(Default)]
pub struct Looked {
    pub events: Vec<LoadEvent>,
    pub begun: Vec<Begun>,
    /// VUs that ended an iteration.
    pub ended: Vec<(u32, u64)>,
    /// On the agent's clock.
    pub next_ns: Option<u64>,
}

/// One shard's load. Instants are the agent's monotonic nanoseconds.
pub struct Engine {
    pub number: u32,
    at_ns: u64,
    interval_ns: u64,
    parts: Vec<Part>,
    has_begun: bool,
    from_us: u64,
    boundary_ns: u64,
    pub allowed_until_ns: u64,
    cut_ns: Option<u64>,
    alive_ns: u64,
    is_over: bool,
}

struct Part {
    index: u32,
    /// The number of the first VU of its copy of the plan.
    first_vu: u64,
    /// From the start of run time.
    start_ns: u64,
    duration_ns: u64,
    graceful_ns: u64,
    /// Lanes in all, and of each owned one since when (in microseconds of run time) and until when.
    lanes: u32,
    owned: Vec<Owned>,
    kind: Kind,
    /// Since when its newest move holds.
    moved_us: u64,
    /// Moves of VUs that do not hold yet: number, since when, lanes that go.
    moving: Vec<(u64, u64, Vec<u32>)>,
    /// No iteration starts any more; those that go on are cut then.
    closed: Option<u64>,
    /// When they end, and whose VU.
    going: Vec<(u64, u64)>,
    counts: ScenarioDelta,
    requests: (u64, u64),
}

/// A lane that is owned for a while.
#[derive(Clone, Copy, Debug)]
struct Owned {
    lane: u32,
    from_us: u64,
    until_us: u64,
}

impl Owned {
    fn holds(self, lane: u32, at_us: u64) -> bool {
        self.lane == lane && self.from_us <= at_us && at_us < self.until_us
    }
}

enum Kind {
    Open { profile: Profile, segment: u64, origin_ns: u64, next: u64, later: VecDeque<Adjustment> },
    Closed { vus: u64 },
}

impl Engine {
    pub fn new(shard: &Shard, number: u32, at_ns: u64, now_ns: u64) -> Self {
        let plan = document::from_json(&shard.plan).expect("a sealed plan is valid").plan;
        let interval_ns = plan.interval.as_nanos();
        // One without a lane joins a run that goes.
        let joins = shard.scenarios.iter().all(ScenarioShare::is_empty);
        let gone_ns = if joins { now_ns.saturating_sub(at_ns) } else { 0 };
        let joined_ns = gone_ns / interval_ns * interval_ns;
        Self {
            number,
            at_ns,
            interval_ns,
            parts: parts(&plan, &shard.scenarios, shard.first_vu),
            has_begun: false,
            from_us: joined_ns / 1_000,
            boundary_ns: joined_ns + interval_ns,
            allowed_until_ns: u64::MAX,
            cut_ns: None,
            alive_ns: now_ns,
            is_over: false,
        }
    }

    /// No new iterations; those that go on are cut off then. The earliest holds.
    pub fn stop(&mut self, cut_ns: u64) {
        self.cut_ns = Some(self.cut_ns.map_or(cut_ns, |before| before.min(cut_ns)));
    }

    /// Lanes come and go; what holds at once is said at once, a VU that is released ends its iteration first.
    pub fn move_lanes(&mut self, order: &Move, now_ns: u64) -> Vec<LoadEvent> {
        let now_us = now_ns.saturating_sub(self.at_ns) / 1_000;
        let Some(part) = self.parts.iter_mut().find(|part| part.index == order.scenario) else {
            return Vec::new();
        };
        let asked_us = order.from.0.max(part.moved_us);
        let from_us = if asked_us <= now_us + 1_000 { now_us + HEARD_WITHIN_US } else { asked_us };
        part.moved_us = from_us;
        for owned in part.owned.iter_mut().filter(|owned| owned.until_us == u64::MAX) {
            if order.release.contains(&owned.lane) {
                owned.until_us = from_us;
            }
        }
        part.owned.extend(order.take.iter().map(|lane| Owned { lane: *lane, from_us, until_us: u64::MAX }));
        if matches!(part.kind, Kind::Closed { .. }) {
            part.moving.push((order.number, from_us, order.release.clone()));
            return Vec::new();
        }
        vec![LoadEvent::Moved { number: order.number, from: RunTime(from_us) }]
    }

    pub fn adjust(&mut self, adjustment: Adjustment) {
        let part = self.parts.iter_mut().find(|part| part.index == adjustment.change.scenario);
        if let Some(Part { kind: Kind::Open { later, .. }, .. }) = part {
            later.push_back(adjustment);
        }
    }

    /// Does what is due.
    pub fn look(&mut self, now_ns: u64, chance: &mut Chance) -> Looked {
        let mut looked = Looked::default();
        if self.is_over {
            return looked;
        }
        let before_ns = std::mem::replace(&mut self.alive_ns, now_ns);
        let frozen = (now_ns > before_ns + FROZEN_NS).then_some((before_ns, now_ns));
        let is_fenced = now_ns >= self.allowed_until_ns;
        if is_fenced {
            self.stop(now_ns);
        }
        if !self.has_begun && now_ns >= self.at_ns && self.cut_ns.is_none() {
            self.has_begun = true;
            looked.events.push(LoadEvent::Started { monotonic_ns: now_ns });
        }
        if self.has_begun {
            self.cut_at_boundary(now_ns, &mut looked);
        }
        let (at_ns, cut_ns, has_begun) = (self.at_ns, self.cut_ns, self.has_begun);
        for part in &mut self.parts {
            part.end_due(now_ns, &mut looked);
            part.say_moves(at_ns, now_ns, &mut looked);
            if has_begun && !is_fenced && part.closed.is_none() {
                part.start_due(at_ns, now_ns, frozen, cut_ns.is_some(), chance, &mut looked);
            }
            part.close_where_due(at_ns, now_ns, cut_ns);
            part.cut_where_due(now_ns, &mut looked);
        }
        if self.parts.iter().all(|part| part.closed.is_some() && part.going.is_empty()) {
            self.is_over = true;
            if self.has_begun {
                let to_us = (now_ns - self.at_ns).div_ceil(1_000).max(self.from_us + 1);
                looked.events.push(LoadEvent::Delta(self.delta(to_us)));
            }
            looked.events.push(LoadEvent::Finished);
            return looked;
        }
        looked.next_ns = Some(self.next_ns(now_ns));
        looked
    }

    fn cut_at_boundary(&mut self, now_ns: u64, looked: &mut Looked) {
        let reached_ns = now_ns - self.at_ns;
        if reached_ns >= self.boundary_ns {
            let to_ns = reached_ns / self.interval_ns * self.interval_ns;
            self.boundary_ns = to_ns + self.interval_ns;
            looked.events.push(LoadEvent::Delta(self.delta(to_ns / 1_000)));
        }
    }

    fn delta(&mut self, to_us: u64) -> Delta {
        let from_us = std::mem::replace(&mut self.from_us, to_us);
        let mut delta = Delta { from: RunTime(from_us), to: RunTime(to_us), ..Delta::default() };
        for part in &mut self.parts {
            let (answered, interrupted) = std::mem::take(&mut part.requests);
            for (status, requests) in
                [(200, answered), (499, interrupted)].into_iter().filter(|(_, n)| *n > 0)
            {
                let mut series = Series { requests, ..Series::default() };
                series.response_time.record(Micros(1_000 + requests));
                series.service_time.record(Micros(900 + requests));
                let key = SeriesKey { step: part.index, outcome: Outcome::Status(status) };
                delta.series.insert(key, series);
            }
            let mut counts = std::mem::take(&mut part.counts);
            counts.vus = part.going.len() as u64;
            delta.scenarios.insert(part.index, counts);
        }
        delta
    }

    fn next_ns(&self, now_ns: u64) -> u64 {
        if !self.has_begun {
            // A stop or the fence may come before the start.
            return self.at_ns.min(now_ns + LOOK_EVERY_NS).max(now_ns + 1);
        }
        let of_parts = self.parts.iter().filter_map(|part| part.next_ns(self.at_ns));
        let boundary_ns = self.at_ns + self.boundary_ns;
        let next_ns = of_parts.chain([boundary_ns]).chain(self.cut_ns).min().unwrap_or(boundary_ns);
        next_ns.min(now_ns + LOOK_EVERY_NS).max(now_ns + LOOK_PAUSE_NS)
    }
}

fn parts(plan: &Plan, shares: &[ScenarioShare], first_vu: u64) -> Vec<Part> {
    let scenarios = plan.scenarios.iter().zip(shares).enumerate();
    scenarios
        .map(|(index, (scenario, share))| {
            let executor = &scenario.executor;
            let level = executor.start_level();
            let profile = match level {
                Some(Level::Rate(rate)) => Some(Profile::of_rate(rate, executor.duration())),
                _ => Profile::of_arrivals(executor),
            };
            let kind = match (profile, executor) {
                (Some(profile), _) => {
                    Kind::Open { profile, segment: 0, origin_ns: 0, next: 0, later: VecDeque::new() }
                }
                (None, Executor::ConstantVus { vus, .. }) => Kind::Closed { vus: *vus },
                (None, other) => panic!("the model has no {}", other.name()),
            };
            Part {
                index: index as u32,
                first_vu,
                start_ns: scenario.start_time.as_nanos(),
                duration_ns: executor.duration().as_nanos(),
                graceful_ns: scenario.graceful_stop.as_nanos(),
                lanes: share.lanes,
                owned: share
                    .owned
                    .iter()
                    .map(|lane| Owned { lane: *lane, from_us: 0, until_us: u64::MAX })
                    .collect(),
                kind,
                moved_us: 0,
                moving: Vec::new(),
                closed: None,
                going: Vec::new(),
                counts: ScenarioDelta::default(),
                requests: (0, 0),
            }
        })
        .collect()
}

/// How long an iteration takes.
fn takes_ns(chance: &mut Chance) -> u64 {
    match chance.below(20) {
        0 => chance.about_ms(1_500),
        1..4 => chance.about_ms(300),
        _ => chance.about_ms(25),
    }
}

impl Part {
    fn start_due(
        &mut self,
        at_ns: u64,
        now_ns: u64,
        frozen: Option<(u64, u64)>,
        is_stopped: bool,
        chance: &mut Chance,
        looked: &mut Looked,
    ) {
        let zero_ns = at_ns + self.start_ns;
        if now_ns < zero_ns {
            return;
        }
        match &mut self.kind {
            Kind::Open { .. } => self.start_arrivals(zero_ns, now_ns, frozen, chance, looked),
            Kind::Closed { vus } => {
                let vus = *vus;
                if is_stopped || now_ns >= zero_ns + self.duration_ns {
                    return;
                }
                let now_us = (now_ns - at_ns) / 1_000;
                let lane = |vu: &u64| (vu % u64::from(self.lanes)) as u32;
                let is_owned = |vu: &u64| self.owned.iter().any(|owned| owned.holds(lane(vu), now_us));
                let is_idle = |vu: &u64| self.going.iter().all(|(_, going)| going != vu);
                let idle: Vec<u64> = (0..vus).filter(is_owned).filter(is_idle).collect();
                for vu in idle {
                    self.counts.started += 1;
                    self.going.push((now_ns + chance.about_ms(250), vu));
                    looked.begun.push(Begun::Vu { scenario: self.index, number: self.first_vu + vu });
                }
            }
        }
    }

    fn start_arrivals(
        &mut self,
        zero_ns: u64,
        now_ns: u64,
        frozen: Option<(u64, u64)>,
        chance: &mut Chance,
        looked: &mut Looked,
    ) {
        while let Some((segment, number, due_ns)) = self.take_due(zero_ns, now_ns) {
            let was_missed =
                frozen.is_some_and(|(from_ns, to_ns)| from_ns < due_ns && due_ns + FROZEN_NS < to_ns);
            if was_missed || chance.percent(4) {
                self.counts.dropped += 1;
                continue;
            }
            self.counts.started += 1;
            self.going.push((now_ns + takes_ns(chance), u64::MAX));
            let due_us = (due_ns - zero_ns + self.start_ns) / 1_000;
            let (copy, scenario) = (self.first_vu, self.index);
            looked.begun.push(Begun::Arrival { copy, scenario, segment, number, due_us });
        }
    }

    /// The next arrival of an owned lane that is due by now: its segment, its number, when it was due.
    fn take_due(&mut self, zero_ns: u64, now_ns: u64) -> Option<(u64, u64, u64)> {
        let Kind::Open { profile, segment, origin_ns, next, later } = &mut self.kind else { return None };
        loop {
            let due_ns = (*next < profile.count()).then(|| zero_ns + *origin_ns + profile.time_of_ns(*next));
            let until_ns = later.front().map(|new| zero_ns - self.start_ns + new.from.0 * 1_000);
            if let Some(until_ns) = until_ns
                && due_ns.is_none_or(|due_ns| due_ns >= until_ns)
            {
                if now_ns < until_ns {
                    return None;
                }
                let new = later.pop_front()?;
                let Level::Rate(rate) = new.change.level else { continue };
                let start_us = self.start_ns / 1_000;
                let (origin_us, from_us) =
                    (new.change.at.0.saturating_sub(start_us), new.from.0.saturating_sub(start_us));
                let left_us = (self.duration_ns / 1_000).saturating_sub(origin_us);
                *profile = Profile::of_rate(rate, Micros(left_us));
                *segment = new.change.number;
                *origin_ns = origin_us * 1_000;
                *next = profile.count_before((from_us - origin_us) * 1_000);
                continue;
            }
            let due_ns = due_ns.filter(|due_ns| *due_ns <= now_ns)?;
            let number = *next;
            *next += 1;
            let (lanes, due_us) = (u64::from(self.lanes), (due_ns - zero_ns + self.start_ns) / 1_000);
            if self.owned.iter().any(|owned| owned.holds((number % lanes) as u32, due_us)) {
                return Some((*segment, number, due_ns));
            }
        }
    }

    /// Moves of VUs that hold: those that go are at rest.
    fn say_moves(&mut self, at_ns: u64, now_ns: u64, looked: &mut Looked) {
        let (now_us, lanes) = (now_ns.saturating_sub(at_ns) / 1_000, self.lanes);
        let going: Vec<u32> = self.going.iter().map(|(_, vu)| (vu % u64::from(lanes)) as u32).collect();
        self.moving.retain(|(number, from_us, release)| {
            let holds = *from_us <= now_us && !release.iter().any(|lane| going.contains(lane));
            if holds {
                looked.events.push(LoadEvent::Moved { number: *number, from: RunTime(now_us) });
            }
            !holds
        });
    }

    fn end_due(&mut self, now_ns: u64, looked: &mut Looked) {
        let (index, first_vu) = (self.index, self.first_vu);
        let before = self.going.len();
        self.going.retain(|(end_ns, vu)| {
            if *end_ns <= now_ns && *vu != u64::MAX {
                looked.ended.push((index, first_vu + *vu));
            }
            *end_ns > now_ns
        });
        let ended = (before - self.going.len()) as u64;
        self.counts.completed += ended;
        self.requests.0 += ended;
    }

    fn close_where_due(&mut self, at_ns: u64, now_ns: u64, cut_ns: Option<u64>) {
        let end_ns = at_ns + self.start_ns + self.duration_ns;
        if now_ns >= end_ns && self.closed.is_none() {
            self.closed = Some(end_ns + self.graceful_ns);
        }
        if let Some(cut_ns) = cut_ns {
            self.closed = Some(self.closed.map_or(cut_ns, |before| before.min(cut_ns)));
        }
    }

    fn cut_where_due(&mut self, now_ns: u64, looked: &mut Looked) {
        if self.closed.is_some_and(|cut_ns| cut_ns <= now_ns) {
            let cut = self.going.len() as u64;
            for (_, vu) in self.going.drain(..).filter(|(_, vu)| *vu != u64::MAX) {
                looked.ended.push((self.index, self.first_vu + vu));
            }
            self.counts.interrupted += cut;
            self.requests.1 += cut;
        }
    }

    fn next_ns(&self, at_ns: u64) -> Option<u64> {
        let going = self.going.iter().map(|(end_ns, _)| *end_ns).min();
        let zero_ns = at_ns + self.start_ns;
        let next = match (&self.kind, self.closed) {
            (_, Some(cut_ns)) => Some(cut_ns),
            (Kind::Open { profile, origin_ns, next, .. }, None) => {
                let due = (*next < profile.count()).then(|| zero_ns + origin_ns + profile.time_of_ns(*next));
                Some(due.unwrap_or(u64::MAX).min(zero_ns + self.duration_ns))
            }
            (Kind::Closed { .. }, None) => Some(zero_ns),
        };
        going.into_iter().chain(next).min()
    }
}
