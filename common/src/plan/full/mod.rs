//! The full plan's document → [`Plan`]. Ranges and rules across fields are left to [`crate::validate`].
//!
//! A part that cannot be read is noted and replaced by a harmless stand-in, so that the rest is judged as well; whoever
//! asks must drop the plan where there were problems ([`super::document`] does).

mod address;
mod executor;
mod http;
mod scenario;
mod step;

use std::collections::BTreeMap;

use super::decode::{Decoder, Field, Object};
use super::fields;
use super::node::{Content, Node};
use super::template::is_name;
use super::threshold::{Comparison, Metric, Threshold};
use super::{AgentChoice, Header, Load, OnAgentLoss, Plan};
use crate::units::{Micros, Share};
pub(crate) use executor::open_loop_vus;
pub(crate) use http::http;
pub(crate) use step::{add_content_type, body_of_json, canonical, default_name};

/// What a document that leaves them out means.
pub(crate) const TIMEOUT: Micros = Micros::from_secs(30);
pub(crate) const INTERVAL: Micros = Micros::from_secs(1);
pub(crate) const GRACEFUL_STOP: Micros = Micros::from_secs(30);
pub(crate) const SUCCESS: (u16, u16) = (200, 399);

/// Stands where a name cannot be read.
pub(crate) const STAND_IN: &str = "unreadable";

/// Reads a full plan.
pub(crate) fn plan(decoder: &mut Decoder, root: &Node) -> Plan {
    let stand_in = empty();
    let field = Field { node: root, path: String::new() };
    let Some(object) = decoder.object(field, &fields::PLAN) else { return stand_in };
    let name =
        decoder.required(&object, "name", "a name for the plan").and_then(|field| decoder.text(&field));
    // A target that cannot be read stands for one, lest every step be said to lack it.
    let target = object
        .get("target")
        .map(|field| decoder.text(&field).unwrap_or_else(|| "http://unreadable.invalid".to_owned()));
    let variables = object.get("variables").map(|field| variables(decoder, &field)).unwrap_or_default();
    let elastic = object.get("elastic").and_then(|field| decoder.flag(&field)).unwrap_or(false);
    let on_agent_loss = object.get("on_agent_loss").and_then(|field| {
        decoder.word(
            &field,
            &[
                ("redistribute", OnAgentLoss::Redistribute),
                ("continue", OnAgentLoss::Continue),
                ("abort", OnAgentLoss::Abort),
            ],
        )
    });
    let load = object
        .get("load")
        .and_then(|field| decoder.word(&field, &[("total", Load::Total), ("per_agent", Load::PerAgent)]));
    Plan {
        name: name.unwrap_or_else(|| STAND_IN.to_owned()),
        target,
        timeout: duration(decoder, &object, "timeout").unwrap_or(TIMEOUT),
        headers: object.get("headers").map(|field| headers(decoder, &field)).unwrap_or_default(),
        http: object.get("http").map(|field| http(decoder, field)).unwrap_or_default(),
        agents: object.get("agents").map(|field| agents(decoder, field)).unwrap_or_default(),
        load: load.unwrap_or_default(),
        elastic,
        on_agent_loss: on_agent_loss.unwrap_or(if elastic {
            OnAgentLoss::Redistribute
        } else {
            OnAgentLoss::Continue
        }),
        success_status: object
            .get("success_status")
            .and_then(|field| success_status(decoder, &field))
            .unwrap_or(stand_in.success_status),
        interval: duration(decoder, &object, "interval").unwrap_or(INTERVAL),
        trace_sample: object.get("trace").and_then(|field| trace_sample(decoder, field)),
        scenarios: scenario::scenarios(decoder, &object, &variables),
        thresholds: object.get("thresholds").map(|field| thresholds(decoder, &field)).unwrap_or_default(),
        variables,
    }
}

/// A plan of defaults without scenarios.
pub(crate) fn empty() -> Plan {
    Plan {
        name: STAND_IN.to_owned(),
        target: None,
        timeout: TIMEOUT,
        headers: Vec::new(),
        http: super::HttpOptions::default(),
        variables: BTreeMap::new(),
        agents: AgentChoice::default(),
        load: Load::default(),
        elastic: false,
        on_agent_loss: OnAgentLoss::default(),
        success_status: vec![SUCCESS],
        interval: INTERVAL,
        trace_sample: None,
        scenarios: Vec::new(),
        thresholds: Vec::new(),
    }
}

fn duration(decoder: &mut Decoder, object: &Object<'_>, name: &str) -> Option<Micros> {
    object.get(name).and_then(|field| decoder.duration(&field))
}

/// Header lines: a map, or a list of `[name, value]` pairs where order or repetition matter.
pub(crate) fn headers(decoder: &mut Decoder, field: &Field<'_>) -> Vec<Header> {
    let mut read = Vec::new();
    if let Content::List(_) = field.node.content {
        for pair in decoder.list(field, "`[name, value]` pairs").unwrap_or_default() {
            let Content::List(items) = &pair.node.content else {
                decoder
                    .wrong(&pair, format!("{} is not a pair; write `[name, value]`", pair.node.describe()));
                continue;
            };
            let [name, value] = items.as_slice() else {
                decoder
                    .wrong(&pair, format!("a list of {} is not a pair; write `[name, value]`", items.len()));
                continue;
            };
            let part = |node| Field { node, path: pair.path.clone() };
            if let (Some(name), Some(value)) = (decoder.text(&part(name)), decoder.template(&part(value))) {
                read.push(Header { name, value });
            }
        }
        return read;
    }
    for (key, field) in decoder.map(field, "a map of names and values").unwrap_or_default() {
        if let Some(value) = decoder.template(&field) {
            read.push(Header { name: key.name.clone(), value });
        }
    }
    read
}

/// Constants for templates.
pub(crate) fn variables(decoder: &mut Decoder, field: &Field<'_>) -> BTreeMap<String, String> {
    let mut read = BTreeMap::new();
    for (key, field) in decoder.map(field, "a map of names and values").unwrap_or_default() {
        if !is_name(&key.name) {
            decoder.note(
                key.at,
                &field.path,
                "a variable's name is a letter or `_`, then letters, digits and `_`",
            );
        }
        let value = decoder.text(&field).unwrap_or_default();
        read.insert(key.name.clone(), value);
    }
    read
}

/// Which agents take part.
pub(crate) fn agents(decoder: &mut Decoder, field: Field<'_>) -> AgentChoice {
    let Some(object) = decoder.object(field, &fields::AGENTS) else { return AgentChoice::default() };
    let count = object.get("count").and_then(|field| {
        let count = decoder.whole(&field)?;
        u32::try_from(count).map_err(|_| decoder.wrong(&field, format!("{count} agents are too many"))).ok()
    });
    let mut labels = BTreeMap::new();
    if let Some(field) = object.get("labels") {
        for (key, field) in decoder.map(&field, "a map of labels and values").unwrap_or_default() {
            if let Some(value) = decoder.text(&field) {
                labels.insert(key.name.clone(), value);
            }
        }
    }
    let exclusive = object.get("exclusive").and_then(|field| decoder.flag(&field)).unwrap_or(false);
    AgentChoice { count, labels, exclusive }
}

/// Which share of the requests is traced.
fn trace_sample(decoder: &mut Decoder, field: Field<'_>) -> Option<Share> {
    let object = decoder.object(field, &fields::TRACE)?;
    let sample = decoder.required(&object, "sample", "the share of the requests to trace, such as 1%")?;
    decoder.share(&sample)
}

/// The statuses of a success: `200-399`, `204`, or a list of such.
pub(crate) fn success_status(decoder: &mut Decoder, field: &Field<'_>) -> Option<Vec<(u16, u16)>> {
    if let Content::List(_) = field.node.content {
        let items = decoder.list(field, "statuses")?;
        let read: Vec<(u16, u16)> = items.iter().filter_map(|item| status_range(decoder, item)).collect();
        return (read.len() == items.len()).then_some(read);
    }
    let text = decoder.text(field)?;
    let read: Vec<(u16, u16)> = text.split(',').filter_map(range_of).collect();
    if read.len() == text.split(',').count() {
        return Some(read);
    }
    let shown = super::node::excerpt(&text);
    decoder.wrong(
        field,
        format!("`{shown}` are no statuses; write a range as `200-399`, or a list as [200, 204]"),
    );
    None
}

fn status_range(decoder: &mut Decoder, field: &Field<'_>) -> Option<(u16, u16)> {
    let text = decoder.text(field)?;
    let read = range_of(&text);
    if read.is_none() {
        let shown = super::node::excerpt(&text);
        decoder.wrong(field, format!("`{shown}` is no status; write a number as 204, or a range as 200-399"));
    }
    read
}

fn range_of(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.trim().parse::<u16>().ok();
    match text.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)?)),
        None => number(text).map(|one| (one, one)),
    }
}

/// The rules by which the result is judged.
pub(crate) fn thresholds(decoder: &mut Decoder, field: &Field<'_>) -> Vec<Threshold> {
    let items = decoder.list(field, "rules such as `p(95) < 300ms`").unwrap_or_default();
    items.into_iter().map(|item| threshold(decoder, item).unwrap_or_else(unreadable_threshold)).collect()
}

/// Stands where a rule cannot be read, so that the others keep their numbers.
fn unreadable_threshold() -> Threshold {
    Threshold {
        expr: "requests >= 0".to_owned(),
        metric: Metric::Requests,
        step: None,
        comparison: Comparison::GreaterOrEqual,
        bound: 0.0,
        abort: false,
        grace: Micros::ZERO,
        window: None,
    }
}

fn threshold(decoder: &mut Decoder, field: Field<'_>) -> Option<Threshold> {
    let Content::Map(_) = field.node.content else {
        let text = decoder.text(&field)?;
        return Threshold::parse(&text).map_err(|error| decoder.wrong(&field, error.to_string())).ok();
    };
    let object = decoder.object(field, &fields::THRESHOLD)?;
    let rule = decoder.required(&object, "expr", "a rule such as `p(95) < 300ms`").and_then(|field| {
        let text = decoder.text(&field)?;
        Threshold::parse(&text).map_err(|error| decoder.wrong(&field, error.to_string())).ok()
    });
    let abort = object.get("abort").and_then(|field| decoder.flag(&field)).unwrap_or(false);
    let grace = duration(decoder, &object, "grace").unwrap_or_default();
    let window = duration(decoder, &object, "window");
    rule.map(|rule| Threshold { abort, grace, window, ..rule })
}
