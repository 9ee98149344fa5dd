//! Who has which lanes, by what is durable: the split of the first agents, and every move since. Shards add up to the plan at every moment.

use std::collections::BTreeSet;

use volcanion_common::ids::{AgentId, Incarnation};
use volcanion_common::plan::Load;
use volcanion_common::shard::split::{Weight, split};

use crate::oracle::Who;
use crate::store::Stored;

/// Whether an agent has a copy of the plan to itself.
pub fn is_copy(stored: &Stored, agent: &AgentId, incarnation: Incarnation) -> bool {
    let is_it = |member: &volcanion_common::registry::Member| {
        (&member.id, member.incarnation) == (agent, incarnation)
    };
    stored.plan.load == Load::PerAgent && stored.joined.iter().any(is_it)
}

/// Follows every lane through the moves; gives those whose lanes were taken without their word: they are lost, or ended early.
///
/// # Errors
/// A lane has no owner or two, or is given up by somebody who does not have it.
pub fn follow(stored: &Stored) -> Result<BTreeSet<Who>, String> {
    let weights: Vec<Weight> =
        stored.members.iter().map(|m| Weight { cores: m.cores, capacity: m.capacity }).collect();
    let (plan, shares) = split(&stored.plan, &weights);
    let mut robbed = BTreeSet::new();
    for index in 0..plan.scenarios.len() {
        let lanes = shares.first().map_or(0, |shares| shares[index].lanes);
        let mut owners: Vec<Option<Who>> = vec![None; lanes as usize];
        for (member, shares) in stored.members.iter().zip(&shares) {
            for lane in &shares[index].owned {
                let place =
                    owners.get_mut(*lane as usize).ok_or_else(|| format!("there is no lane {lane}"))?;
                if let Some(other) = place.replace((member.id.clone(), member.incarnation)) {
                    return Err(format!("lane {lane} is {}'s and {}'s", other.0, member.id));
                }
            }
        }
        if let Some(lane) = owners.iter().position(Option::is_none) {
            return Err(format!("lane {lane} of scenario {index} is nobody's"));
        }
        let mut copies = BTreeSet::new();
        for kept in stored.moves.values().filter(|kept| kept.order.scenario as usize == index) {
            let who = (kept.agent.clone(), kept.incarnation);
            if is_copy(stored, &kept.agent, kept.incarnation) {
                if !kept.order.take.is_empty() && !copies.insert(who) {
                    return Err(format!("move {} gives a copy of the plan twice", kept.order.number));
                }
                continue;
            }
            for lane in &kept.order.release {
                let place =
                    owners.get_mut(*lane as usize).ok_or_else(|| format!("there is no lane {lane}"))?;
                if place.take().as_ref() != Some(&who) {
                    return Err(format!("move {} has {} release lane {lane}", kept.order.number, who.0));
                }
            }
            for lane in &kept.order.take {
                let place =
                    owners.get_mut(*lane as usize).ok_or_else(|| format!("there is no lane {lane}"))?;
                robbed.extend(place.replace(who.clone()).filter(|before| *before != who));
            }
        }
    }
    Ok(robbed)
}
