//! A document as a tree, whatever it was written in: values with the place where they stand.
//!
//! Taken from [`super::json`], [`super::yaml`] or a value in memory; read by [`super::decode`]. Invariants: the tree is
//! at most [`DEPTH_MAX`] deep and has at most [`NODES_MAX`] nodes, so that neither walking nor dropping it can exhaust
//! stack or memory; no map has a key twice.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

use crate::problem::Problem;

/// Levels of lists and maps within each other.
pub(crate) const DEPTH_MAX: usize = 64;
/// Values in a document, aliases expanded.
pub(crate) const NODES_MAX: usize = 200_000;
/// Bytes of a document, and of its text once aliases are expanded.
pub const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where something stands in a document that has lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// From 1.
    pub(crate) line: u32,
    /// From 1, in characters.
    pub(crate) column: u32,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Absent where the document has no lines that could be named (JSON).
    pub(crate) at: Option<Position>,
    /// What stands there.
    pub(crate) content: Content,
}

/// What stands at a place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Number {
        value: Number,
        /// It is a whole number and its text is the one that would be printed: where text is expected it can stand for
        /// itself, unlike `007` or `1.10`.
        is_plain: bool,
    },
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A map's key and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) at: Option<Position>,
}

impl Position {
    /// Puts the place into a problem.
    pub(crate) fn mark(at: Option<Self>, problem: &mut Problem) {
        problem.line = at.map(|at| at.line);
        problem.column = at.map(|at| at.column);
    }
}

impl Node {
    /// A value in memory as a tree without places.
    ///
    /// # Errors
    /// It is deeper or larger than documents may be.
    pub(crate) fn of_value(value: &Value) -> Result<Self, Problem> {
        let mut nodes = 0;
        Self::build(value, 0, &mut nodes).map_err(|message| Problem::new("", message))
    }

    fn build(value: &Value, depth: usize, nodes: &mut usize) -> Result<Self, String> {
        *nodes += 1;
        check_size(depth, *nodes)?;
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(value) => Content::Bool(*value),
            Value::Number(value) => Content::number(value.clone()),
            Value::String(text) => Content::Text(text.clone()),
            Value::Array(items) => Content::List(
                items.iter().map(|item| Self::build(item, depth + 1, nodes)).collect::<Result<_, _>>()?,
            ),
            Value::Object(entries) => Content::Map(
                entries
                    .iter()
                    .map(|(name, value)| {
                        Ok((Key { name: name.clone(), at: None }, Self::build(value, depth + 1, nodes)?))
                    })
                    .collect::<Result<_, String>>()?,
            ),
        };
        Ok(Self { at: None, content })
    }

    /// The same as a JSON value.
    pub(crate) fn to_value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number { value, .. } => Value::Number(value.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Content::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.name.clone(), value.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// The value under a key; `None` where there is none, it is null, or this is no map.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Content::Map(entries) = &self.content else { return None };
        let found = entries.iter().find(|(key, _)| key.name == name).map(|(_, value)| value)?;
        (found.content != Content::Null).then_some(found)
    }

    /// [`Node::get`], to change it.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        let Content::Map(entries) = &mut self.content else { return None };
        entries.iter_mut().find(|(key, _)| key.name == name).map(|(_, value)| value)
    }

    /// Where a path leads, or the deepest part of it that is there.
    pub(crate) fn locate(&self, path: &str) -> Option<Position> {
        self.locate_from("", path).flatten()
    }

    fn locate_from(&self, own: &str, path: &str) -> Option<Option<Position>> {
        if !is_within(path, own) {
            return None;
        }
        let below = match &self.content {
            Content::List(items) => items
                .iter()
                .enumerate()
                .find_map(|(index, item)| item.locate_from(&at_index(own, index), path)),
            Content::Map(entries) => {
                entries.iter().find_map(|(key, value)| value.locate_from(&at_key(own, &key.name), path))
            }
            _ => None,
        };
        below.or(Some(self.at))
    }

    /// Whether a path leads to a value.
    pub(crate) fn has_path(&self, path: &str) -> bool {
        self.has_path_from("", path)
    }

    fn has_path_from(&self, own: &str, path: &str) -> bool {
        if own == path {
            return true;
        }
        is_within(path, own)
            && match &self.content {
                Content::List(items) => items
                    .iter()
                    .enumerate()
                    .any(|(index, item)| item.has_path_from(&at_index(own, index), path)),
                Content::Map(entries) => {
                    entries.iter().any(|(key, value)| value.has_path_from(&at_key(own, &key.name), path))
                }
                _ => false,
            }
    }

    /// What it is, for people: `a list`, `the number 5`.
    pub(crate) fn describe(&self) -> String {
        match &self.content {
            Content::Null => "nothing".to_owned(),
            Content::Bool(value) => format!("`{value}`"),
            Content::Number { value, .. } => format!("the number {value}"),
            Content::Text(text) => format!("the text `{}`", excerpt(text)),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
        }
    }
}

impl Content {
    /// A number whose text is the one that JSON prints.
    pub(crate) fn number(value: Number) -> Self {
        let is_plain = value.is_u64() || value.is_i64();
        Self::Number { value, is_plain }
    }
}

/// Whether a tree may grow to this depth and number of nodes.
pub(crate) fn check_size(depth: usize, nodes: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        Err(format!("the document is nested deeper than {DEPTH_MAX} levels; make it flatter"))
    } else if nodes > NODES_MAX {
        Err(format!("the document has more than {NODES_MAX} values; make it smaller"))
    } else {
        Ok(())
    }
}

/// Whether a path is the other one, or lies below it.
pub(crate) fn is_within(path: &str, above: &str) -> bool {
    match path.strip_prefix(above) {
        Some(rest) => above.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']),
        None => false,
    }
}

/// The path of a map's entry: `scenarios.browse`, or `headers["a b"]` for a key that is not one word.
pub(crate) fn at_key(path: &str, name: &str) -> String {
    let is_word =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let mut joined = path.to_owned();
    if is_word {
        if !path.is_empty() {
            joined.push('.');
        }
        joined.push_str(name);
    } else {
        // Writing into a String cannot fail.
        let _ = write!(joined, "[{:?}]", excerpt(name));
    }
    joined
}

/// The path of a list's item.
pub(crate) fn at_index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// At most 60 characters of a text, so that no message carries a document.
pub(crate) fn excerpt(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}
