//! `{{ name }}` and `{{ secret('name') }}` in URLs, headers and bodies: text cut into literal pieces and holes.
//!
//! The holes are a plan's `variables`, which are constants, and secrets, which only agents have: both are filled in before a load begins, so
//! that the request path copies bytes only. Whoever is no agent renders secrets as nothing. Braces that are meant as such are written `{{ '{{' }}`.

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
    /// What agents keep under a name.
    Secret(SecretHole),
}

/// Where a secret belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretHole {
    /// Its name: 1 to [`SECRET_NAME_MAX`] letters, digits, `_`, `-` and `.`, the first a letter or digit.
    pub name: String,
    /// It stands within a string of JSON, and is escaped so.
    pub in_json: bool,
}

/// The longest name of a secret.
pub const SECRET_NAME_MAX: usize = 100;

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
                call if call.starts_with("secret(") => template.pieces.push(Piece::Secret(secret(call)?)),
                name => {
                    let shown = super::node::excerpt(name);
                    return Err(format!(
                        "`{{{{ {shown} }}}}` is not the name of a variable; only names from `variables`, and secret('NAME'), can stand there"
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

    /// Takes a text for JSON: values go into the holes that have one, escaped as within a string; the others stay holes.
    pub(crate) fn fill_json(self, variables: &BTreeMap<String, String>) -> Self {
        let mut filled = Self::default();
        for piece in self.pieces {
            match piece {
                Piece::Literal(text) => filled.push_literal(&text),
                Piece::Variable(name) => match variables.get(&name) {
                    Some(value) => filled.push_literal(&escaped_for_json(value)),
                    None => filled.pieces.push(Piece::Variable(name)),
                },
                Piece::Secret(hole) => {
                    filled.pieces.push(Piece::Secret(SecretHole { in_json: true, ..hole }))
                }
            }
        }
        filled
    }

    /// Bytes that [`Template::render`] would give, without rendering.
    pub fn rendered_bytes(&self, variables: &BTreeMap<String, String>) -> usize {
        let bytes = |piece: &Piece| match piece {
            Piece::Literal(text) => text.len(),
            Piece::Variable(name) => variables.get(name).map_or(0, String::len),
            Piece::Secret(_) => 0,
        };
        self.pieces.iter().map(bytes).fold(0, usize::saturating_add)
    }

    /// The variables that it uses.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(name) => Some(name.as_str()),
            Piece::Literal(_) | Piece::Secret(_) => None,
        })
    }

    /// The secrets that it uses, as often as they stand there.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretHole> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Secret(hole) => Some(hole),
            Piece::Literal(_) | Piece::Variable(_) => None,
        })
    }

    /// Whether something is filled in later.
    pub fn has_holes(&self) -> bool {
        self.pieces.iter().any(|piece| !matches!(piece, Piece::Literal(_)))
    }

    /// Whether what it renders to is partly secret.
    pub fn has_secrets(&self) -> bool {
        self.secrets().next().is_some()
    }

    /// The text with every hole filled but secrets, which leave nothing; so does a variable that is not there (validation has refused it before).
    pub fn render(&self, variables: &BTreeMap<String, String>) -> String {
        self.render_with(variables, |_| "")
    }

    /// The text with every hole filled; `secret` has the values by their names. The result is not to be shown where there are secrets in it.
    pub fn render_with<'a>(
        &'a self,
        variables: &'a BTreeMap<String, String>,
        secret: impl Fn(&str) -> &'a str,
    ) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Variable(name) => text.push_str(variables.get(name).map_or("", String::as_str)),
                Piece::Secret(hole) if hole.in_json => text.push_str(&escaped_for_json(secret(&hole.name))),
                Piece::Secret(hole) => text.push_str(secret(&hole.name)),
            }
        }
        text
    }
}

/// What stands between the quotes of a JSON string of this text.
fn escaped_for_json(text: &str) -> String {
    let quoted = serde_json::Value::String(text.to_owned()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// `secret('name')`, and `| json` behind it.
fn secret(call: &str) -> Result<SecretHole, String> {
    let wrong = || {
        let shown = super::node::excerpt(call);
        format!(
            "`{{{{ {shown} }}}}` is not how a secret is named; write secret('NAME'), with letters, digits, `_`, `-` and `.`"
        )
    };
    let (call, filter) =
        call.split_once('|').map_or((call, None), |(call, filter)| (call, Some(filter.trim())));
    let name = call.trim().strip_prefix("secret(").and_then(|rest| rest.strip_suffix(')')).map(str::trim);
    let name = name.and_then(|name| name.strip_prefix('\'')?.strip_suffix('\'')).ok_or_else(wrong)?;
    if !is_secret_name(name) || filter.is_some_and(|filter| filter != "json") {
        return Err(wrong());
    }
    Ok(SecretHole { name: name.to_owned(), in_json: filter.is_some() })
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
                Piece::Secret(SecretHole { name, in_json }) => {
                    let filter = if *in_json { " | json" } else { "" };
                    write!(f, "{{{{ secret('{name}'){filter} }}}}")?;
                }
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

/// Whether a text can name a secret; such a name is that of a file, too.
pub fn is_secret_name(text: &str) -> bool {
    (1..=SECRET_NAME_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
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
        let secrets = [
            "secret()",
            "secret(x)",
            "secret('')",
            "secret('.x')",
            "secret('a/b')",
            "secret('x'",
            "secret('x') | upper",
        ];
        let secrets = secrets.map(|wrong| format!("{{{{ {wrong} }}}}"));
        let others = ["{{", "{{ }}", "{{ a.b }}", "{{ 1a }}", "{{ f(x) }}"];
        for wrong in others.into_iter().chain(secrets.iter().map(String::as_str)) {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Template::parse("}} { }").unwrap().to_string(), "}} { }");
    }

    #[test]
    fn secrets_are_filled_in_by_whoever_has_them_and_are_nothing_to_others() {
        let template = Template::parse("Bearer {{secret( 'api.key-1' )}}!").unwrap();
        assert_eq!(template.to_string(), "Bearer {{ secret('api.key-1') }}!");
        assert_eq!(template.render(&BTreeMap::new()), "Bearer !");
        let variables = BTreeMap::new();
        assert_eq!(
            template.render_with(&variables, |name| if name == "api.key-1" { "k\"1" } else { "" }),
            "Bearer k\"1!"
        );
        assert_eq!((template.has_secrets(), template.variables().count()), (true, 0));
        let json = Template::parse("{\"a\":\"{{ secret('a') }}\"}").unwrap().fill_json(&variables);
        assert_eq!(json.to_string(), "{\"a\":\"{{ secret('a') | json }}\"}");
        assert_eq!(Template::parse(&json.to_string()).unwrap(), json);
        assert_eq!(json.render_with(&variables, |_| "k\"1\n"), "{\"a\":\"k\\\"1\\n\"}");
    }

    proptest! {
        #[test]
        fn any_text_and_any_hole_are_read_back(pieces in proptest::collection::vec(("[{}' a]{0,6}", 0..4), 0..6)) {
            let mut template = Template::default();
            for (text, hole) in pieces {
                template.push_literal(&text);
                match hole {
                    0 => {}
                    1 => template.pieces.push(Piece::Variable("x_1".to_owned())),
                    kind => template.pieces.push(Piece::Secret(SecretHole { name: "x-1".to_owned(), in_json: kind == 3 })),
                }
            }
            prop_assert_eq!(Template::parse(&template.to_string()), Ok(template));
        }
    }
}
