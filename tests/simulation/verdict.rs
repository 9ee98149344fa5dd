//! The end of a run against what was true: everything that was started is counted or lies in a named gap, and what was planned is accounted for.

use std::collections::BTreeSet;

use volcanion_common::plan::profile::Profile;
use volcanion_common::plan::{Level, Load, Plan, Scenario};
use volcanion_common::units::{Micros, Rate, RunTime};
use volcanion_common::view::{RunStatus, StopReason};
use volcanion_master::merge::{AgentState, Gap};

use crate::lanes;
use crate::oracle::{RunTruth, Who};
use crate::plans;
use crate::store::Stored;
use crate::world::MS;

/// See the module.
pub fn check(stored: &Stored, truth: &RunTruth, wall_apart_ms: u64) -> Result<(), String> {
    let Some(ending) = &stored.ending else { return Err("it has no end".to_owned()) };
    let metrics = &ending.metrics;
    if metrics.completeness.complete != metrics.completeness.gaps.is_empty() {
        return Err("it counts as complete, and has gaps".to_owned());
    }
    let named: BTreeSet<&str> = metrics.completeness.gaps.iter().map(|gap| gap.agent.as_str()).collect();
    if let Some(state) =
        stored.agents.values().find(|s| s.gap.is_some() && !named.contains(s.agent.0.as_str()))
    {
        return Err(format!("the gap of {} is not named", state.agent));
    }
    for who in lanes::follow(stored)? {
        let state = stored.agents.get(&who);
        if !state.is_some_and(|state| state.is_lost() || state.is_whole()) {
            return Err(format!("{} had lanes taken from it, and was neither lost nor at its end", who.0));
        }
    }
    // After a take-over the start is known by a wall clock: what it may be off by, a gap may be short by.
    let apart_s = if truth.take_overs > 0 { (2 * wall_apart_ms).div_ceil(1_000).max(1) } else { 0 };
    let slack = apart_s * most_per_second(stored);
    for (who, shard) in &truth.shards {
        let state = stored.agents.get(who);
        // What one whose start came late does after the plan's end is bounded by its plan alone.
        let is_before_the_end = |gap: &Gap| gap.to < RunTime::START.plus(stored.plan.duration());
        if let Some(gap) = state.and_then(|state| state.gap).filter(is_before_the_end) {
            let closed_ns =
                shard.began_ns + gap.to.0 * 1_000 + truth.round_trip_ns_max + 2 * wall_apart_ms * MS;
            if shard.last_start_ns > closed_ns {
                return Err(format!(
                    "{} began something {} ms after its gap {}..{} was over",
                    who.0,
                    (shard.last_start_ns - closed_ns) / MS,
                    gap.from.0,
                    gap.to.0
                ));
            }
        }
        let started: u64 = state.map_or(0, |state| state.scenarios.iter().map(|counts| counts.started).sum());
        match state.and_then(|state| state.gap) {
            None if shard.started != started => {
                return Err(format!(
                    "{} started {}, counted are {started}, and it has no gap",
                    who.0, shard.started
                ));
            }
            Some(gap) if !gap.estimate => {
                let missing = shard.started - state.map_or(0, |state| state.requests);
                if missing > gap.at_most_requests + slack {
                    return Err(format!(
                        "{} started {}, {missing} of them are missing, and its gap {}..{} holds {} at most",
                        who.0, shard.started, gap.from.0, gap.to.0, gap.at_most_requests
                    ));
                }
            }
            _ => {}
        }
    }
    check_start(truth)?;
    check_thresholds(stored)?;
    check_planned(stored, truth)
}

/// One leader's orders name the same instant to everybody, whatever their clocks say.
fn check_start(truth: &RunTruth) -> Result<(), String> {
    let is_of_one = truth.start_epochs.windows(2).all(|pair| pair[0] == pair[1]);
    let (least, most) = (truth.starts_ns.iter().min(), truth.starts_ns.iter().max());
    let (Some(least), Some(most), true) = (least, most, is_of_one && truth.take_overs == 0) else {
        return Ok(());
    };
    // Each clock is known to half a round trip.
    let apart_ns = most - least;
    if apart_ns > truth.round_trip_ns_max + 1_000 {
        return Err(format!("the agents were ordered to start {} µs apart", apart_ns / 1_000));
    }
    Ok(())
}

/// What was not kept is seen, in whatever pieces the numbers came.
fn check_thresholds(stored: &Stored) -> Result<(), String> {
    let Some(ending) = &stored.ending else { return Ok(()) };
    let is_broken = stored.plan.thresholds.iter().any(|threshold| threshold.expr == plans::NOT_KEPT);
    let has_any = ending.metrics.total_requests > 0;
    if is_broken && has_any && ending.stop_reason == StopReason::Completed {
        return Err("a threshold was not kept, and the run counts as completed".to_owned());
    }
    Ok(())
}

/// planned = started + dropped + missed + in gaps.
fn check_planned(stored: &Stored, truth: &RunTruth) -> Result<(), String> {
    let Some(ending) = &stored.ending else { return Ok(()) };
    let is_whole = (ending.status, ending.stop_reason) == (RunStatus::Completed, StopReason::Completed);
    let Some(planned) = planned(stored, truth) else { return Ok(()) };
    let totals = truth.totals();
    let gaps: u64 = stored.agents.values().map(in_gap).sum();
    let accounted = totals.started + totals.dropped + totals.missed + gaps;
    // Where each agent has a plan of its own, that of one which hands over ends with its part.
    let may_shrink = stored.plan.load == Load::PerAgent
        && stored.moves.values().any(|kept| !kept.order.release.is_empty());
    if is_whole && !may_shrink && accounted != planned || accounted > planned {
        return Err(format!("{planned} were planned; {totals:?} and {gaps} in gaps are {accounted}"));
    }
    Ok(())
}

/// Iterations that a gap holds beside those that were going when it begins.
fn in_gap(state: &AgentState) -> u64 {
    let going: u64 = state.scenarios.iter().map(|s| s.started - s.completed - s.interrupted).sum();
    state.gap.map_or(0, |gap| gap.at_most_requests - going)
}

/// Arrivals of a plan that has nothing but them: of the first agents, and of each copy that a joiner began.
fn planned(stored: &Stored, truth: &RunTruth) -> Option<u64> {
    let of = |plan: &Plan, from: RunTime| -> Option<u64> {
        plan.scenarios.iter().map(|s| arrivals(s, from)).sum()
    };
    let mut plan = stored.plan.plan().clone();
    let copies = stored
        .moves
        .values()
        .filter(|kept| !kept.order.take.is_empty() && lanes::is_copy(stored, &kept.agent, kept.incarnation));
    if plans::is_controlled(&plan) {
        return if copies.count() == 0 { planned_of_levels(stored, truth) } else { None };
    }
    let mut more = 0;
    for kept in copies {
        more += arrivals(plan.scenarios.get(kept.order.scenario as usize)?, kept.order.from)?;
    }
    plans::multiply(&mut plan, times(stored));
    Some(of(&plan, RunTime::START)? + more)
}

fn times(stored: &Stored) -> u64 {
    if stored.plan.load == Load::PerAgent { stored.members.len() as u64 } else { 1 }
}

/// Arrivals of a scenario that are due from a moment on.
fn arrivals(scenario: &Scenario, from: RunTime) -> Option<u64> {
    let profile = Profile::of_arrivals(&scenario.executor)?;
    let since = from.since(RunTime::START.plus(scenario.start_time));
    Some(profile.count() - profile.count_before(since.as_nanos()))
}

/// What the levels of the first scenario asked for one after the other, where every agent took all of them in time; what late ones did is theirs to say.
fn planned_of_levels(stored: &Stored, truth: &RunTruth) -> Option<u64> {
    let has_all = |who: &Who| truth.changes_heard.get(who).copied().unwrap_or(0) == stored.changes.len();
    // A stop that its master did not live to store leaves a run that counts as completed, and what levels asked for since is in no account.
    let is_loose = truth.take_overs > 0 || truth.was_level_late || !truth.shards.keys().all(has_all);
    if is_loose || stored.agents.values().any(|state| state.gap.is_some()) {
        return None;
    }
    let (first, others) = stored.plan.scenarios.split_first()?;
    let Some(Level::Rate(mut rate)) = first.executor.start_level() else { return None };
    let (times, duration) = (times(stored), first.executor.duration());
    let (mut planned, mut origin) = (0, Micros::ZERO);
    for change in stored.changes.values() {
        let at = change.at.since(RunTime::START.plus(first.start_time));
        let profile = Profile::of_rate(faster(rate, times), Micros(duration.0.saturating_sub(origin.0)));
        planned += profile.count_before(Micros(at.0.saturating_sub(origin.0)).as_nanos());
        let Level::Rate(next) = change.level else { return None };
        (rate, origin) = (next, at);
    }
    planned += Profile::of_rate(faster(rate, times), Micros(duration.0.saturating_sub(origin.0))).count();
    for scenario in others {
        let mut plan = stored.plan.plan().clone();
        plan.scenarios = vec![scenario.clone()];
        plans::multiply(&mut plan, times);
        planned += arrivals(plan.scenarios.first()?, RunTime::START)?;
    }
    Some(planned)
}

fn faster(rate: Rate, times: u64) -> Rate {
    Rate::from_micro_per_hour(rate.micro_per_hour() * times)
}

fn most_per_second(stored: &Stored) -> u64 {
    let agents = stored.members.len() as u64;
    100 * if stored.plan.load == Load::PerAgent { agents } else { 1 }
}
