//! Documents in and out: YAML or JSON, the full plan or the simple one → a valid plan, or all of the problems at once.
//!
//! Takes bytes or a JSON value. Gives a [`PlanDocument`], or [`Problems`] with plan paths and, for YAML, lines and
//! columns. Invariants: no input panics or exhausts stack or memory; `from_json(&to_json(plan))` is the same plan.

use serde_json::Value;

use super::decode::Decoder;
use super::node::{self, Content, DOCUMENT_BYTES_MAX, Node, Position};
use super::{Plan, encode, fields, full, json, simple, yaml};
use crate::problem::{Problem, Problems};
use crate::validate::{self, ValidPlan};

/// The JSON Schema (2020-12) of the full plan, for editors.
pub const JSON_SCHEMA: &str = include_str!("plan.schema.json");

/// What a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML 1.2, one document.
    Yaml,
}

/// A document that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanDocument {
    /// The plan that it describes.
    pub plan: ValidPlan,
    /// The document as the user wrote it, as JSON: names, aliases and order kept, files that it names put in their
    /// places, and without what only answers carry (`id`, `created_at`, `updated_at`).
    pub source: Value,
    /// Whether it is a simple plan.
    pub is_simple: bool,
}

/// Reads a document. A file name in it is a problem: see [`read_with_files`].
///
/// # Errors
/// Every problem of it.
pub fn read(bytes: &[u8], format: Format) -> Result<PlanDocument, Problems> {
    of_node(tree(bytes, format)?)
}

/// Reads a document whose files stand beside it: each file name in it (`http.tls.ca`) is replaced by the file's text,
/// so that whoever gets the document needs no file.
///
/// # Errors
/// Every problem of it; files that cannot be read among them.
pub fn read_with_files(
    bytes: &[u8],
    format: Format,
    folder: &std::path::Path,
) -> Result<PlanDocument, Problems> {
    read_with(bytes, format, |name| {
        let path = folder.join(name);
        let size = std::fs::metadata(&path).map_err(|error| error.to_string())?.len();
        if size > DOCUMENT_BYTES_MAX as u64 {
            return Err(format!("it has {size} bytes; at most {DOCUMENT_BYTES_MAX} are read"));
        }
        std::fs::read_to_string(&path).map_err(|error| error.to_string())
    })
}

/// [`read_with_files`] with the caller's own way from a name to a text.
///
/// # Errors
/// Every problem of it; names that have no text among them.
pub fn read_with(
    bytes: &[u8],
    format: Format,
    mut file: impl FnMut(&str) -> Result<String, String>,
) -> Result<PlanDocument, Problems> {
    let mut root = tree(bytes, format)?;
    let ca = root.get_mut("http").and_then(|http| http.get_mut("tls")).and_then(|tls| tls.get_mut("ca"));
    if let Some(Node { at, content: Content::Text(text) }) = ca
        && !text.contains("-----BEGIN")
    {
        *text = file(text).map_err(|error| {
            let mut problem =
                Problem::new("http.tls.ca", format!("cannot read `{}`: {error}", node::excerpt(text)));
            Position::mark(*at, &mut problem);
            Problems::from(problem)
        })?;
    }
    of_node(root)
}

/// Reads a document that is a JSON value already.
///
/// # Errors
/// Every problem of it.
pub fn from_json(value: &Value) -> Result<PlanDocument, Problems> {
    of_node(Node::of_value(value)?)
}

/// The full form of a plan, every default written out.
pub fn to_json(plan: &Plan) -> Value {
    encode::plan(plan)
}

fn tree(bytes: &[u8], format: Format) -> Result<Node, Problem> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let message =
            format!("the document has {} bytes; at most {DOCUMENT_BYTES_MAX} are read", bytes.len());
        return Err(Problem::new("", message));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Problem::new(
            "",
            format!("the document is not UTF-8 (byte {}); save it as UTF-8", error.valid_up_to()),
        )
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Json => json::read(text),
        Format::Yaml => yaml::read(text),
    }
}

fn of_node(root: Node) -> Result<PlanDocument, Problems> {
    let is_simple = is_simple(&root);
    let mut decoder = Decoder::default();
    let plan = if is_simple { simple::plan(&mut decoder, &root) } else { full::plan(&mut decoder, &root) };
    let mut problems = decoder.finish();
    match validate::validate(plan) {
        Ok(plan) if problems.is_empty() => {
            let mut source = root.to_value();
            if let Value::Object(object) = &mut source {
                object.retain(|name, _| !fields::READ_ONLY.contains(&name.as_str()));
            }
            return Ok(PlanDocument { plan, source, is_simple });
        }
        Ok(_) => {}
        Err(Problems(broken)) => {
            let unreadable: Vec<String> = problems.iter().map(|problem| problem.field.clone()).collect();
            for mut problem in broken {
                problem.field = match is_simple {
                    true => simple::field_of(&root, &problem.field),
                    false => as_written(&root, &problem.field),
                };
                if !is_covered(&problem.field, &unreadable) {
                    Position::mark(root.locate(&problem.field), &mut problem);
                    problems.push(problem);
                }
            }
        }
    }
    // In the document's order; what has no place comes last.
    problems.sort_by_key(|problem| (problem.line.unwrap_or(u32::MAX), problem.column));
    Err(Problems(problems))
}

/// Whether a broken rule only speaks of what could not be read and was replaced by a stand-in.
fn is_covered(path: &str, unreadable: &[String]) -> bool {
    unreadable.iter().any(|other| {
        if path.is_empty() || other.is_empty() {
            other.is_empty()
        } else {
            node::is_within(other, path) || node::is_within(path, other)
        }
    })
}

/// Which of the two forms a document has, told by its names.
fn is_simple(root: &Node) -> bool {
    let Content::Map(entries) = &root.content else { return false };
    let has = |known: &[&str], others: &[&str]| {
        entries
            .iter()
            .any(|(key, _)| known.contains(&key.name.as_str()) && !others.contains(&key.name.as_str()))
    };
    if root.get("scenarios").is_some() {
        return false;
    }
    has(fields::SIMPLE.known, fields::PLAN.known) || !has(fields::PLAN.known, fields::SIMPLE.known)
}

/// The rules' path of a step's URL or body as the document's own words.
fn as_written(root: &Node, path: &str) -> String {
    for (last, others) in
        [(".url", fields::METHODS.iter().map(|(name, _)| *name).collect::<Vec<_>>()), (".body", vec!["json"])]
    {
        let Some(step) = path.strip_suffix(last).filter(|step| step.ends_with(']')) else { continue };
        let written =
            others.into_iter().map(|name| node::at_key(step, name)).find(|path| root.has_path(path));
        return written.unwrap_or_else(|| path.to_owned());
    }
    path.to_owned()
}

#[cfg(test)]
mod any_http;
#[cfg(test)]
mod any_plan;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod tests;
