//! `scenarios` of a document: each with its executor and its steps, and the names of steps that have none.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::decode::{Decoder, Object};
use super::super::executor::Executor;
use super::super::fields;
use super::super::scenario::{Scenario, Step};
use super::super::threshold::cut;
use super::{GRACEFUL_STOP, duration, executor, step};

/// The most characters of a step's name.
const NAME_CHARS_MAX: usize = 200;

/// Reads `scenarios`.
pub(super) fn scenarios(
    decoder: &mut Decoder,
    plan: &Object<'_>,
    variables: &BTreeMap<String, String>,
) -> Vec<Scenario> {
    let Some(field) = decoder.required(plan, "scenarios", "a map of at least one scenario") else {
        return Vec::new();
    };
    let mut read = Vec::new();
    for (key, field) in decoder.map(&field, "a map of names and scenarios").unwrap_or_default() {
        let Some(object) = decoder.object(field, &fields::SCENARIO) else { continue };
        let executor = executor::executor(decoder, &object);
        read.push(Scenario {
            name: key.name.clone(),
            executor: executor.unwrap_or(Executor::ConstantVus { vus: 1, duration: GRACEFUL_STOP }),
            start_time: duration(decoder, &object, "start_time").unwrap_or_default(),
            graceful_stop: duration(decoder, &object, "graceful_stop").unwrap_or(GRACEFUL_STOP),
            steps: steps(decoder, &object, variables),
        });
    }
    name_the_nameless(&mut read);
    read
}

fn steps(decoder: &mut Decoder, scenario: &Object<'_>, variables: &BTreeMap<String, String>) -> Vec<Step> {
    let Some(field) = decoder.required(scenario, "steps", "a list of at least one request") else {
        return Vec::new();
    };
    let items = decoder.list(&field, "steps").unwrap_or_default();
    items.into_iter().map(|item| step::step(decoder, item, variables)).collect()
}

/// Gives steps without a name that of their method and path; the second one of a name becomes `… #2`.
fn name_the_nameless(scenarios: &mut [Scenario]) {
    let requests = |scenario: &Scenario| {
        let names = scenario.steps.iter().filter_map(|step| match step {
            Step::Request(request) => Some(request.name.clone()),
            Step::Think { .. } => None,
        });
        names.collect::<Vec<_>>()
    };
    let mut taken: HashSet<String> =
        scenarios.iter().flat_map(requests).filter(|name| !name.is_empty()).collect();
    // How far each name has been numbered, so that none is looked for from the start.
    let mut numbers: HashMap<String, u32> = HashMap::new();
    for step in scenarios.iter_mut().flat_map(|scenario| &mut scenario.steps) {
        let Step::Request(step) = step else { continue };
        if !step.name.is_empty() {
            continue;
        }
        let wanted = cut(&step::default_name(&step.request), NAME_CHARS_MAX - 10);
        let number = numbers.entry(wanted.clone()).or_insert(0_u32);
        step.name = loop {
            *number += 1;
            let name = if *number == 1 { wanted.clone() } else { format!("{wanted} #{number}") };
            if !taken.contains(&name) {
                break name;
            }
        };
        taken.insert(step.name.clone());
    }
}
