//! What is run: small plans of every kind that the machines treat differently. One request an iteration, so that iterations and requests are the same number.

use std::sync::Arc;

use serde_json::{Value, json};
use volcanion_common::plan::{Executor, Plan, document};
use volcanion_common::units::Rate;
use volcanion_common::validate::ValidPlan;

use crate::chance::Chance;

/// A plan of some seconds.
pub fn draw(chance: &mut Chance) -> Arc<ValidPlan> {
    let mut scenarios = serde_json::Map::new();
    let kind = chance.below(100);
    let first = match kind {
        0..70 => constant(chance),
        70..80 => ramping(chance),
        80..92 => controlled(chance),
        _ => closed(chance),
    };
    scenarios.insert("first".to_owned(), with_steps(first, chance));
    if chance.percent(30) {
        let second = if chance.percent(70) { constant(chance) } else { closed(chance) };
        let mut second = with_steps(second, chance);
        second["start_time"] = json!(format!("{}ms", chance.between(0, 2_500)));
        scenarios.insert("second".to_owned(), second);
    }
    let document = json!({
        "name": "simulated",
        "target": "http://127.0.0.1:1",
        "interval": chance.pick(&["500ms", "1s", "1s", "2s"]),
        "load": chance.pick(&["total", "total", "total", "per_agent"]),
        "elastic": chance.percent(50),
        "on_agent_loss": chance.pick(&["continue", "redistribute", "redistribute", "abort"]),
        "thresholds": thresholds(chance),
        "scenarios": scenarios,
    });
    let read = document::from_json(&document);
    Arc::new(read.unwrap_or_else(|problems| panic!("{problems}: {document}")).plan)
}

/// What no run keeps to, whose requests take a millisecond.
pub const NOT_KEPT: &str = "p(95) < 0.5ms";

fn thresholds(chance: &mut Chance) -> Value {
    match chance.below(20) {
        0 => json!([NOT_KEPT]),
        1 => json!([{ "expr": NOT_KEPT, "abort": true, "grace": "1s" }]),
        2 => json!([{ "expr": NOT_KEPT, "abort": true, "window": "2s" }, "p(95) < 60s"]),
        3 => json!(["p(95) < 60s"]),
        _ => json!([]),
    }
}

fn constant(chance: &mut Chance) -> Value {
    let most_ms = if chance.percent(30) { 20_000 } else { 9_000 };
    json!({
        "executor": "constant-arrival-rate",
        "rate": format!("{}/s", chance.between(3, 60)),
        "duration": format!("{}ms", chance.between(1_500, most_ms)),
        "max_vus": chance.between(2, 60),
    })
}

fn ramping(chance: &mut Chance) -> Value {
    json!({
        "executor": "ramping-arrival-rate",
        "start_rate": format!("{}/s", chance.between(0, 20)),
        "stages": [
            { "duration": format!("{}ms", chance.between(500, 3_000)), "target": format!("{}/s", chance.between(1, 60)) },
            { "duration": format!("{}ms", chance.between(500, 4_000)), "target": format!("{}/s", chance.between(0, 30)) },
        ],
        "max_vus": chance.between(2, 60),
    })
}

fn controlled(chance: &mut Chance) -> Value {
    json!({
        "executor": "externally-controlled",
        "rate": format!("{}/s", chance.between(3, 40)),
        "duration": format!("{}ms", chance.between(4_000, 10_000)),
        "max_vus": chance.between(5, 60),
    })
}

fn closed(chance: &mut Chance) -> Value {
    json!({
        "executor": "constant-vus",
        "vus": chance.between(1, 9),
        "duration": format!("{}ms", chance.between(1_500, 7_000)),
    })
}

fn with_steps(mut scenario: Value, chance: &mut Chance) -> Value {
    scenario["steps"] = json!([{ "name": format!("step {}", chance.next()), "get": "/" }]);
    scenario["graceful_stop"] = json!(chance.pick(&["0s", "500ms", "2s"]));
    scenario
}

/// Whether its first scenario is led from outside: no other is.
pub fn is_controlled(plan: &Plan) -> bool {
    plan.scenarios.first().is_some_and(|scenario| scenario.executor.start_level().is_some())
}

/// The rates of a plan so many times as high.
pub fn multiply(plan: &mut Plan, by: u64) {
    let faster = |rate: &mut Rate| *rate = Rate::from_micro_per_hour(rate.micro_per_hour() * by);
    for scenario in &mut plan.scenarios {
        match &mut scenario.executor {
            Executor::ConstantArrivalRate { rate, .. } => faster(rate),
            Executor::RampingArrivalRate { start_rate, stages, .. } => {
                faster(start_rate);
                stages.iter_mut().for_each(|stage| faster(&mut stage.target));
            }
            _ => {}
        }
    }
}

/// For people.
pub fn words(plan: &ValidPlan) -> String {
    let scenarios: Vec<String> = plan
        .scenarios
        .iter()
        .map(|s| format!("{} {} from {}", s.executor.name(), s.executor.duration(), s.start_time))
        .collect();
    format!("{}; {:?}, {:?}, every {}", scenarios.join(", "), plan.load, plan.on_agent_loss, plan.interval)
}
