//! What the system says → a typed failure.

use std::io;

use rustix::io::Errno;
use volcanion_common::series::ErrorKind;

use crate::send::sample::{Failure, detail};

/// A TCP connection was not made.
pub fn of_connect(error: &io::Error) -> Failure {
    let detail = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED) => detail::REFUSED,
        Some(Errno::TIMEDOUT) => detail::TIMED_OUT,
        Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::AFNOSUPPORT) => {
            detail::UNREACHABLE
        }
        Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => detail::NO_PORTS,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => detail::NO_FILES,
        Some(Errno::CONNRESET) => return Failure::new(ErrorKind::Reset, detail::BEFORE_THE_ANSWER),
        _ => detail::FAILED,
    };
    Failure::new(ErrorKind::Connect, detail)
}

/// A TLS session was not made.
pub fn of_handshake(error: &io::Error) -> Failure {
    let detail = match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            detail::CERTIFICATE
        }
        _ => detail::HANDSHAKE,
    };
    Failure::new(ErrorKind::Tls, detail)
}

/// An open connection broke.
pub fn of_exchange(error: &io::Error, has_answer_begun: bool) -> Failure {
    if tls_error(error).is_some() {
        return Failure::new(ErrorKind::Tls, detail::RECORD);
    }
    let detail = if has_answer_begun { detail::IN_THE_ANSWER } else { detail::BEFORE_THE_ANSWER };
    Failure::new(ErrorKind::Reset, detail)
}

/// A name was not resolved. The standard library tells the resolver's reasons apart only by their text.
pub fn of_lookup(error: &io::Error) -> Failure {
    let text = error.to_string();
    let detail = if text.contains("Temporary failure") || text.contains("try again") {
        detail::NO_ANSWER
    } else {
        detail::NOT_FOUND
    };
    Failure::new(ErrorKind::Dns, detail)
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_exhaustion_is_told_from_the_targets_refusal() {
        let check = |errno: Errno, expected: &str, is_ours: bool| {
            let failure = of_connect(&io::Error::from_raw_os_error(errno.raw_os_error()));
            assert_eq!((failure.kind, failure.detail), (ErrorKind::Connect, expected));
            assert_eq!(detail::is_own_exhaustion(failure.detail), is_ours);
        };
        check(Errno::CONNREFUSED, "refused", false);
        check(Errno::TIMEDOUT, "timed out", false);
        check(Errno::HOSTUNREACH, "unreachable", false);
        check(Errno::ADDRNOTAVAIL, "no ports", true);
        check(Errno::MFILE, "no files", true);
        check(Errno::NFILE, "no files", true);
        check(Errno::ACCESS, "failed", false);
    }

    #[test]
    fn certificates_are_told_from_other_handshake_failures() {
        let of =
            |error: rustls::Error| of_handshake(&io::Error::new(io::ErrorKind::InvalidData, error)).detail;
        assert_eq!(of(rustls::Error::InvalidCertificate(rustls::CertificateError::Expired)), "certificate");
        assert_eq!(of(rustls::Error::HandshakeNotComplete), "handshake");
        assert_eq!(of_handshake(&io::Error::from(io::ErrorKind::UnexpectedEof)).detail, "handshake");
    }
}
