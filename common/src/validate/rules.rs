//! Ranges, and rules between fields: executors, times, names, statuses, thresholds.

use std::collections::HashMap;

use super::bounds::{
    DURATION_MAX, ITERATIONS_MAX, NAME_CHARS_MAX, STAGES_MAX, THRESHOLDS_MAX, VARIABLE_BYTES_MAX, VUS_MAX,
};
use super::{Found, scenario_path, step_path};
use crate::plan::executor::OpenLoop;
use crate::plan::node::{at_key, excerpt};
use crate::plan::suggest::hint;
use crate::plan::{Control, Executor, Plan, Scenario, Stage, Step, Threshold};
use crate::units::{Micros, Rate};

const HOUR: Micros = Micros::from_secs(3_600);
const DAY: Micros = Micros::from_secs(86_400);
const MILLISECOND: Micros = Micros::from_millis(1);

pub(super) fn check(plan: &Plan, found: &mut Found) {
    check_name(&plan.name, "name", found);
    // Times past an hour have no place in the histograms.
    found.within("timeout", plan.timeout, MILLISECOND, HOUR);
    found.within("interval", plan.interval, Micros::from_millis(100), Micros::from_secs(60));
    if let Some(count) = plan.agents.count {
        found.within("agents.count", count, 1, 10_000);
    }
    for (name, value) in &plan.variables {
        if value.len() > VARIABLE_BYTES_MAX {
            let message =
                format!("the value has {} bytes; at most {VARIABLE_BYTES_MAX} are possible", value.len());
            found.note(at_key("variables", name), message);
        }
    }
    for (name, value) in &plan.agents.labels {
        if name.is_empty() || name.len() > 200 || value.len() > 200 {
            found.note(
                at_key("agents.labels", name),
                "a label's name and value have at most 200 bytes, the name at least one",
            );
        }
    }
    check_statuses(plan, found);
    if plan.scenarios.is_empty() {
        found.note("scenarios", "there is no scenario; give at least one");
    }
    let mut names = HashMap::new();
    let mut scenarios = HashMap::new();
    for scenario in &plan.scenarios {
        if scenarios.insert(scenario.name.as_str(), ()).is_some() {
            found.note(scenario_path(&scenario.name), "two scenarios have this name; give each its own");
        }
        check_scenario(scenario, found);
        check_steps(scenario, &mut names, found);
    }
    for (index, threshold) in plan.thresholds.iter().take(THRESHOLDS_MAX).enumerate() {
        check_threshold(plan, threshold, &format!("thresholds[{index}]"), found);
    }
}

fn check_name(name: &str, path: &str, found: &mut Found) {
    let length = name.chars().count();
    if name.trim().is_empty() || length > NAME_CHARS_MAX {
        found.note(path, format!("a name has 1 to {NAME_CHARS_MAX} characters; this one has {length}"));
    } else if name.contains(char::is_control) {
        found.note(path, format!("{:?} holds a control character; leave it out", excerpt(name)));
    }
}

fn check_statuses(plan: &Plan, found: &mut Found) {
    let path = "success_status";
    if plan.success_status.is_empty() {
        found.note(path, "nothing would be a success; give at least one status, or leave it out for 200-399");
    }
    for (first, last) in &plan.success_status {
        if first > last {
            found.note(path, format!("{first}-{last} is empty; write the lower status first"));
        } else if *first < 100 || *last > 999 {
            found.note(path, format!("{first}-{last} are no statuses; they go from 100 to 999"));
        }
    }
}

fn check_scenario(scenario: &Scenario, found: &mut Found) {
    let path = scenario_path(&scenario.name);
    check_name(&scenario.name, &path, found);
    let at = |field: &str| format!("{path}.{field}");
    if scenario.graceful_stop > DAY {
        found.note(
            at("graceful_stop"),
            format!("{} is more than a day; give at most 1d", scenario.graceful_stop),
        );
    }
    match &scenario.executor {
        Executor::ConstantVus { vus, duration } => {
            found.within(&at("vus"), *vus, 1, VUS_MAX);
            check_duration(*duration, &at("duration"), found);
        }
        Executor::RampingVus { start_vus, stages, graceful_ramp_down } => {
            found.within(&at("start_vus"), *start_vus, 0, VUS_MAX);
            check_stages(stages, 0, VUS_MAX, &at("stages"), found);
            if stages.iter().all(|stage| stage.target == 0) && *start_vus == 0 && !stages.is_empty() {
                found
                    .note(at("stages"), "there is never a VU; give at least one stage a target of 1 or more");
            }
            if *graceful_ramp_down > DAY {
                found.note(
                    at("graceful_ramp_down"),
                    format!("{graceful_ramp_down} is more than a day; give at most 1d"),
                );
            }
        }
        Executor::PerVuIterations { vus, iterations, max_duration } => {
            found.within(&at("vus"), *vus, 1, VUS_MAX);
            found.within(&at("iterations"), *iterations, 1, ITERATIONS_MAX);
            check_duration(*max_duration, &at("max_duration"), found);
        }
        Executor::SharedIterations { vus, iterations, max_duration } => {
            found.within(&at("vus"), *vus, 1, VUS_MAX);
            found.within(&at("iterations"), *iterations, 1, ITERATIONS_MAX);
            if iterations < vus && *iterations > 0 {
                found.note(
                    at("iterations"),
                    format!(
                        "{iterations} iterations are too few for {vus} VUs; give at least {vus}, or fewer VUs"
                    ),
                );
            }
            check_duration(*max_duration, &at("max_duration"), found);
        }
        Executor::ConstantArrivalRate { rate, duration, open } => {
            check_rate(*rate, &at("rate"), found);
            if *rate == Rate::ZERO {
                found.note(at("rate"), "0/s starts nothing; give a rate above zero");
            }
            check_duration(*duration, &at("duration"), found);
            check_open(open, &path, *rate, found);
        }
        Executor::RampingArrivalRate { start_rate, stages, open } => {
            check_rate(*start_rate, &at("start_rate"), found);
            check_stages(stages, Rate::ZERO, Rate::MAX, &at("stages"), found);
            let peak = stages.iter().map(|stage| stage.target).fold(*start_rate, Rate::max);
            if peak == Rate::ZERO && !stages.is_empty() {
                found.note(
                    at("stages"),
                    "the rate never rises above zero; give at least one stage a target above 0/s",
                );
            }
            check_open(open, &path, peak, found);
        }
        Executor::ExternallyControlled { control, duration } => {
            match control {
                Control::Vus { vus, max_vus } => {
                    found.within(&at("max_vus"), *max_vus, 1, VUS_MAX);
                    if vus > max_vus && *max_vus > 0 {
                        found.note(
                            at("vus"),
                            format!("{vus} is more than max_vus ({max_vus}); give at most that"),
                        );
                    }
                }
                Control::Rate { rate, open } => {
                    check_rate(*rate, &at("rate"), found);
                    check_open(open, &path, *rate, found);
                }
            }
            check_duration(*duration, &at("duration"), found);
        }
    }
    let length = scenario.start_time.saturating_add(scenario.executor.duration());
    if length > DURATION_MAX {
        let culprit = if scenario.start_time > scenario.executor.duration() {
            "start_time"
        } else {
            match scenario.executor {
                Executor::RampingVus { .. } | Executor::RampingArrivalRate { .. } => "stages",
                Executor::PerVuIterations { .. } | Executor::SharedIterations { .. } => "max_duration",
                Executor::ConstantVus { .. }
                | Executor::ConstantArrivalRate { .. }
                | Executor::ExternallyControlled { .. } => "duration",
            }
        };
        found.note(
            at(culprit),
            format!("the scenario would end after {length}; a run lasts at most {DURATION_MAX}"),
        );
    }
}

fn check_duration(duration: Micros, path: &str, found: &mut Found) {
    if duration < MILLISECOND {
        found.note(path, format!("{duration} is no time to load in; give at least {MILLISECOND}"));
    }
}

fn check_rate(rate: Rate, path: &str, found: &mut Found) {
    if rate > Rate::MAX {
        found.note(path, format!("{rate} is too fast; the highest rate is {}", Rate::MAX));
    }
}

fn check_stages<T: PartialOrd + std::fmt::Display + Copy>(
    stages: &[Stage<T>],
    least: T,
    most: T,
    path: &str,
    found: &mut Found,
) {
    if stages.is_empty() {
        found.note(path, "there is no stage; give at least one");
    } else if stages.len() > STAGES_MAX {
        found.note(path, format!("{} stages are too many; at most {STAGES_MAX} are possible", stages.len()));
    } else {
        for (index, stage) in stages.iter().enumerate() {
            found.within(&format!("{path}[{index}].target"), stage.target, least, most);
        }
        let total = stages.iter().fold(Micros::ZERO, |sum, stage| sum.saturating_add(stage.duration));
        check_duration(total, path, found);
    }
}

fn check_open(open: &OpenLoop, path: &str, rate: Rate, found: &mut Found) {
    let at = |field: &str| format!("{path}.{field}");
    if open.max_vus == 0 {
        found.note(at("max_vus"), format!("0 cannot carry {rate}; give at least 1"));
    } else {
        found.within(&at("max_vus"), open.max_vus, 1, VUS_MAX);
    }
    if open.pre_allocated_vus > open.max_vus && open.max_vus > 0 {
        let message =
            format!("{} is more than max_vus ({}); give at most that", open.pre_allocated_vus, open.max_vus);
        found.note(at("pre_allocated_vus"), message);
    }
}

fn check_steps(scenario: &Scenario, names: &mut HashMap<String, String>, found: &mut Found) {
    if !scenario.steps.iter().any(|step| matches!(step, Step::Request(_))) {
        found.note(
            format!("{}.steps", scenario_path(&scenario.name)),
            "there is no request; give at least one",
        );
    }
    for (index, step) in scenario.steps.iter().enumerate() {
        let path = step_path(&scenario.name, index);
        match step {
            Step::Think { least, most } if least > most => {
                found.note(
                    format!("{path}.think"),
                    format!("{least}..{most} is empty; write the shorter time first"),
                );
            }
            Step::Think { most, .. } if *most > DAY => {
                found.note(format!("{path}.think"), format!("{most} is more than a day; give at most 1d"));
            }
            Step::Think { .. } => {}
            Step::Request(step) => {
                check_name(&step.name, &format!("{path}.name"), found);
                if let Some(timeout) = step.timeout {
                    found.within(&format!("{path}.timeout"), timeout, MILLISECOND, HOUR);
                }
                if let Some(first) = names.get(&step.name) {
                    let message = format!(
                        "`{}` is the name of {first} too; give each step its own",
                        excerpt(&step.name)
                    );
                    found.note(format!("{path}.name"), message);
                } else {
                    names.insert(step.name.clone(), path);
                }
            }
        }
    }
}

fn check_threshold(plan: &Plan, threshold: &Threshold, path: &str, found: &mut Found) {
    if let Some(step) = &threshold.step
        && !plan.steps().any(|known| known.step.name == *step)
    {
        let known: Vec<&str> = plan.steps().take(20).map(|step| step.step.name.as_str()).collect();
        found.note(path, format!("there is no step `{}`; {}", excerpt(step), hint(step, &known)));
    }
    if !threshold.abort && (threshold.grace > Micros::ZERO || threshold.window.is_some()) {
        found.note(path, "grace and window say when to abort; add abort: true, or leave them out");
    }
    if threshold.grace > DURATION_MAX {
        found.note(
            format!("{path}.grace"),
            format!("{} is longer than any run; give at most {DURATION_MAX}", threshold.grace),
        );
    }
    if let Some(window) = threshold.window
        && (window < plan.interval || window > HOUR)
    {
        let message = format!("{window} is out of range; give the interval ({}) to {HOUR}", plan.interval);
        found.note(format!("{path}.window"), message);
    }
}
