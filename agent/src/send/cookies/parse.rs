//! One `set-cookie` line, read as RFC 6265 5.2 says. No state.

use super::date;
use super::{COOKIE_BYTES_MAX, JAR_BYTES_MAX};

/// The longest value of an attribute that is looked at.
const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub struct SetCookie<'a> {
    /// Never empty.
    pub name: &'a [u8],
    pub value: &'a [u8],
    /// In lower case, without the leading dot; absent: the host alone.
    pub domain: Option<String>,
    /// Begins with a slash; absent: the folder of the URL.
    pub path: Option<&'a str>,
    /// For TLS alone.
    pub is_secure: bool,
    /// On the monotonic clock; 0: has expired already.
    pub expires_ns: Option<u64>,
}

impl<'a> SetCookie<'a> {
    /// Reads a line; nothing where it sets no cookie. `now_ns` is on the monotonic clock.
    pub fn parse(line: &'a [u8], now_ns: u64) -> Option<Self> {
        if line.len() > JAR_BYTES_MAX || line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return None;
        }
        let mut parts = line.split(|byte| *byte == b';');
        let (name, value) = pair(parts.next()?);
        let value = value?;
        if name.is_empty() || name.len() + value.len() > COOKIE_BYTES_MAX {
            return None;
        }
        let mut cookie = Self { name, value, domain: None, path: None, is_secure: false, expires_ns: None };
        let mut max_age_ns = None;
        for part in parts {
            let (attribute, value) = pair(part);
            let value = value.unwrap_or_default();
            if value.len() > ATTRIBUTE_BYTES_MAX {
                continue;
            }
            let text = std::str::from_utf8(value).unwrap_or_default();
            match attribute.to_ascii_lowercase().as_slice() {
                b"secure" => cookie.is_secure = true,
                // The last one counts, also where it takes back the one before.
                b"path" => cookie.path = Some(text).filter(|path| path.starts_with('/')),
                // A name that nobody can have is not the host alone.
                b"domain" if text.is_empty() && !value.is_empty() => return None,
                b"domain" => {
                    let domain = text.strip_prefix('.').unwrap_or(text).to_ascii_lowercase();
                    cookie.domain = Some(domain).filter(|domain| !domain.is_empty());
                }
                b"max-age" => max_age_ns = max_age(text, now_ns).or(max_age_ns),
                b"expires" => {
                    let expires_ns = date::unix_seconds(text).map(|unix| date::on_the_clock(unix, now_ns));
                    cookie.expires_ns = expires_ns.or(cookie.expires_ns);
                }
                _ => {}
            }
        }
        cookie.expires_ns = max_age_ns.or(cookie.expires_ns);
        Some(cookie)
    }

    /// Whether what its name promises is true (6265bis 4.1.3).
    pub fn keeps_its_prefix(&self, is_host_only: bool, path: &str) -> bool {
        let begins = |prefix: &[u8]| {
            self.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        (!begins(b"__secure-") || self.is_secure)
            && (!begins(b"__host-")
                || self.is_secure
                    && is_host_only
                    && self.domain.is_none()
                    && self.path.is_some()
                    && path == "/")
    }
}

/// Name and value around the first `=`, trimmed; without one there is no value.
fn pair(part: &[u8]) -> (&[u8], Option<&[u8]>) {
    match part.iter().position(|byte| *byte == b'=') {
        Some(at) => (part[..at].trim_ascii(), Some(part[at + 1..].trim_ascii())),
        None => (part.trim_ascii(), None),
    }
}

/// RFC 6265 5.2.2.
fn max_age(text: &str, now_ns: u64) -> Option<u64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if text.starts_with('-') {
        return Some(0);
    }
    // More digits than a number has: it will not be seen to expire.
    let seconds = digits.parse::<u64>().unwrap_or(u64::MAX);
    Some(if seconds == 0 { 0 } else { now_ns.saturating_add(seconds.saturating_mul(1_000_000_000)) })
}
