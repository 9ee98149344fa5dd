//! `{{ name }}` in URLs, headers and bodies: text cut into literal pieces and holes.
//!
//! The holes are a plan's `variables`, which are constants: [`Template::render`] fills them before a load begins, so
//! that the request path copies bytes only.

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
        Self { pieces: vec![Piece::Literal(text.into())] }
    }

    /// Cuts a text at its `{{ name }}`.
    ///
    /// # Errors
    /// What is wrong with a hole: not closed, empty, or more than a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            let Some(length) = rest[open + 2..].find("}}") else {
                return Err("`{{` is not closed by `}}`".to_owned());
            };
            let name = rest[open + 2..open + 2 + length].trim();
            let is_name = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !name.as_bytes()[0].is_ascii_digit();
            if !is_name {
                return Err(format!("`{{{{ {name} }}}}` is not the name of a variable; only names from `variables` can stand there"));
            }
            if open > 0 {
                pieces.push(Piece::Literal(rest[..open].to_owned()));
            }
            pieces.push(Piece::Variable(name.to_owned()));
            rest = &rest[open + 2 + length + 2..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Ok(Self { pieces })
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
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => f.write_str(text)?,
                Piece::Variable(name) => write!(f, "{{{{ {name} }}}}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_and_written_back() {
        let template = Template::parse("/a?r={{ region }}&x={{x}}").unwrap();
        assert_eq!(template.variables().collect::<Vec<_>>(), ["region", "x"]);
        let variables = BTreeMap::from([("region".to_owned(), "eu".to_owned()), ("x".to_owned(), "1".to_owned())]);
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
}
