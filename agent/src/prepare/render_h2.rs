//! A request → its HTTP/2 form: the same request that HTTP/1.1 would send, without what only that knows.
//!
//! RFC 9113 8.2 and 8.3: names in lower case, the host as `:authority`, no fields of the connection, `te` only for trailers. `cookie` is
//! split into its crumbs (8.2.3), which then cost a byte each once the peer's table has them.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Uri, Version};

use super::message::{Message, authority};

/// Fields that steer a connection of HTTP/1.1 and have no place here.
const CONNECTION_FIELDS: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host"];

/// The head of a request. Values are copied: none of them is shared with another core.
///
/// # Errors
/// It cannot be said in HTTP/2, and why.
pub fn http2_head(message: &Message) -> Result<Request<()>, String> {
    let url = &message.url;
    let host = message.header("host").map_or_else(|| authority(url), str::to_owned);
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let uri = Uri::builder()
        .scheme(url.scheme())
        .authority(host.as_str())
        .path_and_query(path)
        .build()
        // The URL is not shown: it may hold a secret.
        .map_err(|error| format!("its URL cannot be asked for at `{host}` over HTTP/2: {error}"))?;
    let mut head = Request::new(());
    *head.method_mut() = message.method.clone();
    *head.uri_mut() = uri;
    *head.version_mut() = Version::HTTP_2;
    let fields = head.headers_mut();
    for (name, value) in &message.headers {
        if CONNECTION_FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field))
            || name.eq_ignore_ascii_case("te") && !value.eq_ignore_ascii_case("trailers")
        {
            continue;
        }
        let wrong = || format!("header `{name}` cannot be sent over HTTP/2");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        if name == header::COOKIE {
            add_cookies(fields, value.as_bytes());
        } else {
            let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?;
            // No table of the connection keeps a secret (RFC 7541, 7.1.3).
            value.set_sensitive(message.secret.headers.iter().any(|secret| name == secret.as_str()));
            fields.append(name, value);
        }
    }
    if let Some(length) = message.length {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(head)
}

/// Adds what a `cookie` line says, crumb by crumb; what is no header value is left out.
pub fn add_cookies(fields: &mut HeaderMap, line: &[u8]) {
    let crumbs = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|crumb| !crumb.is_empty());
    for crumb in crumbs {
        if let Ok(value) = HeaderValue::from_bytes(crumb) {
            fields.append(header::COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use url::Url;

    use super::*;
    use crate::prepare::message::{Parts, Payload, SecretParts};

    fn head(method: Method, url: &str, headers: &[(&str, &str)], payload: Payload<'_>) -> Request<()> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (url, secret) = (Url::parse(url).unwrap(), SecretParts::default());
        let parts = Parts { method, url, headers, payload, secret };
        http2_head(&Message::new(0, parts, true)).unwrap()
    }

    fn fields(head: &Request<()>) -> Vec<String> {
        head.headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .filter(|line| !line.starts_with("user-agent") && !line.starts_with("accept"))
            .collect()
    }

    #[test]
    fn the_same_request_as_over_http_1_1_without_what_steers_a_connection() {
        let given = [
            ("Host", "other.example:81"),
            ("X-Up", "A"),
            ("Connection", "keep-alive"),
            ("TE", "gzip"),
            ("Cookie", "a=1; b=2"),
        ];
        let head = head(Method::POST, "https://example.com/a?b=c#d", &given, Payload::Bytes(b"body"));
        assert_eq!(head.uri().to_string(), "https://other.example:81/a?b=c");
        assert_eq!(fields(&head), ["x-up: A", "cookie: a=1", "cookie: b=2", "content-length: 4"]);
        assert_eq!(head.version(), Version::HTTP_2);
    }

    #[test]
    fn addresses_and_ports_stay_in_the_authority() {
        let get = |url: &str| head(Method::GET, url, &[("te", "trailers")], Payload::None);
        let uri = get("http://[::1]:8080/");
        assert_eq!(
            (uri.uri().to_string().as_str(), fields(&uri)),
            ("http://[::1]:8080/", vec!["te: trailers".to_owned()])
        );
        assert_eq!(get("https://example.com:443?q").uri().to_string(), "https://example.com/?q");
        assert_eq!(get("http://a/{x}|\"y`z'?<>&\"`{}|^").uri().scheme_str(), Some("http"));
    }
}
