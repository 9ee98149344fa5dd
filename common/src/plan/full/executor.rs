//! The executor of a scenario: k6's names and options, with k6's defaults where it has some.

use super::super::decode::{Decoder, Field, Object};
use super::super::executor::{Arrival, Control, Executor, OpenLoop, Stage, WhenBusy};
use super::super::fields::{self, EVERY_EXECUTOR, EXECUTORS, SCENARIO};
use super::super::node::excerpt;
use super::super::suggest::hint;
use super::duration;
use crate::units::{Micros, Rate};

/// k6's `gracefulRampDown`.
const GRACEFUL_RAMP_DOWN: Micros = Micros::from_secs(30);
/// k6's `maxDuration`.
const MAX_DURATION: Micros = Micros::from_secs(600);
/// `max_vus` that is left out lies within these.
const DEFAULT_VUS: std::ops::RangeInclusive<u64> = 10..=50_000;

/// Reads the executor and its options; `None` where it cannot be told which one is meant.
pub(super) fn executor(decoder: &mut Decoder, scenario: &Object<'_>) -> Option<Executor> {
    let known: Vec<&str> = EXECUTORS.iter().map(|(name, _)| *name).collect();
    let field = decoder.required(scenario, "executor", &format!("one of: {}", known.join(", ")))?;
    let name = decoder.text(&field)?;
    let Some((name, options)) = EXECUTORS.iter().find(|(known, _)| *known == name) else {
        decoder.wrong(&field, format!("`{}` is no executor; {}", excerpt(&name), hint(&name, &known)));
        return None;
    };
    for other in scenario.names() {
        let is_scenarios = SCENARIO.known.contains(&other);
        if is_scenarios && !options.contains(&other) && !EVERY_EXECUTOR.contains(&other) {
            let message = format!("`{other}` is no option of {name}; it takes: {}", options.join(", "));
            decoder.wrong_name(scenario, other, message);
        }
    }
    Some(match *name {
        "constant-vus" => Executor::ConstantVus {
            vus: number(decoder, scenario, "vus", 1),
            duration: needed_duration(decoder, scenario),
        },
        "ramping-vus" => Executor::RampingVus {
            start_vus: number(decoder, scenario, "start_vus", 1),
            stages: stages(decoder, scenario, "20", 1, Decoder::whole),
            graceful_ramp_down: duration(decoder, scenario, "graceful_ramp_down")
                .unwrap_or(GRACEFUL_RAMP_DOWN),
        },
        "per-vu-iterations" => Executor::PerVuIterations {
            vus: number(decoder, scenario, "vus", 1),
            iterations: number(decoder, scenario, "iterations", 1),
            max_duration: duration(decoder, scenario, "max_duration").unwrap_or(MAX_DURATION),
        },
        "shared-iterations" => {
            let vus = number(decoder, scenario, "vus", 1);
            let iterations = number(decoder, scenario, "iterations", vus.max(1));
            let max_duration = duration(decoder, scenario, "max_duration").unwrap_or(MAX_DURATION);
            Executor::SharedIterations { vus, iterations, max_duration }
        }
        "constant-arrival-rate" => {
            let rate = decoder
                .required(scenario, "rate", "a rate such as 500/s")
                .and_then(|field| decoder.rate(&field));
            let rate = rate.unwrap_or(Rate::per_second(1));
            let duration = needed_duration(decoder, scenario);
            Executor::ConstantArrivalRate { rate, duration, open: open_loop(decoder, scenario, rate) }
        }
        "externally-controlled" => Executor::ExternallyControlled {
            control: control(decoder, scenario),
            duration: needed_duration(decoder, scenario),
        },
        _ => {
            let start_rate =
                scenario.get("start_rate").and_then(|field| decoder.rate(&field)).unwrap_or_default();
            let stages = stages(decoder, scenario, "500/s", Rate::per_second(1), Decoder::rate);
            let peak = stages.iter().map(|stage| stage.target).fold(start_rate, Rate::max);
            Executor::RampingArrivalRate { start_rate, stages, open: open_loop(decoder, scenario, peak) }
        }
    })
}

/// A closed loop where `vus` is given, an open one where `rate` is.
fn control(decoder: &mut Decoder, scenario: &Object<'_>) -> Control {
    let rate = scenario.get("rate");
    if scenario.get("vus").is_none() && rate.is_none() {
        let message =
            "is missing; give `vus` (a closed loop) or `rate` (an open loop): what it is set to at its start";
        decoder.wrong_name(scenario, "vus", message);
    }
    // Nobody can guess how far it will be turned up.
    let max = decoder.required(scenario, "max_vus", "the most VUs that there may ever be, such as 100");
    let max_vus = max.and_then(|field| decoder.whole(&field));
    let Some(rate) = rate else {
        for name in ["arrival", "when_busy", "pre_allocated_vus"] {
            if scenario.get(name).is_some() {
                let message = "belongs to an open loop; give `rate` instead of `vus`, or leave it out";
                decoder.wrong_name(scenario, name, message);
            }
        }
        let vus = number(decoder, scenario, "vus", 0);
        return Control::Vus { vus, max_vus: max_vus.unwrap_or(vus.max(1)) };
    };
    if scenario.get("vus").is_some() {
        let message =
            "cannot stand beside `rate`: a scenario is led by its VUs or by its rate; leave one out";
        decoder.wrong_name(scenario, "vus", message);
    }
    let rate = decoder.rate(&rate).unwrap_or_default();
    Control::Rate { rate, open: open_loop(decoder, scenario, rate) }
}

fn number(decoder: &mut Decoder, scenario: &Object<'_>, name: &str, default: u64) -> u64 {
    scenario.get(name).map_or(default, |field| decoder.whole(&field).unwrap_or(default.max(1)))
}

fn needed_duration(decoder: &mut Decoder, scenario: &Object<'_>) -> Micros {
    let field = decoder.required(scenario, "duration", "a duration such as 30s");
    field.and_then(|field| decoder.duration(&field)).unwrap_or(Micros::from_secs(1))
}

fn stages<T: Copy>(
    decoder: &mut Decoder,
    scenario: &Object<'_>,
    example: &str,
    stand_in: T,
    read: fn(&mut Decoder, &Field<'_>) -> Option<T>,
) -> Vec<Stage<T>> {
    let form = format!("`{{ duration: 1m, target: {example} }}`");
    let Some(field) = decoder.required(scenario, "stages", &format!("a list of {form}")) else {
        return Vec::new();
    };
    let mut stages = Vec::new();
    for item in decoder.list(&field, &form).unwrap_or_default() {
        let Some(object) = decoder.object(item, &fields::STAGE) else { continue };
        let duration = needed_duration(decoder, &object);
        let target =
            decoder.required(&object, "target", &format!("the value at the stage's end, such as {example}"));
        let target = target.and_then(|field| read(decoder, &field)).unwrap_or(stand_in);
        stages.push(Stage { duration, target });
    }
    stages
}

fn open_loop(decoder: &mut Decoder, scenario: &Object<'_>, peak: Rate) -> OpenLoop {
    let words = &[("uniform", Arrival::Uniform), ("poisson", Arrival::Poisson)];
    let arrival = scenario.get("arrival").and_then(|field| decoder.word(&field, words)).unwrap_or_default();
    let words = &[("drop", WhenBusy::Drop), ("queue", WhenBusy::Queue)];
    let when_busy =
        scenario.get("when_busy").and_then(|field| decoder.word(&field, words)).unwrap_or_default();
    let mut given = |name| scenario.get(name).and_then(|field| decoder.whole(&field));
    let (pre_allocated_vus, max_vus) = open_loop_vus(peak, given("pre_allocated_vus"), given("max_vus"));
    OpenLoop { arrival, pre_allocated_vus, max_vus, when_busy }
}

/// `pre_allocated_vus` and `max_vus` of an open loop, where they are left out.
///
/// `max_vus`: as many as the highest rate needs while iterations take two seconds (Little's law: VUs = rate × time),
/// from 10 to 50,000, and no fewer than `pre_allocated_vus`. `pre_allocated_vus`: as many as it needs while they
/// take a tenth of a second, at least one and no more than `max_vus`.
pub(crate) fn open_loop_vus(peak: Rate, pre_allocated: Option<u64>, max: Option<u64>) -> (u64, u64) {
    let per_second = peak.as_per_second_f64();
    let least = pre_allocated.unwrap_or(1);
    let max = max.unwrap_or_else(|| {
        ((per_second * 2.0).ceil() as u64).clamp(*DEFAULT_VUS.start(), *DEFAULT_VUS.end()).max(least)
    });
    let pre_allocated = pre_allocated.unwrap_or_else(|| ((per_second * 0.1).ceil() as u64).max(1).min(max));
    (pre_allocated, max)
}
