//! The end of a run against what was true: everything that was started is counted or lies in a named gap, and what was planned is accounted for.

use volcanion_common::plan::profile::Profile;
use volcanion_common::plan::{Load, Plan};
use volcanion_common::view::{RunStatus, StopReason};
use volcanion_master::merge::AgentState;

use crate::oracle::RunTruth;
use crate::plans;
use crate::store::Stored;

/// See the module.
pub fn check(stored: &Stored, truth: &RunTruth, wall_apart_ms: u64) -> Result<(), String> {
    let Some(ending) = &stored.ending else { return Err("it has no end".to_owned()) };
    let metrics = &ending.metrics;
    if metrics.completeness.complete != metrics.completeness.gaps.is_empty() {
        return Err("it counts as complete, and has gaps".to_owned());
    }
    // After a take-over the start is known by a wall clock: what it may be off by, a gap may be short by.
    let apart_s = if truth.take_overs > 0 { (2 * wall_apart_ms).div_ceil(1_000).max(1) } else { 0 };
    let slack = apart_s * most_per_second(stored);
    for (who, shard) in &truth.shards {
        let state = stored.agents.get(who);
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

/// planned = started + dropped + missed + in gaps.
fn check_planned(stored: &Stored, truth: &RunTruth) -> Result<(), String> {
    let Some(ending) = &stored.ending else { return Ok(()) };
    let is_whole = (ending.status, ending.stop_reason) == (RunStatus::Completed, StopReason::Completed);
    let Some(planned) = planned(&stored.plan, stored.members.len() as u64) else { return Ok(()) };
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

/// Arrivals of a plan that has nothing but them.
fn planned(plan: &Plan, agents: u64) -> Option<u64> {
    let times = if plan.load == Load::PerAgent { agents } else { 1 };
    if plans::is_controlled(plan) {
        return None;
    }
    let mut plan = plan.clone();
    plans::multiply(&mut plan, times);
    plan.scenarios.iter().map(|s| Profile::of_arrivals(&s.executor).map(|profile| profile.count())).sum()
}

fn most_per_second(stored: &Stored) -> u64 {
    let agents = stored.members.len() as u64;
    100 * if stored.plan.load == Load::PerAgent { agents } else { 1 }
}
