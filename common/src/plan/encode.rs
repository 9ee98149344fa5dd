//! [`Plan`] → its document: the full form with every value written out, which reads back as the same plan.

use serde_json::{Map, Value, json};

use super::executor::{Arrival, Executor, OpenLoop, Stage, WhenBusy};
use super::http::{HttpOptions, HttpVersion};
use super::request::{Body, Header};
use super::scenario::{Scenario, Step};
use super::threshold::Threshold;
use super::{AgentChoice, Load, OnAgentLoss, Plan};

/// The plan's document.
pub(super) fn plan(plan: &Plan) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("name", json!(plan.name));
    if let Some(target) = &plan.target {
        put("target", json!(target));
    }
    put("timeout", json!(plan.timeout));
    put("headers", headers(&plan.headers));
    put("http", http(&plan.http));
    put("variables", json!(plan.variables));
    put("agents", agents(&plan.agents));
    put("load", json!(if plan.load == Load::PerAgent { "per_agent" } else { "total" }));
    put("elastic", json!(plan.elastic));
    let on_agent_loss = match plan.on_agent_loss {
        OnAgentLoss::Redistribute => "redistribute",
        OnAgentLoss::Continue => "continue",
        OnAgentLoss::Abort => "abort",
    };
    put("on_agent_loss", json!(on_agent_loss));
    put("interval", json!(plan.interval));
    let ranges = plan.success_status.iter().map(|(first, last)| json!(format!("{first}-{last}")));
    put("success_status", ranges.collect());
    let scenarios = plan.scenarios.iter().map(|scenario| (scenario.name.clone(), self::scenario(scenario)));
    put("scenarios", Value::Object(scenarios.collect()));
    put("thresholds", plan.thresholds.iter().map(threshold).collect());
    Value::Object(object)
}

/// Pairs: a map would lose the order of lines of one name.
fn headers(headers: &[Header]) -> Value {
    headers.iter().map(|header| json!([header.name, header.value.to_string()])).collect()
}

fn http(http: &HttpOptions) -> Value {
    let version = match http.version {
        HttpVersion::Auto => "auto",
        HttpVersion::Http1 => "1.1",
        HttpVersion::Http2 => "2",
    };
    let mut tls = json!({ "insecure": http.tls.insecure });
    if let (Some(pem), Some(tls)) = (&http.tls.ca_pem, tls.as_object_mut()) {
        tls.insert("ca".to_owned(), json!(pem));
    }
    json!({ "version": version, "keep_alive": !http.no_keep_alive, "tls": tls })
}

fn agents(agents: &AgentChoice) -> Value {
    let mut value = json!({ "labels": agents.labels, "exclusive": agents.exclusive });
    if let (Some(count), Some(object)) = (agents.count, value.as_object_mut()) {
        object.insert("count".to_owned(), json!(count));
    }
    value
}

fn scenario(scenario: &Scenario) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("executor", json!(scenario.executor.name()));
    match &scenario.executor {
        Executor::ConstantVus { vus, duration } => {
            put("vus", json!(vus));
            put("duration", json!(duration));
        }
        Executor::RampingVus { start_vus, stages: list, graceful_ramp_down } => {
            put("start_vus", json!(start_vus));
            put("stages", stages(list));
            put("graceful_ramp_down", json!(graceful_ramp_down));
        }
        Executor::PerVuIterations { vus, iterations, max_duration }
        | Executor::SharedIterations { vus, iterations, max_duration } => {
            put("vus", json!(vus));
            put("iterations", json!(iterations));
            put("max_duration", json!(max_duration));
        }
        Executor::ConstantArrivalRate { rate, duration, open } => {
            put("rate", json!(rate));
            put("duration", json!(duration));
            open_loop(&mut put, open);
        }
        Executor::RampingArrivalRate { start_rate, stages: list, open } => {
            put("start_rate", json!(start_rate));
            put("stages", stages(list));
            open_loop(&mut put, open);
        }
    }
    put("start_time", json!(scenario.start_time));
    put("graceful_stop", json!(scenario.graceful_stop));
    put("steps", scenario.steps.iter().map(step).collect());
    Value::Object(object)
}

fn open_loop(put: &mut impl FnMut(&str, Value) -> Option<Value>, open: &OpenLoop) {
    put("arrival", json!(if open.arrival == Arrival::Poisson { "poisson" } else { "uniform" }));
    put("when_busy", json!(if open.when_busy == WhenBusy::Queue { "queue" } else { "drop" }));
    put("pre_allocated_vus", json!(open.pre_allocated_vus));
    put("max_vus", json!(open.max_vus));
}

fn stages<T: serde::Serialize>(stages: &[Stage<T>]) -> Value {
    stages.iter().map(|stage| json!({ "duration": stage.duration, "target": stage.target })).collect()
}

fn step(step: &Step) -> Value {
    match step {
        Step::Think { least, most } => json!({ "think": format!("{least}..{most}") }),
        Step::Request(step) => {
            let mut object = Map::new();
            let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
            put("name", json!(step.name));
            put("method", json!(step.request.method));
            put("url", json!(step.request.url.to_string()));
            put("headers", headers(&step.request.headers));
            match &step.request.body {
                Some(Body::Text(text)) => drop(put("body", json!(text.to_string()))),
                Some(Body::File(file)) => drop(put("body_file", json!(file))),
                None => {}
            }
            if let Some(timeout) = step.timeout {
                put("timeout", json!(timeout));
            }
            Value::Object(object)
        }
    }
}

fn threshold(threshold: &Threshold) -> Value {
    let mut object = Map::new();
    object.insert("expr".to_owned(), json!(threshold.expr));
    object.insert("abort".to_owned(), json!(threshold.abort));
    object.insert("grace".to_owned(), json!(threshold.grace));
    if let Some(window) = threshold.window {
        object.insert("window".to_owned(), json!(window));
    }
    Value::Object(object)
}
