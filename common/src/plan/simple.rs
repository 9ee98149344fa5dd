//! The simple plan, the original's one flat object, as sugar for the full plan: one scenario `main` of one step.
//!
//! | simple | full |
//! |---|---|
//! | `target_url`, `method`, `headers`, `body` | the step; a body that is not text is sent as JSON |
//! | `users`, no rate | `constant-vus` over `duration_sec` |
//! | … with `ramp_up_sec` | `ramping-vus` from 0: a line to `users` in that time, then `users` to the end |
//! | `target_rps` | an arrival rate carried by at most `users` VUs (`max_vus`), see [`rate`] |
//! | `think_time_ms` | a pause after the request |
//! | `timeout_ms` | `timeout` (0 or left out: 30 s) |
//! | `success_status_codes` | `success_status` |
//! | `sla` | thresholds judged at the end: `p(95) <= …ms`, `p(99) <= …ms`, `error_rate <= …%`, `rps >= …`; 0 sets no bound |
//!
//! `ramp_up_sec` lies within `duration_sec`, which is the whole length of the load. `variables`, `http`, `agents` and
//! `thresholds` are the full plan's own. Names of the original's relatives are understood: `concurrent_users`,
//! `duration_seconds`, `ramp_up_seconds`, `sla_config`.

mod rate;

use super::decode::{Decoder, Field, Object};
use super::executor::{Executor, Stage};
use super::fields;
use super::full::{self, STAND_IN, TIMEOUT, body_of_json, canonical, default_name};
use super::node::{Content, Node};
use super::request::{Body, Header, Request};
use super::scenario::{RequestStep, Scenario, Step};
use super::template::Template;
use super::threshold::Threshold;
use super::{Plan, full::GRACEFUL_STOP};
use crate::units::Micros;

/// The one scenario's name.
const SCENARIO: &str = "main";
const USERS_MAX: u64 = 10_000_000;
/// 31 days.
const SECONDS_MAX: u64 = 31 * 86_400;
const THINK_MS_MAX: u64 = 86_400_000;

/// Names with the same meaning.
const ALIASES: &[(&str, &str)] = &[
    ("users", "concurrent_users"),
    ("duration_sec", "duration_seconds"),
    ("ramp_up_sec", "ramp_up_seconds"),
    ("sla", "sla_config"),
];

/// Reads a simple plan.
pub(crate) fn plan(decoder: &mut Decoder, root: &Node) -> Plan {
    let mut plan = full::empty();
    let field = Field { node: root, path: String::new() };
    let Some(object) = decoder.object(field, &fields::SIMPLE) else { return plan };
    let name =
        decoder.required(&object, "name", "a name for the plan").and_then(|field| decoder.text(&field));
    plan.name = name.unwrap_or_else(|| STAND_IN.to_owned());
    plan.variables =
        object.get("variables").map(|field| full::variables(decoder, &field)).unwrap_or_default();
    plan.http = object.get("http").map(|field| full::http(decoder, field)).unwrap_or_default();
    plan.agents = object.get("agents").map(|field| full::agents(decoder, field)).unwrap_or_default();
    let timeout = object.get("timeout_ms").and_then(|field| decoder.whole(&field)).filter(|ms| *ms > 0);
    plan.timeout = timeout.map_or(TIMEOUT, |ms| Micros(ms.saturating_mul(1_000)));
    if let Some(statuses) =
        object.get("success_status_codes").and_then(|field| full::success_status(decoder, &field))
    {
        plan.success_status = statuses;
    }
    // The user's own rules first: so they keep their numbers.
    plan.thresholds =
        object.get("thresholds").map(|field| full::thresholds(decoder, &field)).unwrap_or_default();
    plan.thresholds.extend(sla(decoder, &object));

    let mut steps = vec![Step::Request(Box::new(step(decoder, &object, &plan)))];
    if let Some(field) = object.get("think_time_ms")
        && let Some(ms) = decoder.whole(&field).filter(|ms| *ms > 0)
    {
        if ms > THINK_MS_MAX {
            decoder.wrong(&field, format!("{ms} is more than a day; give at most {THINK_MS_MAX}"));
        }
        let time = Micros::from_millis(ms.min(THINK_MS_MAX));
        steps.push(Step::Think { least: time, most: time });
    }
    let executor = executor(decoder, &object);
    let scenario = Scenario {
        name: SCENARIO.to_owned(),
        executor,
        start_time: Micros::ZERO,
        graceful_stop: GRACEFUL_STOP,
        steps,
    };
    plan.scenarios.push(scenario);
    plan
}

/// The value under a name or its alias; having both is a problem.
fn named<'a>(decoder: &mut Decoder, object: &Object<'a>, name: &str) -> Option<Field<'a>> {
    let alias = ALIASES.iter().find(|(known, _)| *known == name).map(|(_, alias)| *alias)?;
    match (object.get(name), object.get(alias)) {
        (Some(field), Some(again)) => {
            decoder.wrong(&again, format!("`{alias}` is another name of `{name}`; give one of them"));
            Some(field)
        }
        (field, again) => field.or(again),
    }
}

fn whole_within(
    decoder: &mut Decoder,
    field: &Field<'_>,
    range: std::ops::RangeInclusive<u64>,
    unit: &str,
) -> Option<u64> {
    let value = decoder.whole(field)?;
    if range.contains(&value) {
        return Some(value);
    }
    let message = format!("{value} is out of range; give {} to {}{unit}", range.start(), range.end());
    decoder.wrong(field, message);
    None
}

fn step(decoder: &mut Decoder, object: &Object<'_>, plan: &Plan) -> RequestStep {
    let url = decoder
        .required(object, "target_url", "the URL to load, as http://host/path")
        .and_then(|field| decoder.template(&field))
        .unwrap_or_else(|| Template::literal("http://unreadable.invalid"));
    let method = object.get("method").and_then(|field| decoder.text(&field));
    let mut headers = object.get("headers").map(|field| full::headers(decoder, &field)).unwrap_or_default();
    let body = object.get("body").and_then(|field| body(decoder, &field, &mut headers, plan)).map(Body::Text);
    let method = method.map_or_else(|| "GET".to_owned(), |method| canonical(&method));
    let request = Request { method, url, headers, body };
    RequestStep { name: default_name(&request), request, timeout: None }
}

fn body(
    decoder: &mut Decoder,
    field: &Field<'_>,
    headers: &mut Vec<Header>,
    plan: &Plan,
) -> Option<Template> {
    if let Content::Text(text) = &field.node.content {
        // The original sends an empty body where none is meant.
        return decoder.parsed_template(field, text).filter(|_| !text.is_empty());
    }
    full::add_content_type(headers);
    body_of_json(&field.node.to_value(), &plan.variables)
        .map_err(|message| decoder.wrong(field, message))
        .ok()
}

fn executor(decoder: &mut Decoder, object: &Object<'_>) -> Executor {
    let users = match named(decoder, object, "users") {
        Some(field) => whole_within(decoder, &field, 1..=USERS_MAX, ""),
        None => {
            decoder.wrong_name(
                object,
                "users",
                format!("is missing; give the number of users, 1 to {USERS_MAX}"),
            );
            None
        }
    };
    let duration = match named(decoder, object, "duration_sec") {
        Some(field) => whole_within(decoder, &field, 1..=SECONDS_MAX, " seconds (31 days)"),
        None => {
            decoder.wrong_name(object, "duration_sec", "is missing; give the length of the load in seconds");
            None
        }
    };
    let users = users.unwrap_or(1);
    let seconds = duration.unwrap_or(SECONDS_MAX);
    let ramp_up = named(decoder, object, "ramp_up_sec").and_then(|field| {
        let ramp_up = decoder.whole(&field)?;
        if ramp_up > seconds {
            let message = format!(
                "{ramp_up} seconds are longer than the whole load; give at most the {seconds} of duration_sec"
            );
            decoder.wrong(&field, message);
            return None;
        }
        Some(ramp_up)
    });
    let (duration, ramp_up) = (Micros::from_secs(seconds), Micros::from_secs(ramp_up.unwrap_or(0)));
    if let Some(executor) = rate::executor(decoder, object, users, duration, ramp_up) {
        return executor;
    }
    if ramp_up == Micros::ZERO {
        return Executor::ConstantVus { vus: users, duration };
    }
    let mut stages = vec![Stage { duration: ramp_up, target: users }];
    if ramp_up < duration {
        stages.push(Stage { duration: Micros(duration.0 - ramp_up.0), target: users });
    }
    Executor::RampingVus { start_vus: 0, stages, graceful_ramp_down: GRACEFUL_STOP }
}

fn sla(decoder: &mut Decoder, object: &Object<'_>) -> Vec<Threshold> {
    let field = named(decoder, object, "sla");
    let Some(object) = field.and_then(|field| decoder.object(field, &fields::SLA)) else { return Vec::new() };
    let mut rules = Vec::new();
    for (name, metric, unit) in [
        ("max_p95_latency", "p(95) <=", "ms"),
        ("max_p99_latency", "p(99) <=", "ms"),
        ("max_error_rate", "error_rate <=", "%"),
        ("min_rps", "rps >=", ""),
    ] {
        let Some(field) = object.get(name) else { continue };
        // 0 is the original's way to say that nothing is demanded.
        let Some(bound) = decoder.decimal(&field).filter(|bound| bound != "0") else { continue };
        match Threshold::parse(&format!("{metric} {bound}{unit}")) {
            Ok(rule) => rules.push(rule),
            Err(error) => decoder.wrong(&field, error.to_string()),
        }
    }
    rules
}

/// Where the user of a simple plan finds what a rule of the full plan speaks of.
pub(crate) fn field_of(root: &Node, path: &str) -> String {
    let name = if let Some(rest) = path.strip_prefix("scenarios.main.steps[0]") {
        match rest {
            _ if rest.starts_with(".headers") => return rest[1..].to_owned(),
            ".method" => "method",
            ".body" => "body",
            _ => "target_url",
        }
    } else if path.starts_with("scenarios.main.steps") {
        "think_time_ms"
    } else if path.starts_with("scenarios.main") {
        match path.rsplit('.').next().unwrap_or_default() {
            "vus" | "max_vus" | "pre_allocated_vus" => "users",
            "rate" => "target_rps",
            _ if root.get("rate_steps").is_some() => "rate_steps",
            _ => "duration_sec",
        }
    } else if path.starts_with("thresholds[") && !root.has_path(path) {
        "sla"
    } else {
        match path {
            "timeout" => "timeout_ms",
            "success_status" => "success_status_codes",
            other => return other.to_owned(),
        }
    };
    let alias = ALIASES.iter().find(|(known, _)| *known == name).map(|(_, alias)| *alias);
    alias.filter(|alias| root.get(alias).is_some()).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests;
