//! No open listening without credentials: whoever reaches an unprotected port could start a load.

use std::net::{IpAddr, SocketAddr};

/// An address that is refused; says what would let it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "refusing to listen on {address} without credentials, where other machines reach it; \
     give {key}, listen on 127.0.0.1, or say {flag}"
)]
pub struct ListenError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// The flag that takes the credentials.
    pub key: &'static str,
    /// The flag that would let it.
    pub flag: &'static str,
}

/// Whether it is safe to listen on `address`: it is loopback, or there are credentials (by the flag named `key`), or the user said by
/// the flag named `flag` that it shall be open.
///
/// # Errors
/// None of these holds.
pub fn check(
    address: SocketAddr,
    has_credentials: bool,
    is_allowed: bool,
    key: &'static str,
    flag: &'static str,
) -> Result<(), ListenError> {
    if is_loopback(address) || has_credentials || is_allowed {
        Ok(())
    } else {
        Err(ListenError { address, key, flag })
    }
}

/// Whether only this machine reaches the address. An IPv4 address within an IPv6 one counts as what it is.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Whether a `Host` header, `NAME[:PORT]`, names this machine's loopback: what a page of elsewhere cannot do, even by a name of its own that resolves to it.
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_loopback_by_its_name_or_address_alone() {
        for ours in [
            "localhost",
            "LOCALHOST.:9090",
            "a.localhost",
            "127.0.0.1:1",
            "127.8.9.1",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback_host(ours), "{ours}");
        }
        for foreign in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]",
        ] {
            assert!(!is_loopback_host(foreign), "{foreign}");
        }
    }

    #[test]
    fn only_loopback_is_open_to_all() {
        let check = |address: &str, has_credentials, is_allowed| {
            super::check(
                address.parse().unwrap(),
                has_credentials,
                is_allowed,
                "--key-file",
                "--allow-unauthenticated",
            )
            .is_ok()
        };
        for loopback in ["127.0.0.1:80", "127.8.8.8:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(check(loopback, false, false), "{loopback}");
        }
        for open in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "[::ffff:10.0.0.1]:80"] {
            assert!(!check(open, false, false), "{open}");
            assert!(check(open, true, false) && check(open, false, true), "{open}");
        }
    }

    #[test]
    fn the_refusal_names_the_way_out() {
        let error =
            check("0.0.0.0:7070".parse().unwrap(), false, false, "--key-file", "--allow-unauthenticated")
                .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("0.0.0.0:7070")
                && text.contains("--key-file")
                && text.contains("--allow-unauthenticated"),
            "{text}"
        );
    }
}
