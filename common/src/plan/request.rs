//! What is sent: method, URL, headers, body.

use super::template::Template;

/// One request, before its templates are filled.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// An HTTP token, upper case as written.
    pub method: String,
    /// Absolute (`http://` or `https://`), or a path and query that is joined to the plan's target.
    pub url: Template,
    /// In order; names as written.
    pub headers: Vec<Header>,
    /// The body's bytes; `None` sends no body and no length (but `content-length: 0` for POST, PUT and PATCH).
    pub body: Option<Body>,
}

/// One header line.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// An HTTP token, as written.
    pub name: String,
    /// Visible text without line breaks.
    pub value: Template,
}

/// What a request carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Text, at most 4 MiB once its variables are filled in.
    Text(Template),
    /// A file below each agent's own folder of files, read and sent in pieces. A relative path without `..`.
    File(String),
}

/// The URL of a step whose text is filled in: as it stands where it is absolute, else appended to the target's path, so
/// that a target may carry a prefix.
///
/// # Errors
/// What of it is no URL that can be asked, and the way out.
pub fn join(target: Option<&str>, text: &str) -> Result<url::Url, String> {
    let text = text.trim();
    let whole = if is_absolute(text) {
        text.to_owned()
    } else {
        let shown = super::node::excerpt(text);
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
            return Err(format!(
                "`{shown}` is neither http nor https; give a URL that begins with http:// or https://"
            ));
        }
        let target = target.ok_or_else(|| {
            format!("`{shown}` is not a whole URL and the plan has no `target`; give a target or a URL with http://")
        })?;
        let base = target.trim().split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let separator = if text.is_empty() || text.starts_with(['/', '?', '#']) { "" } else { "/" };
        if text.is_empty() { target.trim().to_owned() } else { format!("{base}{separator}{text}") }
    };
    let shown = super::node::excerpt(&whole);
    if whole.contains(char::is_control) {
        return Err(format!("`{shown:?}` holds a control character; write it percent-encoded"));
    }
    if !is_absolute(&whole) {
        return Err(format!(
            "`{shown}` is neither http nor https; give a URL that begins with http:// or https://"
        ));
    }
    // The parser would take `http:///path` for the host `path`.
    if whole
        .split_once("://")
        .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(['/', '?', '#', '\\']))
    {
        return Err(format!("`{shown}` names no host; write it as http://host/path"));
    }
    let url = url::Url::parse(&whole).map_err(|error| format!("`{shown}` is not a URL: {error}"))?;
    if !url.has_host() || url.host_str().is_none_or(str::is_empty) {
        return Err(format!("`{shown}` names no host; write it as http://host/path"));
    }
    if url.port() == Some(0) {
        return Err(format!("`{shown}` has port 0, which nothing listens on; give another"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "a user and password in a URL are not sent; give an `authorization` header instead".to_owned()
        );
    }
    Ok(url)
}

/// Whether a text begins as a URL of HTTP.
pub(crate) fn is_absolute(text: &str) -> bool {
    let has = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    has("http://") || has("https://")
}
