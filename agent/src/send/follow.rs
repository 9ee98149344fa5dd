//! What an answer that is a redirect leads to: the next request (RFC 9110 15.4, and what browsers do: the Fetch standard, 4.4).
//!
//! Pure: takes the request that was sent, the answer's status and its `location`, gives the parts of the next request, or nothing where the
//! answer is to stand as it is.
//! - 301 and 302 turn POST into GET, 303 turns everything but HEAD into GET; the body and what describes it stay behind. 307 and 308
//!   keep both.
//! - Where the origin changes (scheme, host or port), what proves who is asking stays behind, and so do headers that hold a secret, and a `host` of
//!   the plan's own; a body that holds a secret is not carried there: the answer stands.
//! - What leads nowhere that HTTP goes stands: no `location`, no URL, another scheme.

use http::Method;
use url::{Position, Url};

use crate::prepare::message::{Message, Parts, Payload};

/// Headers that describe a body and go with it.
const OF_BODY: [&str; 7] = [
    "content-type",
    "content-encoding",
    "content-language",
    "content-location",
    "content-length",
    "content-md5",
    "expect",
];

/// What a header's name holds if its value may prove who is asking: such are never carried to another origin.
const SENSITIVE: [&str; 9] =
    ["auth", "cookie", "token", "secret", "api-key", "apikey", "password", "credential", "session"];

/// The parts of the request that a redirect leads to.
pub fn next<'a>(sent: &'a Message, status: u16, location: Option<&[u8]>) -> Option<Parts<'a>> {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let url = target(&sent.url, location?)?;
    let turns_into_get = match status {
        301 | 302 => sent.method == Method::POST,
        303 => sent.method != Method::GET && sent.method != Method::HEAD,
        _ => false,
    };
    let is_elsewhere = url[..Position::BeforePath] != sent.url[..Position::BeforePath];
    let stays_behind = |name: &str| {
        let name = name.to_ascii_lowercase();
        turns_into_get && OF_BODY.contains(&name.as_str())
            || is_elsewhere
                && (name == "host"
                    || SENSITIVE.iter().any(|word| name.contains(word))
                    || sent.secret.headers.contains(&name))
    };
    if is_elsewhere && sent.secret.is_in_body && !turns_into_get {
        return None;
    }
    let mut secret = sent.secret.clone();
    secret.is_in_body &= !turns_into_get;
    let headers = sent.headers.iter().filter(|(name, _)| !stays_behind(name)).cloned().collect();
    let (method, payload) =
        if turns_into_get { (Method::GET, Payload::None) } else { (sent.method.clone(), sent.payload()) };
    Some(Parts { method, url, headers, payload, secret })
}

/// Where `location` leads from a URL, without fragment and credentials.
fn target(from: &Url, location: &[u8]) -> Option<Url> {
    // Some servers write names as they are; what is not UTF-8 goes byte for byte, as browsers do.
    let text = std::str::from_utf8(location)
        .map_or_else(|_| location.iter().map(|byte| char::from(*byte)).collect(), str::to_owned);
    let mut url = from.join(&text).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.port() == Some(0) {
        return None;
    }
    url.set_fragment(None);
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::prepare::message::SecretParts;

    fn sent(method: &str, url: &str, headers: &[(&str, &str)], body: &'static [u8]) -> Message {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let payload = if body.is_empty() { Payload::None } else { Payload::Bytes(body) };
        let (method, url, secret) = (method.parse().unwrap(), url.parse().unwrap(), SecretParts::default());
        let parts = Parts { method, url, headers, payload, secret };
        Message::new(0, parts, true)
    }

    fn led(method: &str, status: u16, location: &str) -> Option<String> {
        let message = sent(method, "http://h/a/b?q#f", &[], b"body");
        let parts = next(&message, status, Some(location.as_bytes()))?;
        let body = matches!(parts.payload, Payload::Bytes(b"body"));
        Some(format!("{} {}{}", parts.method, parts.url, if body { " +body" } else { "" }))
    }

    #[test]
    fn methods_and_bodies_change_as_in_browsers() {
        let check = |method: &str, status: u16, expected: &str| {
            assert_eq!(led(method, status, "/x").as_deref(), Some(expected), "{method} {status}");
        };
        for status in [301, 302] {
            check("POST", status, "GET http://h/x");
            check("PUT", status, "PUT http://h/x +body");
            check("GET", status, "GET http://h/x +body");
            check("HEAD", status, "HEAD http://h/x +body");
        }
        for method in ["POST", "PUT", "DELETE"] {
            check(method, 303, "GET http://h/x");
            check(method, 307, &format!("{method} http://h/x +body"));
            check(method, 308, &format!("{method} http://h/x +body"));
        }
        check("HEAD", 303, "HEAD http://h/x +body");
        for status in [200, 201, 300, 304, 305, 306, 309, 404] {
            assert_eq!(led("GET", status, "/x"), None, "{status}");
        }
    }

    #[test]
    fn locations_are_resolved_and_those_that_are_no_http_stand() {
        let check = |location: &str, expected: Option<&str>| {
            let url = led("POST", 303, location);
            assert_eq!(url, expected.map(|url| format!("GET {url}")), "{location}");
        };
        check("c", Some("http://h/a/c"));
        check("../c?d#e", Some("http://h/c?d"));
        check("?z", Some("http://h/a/b?z"));
        check("", Some("http://h/a/b?q"));
        check("//other:81/c", Some("http://other:81/c"));
        check("HTTPS://Other/c d", Some("https://other/c%20d"));
        check("http://user:pw@other/", Some("http://other/"));
        check("/ü", Some("http://h/%C3%BC"));
        for nowhere in
            ["ftp://h/", "javascript:alert(1)", "mailto:a@b", "http://", "http://h:99999/", "http://h:0/"]
        {
            check(nowhere, None);
        }
        assert!(next(&sent("GET", "http://h/", &[], b""), 302, None).is_none());
        let latin = next(&sent("GET", "http://h/", &[], b""), 302, Some(b"/\xfc")).unwrap().url.to_string();
        assert_eq!(latin, "http://h/%C3%BC");
    }

    #[test]
    fn what_proves_who_is_asking_stays_with_its_origin() {
        let headers = [
            ("Authorization", "1"),
            ("Cookie", "2"),
            ("X-Api-Key", "3"),
            ("x-auth-token", "4"),
            ("Proxy-Authorization", "5"),
            ("Host", "virtual"),
            ("X-Plain", "6"),
            ("Content-Type", "text/plain"),
        ];
        let names = |from: &str, to: &str, status: u16| {
            let message = sent("POST", from, &headers, b"body");
            let parts = next(&message, status, Some(to.as_bytes())).unwrap();
            let names: Vec<_> = parts.headers.into_iter().map(|(name, _)| name).collect();
            names.into_iter().filter(|name| name != "user-agent" && name != "accept").collect::<Vec<_>>()
        };
        assert_eq!(names("http://h/", "/x", 307).len(), 8);
        assert_eq!(names("http://h/", "http://h:80/x", 303).len(), 7);
        for elsewhere in ["https://h/", "http://h:81/", "http://i/", "http://sub.h/"] {
            assert_eq!(names("http://h/", elsewhere, 308), ["X-Plain", "Content-Type"], "{elsewhere}");
            assert_eq!(names("http://h/", elsewhere, 302), ["X-Plain"], "{elsewhere}");
        }
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        let mut message = sent("POST", "http://h/", &[("X-Plain", "1"), ("X-Other", "2")], b"body");
        message.secret = SecretParts { headers: vec!["x-plain".to_owned()], is_in_body: true };
        let names = |message: &Message, to: &str, status: u16| {
            let parts = next(message, status, Some(to.as_bytes()))?;
            let names = parts.headers.iter().filter(|(name, _)| name.starts_with("X-"));
            Some((names.map(|(name, _)| name.clone()).collect::<Vec<_>>(), parts.secret.is_in_body))
        };
        assert_eq!(
            names(&message, "/x", 307),
            Some((vec!["X-Plain".to_owned(), "X-Other".to_owned()], true))
        );
        assert_eq!(names(&message, "http://i/", 302), Some((vec!["X-Other".to_owned()], false)));
        assert_eq!(names(&message, "http://i/", 307), None);
        message.secret.is_in_body = false;
        assert_eq!(names(&message, "http://i/", 307), Some((vec!["X-Other".to_owned()], false)));
    }

    proptest! {
        #[test]
        fn any_location_gives_a_clean_request_or_none(location in prop::collection::vec(any::<u8>(), 0..80)) {
            let message = sent("GET", "http://h/a?b", &[], b"");
            if let Some(parts) = next(&message, 302, Some(&location)) {
                let rendered = Message::new(0, parts, true).http1;
                let text = String::from_utf8(rendered).unwrap();
                prop_assert_eq!(text.lines().filter(|line| line.contains("HTTP/1.1")).count(), 1);
                prop_assert_eq!(text.matches("\r\n\r\n").count(), 1);
                prop_assert!(text.ends_with("\r\n\r\n"));
            }
        }
    }
}
