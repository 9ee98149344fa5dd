//! One step of a document: a request, or a pause.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::decode::{Decoder, Field, Object};
use super::super::fields::{self, METHODS};
use super::super::node::excerpt;
use super::super::request::{Body, Header, Request, is_absolute};
use super::super::scenario::{RequestStep, Step};
use super::super::template::Template;
use super::{STAND_IN, duration, headers};
use crate::units::Micros;

/// Reads a step. One that cannot be read is a pause of no length.
pub(super) fn step(decoder: &mut Decoder, field: Field<'_>, variables: &BTreeMap<String, String>) -> Step {
    let unreadable = Step::Think { least: Micros::ZERO, most: Micros::ZERO };
    let Some(object) = decoder.object(field, &fields::STEP) else { return unreadable };
    if let Some(field) = object.get("think") {
        for name in object.names().filter(|name| *name != "think" && fields::STEP.known.contains(name)) {
            decoder.wrong_name(
                &object,
                name,
                format!("a step of `think` only waits; give `{name}` to a step of its own"),
            );
        }
        return think(decoder, &field).map_or(unreadable, |(least, most)| Step::Think { least, most });
    }
    // An empty name is the user's; one that was left out is given later, when all are known.
    let name = object.get("name").map(|field| {
        let name = decoder.text(&field).unwrap_or_else(|| STAND_IN.to_owned());
        if name.is_empty() {
            decoder.wrong(&field, "is empty; give a name, or leave it out for the method and path");
        }
        name
    });
    let (method, url) = method_and_url(decoder, &object);
    let mut lines = object.get("headers").map(|field| headers(decoder, &field)).unwrap_or_default();
    let body = body(decoder, &object, &mut lines, variables);
    let timeout = duration(decoder, &object, "timeout");
    let request = Request {
        method: method.unwrap_or_else(|| "GET".to_owned()),
        url: url.unwrap_or_else(|| Template::literal("http://unreadable.invalid")),
        headers: lines,
        body,
    };
    Step::Request(Box::new(RequestStep { name: name.unwrap_or_default(), request, timeout }))
}

fn method_and_url(decoder: &mut Decoder, object: &Object<'_>) -> (Option<String>, Option<Template>) {
    let short: Vec<&(&str, &str)> = METHODS.iter().filter(|(name, _)| object.has(name)).collect();
    match short.as_slice() {
        [] => {
            let Some(field) = object.get("url") else {
                let names: Vec<&str> = METHODS.iter().map(|(name, _)| *name).collect();
                decoder.wrong(
                    &object.field,
                    format!(
                        "says not what to do; give one of {} with a URL, or `method` and `url`, or `think`",
                        names.join(", ")
                    ),
                );
                return (None, None);
            };
            let method = decoder
                .required(object, "method", "a method such as GET")
                .and_then(|field| decoder.text(&field));
            (method.map(|method| canonical(&method)), decoder.template(&field))
        }
        [(name, method)] => {
            for other in ["method", "url"].into_iter().filter(|other| object.has(other)) {
                decoder.wrong_name(
                    object,
                    other,
                    format!("`{name}` says the method and the URL already; leave `{other}` out"),
                );
            }
            let url = object.get(name).and_then(|field| decoder.template(&field));
            (Some((*method).to_owned()), url)
        }
        [(first, _), rest @ ..] => {
            for (name, _) in rest {
                decoder.wrong_name(object, name, format!("a step sends one request, and `{first}` is one already; give `{name}` a step of its own"));
            }
            (None, None)
        }
    }
}

/// Methods are case-sensitive (RFC 9110, 9.1); of the common ones only the upper case is meant.
pub(crate) fn canonical(method: &str) -> String {
    let upper = method.to_ascii_uppercase();
    let is_common =
        METHODS.iter().any(|(_, common)| *common == upper) || matches!(upper.as_str(), "TRACE" | "CONNECT");
    if is_common { upper } else { method.to_owned() }
}

fn body(
    decoder: &mut Decoder,
    object: &Object<'_>,
    lines: &mut Vec<Header>,
    variables: &BTreeMap<String, String>,
) -> Option<Body> {
    // `json: null` is a body, the four letters.
    let given: Vec<&str> = ["body", "body_file", "json"]
        .into_iter()
        .filter(|name| if *name == "json" { object.raw(name).is_some() } else { object.has(name) })
        .collect();
    for name in given.iter().skip(1) {
        decoder.wrong_name(
            object,
            name,
            format!("a step has one body; give either `{name}` or `{}`", given[0]),
        );
    }
    let field = given.first().and_then(|name| object.raw(name))?;
    match given[0] {
        "body" => return decoder.template(&field).map(Body::Text),
        "body_file" => return decoder.text(&field).map(Body::File),
        _ => {}
    }
    match body_of_json(&field.node.to_value(), variables) {
        Ok(body) => {
            add_content_type(lines);
            Some(Body::Text(body))
        }
        Err(message) => {
            decoder.wrong(&field, message);
            None
        }
    }
}

/// Says that a body is JSON, unless the user said what it is.
pub(crate) fn add_content_type(lines: &mut Vec<Header>) {
    if !lines.iter().any(|line| line.name.eq_ignore_ascii_case("content-type")) {
        lines.push(Header { name: "content-type".to_owned(), value: Template::literal("application/json") });
    }
}

/// A JSON value as a body. Variables and secrets stand within its strings, so their values are escaped as JSON asks.
pub(crate) fn body_of_json(value: &Value, variables: &BTreeMap<String, String>) -> Result<Template, String> {
    Ok(Template::parse(&value.to_string())?.fill_json(variables))
}

fn think(decoder: &mut Decoder, field: &Field<'_>) -> Option<(Micros, Micros)> {
    let Some((least, most)) = field_text(field).and_then(|text| text.split_once("..")) else {
        return decoder.duration(field).map(|time| (time, time));
    };
    match (least.parse::<Micros>(), most.parse::<Micros>()) {
        (Ok(least), Ok(most)) => Some((least, most)),
        (least, most) => {
            for error in [least.err(), most.err()].into_iter().flatten() {
                decoder.wrong(field, excerpt_of(&error.to_string()));
            }
            None
        }
    }
}

fn field_text<'a>(field: &Field<'a>) -> Option<&'a str> {
    match &field.node.content {
        super::super::node::Content::Text(text) if text.len() <= 100 => Some(text),
        _ => None,
    }
}

fn excerpt_of(text: &str) -> String {
    if text.len() > 300 { excerpt(text) } else { text.to_owned() }
}

/// The name of a step that has none: method and path, without query and host.
pub(crate) fn default_name(request: &Request) -> String {
    let url = request.url.to_string();
    let whole = if is_absolute(&url) { url.split_once("://") } else { None };
    let path =
        whole.map_or(url.as_str(), |(_, rest)| rest.find(['/', '?', '#']).map_or("", |start| &rest[start..]));
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let clean: String = path.chars().filter(|c| !c.is_control()).collect();
    format!("{} {}", request.method, if clean.is_empty() { "/" } else { clean.as_str() })
}
