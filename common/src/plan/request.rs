//! What is sent: method, URL, headers, body; and how HTTP is spoken.

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
    pub body: Option<Template>,
}

/// One header line.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// An HTTP token, as written.
    pub name: String,
    /// Visible text without line breaks.
    pub value: Template,
}

/// How the agents speak HTTP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpOptions {
    /// Which version is spoken.
    pub version: HttpVersion,
    /// Whether a connection is used again; true by default in documents.
    pub no_keep_alive: bool,
    /// TLS towards the target.
    pub tls: TlsOptions,
}

/// Which HTTP version is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// The best that the target offers and we speak.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
}

/// TLS towards the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Take any certificate.
    pub insecure: bool,
    /// The text (PEM) of the authorities to trust instead of the public ones. Documents name a file; whoever reads the
    /// document for the user (the command line) puts the text in its place, so that agents need no file.
    pub ca_pem: Option<String>,
}
