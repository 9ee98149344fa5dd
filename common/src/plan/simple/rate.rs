//! `target_rps`, `rate_pattern` and `rate_steps` of the simple plan → an arrival-rate executor.
//!
//! | `rate_pattern` | the rate |
//! |---|---|
//! | `fixed` (default) | `target_rps` all the time |
//! | `step` | each of `rate_steps` in turn, from one to the next by a jump |
//! | `ramp` | a line from 0 to `target_rps` over `duration_sec`; with `rate_steps` a line from 0 to the first step's rate over its time, on to the second's, … |
//! | `spike` | a quarter of `target_rps`, in the middle tenth of `duration_sec` all of it; with `rate_steps` these, by jumps (base, spike, base) |
//!
//! Rate steps that end before `duration_sec` leave the last rate standing until then; they may not be longer. With
//! `ramp_up_sec` the rate goes in a line from 0 to what the pattern says at that time, and follows the pattern from
//! there on. `rate_steps` without a pattern are `step`. `users` is `max_vus`: what they cannot carry is dropped and counted.

use super::super::decode::{Decoder, Field, Object};
use super::super::executor::{Arrival, Executor, OpenLoop, Stage, WhenBusy};
use super::super::fields;
use super::super::full::open_loop_vus;
use super::super::node::Content;
use super::whole_within;
use crate::units::{Micros, Rate};

const RPS_MAX: &str = "10000000/s";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Fixed,
    Step,
    Ramp,
    Spike,
}

/// A rate over time: a start, and stages.
struct Curve {
    start: Rate,
    stages: Vec<Stage<Rate>>,
}

/// The executor; `None` where no rate is asked for: a closed loop.
pub(super) fn executor(
    decoder: &mut Decoder,
    object: &Object<'_>,
    users: u64,
    duration: Micros,
    ramp_up: Micros,
) -> Option<Executor> {
    // A rate that cannot be read stands for one.
    let target = object.get("target_rps").map(|field| rps(decoder, &field).unwrap_or(Rate::per_second(1)));
    let target = target.unwrap_or_default();
    let words = [
        ("fixed", Pattern::Fixed),
        ("step", Pattern::Step),
        ("ramp", Pattern::Ramp),
        ("spike", Pattern::Spike),
    ];
    // The original writes an empty pattern where none was given.
    let pattern_field = object.get("rate_pattern").filter(|field| field.node.to_value() != "");
    let pattern = pattern_field.and_then(|field| decoder.word(&field, &words));
    let steps = rate_steps(decoder, object, duration);
    let pattern = pattern.unwrap_or(if steps.is_empty() { Pattern::Fixed } else { Pattern::Step });
    if pattern == Pattern::Fixed {
        if !steps.is_empty() {
            decoder.wrong_name(
                object,
                "rate_steps",
                "mean nothing with rate_pattern fixed; make it step, ramp or spike, or leave them out",
            );
        }
        if target == Rate::ZERO {
            return None;
        }
        if ramp_up == Micros::ZERO {
            return Some(Executor::ConstantArrivalRate { rate: target, duration, open: open(target, users) });
        }
    } else if pattern == Pattern::Step && steps.is_empty() {
        if !has_steps(object) {
            decoder.wrong_name(
                object,
                "rate_pattern",
                "step needs rate_steps; give a list of { rps, duration_sec }",
            );
        }
        return None;
    } else if target == Rate::ZERO && steps.is_empty() {
        if object.has("target_rps") {
            let message =
                "0 is a closed loop, which has no rate_pattern; give a rate or leave the pattern out";
            decoder.wrong_name(object, "target_rps", message);
        } else if !has_steps(object) {
            decoder.wrong_name(object, "rate_pattern", "needs a rate; give target_rps or rate_steps");
        }
        return None;
    }
    let curve = curve(pattern, target, &steps, duration).begun_by(ramp_up);
    let peak = curve.stages.iter().map(|stage| stage.target).fold(curve.start, Rate::max);
    Some(Executor::RampingArrivalRate {
        start_rate: curve.start,
        stages: curve.stages,
        open: open(peak, users),
    })
}

/// Whether rate steps were written, readable or not.
fn has_steps(object: &Object<'_>) -> bool {
    object.get("rate_steps").is_some_and(|field| field.node.content != Content::List(Vec::new()))
}

fn open(peak: Rate, users: u64) -> OpenLoop {
    let (pre_allocated_vus, max_vus) = open_loop_vus(peak, None, Some(users));
    OpenLoop { arrival: Arrival::Uniform, pre_allocated_vus, max_vus, when_busy: WhenBusy::Drop }
}

/// A number of requests a second, as a rate.
fn rps(decoder: &mut Decoder, field: &Field<'_>) -> Option<Rate> {
    let number = decoder.decimal(field)?;
    let rate = format!("{number}/s").parse();
    rate.map_err(|_| {
        decoder
            .wrong(field, format!("{number} is out of range; give 0 to {RPS_MAX} with at most six decimals"))
    })
    .ok()
}

fn rate_steps(decoder: &mut Decoder, object: &Object<'_>, duration: Micros) -> Vec<Stage<Rate>> {
    let Some(field) = object.get("rate_steps") else { return Vec::new() };
    let mut stages = Vec::new();
    let mut total = Micros::ZERO;
    for item in decoder.list(&field, "{ rps, duration_sec }").unwrap_or_default() {
        let Some(step) = decoder.object(item, &fields::RATE_STEP) else { continue };
        let rate = decoder.required(&step, "rps", "requests a second").and_then(|field| rps(decoder, &field));
        let seconds = decoder.required(&step, "duration_sec", "the step's length in seconds");
        let seconds =
            seconds.and_then(|field| whole_within(decoder, &field, 1..=super::SECONDS_MAX, " seconds"));
        let stage = Stage {
            duration: Micros::from_secs(seconds.unwrap_or(0)),
            target: rate.unwrap_or(Rate::per_second(1)),
        };
        total = total.saturating_add(stage.duration);
        stages.push(stage);
    }
    if total > duration {
        decoder.wrong(&field, format!("last {total} together, longer than the {duration} of duration_sec; shorten them, or lengthen it"));
    }
    stages
}

fn curve(pattern: Pattern, target: Rate, steps: &[Stage<Rate>], duration: Micros) -> Curve {
    let taken = steps.iter().fold(Micros::ZERO, |sum, step| sum.saturating_add(step.duration));
    let last = steps.last().map_or(target, |step| step.target);
    let rest = Stage { duration: Micros(duration.0.saturating_sub(taken.0)), target: last };
    let mut stages = Vec::new();
    let start = match (pattern, steps.first()) {
        (Pattern::Fixed, _) => {
            stages.push(Stage { duration, target });
            return Curve { start: target, stages };
        }
        (Pattern::Ramp, None) => {
            stages.push(Stage { duration, target });
            return Curve { start: Rate::ZERO, stages };
        }
        (Pattern::Spike | Pattern::Step, None) => {
            let base = Rate::from_micro_per_hour(target.micro_per_hour() / 4);
            let tenth = Micros(duration.0 / 10);
            let before = Micros((duration.0 - tenth.0) / 2);
            let after = Micros(duration.0 - tenth.0 - before.0);
            stages.push(Stage { duration: before, target: base });
            stages.push(Stage { duration: Micros::ZERO, target });
            stages.push(Stage { duration: tenth, target });
            stages.push(Stage { duration: Micros::ZERO, target: base });
            stages.push(Stage { duration: after, target: base });
            return Curve { start: base, stages };
        }
        (Pattern::Ramp, Some(_)) => {
            stages.extend_from_slice(steps);
            Rate::ZERO
        }
        (Pattern::Spike | Pattern::Step, Some(first)) => {
            for step in steps {
                if !stages.is_empty() {
                    stages.push(Stage { duration: Micros::ZERO, target: step.target });
                }
                stages.push(*step);
            }
            first.target
        }
    };
    if rest.duration > Micros::ZERO {
        stages.push(rest);
    }
    Curve { start, stages }
}

impl Curve {
    /// The same curve, but from 0 in a line to its value at `ramp_up`.
    fn begun_by(self, ramp_up: Micros) -> Self {
        if ramp_up == Micros::ZERO {
            return self;
        }
        let mut rate = self.start;
        let mut at = Micros::ZERO;
        let mut stages = Vec::new();
        for stage in self.stages {
            let end = at.saturating_add(stage.duration);
            if !stages.is_empty() {
                stages.push(stage);
            } else if end >= ramp_up {
                let value = between(rate, stage.target, ramp_up.0 - at.0, stage.duration.0);
                stages.push(Stage { duration: ramp_up, target: value });
                if end > ramp_up {
                    stages.push(Stage { duration: Micros(end.0 - ramp_up.0), target: stage.target });
                }
            }
            rate = stage.target;
            at = end;
        }
        if stages.is_empty() {
            stages.push(Stage { duration: ramp_up, target: rate });
        }
        Self { start: Rate::ZERO, stages }
    }
}

/// The value at `at` on a line over `length`, rounded down to a unit of [`Rate`].
fn between(from: Rate, to: Rate, at: u64, length: u64) -> Rate {
    if length == 0 {
        return to;
    }
    let weighed = u128::from(from.micro_per_hour()) * u128::from(length - at.min(length))
        + u128::from(to.micro_per_hour()) * u128::from(at.min(length));
    // A mean of two u64 is one again.
    Rate::from_micro_per_hour(u64::try_from(weighed / u128::from(length)).unwrap_or(u64::MAX))
}
