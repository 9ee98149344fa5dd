//! A plan over agents, and an agent's part over its cores: the same arithmetic, see [`super`].
//!
//! Takes a valid plan and weights, gives for each owner a [`ScenarioShare`] of each scenario. Post-condition: every lane
//! of every scenario has exactly one owner, and no owner is a whole lane away from its ideal share.

use super::ScenarioShare;
use super::apportion::Apportioner;
use crate::plan::{Control, Executor, Load, Plan};
use crate::units::Rate;
use crate::validate::ValidPlan;

/// What an agent counts for beside the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// Its load cores: there are lanes enough for all of them.
    pub cores: u32,
    /// Its share of the load, in proportion to the others'.
    pub capacity: f64,
}

/// Cuts a plan over agents. Gives the plan that is carried out, which for `load: per_agent` is the agents' number times the one
/// given, and for each agent its share of each scenario.
pub fn split(plan: &ValidPlan, agents: &[Weight]) -> (Plan, Vec<Vec<ScenarioShare>>) {
    cut(plan.plan(), agents)
}

fn cut(plan: &Plan, agents: &[Weight]) -> (Plan, Vec<Vec<ScenarioShare>>) {
    match plan.load {
        Load::Total => (plan.clone(), by_capacity(plan, agents)),
        Load::PerAgent => (multiplied(plan, agents.len() as u64), one_whole_plan_each(plan, agents)),
    }
}

/// Cuts one scenario's share over an agent's cores; a core may be left without a lane. Where several scenarios are
/// cut, [`all_over_cores`] spreads those with few lanes better.
pub fn over_cores(share: &ScenarioShare, cores: usize) -> Vec<ScenarioShare> {
    share.cut(&Apportioner::equal(cores).share(share.owned.len() as u32))
}

/// Cuts an agent's shares over its cores: for each core its share of each scenario.
pub fn all_over_cores(shares: &[ScenarioShare], cores: usize) -> Vec<Vec<ScenarioShare>> {
    let mut apportioner = Apportioner::equal(cores);
    by_owner(cores, shares.iter().map(|share| share.cut(&apportioner.share(share.owned.len() as u32))))
}

/// Cuts lanes over owners by their weights, evenly spread: what a joiner is to get, or what a loss leaves to the others.
pub fn over_weights(share: &ScenarioShare, weights: &[f64]) -> Vec<ScenarioShare> {
    share.cut(&Apportioner::new(weights).share(share.owned.len() as u32))
}

fn by_capacity(plan: &Plan, agents: &[Weight]) -> Vec<Vec<ScenarioShare>> {
    let capacities: Vec<f64> = agents.iter().map(|agent| agent.capacity).collect();
    let mut apportioner = Apportioner::new(&capacities);
    let shares = plan.scenarios.iter().map(|scenario| {
        let lanes = lanes_of(&scenario.executor, agents);
        ScenarioShare::whole(lanes).cut(&apportioner.share(lanes))
    });
    by_owner(agents.len(), shares)
}

/// With n agents the plan is n times what was written, and agent i owns every n-th number from i on: its own plan, in
/// step with the others'.
fn one_whole_plan_each(plan: &Plan, agents: &[Weight]) -> Vec<Vec<ScenarioShare>> {
    let count = agents.len() as u32;
    let shares = plan.scenarios.iter().map(|scenario| {
        let each = lanes_of(&scenario.executor, agents).min(u32::MAX / count.max(1));
        let lanes = each * count;
        (0..count)
            .map(|i| ScenarioShare { lanes, owned: (i..lanes).step_by(count as usize).collect() })
            .collect()
    });
    by_owner(agents.len(), shares)
}

/// Many more lanes than cores, so that shares are fine; never more than VUs, so that whoever owns one has a VU for it.
fn lanes_of(executor: &Executor, agents: &[Weight]) -> u32 {
    let cores: u64 = agents.iter().map(|agent| u64::from(agent.cores)).sum();
    let enough = cores.saturating_mul(64).clamp(256, 1 << 20);
    executor.max_vus().clamp(1, enough) as u32
}

/// From one list a scenario to one list an owner.
fn by_owner(owners: usize, scenarios: impl Iterator<Item = Vec<ScenarioShare>>) -> Vec<Vec<ScenarioShare>> {
    let mut lists = vec![Vec::new(); owners];
    for shares in scenarios {
        lists.iter_mut().zip(shares).for_each(|(list, share)| list.push(share));
    }
    lists
}

/// The plan with everything that is counted or paced `by` times as much. What would pass a plan's bounds is written
/// as it is: the agents then refuse it, rather than carry less than was asked for.
fn multiplied(plan: &Plan, by: u64) -> Plan {
    let times = |number: &mut u64| *number = number.saturating_mul(by);
    let faster =
        |rate: &mut Rate| *rate = Rate::from_micro_per_hour(rate.micro_per_hour().saturating_mul(by));
    let mut plan = plan.clone();
    for scenario in &mut plan.scenarios {
        match &mut scenario.executor {
            Executor::ConstantVus { vus, .. } | Executor::PerVuIterations { vus, .. } => times(vus),
            Executor::SharedIterations { vus, iterations, .. } => {
                times(vus);
                times(iterations);
            }
            Executor::RampingVus { start_vus, stages, .. } => {
                times(start_vus);
                stages.iter_mut().for_each(|stage| times(&mut stage.target));
            }
            Executor::ConstantArrivalRate { rate, open, .. } => {
                faster(rate);
                times(&mut open.pre_allocated_vus);
                times(&mut open.max_vus);
            }
            Executor::RampingArrivalRate { start_rate, stages, open } => {
                faster(start_rate);
                stages.iter_mut().for_each(|stage| faster(&mut stage.target));
                times(&mut open.pre_allocated_vus);
                times(&mut open.max_vus);
            }
            Executor::ExternallyControlled { control: Control::Vus { vus, max_vus }, .. } => {
                times(vus);
                times(max_vus);
            }
            Executor::ExternallyControlled { control: Control::Rate { rate, open }, .. } => {
                faster(rate);
                times(&mut open.pre_allocated_vus);
                times(&mut open.max_vus);
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests;
