//! A step → its request ([`Message`]), rendered once.
//!
//! Takes the plan and the step, gives the message, or what of them cannot be sent. Files that are bodies are opened here: small ones are
//! read into the request, others are read while they are sent.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use rustls_pki_types::ServerName;
use url::Url;
use volcanion_common::plan::request::join;
use volcanion_common::plan::template::Template;
use volcanion_common::plan::{Body, Header, Plan, RequestStep};
use volcanion_common::validate::bounds::{
    BODY_BYTES_MAX, HEADER_BYTES_MAX, REQUESTS_BYTES_MAX, URL_BYTES_MAX,
};

use super::message::{BodyFile, Message, Parts, Payload, SecretParts};
use super::secrets::Secrets;
use super::{Origin, PrepareError, Step, folder};

/// Files up to this length are read when the run is prepared, and are part of the request's bytes.
const INLINE_FILE_BYTES_MAX: u64 = 256 * 1024;

/// What the steps of a program share.
#[derive(Debug)]
pub(super) struct Renderer<'a> {
    plan: &'a Plan,
    files: Option<&'a Path>,
    secrets: &'a Secrets,
    /// Bytes of the requests so far.
    bytes: usize,
    /// The distinct servers of the steps so far.
    pub origins: Vec<Origin>,
    /// The files of the steps so far, by their names in the plan.
    bodies: HashMap<&'a str, FileContent>,
}

#[derive(Clone, Debug)]
enum FileContent {
    Read(Arc<[u8]>),
    Open(Arc<BodyFile>),
}

impl<'a> Renderer<'a> {
    /// Of this plan; `files` is the agent's folder of files, `secrets` are the plan's.
    pub fn new(plan: &'a Plan, files: Option<&'a Path>, secrets: &'a Secrets) -> Self {
        Self { plan, files, secrets, bytes: 0, origins: Vec::new(), bodies: HashMap::new() }
    }

    /// Renders a step; its server is put among the origins unless it is there.
    pub fn step(&mut self, step: &'a RequestStep) -> Result<Step, PrepareError> {
        let plan = self.plan;
        let wrong = |what: String| PrepareError::new("plan", format!("step `{}`: {what}", step.name));
        let request = &step.request;
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| wrong(format!("`{}` is not an HTTP method", request.method)))?;
        if method == Method::CONNECT {
            return Err(wrong("CONNECT opens a tunnel and cannot be a step; use another method".to_owned()));
        }
        let url = self.url(&request.url).map_err(wrong)?;
        let (headers, secret_headers) = self.headers(&request.headers).map_err(wrong)?;
        let mut secret = SecretParts { headers: secret_headers, is_in_body: false };
        let (text, file);
        let payload = match &request.body {
            None => Payload::None,
            Some(Body::Text(template)) => {
                text = self.filled(template, "the body", BODY_BYTES_MAX).map_err(wrong)?;
                secret.is_in_body = template.has_secrets();
                Payload::Bytes(text.as_bytes())
            }
            Some(Body::File(name)) => {
                file = self.file(&step.name, name)?;
                match &file {
                    FileContent::Read(bytes) => Payload::Bytes(bytes),
                    FileContent::Open(file) => Payload::File(file),
                }
            }
        };
        let origin = intern(&mut self.origins, Origin::of(&url).map_err(wrong)?);
        let parts = Parts { method, url, headers, payload, secret };
        Ok(Step {
            name: step.name.clone(),
            method: request.method.clone(),
            request: Message::new(origin, parts, !plan.http.no_keep_alive),
            timeout: step.timeout.unwrap_or(plan.timeout),
        })
    }

    /// The server's URL with its holes filled. What is wrong with one that holds a secret is said without showing it.
    fn url(&mut self, template: &Template) -> Result<Url, String> {
        let text = self.filled(template, "the URL", URL_BYTES_MAX)?;
        join(self.plan.target.as_deref(), &text).map_err(|message| {
            if template.has_secrets() {
                "the URL is none once its secrets are filled in; see that their values are percent-encoded"
                    .to_owned()
            } else {
                message
            }
        })
    }

    /// A template's text, if it is not longer than it may be. Without secrets its length was looked at before.
    fn filled(&mut self, template: &Template, what: &str, bytes_max: usize) -> Result<String, String> {
        if template.has_secrets() {
            let size =
                template.rendered_bytes(&self.plan.variables).saturating_add(self.secrets.bytes(template));
            self.bytes = self.bytes.saturating_add(size);
            if size > bytes_max || self.bytes > REQUESTS_BYTES_MAX {
                return Err(format!(
                    "{what} may have up to {size} bytes once its secrets are filled in; at most {bytes_max} are possible, and {REQUESTS_BYTES_MAX} in all requests"
                ));
            }
        }
        Ok(template.render_with(&self.plan.variables, |name| self.secrets.value(name)))
    }

    /// The plan's headers that the step does not replace, then the step's; rendered and checked. And the names of those that hold a secret.
    #[expect(clippy::type_complexity, reason = "names and values in order, and names")]
    fn headers(&mut self, own: &[Header]) -> Result<(Vec<(String, String)>, Vec<String>), String> {
        let plan = self.plan;
        let is_own = |name: &str| own.iter().any(|header| header.name.eq_ignore_ascii_case(name));
        let (mut headers, mut secret) = (Vec::new(), Vec::new());
        for header in plan.headers.iter().filter(|header| !is_own(&header.name)).chain(own) {
            let value = self.filled(&header.value, &format!("header `{}`", header.name), HEADER_BYTES_MAX)?;
            if HeaderName::from_bytes(header.name.as_bytes()).is_err() {
                return Err(format!("`{}` is not a header name", header.name));
            }
            if HeaderValue::from_bytes(value.as_bytes()).is_err() {
                return Err(format!(
                    "header `{}`: its value holds a line break or a control character",
                    header.name
                ));
            }
            if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(
                    "header `transfer-encoding`: bodies go out with their length; leave the header out"
                        .to_owned(),
                );
            }
            if header.value.has_secrets() {
                secret.push(header.name.to_ascii_lowercase());
            }
            headers.push((header.name.clone(), value.trim().to_owned()));
        }
        if plan.http.cookies {
            join_cookies(&mut headers);
        }
        Ok((headers, secret))
    }

    fn file(&mut self, step: &str, name: &'a str) -> Result<FileContent, PrepareError> {
        if let Some(known) = self.bodies.get(name) {
            return Ok(known.clone());
        }
        let field = format!("step `{step}`: body_file");
        let folder::OpenFile { file, length } = folder::open(self.files, &field, name)?;
        let content = if length > INLINE_FILE_BYTES_MAX {
            FileContent::Open(Arc::new(BodyFile { file: Arc::new(file), length }))
        } else {
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, 0).map_err(|error| {
                let why = match error.kind() {
                    io::ErrorKind::UnexpectedEof => "it was made shorter meanwhile".to_owned(),
                    _ => error.to_string(),
                };
                PrepareError::new("files", format!("{field}: `{name}` cannot be read: {why}"))
            })?;
            FileContent::Read(bytes.into())
        };
        self.bodies.insert(name, content.clone());
        Ok(content)
    }
}

impl Origin {
    /// The server that a URL names.
    ///
    /// # Errors
    /// It is none that can be connected to.
    pub fn of(url: &Url) -> Result<Self, String> {
        let host = match url.host() {
            Some(url::Host::Domain(name)) => name.to_owned(),
            Some(url::Host::Ipv4(ip)) => ip.to_string(),
            Some(url::Host::Ipv6(ip)) => ip.to_string(),
            None => return Err(format!("url `{url}` names no host")),
        };
        let tls = if url.scheme() == "https" {
            let name = host.strip_suffix('.').unwrap_or(&host).to_owned();
            Some(
                ServerName::try_from(name)
                    .map_err(|_| format!("host `{host}` is not a name that a certificate can have"))?,
            )
        } else {
            None
        };
        let port = url.port_or_known_default().ok_or_else(|| format!("url `{url}` has no port"))?;
        Ok(Self { host, port, tls })
    }
}

fn intern(origins: &mut Vec<Origin>, origin: Origin) -> u32 {
    let known = origins.iter().position(|known| *known == origin);
    known.unwrap_or_else(|| {
        origins.push(origin);
        origins.len() - 1
    }) as u32
}

/// The lines of `cookie` become one, where the first stands: what the VU is given meanwhile is appended to it.
fn join_cookies(headers: &mut Vec<(String, String)>) {
    let is_cookie = |name: &str| name.eq_ignore_ascii_case("cookie");
    let values: Vec<_> =
        headers.iter().filter(|(name, _)| is_cookie(name)).map(|(_, value)| value.clone()).collect();
    let Some(first) = headers.iter().position(|(name, _)| is_cookie(name)) else { return };
    headers[first].1 = values.join("; ");
    let mut at = 0;
    headers.retain(|(name, _)| {
        at += 1;
        at - 1 == first || !is_cookie(name)
    });
}
