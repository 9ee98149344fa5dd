//! Rules for sockets of our own.

pub mod allow;
pub mod listen;
pub mod public;
pub mod tls;

/// A host and its port as a URL has them: an IPv6 address stands in brackets.
pub fn host_and_port(host: &str, port: u16) -> String {
    let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
    if is_bare_ipv6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        for (host, expected) in [("::1", "[::1]:80"), ("[::1]", "[::1]:80"), ("a.example", "a.example:80")] {
            assert_eq!(host_and_port(host, 80), expected);
        }
    }
}
