//! [`Plan`] → its document: the full form with every value written out, which reads back as the same plan.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::executor::{Arrival, Control, Executor, OpenLoop, Stage, WhenBusy};
use super::http::{
    AddressFamily, Connections, DnsOptions, DnsRefresh, HttpOptions, HttpVersion, Resolve, TlsOptions,
    TlsVersion,
};
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
    if let Some(sample) = plan.trace_sample {
        put("trace", json!({ "sample": sample }));
    }
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
    let connections = match http.connections {
        Connections::PerVu => json!("per_vu"),
        Connections::Shared(count) => json!(count),
    };
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("version", json!(version));
    put("keep_alive", json!(!http.no_keep_alive));
    put("connections", connections);
    put("redirects", json!(http.redirects));
    put("cookies", json!(http.cookies));
    put("dns", dns(&http.dns));
    put("local_ips", json!(http.local_ips));
    if let Some(path) = &http.unix_socket {
        put("unix_socket", json!(path));
    }
    put("tls", tls(&http.tls));
    Value::Object(object)
}

fn dns(dns: &DnsOptions) -> Value {
    let refresh = match dns.refresh {
        DnsRefresh::Once => json!("once"),
        DnsRefresh::PerConnection => json!("per_connection"),
        DnsRefresh::Every(time) => json!(time),
    };
    let family = match dns.family {
        AddressFamily::Any => "any",
        AddressFamily::Ipv4 => "ipv4",
        AddressFamily::Ipv6 => "ipv6",
    };
    let resolve: Value = dns.resolve.iter().map(resolve).collect();
    json!({ "refresh": refresh, "family": family, "resolve": resolve })
}

fn resolve(resolve: &Resolve) -> Value {
    let addresses = resolve.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    let addresses: Vec<String> = addresses.collect();
    json!(format!("{}:{}:{}", resolve.host, resolve.port, addresses.join(",")))
}

fn tls(tls: &TlsOptions) -> Value {
    let version = |version: TlsVersion| match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    };
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("insecure", json!(tls.insecure));
    if let Some(pem) = &tls.ca_pem {
        put("ca", json!(pem));
    }
    if let Some(client) = &tls.client {
        put("cert", json!(client.cert_file));
        put("key", json!(client.key_file));
    }
    if let Some(name) = &tls.server_name {
        put("server_name", json!(name));
    }
    put("min_version", json!(version(tls.min_version)));
    if let Some(highest) = tls.max_version {
        put("max_version", json!(version(highest)));
    }
    put("resumption", json!(!tls.no_resumption));
    Value::Object(object)
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
        Executor::ExternallyControlled { control, duration } => {
            match control {
                Control::Vus { vus, max_vus } => {
                    put("vus", json!(vus));
                    put("max_vus", json!(max_vus));
                }
                Control::Rate { rate, open } => {
                    put("rate", json!(rate));
                    open_loop(&mut put, open);
                }
            }
            put("duration", json!(duration));
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
