//! The TLS client of a plan: rustls with ring; versions, ALPN, authorities and a client certificate as the plan says.
//!
//! Takes the plan's options and the agent's folder of files, gives the configuration that all connections of the run start from.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use volcanion_common::plan::{ClientCertificate, HttpOptions, HttpVersion, TlsOptions, TlsVersion};

use super::{PrepareError, folder};

/// The most bytes of a certificate chain or a key.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// The configuration that all connections of the run start from.
pub(super) fn client_config(
    options: &HttpOptions,
    files: Option<&Path>,
) -> Result<Arc<ClientConfig>, PrepareError> {
    let tls = &options.tls;
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(tls))
        .map_err(|error| {
            PrepareError::new(
                "tls",
                format!("http.tls.min_version, max_version: {error}; give a range that holds 1.2 or 1.3"),
            )
        })?;
    let builder = if tls.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(tls)?)
    };
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = client_certificate(client, files)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let ClientCertificate { cert_file, key_file } = client;
                PrepareError::new(
                    "tls",
                    format!("http.tls.key: `{key_file}` does not go with http.tls.cert `{cert_file}`: {error}; give the certificate's own key"),
                )
            })?
        }
    };
    config.alpn_protocols = alpn(options).iter().map(|name| name.to_vec()).collect();
    if tls.no_resumption {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

fn versions(tls: &TlsOptions) -> Vec<&'static SupportedProtocolVersion> {
    let highest = tls.max_version.unwrap_or(TlsVersion::V1_3);
    [(TlsVersion::V1_3, &TLS13), (TlsVersion::V1_2, &TLS12)]
        .into_iter()
        .filter(|(version, _)| (tls.min_version..=highest).contains(version))
        .map(|(_, version)| version)
        .collect()
}

/// What is offered. HTTP/2 has no use for a connection that carries one request.
fn alpn(options: &HttpOptions) -> &'static [&'static [u8]] {
    match options.version {
        HttpVersion::Http2 => &[b"h2"],
        HttpVersion::Auto if !options.no_keep_alive => &[b"h2", b"http/1.1"],
        HttpVersion::Auto | HttpVersion::Http1 => &[b"http/1.1"],
    }
}

fn client_certificate(
    client: &ClientCertificate,
    files: Option<&Path>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PrepareError> {
    let wrong = |field: &str, file: &str, what: String| {
        Err(PrepareError::new("tls", format!("{field}: `{file}` {what}")))
    };
    let (field, file) = ("http.tls.cert", &client.cert_file);
    let pem = folder::read(files, field, file, PEM_BYTES_MAX)?;
    let chain = match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(chain) if !chain.is_empty() => chain,
        Ok(_) => return wrong(field, file, "holds no certificate; give a chain as PEM".to_owned()),
        Err(error) => return wrong(field, file, format!("is not PEM: {error}; give a chain as PEM")),
    };
    let (field, file) = ("http.tls.key", &client.key_file);
    let pem = folder::read(files, field, file, PEM_BYTES_MAX)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Ok((chain, key)),
        Err(error) => wrong(
            field,
            file,
            format!(
                "holds no key that can be used: {error}; give one without a password as PEM (PKCS#8, PKCS#1 or SEC1)"
            ),
        ),
    }
}

fn roots(options: &TlsOptions) -> Result<RootCertStore, PrepareError> {
    let Some(pem) = &options.ca_pem else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let wrong = |what: String| {
        PrepareError::new("tls", format!("http.tls.ca: {what}; give the authorities' certificates as PEM"))
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        store.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    Ok(store)
}

/// Takes any certificate (`insecure`), but still wants the peer to hold its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn of_tls(tls: TlsOptions) -> HttpOptions {
        HttpOptions { tls, ..HttpOptions::default() }
    }

    #[test]
    fn authorities_that_cannot_be_read_are_named() {
        for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let options = of_tls(TlsOptions { ca_pem: Some(pem.to_owned()), ..TlsOptions::default() });
            let error = client_config(&options, None).unwrap_err();
            assert_eq!(error.code, "tls");
            assert!(error.message.starts_with("http.tls.ca: "), "{error}");
        }
    }

    #[test]
    fn the_version_of_http_says_what_is_offered() {
        let check = |version, no_keep_alive, expected: &[&[u8]]| {
            let options = HttpOptions { version, no_keep_alive, ..HttpOptions::default() };
            assert_eq!(client_config(&options, None).unwrap().alpn_protocols, expected);
        };
        check(HttpVersion::Auto, false, &[b"h2", b"http/1.1"]);
        check(HttpVersion::Auto, true, &[b"http/1.1"]);
        check(HttpVersion::Http1, false, &[b"http/1.1"]);
        check(HttpVersion::Http2, false, &[b"h2"]);
    }

    #[test]
    fn versions_are_those_of_the_range_and_none_is_refused() {
        let check = |least, most, expected: &[&SupportedProtocolVersion]| {
            let tls = TlsOptions { min_version: least, max_version: most, ..TlsOptions::default() };
            assert_eq!(versions(&tls), expected);
        };
        check(TlsVersion::V1_2, None, &[&TLS13, &TLS12]);
        check(TlsVersion::V1_3, None, &[&TLS13]);
        check(TlsVersion::V1_2, Some(TlsVersion::V1_2), &[&TLS12]);
        let tls = TlsOptions {
            min_version: TlsVersion::V1_3,
            max_version: Some(TlsVersion::V1_2),
            ..TlsOptions::default()
        };
        let error = client_config(&of_tls(tls), None).unwrap_err();
        assert!(error.message.starts_with("http.tls.min_version"), "{error}");
    }

    #[test]
    fn a_client_certificate_is_read_from_the_folder_and_what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let certificate = CertificateParams::new(vec!["c".to_owned()]).unwrap().self_signed(&key).unwrap();
        write("cert.pem", &certificate.pem());
        write("key.pem", &key.serialize_pem());
        write("other.pem", &other.serialize_pem());
        write("text", "hello");
        let of = |cert: &str, key: &str| {
            let client = ClientCertificate { cert_file: cert.to_owned(), key_file: key.to_owned() };
            let options = of_tls(TlsOptions { client: Some(client), ..TlsOptions::default() });
            client_config(&options, Some(folder.path()))
        };
        assert!(of("cert.pem", "key.pem").is_ok());
        let check = |cert: &str, key: &str, code: &str, start: &str, way_out: &str| {
            let error = of(cert, key).unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.message.starts_with(start) && error.message.contains(way_out), "{error}");
        };
        check("text", "key.pem", "tls", "http.tls.cert: `text` holds no certificate", "as PEM");
        check("cert.pem", "text", "tls", "http.tls.key: `text` holds no key", "PKCS#8");
        check("cert.pem", "cert.pem", "tls", "http.tls.key: `cert.pem` holds no key", "as PEM");
        check("cert.pem", "other.pem", "tls", "http.tls.key: `other.pem` does not go with", "own key");
        check("no.pem", "key.pem", "files", "http.tls.cert: `no.pem` cannot be opened", "on every agent");
        check(
            "../cert.pem",
            "key.pem",
            "files",
            "http.tls.cert: `../cert.pem` does not lie below",
            "without `..`",
        );
    }
}
