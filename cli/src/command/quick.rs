//! `volcanion run URL`: a plan from flags, in the words of oha, hey, wrk2 and k6.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use volcanion_common::plan::template::Template;
use volcanion_common::units::{Micros, Rate};
use volcanion_common::validate::bounds::BODY_BYTES_MAX;

use super::files::Files;
use crate::args::{ArrivalWord, RunArgs};
use crate::exit::Failure;

const DEFAULT_VUS: u64 = 50;
const DEFAULT_DURATION: Micros = Micros::from_secs(10);
/// `--iterations` without `--duration` may take this long.
const ITERATIONS_TIME_MAX: Micros = Micros::from_secs(24 * 3_600);

/// A body as `--body` gives it.
#[derive(Debug, PartialEq)]
pub enum Given {
    /// As a plan's `body` writes it.
    Text(String),
    /// No text, or too much for a plan: agents read it themselves.
    File(PathBuf),
}

impl Given {
    /// Text, or `@FILE`: its bytes go out as they are, braces too.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(body: &str) -> Result<Self, Failure> {
        let Some(path) = body.strip_prefix('@') else { return Ok(Self::Text(body.to_owned())) };
        let wrong = |error: std::io::Error| Failure::wrong(format!("--body @{path}: {error}"));
        if std::fs::metadata(path).map_err(wrong)?.len() > BODY_BYTES_MAX as u64 {
            return Ok(Self::File(path.into()));
        }
        let bytes = std::fs::read(path).map_err(wrong)?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => Self::Text(Template::literal(&text).to_string()),
            Err(_) => Self::File(path.into()),
        })
    }
}

/// The plan's document that the flags describe, but for those that [`overrides`] and [`super::http_flags`] put into any.
pub fn document(args: &RunArgs, body: Option<&Given>, files: &Files) -> Result<Value, Failure> {
    let mut step = Map::new();
    step.insert("name".into(), json!("request"));
    let method =
        args.method.clone().unwrap_or_else(|| if args.body.is_some() { "POST" } else { "GET" }.to_owned());
    step.insert("method".into(), json!(method));
    step.insert("url".into(), json!(args.what));
    match body {
        Some(Given::Text(text)) => drop(step.insert("body".into(), json!(text))),
        Some(Given::File(path)) => drop(step.insert("body_file".into(), json!(files.name("--body", path)?))),
        None => {}
    }
    if !args.headers.is_empty() {
        step.insert("headers".into(), Value::Array(headers(&args.headers)?));
    }
    let mut scenario = executor(args)?;
    scenario.insert("steps".into(), json!([step]));
    let mut plan = Map::new();
    plan.insert("name".into(), json!(name(&args.what)));
    plan.insert("scenarios".into(), json!({ "default": scenario }));
    Ok(Value::Object(plan))
}

/// What flags change in any plan, one from a file too.
pub fn overrides(args: &RunArgs, document: &mut Value) {
    let Some(plan) = document.as_object_mut() else { return };
    if let Some(timeout) = args.timeout {
        plan.remove("timeout_ms");
        plan.insert(
            if plan.contains_key("target_url") { "timeout_ms" } else { "timeout" }.into(),
            match plan.contains_key("target_url") {
                true => json!(timeout.0.div_ceil(1_000)),
                false => json!(timeout),
            },
        );
    }
    if !args.thresholds.is_empty() {
        let rules = plan.entry("thresholds").or_insert_with(|| json!([]));
        if let Some(rules) = rules.as_array_mut() {
            rules.extend(args.thresholds.iter().map(|rule| json!(rule)));
        }
    }
    if let Some(count) = args.agents.filter(|_| args.master.is_some()) {
        entry(plan, "agents").insert("count".into(), json!(count));
    }
}

/// The object under a key, made where it is not there.
pub fn entry<'a>(object: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = object.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made an object just now")
}

fn executor(args: &RunArgs) -> Result<Map<String, Value>, Failure> {
    let duration = args.duration.unwrap_or(DEFAULT_DURATION);
    let vus = args.vus.unwrap_or(DEFAULT_VUS);
    if args.iterations.is_some() && args.ramp_up.is_some() {
        return Err(Failure::wrong(
            "--ramp-up needs a duration, and --iterations has none; leave one of them out",
        ));
    }
    let ramp_up = args.ramp_up.filter(|ramp_up| ramp_up.0 > 0);
    if ramp_up.is_some_and(|ramp_up| ramp_up > duration) {
        return Err(Failure::wrong(format!(
            "--ramp-up is longer than the load; give at most {duration}, or a longer --duration"
        )));
    }
    let value = match (args.rate, args.iterations, ramp_up) {
        (Some(rate), None, None) => {
            json!({ "executor": "constant-arrival-rate", "rate": rate, "duration": duration })
        }
        (Some(rate), None, Some(ramp_up)) => json!({
            "executor": "ramping-arrival-rate",
            "start_rate": Rate::ZERO,
            "stages": [
                { "duration": ramp_up, "target": rate },
                { "duration": Micros(duration.0 - ramp_up.0), "target": rate },
            ],
        }),
        (Some(rate), Some(iterations), _) => {
            json!({ "executor": "constant-arrival-rate", "rate": rate, "duration": time_for(iterations, rate)? })
        }
        (None, Some(iterations), _) => json!({
            "executor": "shared-iterations",
            "vus": vus.min(iterations),
            "iterations": iterations,
            "max_duration": args.duration.unwrap_or(ITERATIONS_TIME_MAX),
        }),
        (None, None, None) => json!({ "executor": "constant-vus", "vus": vus, "duration": duration }),
        (None, None, Some(ramp_up)) => json!({
            "executor": "ramping-vus",
            "start_vus": 0,
            "stages": [
                { "duration": ramp_up, "target": vus },
                { "duration": Micros(duration.0 - ramp_up.0), "target": vus },
            ],
        }),
    };
    let Value::Object(mut scenario) = value else { unreachable!("every branch writes an object") };
    if args.rate.is_some() {
        if let Some(vus) = args.vus {
            scenario.insert("max_vus".into(), json!(vus));
        }
        if let Some(arrival) = args.arrival {
            let word = match arrival {
                ArrivalWord::Uniform => "uniform",
                ArrivalWord::Poisson => "poisson",
            };
            scenario.insert("arrival".into(), json!(word));
        }
    }
    Ok(scenario)
}

/// The time in which a rate starts exactly so many iterations.
fn time_for(iterations: u64, rate: Rate) -> Result<Micros, Failure> {
    let units = u128::from(rate.micro_per_hour());
    if units == 0 || iterations == 0 {
        return Err(Failure::wrong("--iterations and --rate must be more than zero"));
    }
    let us = u128::from(iterations) * Rate::UNITS_PER_ITERATION / units;
    u64::try_from(us).ok().filter(|us| *us <= Micros::MAX.0).map(Micros).ok_or_else(|| {
        Failure::wrong("--iterations at this --rate take more than 366 days; give fewer or a higher rate")
    })
}

fn headers(lines: &[String]) -> Result<Vec<Value>, Failure> {
    lines
        .iter()
        .map(|line| match line.split_once(':') {
            Some((name, value)) => Ok(json!([name.trim(), value.trim()])),
            None => Err(Failure::wrong(format!("--header: `{line}` has no colon; write `Name: value`"))),
        })
        .collect()
}

/// The host and path, as a plan's name.
fn name(url: &str) -> String {
    let short = url.split_once("://").map_or(url, |(_, rest)| rest);
    short.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;
    use volcanion_common::plan::{Arrival, Body, Executor, Plan, document as documents};

    fn plan(flags: &str) -> Plan {
        let words = ["volcanion", "run", "http://127.0.0.1:1/x"].into_iter().chain(flags.split_whitespace());
        let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else { panic!("it is `run`") };
        let body = args.body.as_deref().map(Given::read).transpose().unwrap();
        let mut value = super::document(&args, body.as_ref(), &Files::OfTheAgents).unwrap();
        overrides(&args, &mut value);
        documents::from_json(&value).unwrap().plan.plan().clone()
    }

    #[test]
    fn flags_say_what_the_plan_does() {
        let check = |flags: &str, is_right: fn(&Executor) -> bool| {
            let executor = &plan(flags).scenarios[0].executor;
            assert!(is_right(executor), "{flags}: {executor:?}");
        };
        check("", |e| *e == Executor::ConstantVus { vus: 50, duration: Micros::from_secs(10) });
        check("-c 3 -d 2", |e| *e == Executor::ConstantVus { vus: 3, duration: Micros::from_secs(2) });
        check("-n 10 -c 100", |e| matches!(e, Executor::SharedIterations { vus: 10, iterations: 10, .. }));
        check(
            "--rate 401/s -d 5s --arrival poisson -c 7",
            |e| matches!(e, Executor::ConstantArrivalRate { open, .. } if open.max_vus == 7 && open.arrival == Arrival::Poisson),
        );
        check("--rate 100 -n 250", |e| e.duration() == Micros::from_millis(2_500));
        check(
            "--ramp-up 4s -c 8",
            |e| matches!(e, Executor::RampingVus { start_vus: 0, stages, .. } if stages.len() == 2),
        );
        check(
            "--ramp-up 4s --rate 8",
            |e| matches!(e, Executor::RampingArrivalRate { stages, .. } if stages.len() == 2),
        );
    }

    #[test]
    fn a_body_makes_it_a_post_and_flags_reach_the_plan() {
        let plan = plan("--body hello -H a:b --timeout 2s --threshold p95<10ms");
        let step = plan.steps().next().unwrap().step.clone();
        assert_eq!(step.request.method, "POST");
        assert_eq!(step.request.headers[0].name, "a");
        assert_eq!(plan.timeout, Micros::from_secs(2));
        assert_eq!(plan.thresholds.len(), 1);
    }

    #[test]
    fn a_body_from_a_file_goes_out_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        let given = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Given::read(&format!("@{}", path.display())).unwrap()
        };
        assert_eq!(given(b"{\"a\":1}"), Given::Text("{\"a\":1}".to_owned()));
        for large in [vec![b'x'; BODY_BYTES_MAX + 1], vec![0xff]] {
            assert_eq!(given(&large), Given::File(path.clone()));
        }
        given(b"a {{ b }} {{ '{{' }}");
        let plan = plan(&format!("--body @{}", path.display()));
        let step = plan.steps().next().unwrap().step.clone();
        let Some(Body::Text(body)) = &step.request.body else { panic!("{step:?}") };
        assert_eq!(body.render(&plan.variables), "a {{ b }} {{ '{{' }}");
        given(&[0xff, 0xfe]);
        let path = path.display().to_string();
        let Command::Run(args) = Cli::try_parse_from(["volcanion", "run", "http://h/"]).unwrap().command
        else {
            panic!("it is `run`")
        };
        let files = Files::here(None, None, &[("--body", path.as_ref())]).unwrap();
        let value = document(&args, Some(&Given::File(path.into())), &files).unwrap();
        assert_eq!(value["scenarios"]["default"]["steps"][0]["body_file"], "body");
        assert!(Given::read("@/no/such/file").is_err());
    }
}
