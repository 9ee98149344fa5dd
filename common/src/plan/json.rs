//! JSON text → [`Node`]. The only place that knows the JSON parser's errors.
//!
//! Unlike a plain JSON value it keeps a repeated key from passing unseen, and stops at the bounds of [`super::node`]
//! while it reads, so that neither depth nor width can exhaust anything.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::node::{Content, Key, Node, check_size};
use crate::problem::Problem;

/// Reads one JSON document.
///
/// # Errors
/// What is wrong with it, with line and column: JSON's syntax, a repeated key, a bound.
pub(crate) fn read(text: &str) -> Result<Node, Problem> {
    let nodes = Cell::new(0);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Seed { depth: 0, nodes: &nodes }
        .deserialize(&mut deserializer)
        .and_then(|node| deserializer.end().map(|()| node))
        .map_err(|error| {
            // The parser writes the place behind its message; here it has fields of its own.
            let full = error.to_string();
            let message = full.split(" at line ").next().unwrap_or(&full);
            let mut problem = Problem::new("", format!("not a JSON document: {message}"));
            problem.line = u32::try_from(error.line()).ok().filter(|line| *line > 0);
            problem.column = problem.line.and_then(|_| u32::try_from(error.column().max(1)).ok());
            problem
        })
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    depth: usize,
    nodes: &'a Cell<usize>,
}

impl Seed<'_> {
    fn inner(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.nodes.set(self.nodes.get() + 1);
        check_size(self.depth, self.nodes.get()).map_err(D::Error::custom)?;
        deserializer.deserialize_any(self).map(|content| Node { at: None, content })
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Content, E> {
        Number::from_f64(value).map(Content::number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Content, E> {
        Ok(Content::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner())? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut map: Vec<(Key, Node)> = Vec::new();
        let mut seen = HashSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                let name = super::node::excerpt(&name);
                return Err(A::Error::custom(format!("the field `{name}` is there twice; keep one")));
            }
            let value = entries.next_value_seed(self.inner())?;
            map.push((Key { name, at: None }, value));
        }
        Ok(Content::Map(map))
    }
}
