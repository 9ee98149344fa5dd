//! What the system says → a typed failure.

use std::io;

use rustix::io::Errno;
use rustls::AlertDescription;
use volcanion_common::series::ErrorKind;

use crate::send::sample::{Failure, detail};

/// A connection was not made; of a Unix socket, one that is not there is refused too.
pub fn of_connect(error: &io::Error) -> Failure {
    let detail = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED | Errno::NOENT) => detail::REFUSED,
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
        Some(error) if is_about_our_certificate(error) => detail::CLIENT_CERTIFICATE,
        _ => detail::HANDSHAKE,
    };
    Failure::new(ErrorKind::Tls, detail)
}

/// An open connection broke.
pub fn of_exchange(error: &io::Error, has_answer_begun: bool) -> Failure {
    if let Some(error) = tls_error(error) {
        // In TLS 1.3 the target looks at our certificate after the handshake has ended for us.
        let is_ours = is_about_our_certificate(error);
        let detail = if is_ours { detail::CLIENT_CERTIFICATE } else { detail::RECORD };
        return Failure::new(ErrorKind::Tls, detail);
    }
    let detail = if has_answer_begun { detail::IN_THE_ANSWER } else { detail::BEFORE_THE_ANSWER };
    Failure::new(ErrorKind::Reset, detail)
}

/// A name was not resolved. The standard library tells the resolver's reasons apart only by their text.
pub fn of_lookup(error: &io::Error, has_no_files: bool) -> Failure {
    if has_no_files {
        return Failure::new(ErrorKind::Dns, detail::NO_FILES);
    }
    let text = error.to_string();
    let detail = if text.contains("Temporary failure") || text.contains("try again") {
        detail::NO_ANSWER
    } else {
        detail::NOT_FOUND
    };
    Failure::new(ErrorKind::Dns, detail)
}

/// Whether the process can open nothing more: a resolver that cannot open its files or sockets only says that it found nothing.
pub fn has_no_files() -> bool {
    let opened = std::fs::File::open("/dev/null").map_err(|error| Errno::from_io_error(&error));
    matches!(opened, Err(Some(Errno::MFILE | Errno::NFILE)))
}

/// Whether a handshake ended because the target speaks none of the HTTP versions that it was offered.
pub fn is_without_h2(error: &io::Error) -> bool {
    matches!(
        tls_error(error),
        Some(
            rustls::Error::NoApplicationProtocol
                | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
        )
    )
}

/// Whether the target said that it does not like our certificate, or the lack of one (RFC 8446 6.2).
fn is_about_our_certificate(error: &rustls::Error) -> bool {
    use AlertDescription as Alert;
    matches!(
        error,
        rustls::Error::AlertReceived(
            Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::CertificateRequired
        )
    )
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
        check(Errno::NOENT, "refused", false);
        check(Errno::TIMEDOUT, "timed out", false);
        check(Errno::HOSTUNREACH, "unreachable", false);
        check(Errno::ADDRNOTAVAIL, "no ports", true);
        check(Errno::MFILE, "no files", true);
        check(Errno::NFILE, "no files", true);
        check(Errno::ACCESS, "failed", false);
    }

    #[test]
    fn a_name_that_is_not_found_for_want_of_files_is_our_own_fault() {
        let error = io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(of_lookup(&error, has_no_files()).detail, "not found");
        assert!(detail::is_own_exhaustion(of_lookup(&error, true).detail));
        let error =
            io::Error::other("failed to lookup address information: Temporary failure in name resolution");
        assert_eq!(of_lookup(&error, false).detail, "no answer");
    }

    #[test]
    fn certificates_are_told_from_other_handshake_failures() {
        let of =
            |error: rustls::Error| of_handshake(&io::Error::new(io::ErrorKind::InvalidData, error)).detail;
        assert_eq!(of(rustls::Error::InvalidCertificate(rustls::CertificateError::Expired)), "certificate");
        assert_eq!(of(rustls::Error::HandshakeNotComplete), "handshake");
        assert_eq!(of(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)), "handshake");
        assert_eq!(of(rustls::Error::AlertReceived(AlertDescription::UnknownCA)), "client certificate");
        assert_eq!(of_handshake(&io::Error::from(io::ErrorKind::UnexpectedEof)).detail, "handshake");
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let exchange = of_exchange(&io::Error::new(io::ErrorKind::InvalidData, alert), false);
        assert_eq!((exchange.kind, exchange.detail), (ErrorKind::Tls, "client certificate"));
    }
}
