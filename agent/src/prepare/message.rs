//! A request as it goes out: its parts, and its bytes for HTTP/1.1.
//!
//! Made once for each step (`render`), and anew for each redirect that is followed. Takes what is already checked (a method, a URL,
//! header lines without line breaks), gives one whole request: framing is ours alone, whatever the plan writes.
//!
//! Order of the head: request line, `host`, the given headers, what we add where they are silent (`user-agent`, `accept`), `content-length`,
//! `connection: close`.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use http::Method;
use url::Url;
use volcanion_common::telemetry::trace::TRACEPARENT;

/// A request, ready to go out.
#[derive(Clone)]
pub struct Message {
    /// Into the origins: the program's, and after them those that a core found by redirects.
    pub origin: u32,
    /// As sent.
    pub method: Method,
    /// Absolute; http or https.
    pub url: Url,
    /// In order, names as written; `user-agent` and `accept` included, without `content-length`. A `host` among them stands for the URL's.
    pub headers: Vec<(String, String)>,
    /// What `content-length` says; `None`: it is not sent.
    pub length: Option<u64>,
    /// What follows the head.
    pub content: Content,
    /// Request line, headers and inline content, exactly as HTTP/1.1 sends them.
    pub http1: Vec<u8>,
    /// Where in `http1` the content begins.
    pub http1_head_bytes: usize,
    /// The `cookie` line in `http1`; where there is none, the empty place where one belongs.
    pub http1_cookie: Range<usize>,
    /// Whether it has a `traceparent` of its own, which stays.
    pub has_traceparent: bool,
    /// The answer has no body, whatever its head says.
    pub is_head: bool,
    /// May be sent again where nothing of an answer came (RFC 9110 9.2.2).
    pub is_idempotent: bool,
    /// What of it is secret.
    pub secret: SecretParts,
}

/// The parts of a request that hold a secret: no redirect carries them to another origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretParts {
    /// Names of headers, in lower case.
    pub headers: Vec<String>,
    /// The content does.
    pub is_in_body: bool,
}

impl fmt::Debug for Message {
    /// Without URL, headers and content: secrets are filled in there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, method, length, secret, .. } = self;
        f.debug_struct("Message")
            .field("origin", origin)
            .field("method", method)
            .field("length", length)
            .field("secret", secret)
            .finish_non_exhaustive()
    }
}

/// What a request carries.
#[derive(Clone, Debug)]
pub enum Content {
    /// Nothing.
    None,
    /// The bytes of [`Message::inline`].
    Inline,
    /// A file's bytes, read while they are sent.
    File(Arc<BodyFile>),
}

/// An open file that is sent as a body; all VUs share it.
#[derive(Debug)]
pub struct BodyFile {
    /// For reading at offsets.
    pub file: Arc<File>,
    /// Its length when the run was prepared, in bytes: that much is announced and sent.
    pub length: u64,
}

/// What a message is made of.
#[derive(Clone)]
pub struct Parts<'a> {
    /// As sent.
    pub method: Method,
    /// Absolute; http or https.
    pub url: Url,
    /// Checked: tokens, and values without line breaks.
    pub headers: Vec<(String, String)>,
    /// What follows the head.
    pub payload: Payload<'a>,
    /// What of it is secret.
    pub secret: SecretParts,
}

/// The content that a message is made with.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// Nothing.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// This file's bytes.
    File(&'a Arc<BodyFile>),
}

impl Message {
    /// Puts a request together. Without `keep_alive` the server is told to close.
    pub fn new(origin: u32, parts: Parts<'_>, keep_alive: bool) -> Self {
        let Parts { method, url, mut headers, payload, secret } = parts;
        let given = |headers: &[(String, String)], wanted: &str| {
            headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
        let length = match payload {
            Payload::None => (expects_body || given(&headers, "content-length")).then_some(0),
            Payload::Bytes(bytes) => Some(bytes.len() as u64),
            Payload::File(file) => Some(file.length),
        };
        // The length is ours: a wrong one would leave the server waiting, or read the next request as this one's body.
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
        if !given(&headers, "user-agent") {
            headers
                .push(("user-agent".to_owned(), concat!("volcanion/", env!("CARGO_PKG_VERSION")).to_owned()));
        }
        if !given(&headers, "accept") {
            headers.push(("accept".to_owned(), "*/*".to_owned()));
        }

        let mut head = Head::new(&method, &url);
        if !given(&headers, "host") {
            head.line("host", &authority(&url));
        }
        let mut cookie = None;
        for (name, value) in &headers {
            let line = head.line(name, value);
            if name.eq_ignore_ascii_case("cookie") {
                cookie = Some(line);
            }
        }
        if let Some(length) = length {
            head.line("content-length", &length.to_string());
        }
        if !keep_alive && !given(&headers, "connection") {
            head.line("connection", "close");
        }
        let end = head.0.len();
        let mut http1 = head.0.into_bytes();
        http1.extend_from_slice(b"\r\n");
        let http1_head_bytes = http1.len();
        let content = match payload {
            Payload::None => Content::None,
            Payload::Bytes(bytes) => {
                http1.extend_from_slice(bytes);
                Content::Inline
            }
            Payload::File(file) => Content::File(Arc::clone(file)),
        };
        http1.shrink_to_fit();
        Self {
            origin,
            has_traceparent: given(&headers, TRACEPARENT),
            is_head: method == Method::HEAD,
            is_idempotent: method.is_idempotent(),
            method,
            url,
            headers,
            length,
            content,
            http1,
            http1_head_bytes,
            http1_cookie: cookie.unwrap_or(end..end),
            secret,
        }
    }

    /// The content that is in memory; empty where there is none, or a file.
    pub fn inline(&self) -> &[u8] {
        &self.http1[self.http1_head_bytes..]
    }

    /// The content, to make another message with.
    pub fn payload(&self) -> Payload<'_> {
        match &self.content {
            Content::None => Payload::None,
            Content::Inline => Payload::Bytes(self.inline()),
            Content::File(file) => Payload::File(file),
        }
    }

    /// The value of the first header of this name.
    pub fn header(&self, wanted: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.as_str())
    }
}

/// The lines of a head, as far as they are written.
struct Head(String);

impl Head {
    fn new(method: &Method, url: &Url) -> Self {
        let query = url.query().map_or(String::new(), |query| format!("?{query}"));
        Self(format!("{method} {}{query} HTTP/1.1\r\n", url.path()))
    }

    /// Writes a line; gives where it stands.
    fn line(&mut self, name: &str, value: &str) -> Range<usize> {
        let from = self.0.len();
        self.0.extend([name, ": ", value, "\r\n"]);
        from..self.0.len()
    }
}

/// Host, and the port where it is not the scheme's own.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
