//! Reads values out of a [`Node`] tree and keeps every problem it meets, so that an input is answered whole.
//!
//! A reader gives `None` (or a harmless stand-in) after it has noted a problem; whoever calls goes on with the rest.
//! What is checked here is form: types, names, words, units. Ranges and rules across fields are [`crate::validate`]'s.

use std::str::FromStr;

use super::fields::{READ_ONLY, Shape};
use super::node::{Content, Key, Node, Position, at_index, at_key, excerpt};
use super::suggest::hint;
use super::template::Template;
use crate::problem::Problem;
use crate::units::{Micros, Rate, Share, UnitError};

/// Problems that one answer names at most.
const PROBLEMS_MAX: usize = 500;

/// Collects problems.
#[derive(Default)]
pub(crate) struct Decoder {
    pub(crate) problems: Vec<Problem>,
    unnamed: usize,
}

/// A value and its path.
#[derive(Clone, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: String,
}

/// A map whose names have been looked at.
pub(crate) struct Object<'a> {
    pub(crate) field: Field<'a>,
    entries: &'a [(Key, Node)],
}

impl<'a> Object<'a> {
    /// The value under a name; `None` where it is absent or null.
    pub(crate) fn get(&self, name: &str) -> Option<Field<'a>> {
        self.raw(name).filter(|field| field.node.content != Content::Null)
    }

    /// The value under a name, null too.
    pub(crate) fn raw(&self, name: &str) -> Option<Field<'a>> {
        let (_, node) = self.entries.iter().find(|(key, _)| key.name == name)?;
        Some(Field { node, path: self.path(name) })
    }

    /// Whether something other than null is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The names with a value other than null, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries
            .iter()
            .filter(|(_, node)| node.content != Content::Null)
            .map(|(key, _)| key.name.as_str())
    }

    /// The path of a name, there or not.
    pub(crate) fn path(&self, name: &str) -> String {
        at_key(&self.field.path, name)
    }

    fn key_at(&self, name: &str) -> Option<Position> {
        self.entries
            .iter()
            .find(|(key, _)| key.name == name)
            .and_then(|(key, _)| key.at)
            .or(self.field.node.at)
    }
}

impl Decoder {
    /// Notes a problem at a path.
    pub(crate) fn note(&mut self, at: Option<Position>, path: &str, message: impl Into<String>) {
        if self.problems.len() >= PROBLEMS_MAX {
            self.unnamed += 1;
            return;
        }
        let mut problem = Problem::new(path, message);
        Position::mark(at, &mut problem);
        self.problems.push(problem);
    }

    /// Notes a problem with a value.
    pub(crate) fn wrong(&mut self, field: &Field<'_>, message: impl Into<String>) {
        self.note(field.node.at, &field.path, message);
    }

    /// Notes a problem with a name of an object.
    pub(crate) fn wrong_name(&mut self, object: &Object<'_>, name: &str, message: impl Into<String>) {
        self.note(object.key_at(name), &object.path(name), message);
    }

    /// All problems; one more that counts those that were too many to name.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        if self.unnamed > 0 {
            self.problems.push(Problem::new("", format!("and {} more problems", self.unnamed)));
        }
        self.problems
    }

    /// A map whose names must be those of a shape.
    pub(crate) fn object<'a>(&mut self, field: Field<'a>, shape: &Shape) -> Option<Object<'a>> {
        let Content::Map(entries) = &field.node.content else {
            let message = format!(
                "{} is not {}; write a map of: {}",
                field.node.describe(),
                shape.what,
                shape.known.join(", ")
            );
            self.wrong(&field, message);
            return None;
        };
        let object = Object { field, entries };
        let is_root = object.field.path.is_empty();
        for (key, _) in entries {
            let name = key.name.as_str();
            if shape.known.contains(&name) || is_root && READ_ONLY.contains(&name) {
                continue;
            }
            if self.problems.len() >= PROBLEMS_MAX {
                self.unnamed += 1;
                continue;
            }
            let message = if shape.later.contains(&name) {
                format!("`{name}` is not available in this version; leave it out")
            } else if name == "<<" {
                "merge keys are not understood; write the fields out".to_owned()
            } else {
                format!("unknown field `{}` in {}; {}", excerpt(name), shape.what, hint(name, shape.known))
            };
            self.note(key.at, &object.path(name), message);
        }
        Some(object)
    }

    /// A map with names of the user's own.
    pub(crate) fn map<'a>(&mut self, field: &Field<'a>, of_what: &str) -> Option<Vec<(&'a Key, Field<'a>)>> {
        let Content::Map(entries) = &field.node.content else {
            self.wrong(field, format!("{} is not a map; write {of_what}", field.node.describe()));
            return None;
        };
        Some(
            entries
                .iter()
                .map(|(key, node)| (key, Field { node, path: at_key(&field.path, &key.name) }))
                .collect(),
        )
    }

    /// A list's items.
    pub(crate) fn list<'a>(&mut self, field: &Field<'a>, of_what: &str) -> Option<Vec<Field<'a>>> {
        let Content::List(items) = &field.node.content else {
            self.wrong(field, format!("{} is not a list; write a list of {of_what}", field.node.describe()));
            return None;
        };
        Some(
            items
                .iter()
                .enumerate()
                .map(|(index, node)| Field { node, path: at_index(&field.path, index) })
                .collect(),
        )
    }

    /// A value that must be there; what it is says the message.
    pub(crate) fn required<'a>(&mut self, object: &Object<'a>, name: &str, what: &str) -> Option<Field<'a>> {
        let found = object.get(name);
        if found.is_none() {
            self.wrong_name(object, name, format!("is missing; give {what}"));
        }
        found
    }

    /// Text; a whole number or a boolean stands for its own text.
    pub(crate) fn text(&mut self, field: &Field<'_>) -> Option<String> {
        match &field.node.content {
            Content::Text(text) => return Some(text.clone()),
            Content::Number { value, is_plain: true } => return Some(value.to_string()),
            Content::Bool(value) => return Some(value.to_string()),
            Content::Number { .. } => {
                self.wrong(
                    field,
                    format!("{} is not text as it stands; put it in quotes", field.node.describe()),
                );
            }
            _ => self.wrong(field, format!("{} is not text; write text", field.node.describe())),
        }
        None
    }

    /// Text with `{{ name }}`.
    pub(crate) fn template(&mut self, field: &Field<'_>) -> Option<Template> {
        let text = self.text(field)?;
        self.parsed_template(field, &text)
    }

    /// [`Decoder::template`] of a text that stands in a field.
    pub(crate) fn parsed_template(&mut self, field: &Field<'_>, text: &str) -> Option<Template> {
        Template::parse(text).map_err(|message| self.wrong(field, message)).ok()
    }

    /// A whole number from zero up.
    pub(crate) fn whole(&mut self, field: &Field<'_>) -> Option<u64> {
        if let Content::Number { value, .. } = &field.node.content {
            // 10.0 and 1e6 are whole numbers too.
            let exact =
                value.as_f64().filter(|v| v.fract() == 0.0 && (0.0..=9e15).contains(v)).map(|v| v as u64);
            if let Some(value) = value.as_u64().or(exact) {
                return Some(value);
            }
        }
        self.wrong(
            field,
            format!("{} is not a whole number from 0 up; write one without quotes", field.node.describe()),
        );
        None
    }

    /// A number from zero up, as decimal text.
    pub(crate) fn decimal(&mut self, field: &Field<'_>) -> Option<String> {
        if let Content::Number { value, .. } = &field.node.content
            && let Some(number) = value.as_f64().filter(|number| *number >= 0.0)
        {
            return Some(value.as_u64().map_or_else(|| number.to_string(), |whole| whole.to_string()));
        }
        self.wrong(
            field,
            format!("{} is not a number from 0 up; write one without quotes", field.node.describe()),
        );
        None
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, field: &Field<'_>) -> Option<bool> {
        if let Content::Bool(value) = field.node.content {
            return Some(value);
        }
        self.wrong(
            field,
            format!("{} is neither true nor false; write one of them, without quotes", field.node.describe()),
        );
        None
    }

    /// A duration with its unit.
    pub(crate) fn duration(&mut self, field: &Field<'_>) -> Option<Micros> {
        if let Content::Number { value, .. } = &field.node.content {
            self.wrong(field, format!("{value} has no unit; write {value}s or {value}ms"));
            return None;
        }
        self.parsed(field)
    }

    /// A rate with its unit.
    pub(crate) fn rate(&mut self, field: &Field<'_>) -> Option<Rate> {
        if let Content::Number { value, .. } = &field.node.content {
            self.wrong(field, format!("{value} has no unit; write {value}/s"));
            return None;
        }
        self.parsed(field)
    }

    /// A share: `1%`, or a number from 0 to 1.
    pub(crate) fn share(&mut self, field: &Field<'_>) -> Option<Share> {
        if let Content::Number { value, .. } = &field.node.content {
            // `1e-6` is a number too.
            let text = value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string());
            return text.parse().map_err(|error: UnitError| self.wrong(field, error.to_string())).ok();
        }
        self.parsed(field)
    }

    fn parsed<T: FromStr<Err: std::fmt::Display>>(&mut self, field: &Field<'_>) -> Option<T> {
        let text = self.text(field)?;
        if text.len() > 100 {
            self.wrong(field, format!("`{}` is too long; write a number and its unit", excerpt(&text)));
            return None;
        }
        text.parse().map_err(|error: T::Err| self.wrong(field, error.to_string())).ok()
    }

    /// One of a few words.
    pub(crate) fn word<T: Clone>(&mut self, field: &Field<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(field)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(
                field,
                format!("`{}` is not known here; give one of: {}", excerpt(&text), known.join(", ")),
            );
        }
        found.map(|(_, value)| value.clone())
    }
}
