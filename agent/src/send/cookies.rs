//! The cookies of one VU: `set-cookie` in, `cookie` out (RFC 6265, with what its successor draft 6265bis says of secure cookies and prefixes).
//!
//! A jar lives for an iteration. It is bounded: what passes [`COOKIE_BYTES_MAX`] is not kept, and of too many the oldest goes. Expiry is judged
//! on the monotonic clock, so that a step of the wall clock changes nothing. There is no list of public suffixes: a `domain` of one label is
//! refused, one such as `co.uk` is not, which matters to nobody but the target under load.

mod date;
mod parse;
#[cfg(test)]
mod tests;

use url::{Host, Url};

use parse::SetCookie;

/// The most bytes of a cookie's name and value.
pub const COOKIE_BYTES_MAX: usize = 4096;

/// The most cookies of one domain.
pub const PER_DOMAIN_MAX: usize = 50;

/// The most cookies of a jar.
pub const COOKIES_MAX: usize = 200;

/// The most bytes that a jar's cookies have, their domains and paths included.
pub const JAR_BYTES_MAX: usize = 128 * 1024;

/// What a VU was given, the cookies with longer paths first, then those that were there first (RFC 6265 5.4).
#[derive(Debug, Default)]
pub struct Jar {
    cookies: Vec<Cookie>,
    /// Of all of them.
    bytes: usize,
    /// How many were ever put in: their ages.
    count: u64,
}

#[derive(Debug)]
struct Cookie {
    /// `name=value`, as it is sent.
    pair: Box<[u8]>,
    name_bytes: u16,
    domain: Box<str>,
    is_host_only: bool,
    path: Box<str>,
    is_secure: bool,
    /// On the monotonic clock; `None`: not before the jar is emptied.
    expires_ns: Option<u64>,
    age: u64,
}

impl Jar {
    /// Takes a `set-cookie` line of an answer to this URL. What may not be kept is left out without a word, as browsers do.
    pub fn store(&mut self, url: &Url, line: &[u8], now_ns: u64) {
        let is_secure_url = url.scheme() == "https";
        let Some(set) = SetCookie::parse(line, now_ns) else { return };
        let Some((domain, is_host_only)) = domain_of(url, &set) else { return };
        let path = set.path.map_or_else(|| default_path(url.path()), str::to_owned);
        if set.is_secure && !is_secure_url || !set.keeps_its_prefix(is_host_only, &path) {
            return;
        }
        let is_same = |cookie: &Cookie| {
            cookie.name() == set.name
                && *cookie.domain == domain
                && cookie.is_host_only == is_host_only
                && *cookie.path == path
        };
        let mut age = self.count;
        if let Some(at) = self.cookies.iter().position(is_same) {
            if self.cookies[at].is_secure && !is_secure_url {
                return;
            }
            age = self.remove(at).age;
        }
        if set.expires_ns.is_some_and(|expires_ns| expires_ns <= now_ns) {
            return;
        }
        self.count += 1;
        self.insert(Cookie {
            pair: [set.name, b"=", set.value].concat().into(),
            name_bytes: set.name.len() as u16,
            domain: domain.into(),
            is_host_only,
            path: path.into(),
            is_secure: set.is_secure,
            expires_ns: set.expires_ns,
            age,
        });
        self.make_room(now_ns);
    }

    /// The value of `cookie` for a request to this URL: the plan's own first, then what the jar has and the plan has not. Empty: none.
    pub fn header(&self, url: &Url, own: &str, now_ns: u64) -> Vec<u8> {
        let mut value = Vec::new();
        let is_given = |name: &[u8]| {
            own.split(';').any(|pair| pair.split('=').next().is_some_and(|own| own.trim().as_bytes() == name))
        };
        for cookie in self.cookies.iter().filter(|cookie| cookie.matches(url, now_ns)) {
            if is_given(cookie.name()) {
                continue;
            }
            if value.is_empty() {
                value.extend_from_slice(own.as_bytes());
            }
            if !value.is_empty() {
                value.extend_from_slice(b"; ");
            }
            value.extend_from_slice(&cookie.pair);
        }
        value
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.cookies.is_empty()
    }

    fn insert(&mut self, cookie: Cookie) {
        let rank = |cookie: &Cookie| (usize::MAX - cookie.path.len(), cookie.age);
        let at = self.cookies.partition_point(|other| rank(other) < rank(&cookie));
        self.bytes += cookie.bytes();
        self.cookies.insert(at, cookie);
    }

    fn remove(&mut self, at: usize) -> Cookie {
        let cookie = self.cookies.remove(at);
        self.bytes -= cookie.bytes();
        cookie
    }

    /// Lets go of what has expired, then of the oldest, until the bounds hold.
    fn make_room(&mut self, now_ns: u64) {
        let newest = self.cookies.iter().max_by_key(|cookie| cookie.age).map(|cookie| cookie.domain.clone());
        let Some(domain) = newest else { return };
        let of_domain = |cookies: &[Cookie]| cookies.iter().filter(|c| c.domain == domain).count();
        let is_full = |jar: &Self| jar.cookies.len() > COOKIES_MAX || jar.bytes > JAR_BYTES_MAX;
        if !is_full(self) && of_domain(&self.cookies) <= PER_DOMAIN_MAX {
            return;
        }
        while let Some(at) = self.cookies.iter().position(|cookie| cookie.has_expired(now_ns)) {
            self.remove(at);
        }
        while of_domain(&self.cookies) > PER_DOMAIN_MAX {
            self.remove_oldest(|cookie| cookie.domain == domain);
        }
        while is_full(self) {
            self.remove_oldest(|_| true);
        }
    }

    fn remove_oldest(&mut self, is_meant: impl Fn(&Cookie) -> bool) {
        let oldest = self.cookies.iter().enumerate().filter(|(_, cookie)| is_meant(cookie));
        if let Some((at, _)) = oldest.min_by_key(|(_, cookie)| cookie.age) {
            self.remove(at);
        }
    }
}

impl Cookie {
    fn name(&self) -> &[u8] {
        &self.pair[..self.name_bytes.into()]
    }

    fn bytes(&self) -> usize {
        self.pair.len() + self.domain.len() + self.path.len() + size_of::<Self>()
    }

    fn has_expired(&self, now_ns: u64) -> bool {
        self.expires_ns.is_some_and(|expires_ns| expires_ns <= now_ns)
    }

    fn matches(&self, url: &Url, now_ns: u64) -> bool {
        let host = url.host_str().unwrap_or_default();
        let is_of_host =
            if self.is_host_only { host == &*self.domain } else { is_within_domain(url, &self.domain) };
        is_of_host
            && is_below(url.path(), &self.path)
            && (!self.is_secure || url.scheme() == "https")
            && !self.has_expired(now_ns)
    }
}

/// The domain of a new cookie, and whether it is for that host alone; nothing where the answer may not set it.
fn domain_of(url: &Url, set: &SetCookie<'_>) -> Option<(String, bool)> {
    let host = url.host_str()?;
    let Some(domain) = &set.domain else { return Some((host.to_owned(), true)) };
    if domain == host {
        // An address, or a name of one label, has no hosts below it.
        let is_alone = !matches!(url.host(), Some(Host::Domain(name)) if name.contains('.'));
        return Some((domain.clone(), is_alone));
    }
    (domain.contains('.') && is_within_domain(url, domain)).then(|| (domain.clone(), false))
}

/// RFC 6265 5.1.3.
fn is_within_domain(url: &Url, domain: &str) -> bool {
    match url.host() {
        Some(Host::Domain(host)) => {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }
        _ => url.host_str() == Some(domain),
    }
}

/// RFC 6265 5.1.4: the folder of the URL's path.
fn default_path(path: &str) -> String {
    match path.rfind('/') {
        None | Some(0) => "/".to_owned(),
        Some(end) => path[..end].to_owned(),
    }
}

/// RFC 6265 5.1.4: whether a path is a cookie's own or lies below it.
fn is_below(path: &str, of_cookie: &str) -> bool {
    path.strip_prefix(of_cookie)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || of_cookie.ends_with('/'))
}
