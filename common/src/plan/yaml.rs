//! YAML text → [`Node`] with lines and columns. The only place that knows the YAML parser.
//!
//! YAML 1.2 with its core schema: plain `true`, `null`, `10`, `0x1f` and `1.5` are what they look like, everything
//! quoted is text. One document; anchors and aliases within the bounds of [`super::node`], so that a few lines cannot
//! blow up to gigabytes. The tree is built with a stack of its own, never by recursion.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use serde_json::Number;

use super::node::{Content, DOCUMENT_BYTES_MAX, Key, Node, Position, check_size, excerpt};
use crate::problem::Problem;

/// Reads one YAML document.
///
/// # Errors
/// What is wrong with it, with line and column: YAML's syntax, a repeated key, a bound.
pub(crate) fn read(text: &str) -> Result<Node, Problem> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            problem(position(error.marker()), format!("not a YAML document: {}", error.info()))
        })?;
        builder.take(event, span)?;
    }
    builder.root.ok_or_else(|| Problem::new("", "the document is empty; write a plan"))
}

/// What is being read.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    text_bytes: usize,
}

/// A list or map that is not closed yet.
struct Open {
    at: Option<Position>,
    anchor: usize,
    content: OpenContent,
}

enum OpenContent {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, names: HashSet<String>, key: Option<Key> },
}

/// What an alias stands for, with its size.
struct Anchored {
    node: Node,
    size: Size,
}

#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    depth: usize,
    text_bytes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let at = position(&span.start);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(problem(at, "a second document begins here; give one plan a document"))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(anchor) => {
                let Some(anchored) = self.anchors.get(&anchor) else {
                    return Err(problem(at, "an alias stands within what it names; write the value out"));
                };
                let (mut node, size) = (anchored.node.clone(), anchored.size);
                node.at = at;
                self.count(at, size)?;
                self.put(node, 0, at)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(at, Size { nodes: 1, depth: 0, text_bytes: text.len() })?;
                let content = scalar(&text, style, tag.as_deref()).map_err(|message| problem(at, message))?;
                self.put(Node { at, content }, anchor, at)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(at, anchor, tag.as_deref(), OpenContent::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let content = OpenContent::Map { entries: Vec::new(), names: HashSet::new(), key: None };
                self.begin(at, anchor, tag.as_deref(), content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
        }
    }

    fn begin(
        &mut self,
        at: Option<Position>,
        anchor: usize,
        tag: Option<&Tag>,
        content: OpenContent,
    ) -> Result<(), Problem> {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            return Err(problem(
                at,
                format!("the tag `{}{}` is not understood; leave it out", tag.handle, tag.suffix),
            ));
        }
        if let Some(Open { content: OpenContent::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(problem(at, "a list or map cannot be a key; use text"));
        }
        self.count(at, Size { nodes: 1, depth: 0, text_bytes: 0 })?;
        self.open.push(Open { at, anchor, content });
        // An item of the new level would be one deeper; said here, so that depth is refused before it is built.
        check_size(self.open.len(), self.nodes).map_err(|message| problem(at, message))
    }

    fn end(&mut self) -> Result<(), Problem> {
        // The parser closes only what it has opened.
        let Some(Open { at, anchor, content }) = self.open.pop() else { return Ok(()) };
        let content = match content {
            OpenContent::List(items) => Content::List(items),
            OpenContent::Map { entries, .. } => Content::Map(entries),
        };
        self.put(Node { at, content }, anchor, at)
    }

    /// Puts a whole node where the parser is: into the open list or map, or at the root.
    fn put(&mut self, node: Node, anchor: usize, at: Option<Position>) -> Result<(), Problem> {
        if anchor > 0 {
            self.anchors.insert(anchor, Anchored { size: size_of(&node), node: node.clone() });
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(OpenContent::List(items)) => items.push(node),
            Some(OpenContent::Map { entries, names, key }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let name = match node.content {
                        Content::Text(text) => text,
                        Content::Number { value, is_plain: true } => value.to_string(),
                        Content::Bool(value) => value.to_string(),
                        _ => return Err(problem(at, "this cannot be a key; put it in quotes")),
                    };
                    if !names.insert(name.clone()) {
                        let name = excerpt(&name);
                        return Err(problem(at, format!("the field `{name}` is there twice; keep one")));
                    }
                    *key = Some(Key { name, at });
                }
            },
        }
        Ok(())
    }

    /// Adds to what the document holds, and refuses what is too much.
    fn count(&mut self, at: Option<Position>, size: Size) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(size.nodes);
        self.text_bytes = self.text_bytes.saturating_add(size.text_bytes);
        check_size(self.open.len() + size.depth, self.nodes).map_err(|message| problem(at, message))?;
        if self.text_bytes > DOCUMENT_BYTES_MAX {
            return Err(problem(
                at,
                format!("the document holds more than {DOCUMENT_BYTES_MAX} bytes of text; make it smaller"),
            ));
        }
        Ok(())
    }
}

/// A tree's size. Its depth is bounded, so recursion is.
fn size_of(node: &Node) -> Size {
    let own = match &node.content {
        Content::Text(text) => text.len(),
        _ => 0,
    };
    let mut size = Size { nodes: 1, depth: 0, text_bytes: own };
    let mut add = |inner: &Node| {
        let inner = size_of(inner);
        size.nodes += inner.nodes;
        size.depth = size.depth.max(inner.depth + 1);
        size.text_bytes += inner.text_bytes;
    };
    match &node.content {
        Content::List(items) => items.iter().for_each(&mut add),
        Content::Map(entries) => entries.iter().for_each(|(_, value)| add(value)),
        _ => {}
    }
    size
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Content, String> {
    match tag {
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None => Ok(Content::Text(text.to_owned())),
        // `!` and `!!str`: text whatever it looks like.
        Some(tag)
            if tag.is_yaml_core_schema() && tag.suffix == "str"
                || tag.handle.is_empty() && tag.suffix == "!" =>
        {
            Ok(Content::Text(text.to_owned()))
        }
        Some(tag) if tag.is_yaml_core_schema() => Ok(plain(text)),
        Some(tag) => Err(format!("the tag `{}{}` is not understood; leave it out", tag.handle, tag.suffix)),
    }
}

/// The core schema (YAML 1.2.2, section 10.3.2).
fn plain(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" => Content::Bool(true),
        "false" | "False" | "FALSE" => Content::Bool(false),
        _ => number(text).map_or_else(
            || Content::Text(text.to_owned()),
            |value| {
                let is_plain = !value.is_f64() && value.to_string() == text;
                Content::Number { value, is_plain }
            },
        ),
    }
}

fn number(text: &str) -> Option<Number> {
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return None;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return (!digits.starts_with('+'))
            .then(|| u64::from_str_radix(digits, 16).ok())
            .flatten()
            .map(Number::from);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return (!digits.starts_with('+'))
            .then(|| u64::from_str_radix(digits, 8).ok())
            .flatten()
            .map(Number::from);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) =
        mantissa.split_once('.').map_or((mantissa, None), |(whole, fraction)| (whole, Some(fraction)));
    let is_number = digits(whole)
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
        && !(whole.is_empty() && fraction.is_none_or(str::is_empty));
    if !is_number {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if fraction.is_none() && exponent.is_none() {
        if let Ok(value) = text.parse::<u64>() {
            return Some(value.into());
        }
        if let Ok(value) = text.parse::<i64>() {
            return Some(value.into());
        }
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

fn position(marker: &Marker) -> Option<Position> {
    Some(Position { line: u32::try_from(marker.line()).ok()?, column: u32::try_from(marker.col() + 1).ok()? })
}

fn problem(at: Option<Position>, message: impl Into<String>) -> Problem {
    let mut problem = Problem::new("", message);
    Position::mark(at, &mut problem);
    problem
}
