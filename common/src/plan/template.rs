//! `{{ name }}` in URLs, headers and bodies: text cut into literal pieces and holes.
//!
//! The holes are a plan's `variables`, which are constants: [`Template::render`] fills them before a load begins, so
//! that the request path copies bytes only. Braces that are meant as such are written `{{ '{{' }}`.

use std::collections::BTreeMap;

/// A text with holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Literals and holes in order.
    pub pieces: Vec<Piece>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Literal(String),
    /// The value of a variable.
    Variable(String),
}

impl Template {
    /// A text without holes, taken as it stands.
    pub fn literal(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { pieces: if text.is_empty() { Vec::new() } else { vec![Piece::Literal(text)] } }
    }

    /// Cuts a text at its `{{ name }}`.
    ///
    /// # Errors
    /// What is wrong with a hole: not closed, empty, or more than a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut template = Self::default();
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            let Some(length) = rest[open + 2..].find("}}") else {
                return Err(
                    "`{{` is not closed by `}}`; write `{{ '{{' }}` for the braces themselves".to_owned()
                );
            };
            let name = rest[open + 2..open + 2 + length].trim();
            template.push_literal(&rest[..open]);
            match name {
                "'{{'" => template.push_literal("{{"),
                "'{'" => template.push_literal("{"),
                name if is_name(name) => template.pieces.push(Piece::Variable(name.to_owned())),
                name => {
                    let shown = super::node::excerpt(name);
                    return Err(format!(
                        "`{{{{ {shown} }}}}` is not the name of a variable; only names from `variables` can stand there"
                    ));
                }
            }
            rest = &rest[open + 2 + length + 2..];
        }
        template.push_literal(rest);
        Ok(template)
    }

    pub(crate) fn push_literal(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.pieces.last_mut() {
            Some(Piece::Literal(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Literal(text.to_owned())),
        }
    }

    /// Appends another template.
    #[cfg(test)]
    pub(crate) fn append(&mut self, other: Self) {
        for piece in other.pieces {
            match piece {
                Piece::Literal(text) => self.push_literal(&text),
                hole => self.pieces.push(hole),
            }
        }
    }

    /// Puts values into the holes that have one, changed by `change`; the others stay holes.
    pub(crate) fn fill(self, variables: &BTreeMap<String, String>, change: impl Fn(&str) -> String) -> Self {
        let mut filled = Self::default();
        for piece in self.pieces {
            match piece {
                Piece::Literal(text) => filled.push_literal(&text),
                Piece::Variable(name) => match variables.get(&name) {
                    Some(value) => filled.push_literal(&change(value)),
                    None => filled.pieces.push(Piece::Variable(name)),
                },
            }
        }
        filled
    }

    /// Bytes that [`Template::render`] would give, without rendering.
    pub fn rendered_bytes(&self, variables: &BTreeMap<String, String>) -> usize {
        let bytes = |piece: &Piece| match piece {
            Piece::Literal(text) => text.len(),
            Piece::Variable(name) => variables.get(name).map_or(0, String::len),
        };
        self.pieces.iter().map(bytes).fold(0, usize::saturating_add)
    }

    /// The variables that it uses.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(name) => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// The text with every hole filled; a variable that is not there leaves nothing (validation has refused it before).
    pub fn render(&self, variables: &BTreeMap<String, String>) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => text.as_str(),
                Piece::Variable(name) => variables.get(name).map_or("", String::as_str),
            })
            .collect()
    }
}

impl std::fmt::Display for Template {
    /// The text as a plan writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Literal(text) => {
                    let text = text.replace("{{", "{{ '{{' }}");
                    // A brace right before a hole would be read as part of it.
                    match text.strip_suffix('{').filter(|_| index + 1 < self.pieces.len()) {
                        Some(text) => write!(f, "{text}{{{{ '{{' }}}}")?,
                        None => f.write_str(&text)?,
                    }
                }
                Piece::Variable(name) => write!(f, "{{{{ {name} }}}}")?,
            }
        }
        Ok(())
    }
}

/// Whether a text can name a variable: a letter or `_`, then letters, digits and `_`.
pub(crate) fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn holes_are_filled_and_written_back() {
        let template = Template::parse("/a?r={{ region }}&x={{x}}").unwrap();
        assert_eq!(template.variables().collect::<Vec<_>>(), ["region", "x"]);
        let variables =
            BTreeMap::from([("region".to_owned(), "eu".to_owned()), ("x".to_owned(), "1".to_owned())]);
        assert_eq!(template.render(&variables), "/a?r=eu&x=1");
        assert_eq!(template.to_string(), "/a?r={{ region }}&x={{ x }}");
    }

    #[test]
    fn a_hole_that_is_no_name_is_refused() {
        for wrong in ["{{", "{{ }}", "{{ a.b }}", "{{ 1a }}", "{{ f(x) }}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Template::parse("}} { }").unwrap().to_string(), "}} { }");
    }

    proptest! {
        #[test]
        fn any_text_and_any_hole_are_read_back(pieces in proptest::collection::vec(("[{}' a]{0,6}", any::<bool>()), 0..6)) {
            let mut template = Template::default();
            for (text, has_hole) in pieces {
                template.push_literal(&text);
                if has_hole {
                    template.pieces.push(Piece::Variable("x_1".to_owned()));
                }
            }
            prop_assert_eq!(Template::parse(&template.to_string()), Ok(template));
        }
    }
}
