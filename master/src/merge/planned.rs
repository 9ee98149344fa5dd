//! What one agent was to do: how many iterations its shard plans, and so how much a hole in its numbers can hold.
//!
//! For a scenario of an open loop, at every moment t of run time:
//! `planned before t = started + dropped + missed + waiting (when_busy: queue) `, so what an agent that was heard up to `from` can have
//! started until `to` is `planned before to - (started + dropped + missed before from)`, and beside it the iterations that were going at `from`.

use volcanion_common::delta::ScenarioDelta;
use volcanion_common::plan::profile::Profile;
use volcanion_common::plan::{Arrival, Executor, Plan, Scenario, Step};
use volcanion_common::session::Change;
use volcanion_common::shard::ScenarioShare;
use volcanion_common::shard::holding::Holding;
use volcanion_common::shard::segments::Segments;
use volcanion_common::units::{Micros, RunTime};

use super::controlled::{Controlled, most_of};
use super::moves::Moves;
use super::{AgentState, Gap, ScenarioCounts};

/// One agent's plan.
#[derive(Debug)]
pub struct Planned {
    scenarios: Vec<PlannedScenario>,
    /// After it nothing is sent.
    last_moment: RunTime,
}

#[derive(Debug)]
struct PlannedScenario {
    start: Micros,
    requests_per_iteration: u64,
    /// The share at the start, and what became of it.
    share: ScenarioShare,
    moves: Moves,
    holding: Holding,
    /// Its arrivals, where it is an open loop that the plan alone leads.
    arrivals: Option<Segments>,
    /// What it is led by from outside.
    controlled: Option<Controlled>,
    /// The most VUs of the whole scenario.
    max_vus: u64,
    /// Arrivals are drawn by chance, so their number is an expectation.
    is_random: bool,
    /// Iterations of this share in all, where the plan fixes them.
    iterations: Option<u64>,
}

impl Planned {
    /// An agent's plan, from its shares of the plan's scenarios in order.
    pub fn new(plan: &Plan, shares: &[ScenarioShare]) -> Self {
        let scenarios =
            plan.scenarios.iter().zip(shares).map(|(s, share)| PlannedScenario::new(s, share)).collect();
        Self { scenarios, last_moment: RunTime::START.plus(plan.duration()).plus(plan.graceful_stop()) }
    }

    /// Lanes of a scenario go and come from a moment of run time on, in whatever order that is heard of.
    pub fn moved(&mut self, scenario: u32, from: RunTime, release: &[u32], take: &[u32]) {
        let Some(scenario) = self.scenarios.get_mut(scenario as usize) else { return };
        let since_start = from.since(RunTime::START.plus(scenario.start));
        let is_newest = scenario.moves.add(since_start, release, take);
        if is_newest {
            scenario.holding.moved(since_start, release, take);
            if let Some(arrivals) = &mut scenario.arrivals {
                arrivals.moved(since_start, release, take);
            }
        } else {
            scenario.hold_anew();
        }
        if let Some(controlled) = &mut scenario.controlled {
            controlled.moved(from, release, take);
        }
    }

    /// How many arrivals of any lanes are due in [from, to); 0 for a closed loop.
    pub fn arrivals_of(&self, scenario: u32, lanes: &[u32], from: RunTime, to: RunTime) -> u64 {
        let Some(scenario) = self.scenarios.get(scenario as usize) else { return 0 };
        let lanes = ScenarioShare { lanes: scenario.holding.last().lanes, owned: lanes.to_vec() };
        if let Some(controlled) = &scenario.controlled {
            return controlled.arrivals_of(&lanes, from, to).unwrap_or(0);
        }
        let since = |time: RunTime| time.since(RunTime::START.plus(scenario.start)).as_nanos();
        scenario.arrivals.as_ref().map_or(0, |arrivals| arrivals.count_of(&lanes, since(from), since(to)))
    }

    /// A change of level was ordered; each once, in the order of their numbers.
    pub fn ordered(&mut self, change: Change) {
        let scenario = self.scenarios.get_mut(change.scenario as usize);
        if let Some(controlled) = scenario.and_then(|scenario| scenario.controlled.as_mut()) {
            controlled.ordered(change);
        }
    }

    /// The agent has taken a change of level, which holds since `from`.
    pub fn confirmed(&mut self, number: u64, from: RunTime) {
        for controlled in self.scenarios.iter_mut().filter_map(|scenario| scenario.controlled.as_mut()) {
            if controlled.confirmed(number, from) {
                return;
            }
        }
    }

    /// The agent has taken every change up to this one.
    pub fn confirmed_up_to(&mut self, number: u64) {
        let controlled = self.scenarios.iter_mut().filter_map(|s| s.controlled.as_mut());
        controlled.for_each(|controlled| controlled.confirmed_up_to(number));
    }

    /// Arrivals of the agent's open loops that are due in [from, to), by scenario; only those with any.
    pub fn arrivals(&self, from: RunTime, to: RunTime) -> impl Iterator<Item = (u32, ScenarioDelta)> {
        self.scenarios.iter().enumerate().filter_map(move |(index, scenario)| {
            let missed = scenario.arrivals_before(to)?.saturating_sub(scenario.arrivals_before(from)?);
            (missed > 0).then(|| (index as u32, ScenarioDelta { missed, ..ScenarioDelta::default() }))
        })
    }

    /// Arrivals of the agent's open loops that were due before `to` and that it neither started nor counted as dropped or missed, by scenario; only those
    /// with any.
    pub fn not_started(&self, state: &AgentState, to: RunTime) -> impl Iterator<Item = (u32, ScenarioDelta)> {
        self.scenarios.iter().zip(&state.scenarios).enumerate().filter_map(
            move |(index, (scenario, counts))| {
                let missed = scenario.arrivals_before(to)?.saturating_sub(counts.accounted());
                (missed > 0).then(|| (index as u32, ScenarioDelta { missed, ..ScenarioDelta::default() }))
            },
        )
    }

    /// The hole that an agent leaves which was heard as `state` says and cannot have sent anything after `to`. `fallback_rate` is the closed loops' rate where
    /// this agent was never heard.
    pub fn gap(&self, state: &AgentState, to: RunTime, fallback_rate: f64) -> Gap {
        let from = state.reported_to;
        let to = to.min(self.last_moment).max(from);
        self.hole(state, from, to, to, fallback_rate)
    }

    /// What is left of a hole, now that its agent said what `state` holds. What was due after the hole is counted as missed already.
    pub fn gap_left(&self, state: &AgentState, gap: &Gap) -> Gap {
        let from = state.reported_to.clamp(gap.from, gap.to);
        self.hole(state, from, gap.to, state.missed_to.max(gap.to), 0.0)
    }

    /// What may have happened in [from, to), where all that was due before `counted_to` is in the counts, or happened there.
    fn hole(
        &self,
        state: &AgentState,
        from: RunTime,
        to: RunTime,
        counted_to: RunTime,
        fallback_rate: f64,
    ) -> Gap {
        let none = ScenarioCounts::default();
        let mut at_most_requests: u64 = 0;
        let mut estimate = false;
        let mut open_ended = false;
        for (index, scenario) in self.scenarios.iter().enumerate() {
            let counts = state.scenarios.get(index).unwrap_or(&none);
            match scenario.iterations_left(counts, counted_to) {
                Some(iterations) => {
                    at_most_requests = scenario
                        .requests_per_iteration
                        .saturating_mul(iterations)
                        .saturating_add(at_most_requests);
                    estimate |= scenario.is_random;
                }
                None => open_ended = open_ended || scenario.vus_between(from, to) > 0,
            }
        }
        if open_ended {
            let rate = if state.seq.0 > 0 { state.closed_rate_max } else { fallback_rate };
            let rate = rate * self.growth(from, to);
            let about = (rate * to.since(from).as_secs_f64()).ceil() as u64;
            at_most_requests = at_most_requests.saturating_add(about);
            estimate = true;
        }
        Gap { from, to, at_most_requests, estimate }
    }

    /// How many times as many VUs the closed loops were to have in [from, to) as at any time before; at least 1.
    fn growth(&self, from: RunTime, to: RunTime) -> f64 {
        let closed = || self.scenarios.iter().filter(|scenario| !scenario.is_open());
        let before: u64 = closed().map(|scenario| scenario.vus_between(RunTime::START, from)).sum();
        let then: u64 = closed().map(|scenario| scenario.vus_between(from, to)).sum();
        if before > 0 { (then as f64 / before as f64).max(1.0) } else { 1.0 }
    }
}

impl PlannedScenario {
    fn new(scenario: &Scenario, share: &ScenarioShare) -> Self {
        let executor = &scenario.executor;
        let controlled = Controlled::new(executor, RunTime::START.plus(scenario.start_time), share);
        let iterations = match executor {
            Executor::PerVuIterations { vus, iterations, .. } => {
                Some(share.count_below(*vus).saturating_mul(*iterations))
            }
            Executor::SharedIterations { iterations, .. } => Some(share.count_below(*iterations)),
            _ => None,
        };
        Self {
            start: scenario.start_time,
            requests_per_iteration: scenario.steps.iter().filter(|s| matches!(s, Step::Request(_))).count()
                as u64,
            share: share.clone(),
            moves: Moves::default(),
            holding: Holding::new(share),
            arrivals: Profile::of_arrivals(executor)
                .filter(|_| controlled.is_none())
                .map(|arrivals| Segments::of(arrivals, share)),
            controlled,
            max_vus: executor.max_vus(),
            is_random: executor.open_loop().is_some_and(|open| open.arrival == Arrival::Poisson),
            iterations,
        }
    }

    fn hold_anew(&mut self) {
        self.holding = Holding::new(&self.share);
        if let Some(arrivals) = &mut self.arrivals {
            *arrivals = Segments::of(arrivals.first().clone(), &self.share);
        }
        for (from, release, take) in self.moves.in_order() {
            self.holding.moved(*from, release, take);
            if let Some(arrivals) = &mut self.arrivals {
                arrivals.moved(*from, release, take);
            }
        }
    }

    /// Owned arrivals that are due before a moment of run time; `None` for a closed loop.
    fn arrivals_before(&self, time: RunTime) -> Option<u64> {
        if let Some(controlled) = &self.controlled {
            return controlled.arrivals_before(time);
        }
        let since_start = time.since(RunTime::START.plus(self.start));
        self.arrivals.as_ref().map(|arrivals| arrivals.count_before(since_start.as_nanos()))
    }

    fn is_open(&self) -> bool {
        self.arrivals_before(RunTime::START).is_some()
    }

    /// The most VUs that it was to have in [from, to).
    fn vus_between(&self, from: RunTime, to: RunTime) -> u64 {
        let of_plan = || {
            let start = RunTime::START.plus(self.start);
            most_of(&self.holding, from.since(start), to.since(start), self.max_vus)
        };
        self.controlled.as_ref().map_or_else(of_plan, |controlled| controlled.vus_between(from, to))
    }

    /// The most iterations that may have gone on between the counts and `to`; `None` where the plan does not say.
    fn iterations_left(&self, counts: &ScenarioCounts, to: RunTime) -> Option<u64> {
        let planned = match &self.controlled {
            Some(controlled) => controlled.most_before(to)?,
            None => self.arrivals_before(to).or(self.iterations)?,
        };
        let going = counts.started.saturating_sub(counts.completed + counts.interrupted);
        Some(planned.saturating_sub(counts.accounted()).saturating_add(going))
    }
}
