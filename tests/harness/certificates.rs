//! Authorities and certificates, made for a test.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority of its own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("it can sign itself"))
    }

    /// Writes its certificate into a folder.
    pub fn write(&self, folder: &Path, part: &str) -> PathBuf {
        let path = folder.join(format!("{part}-ca.pem"));
        std::fs::write(&path, self.0.pem()).expect("the folder can be written to");
        path
    }

    /// Writes a certificate with these names, and its key, into a folder.
    pub fn issue(&self, folder: &Path, part: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key can be made");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("the names are names");
        let certificate = params.signed_by(&key, &self.0).expect("the authority signs");
        let (cert, own_key) = (folder.join(format!("{part}.pem")), folder.join(format!("{part}.key")));
        std::fs::write(&cert, certificate.pem()).expect("the folder can be written to");
        std::fs::write(&own_key, key.serialize_pem()).expect("the folder can be written to");
        (cert, own_key)
    }

    /// The flags of a master or agent with a certificate of this name.
    pub fn cluster_flags(&self, folder: &Path, part: &str, name: &str) -> Vec<String> {
        let ca = self.write(folder, part);
        let (cert, key) = self.issue(folder, part, &[name]);
        let flag = |name: &str, path: &Path| [name.to_owned(), path.display().to_string()];
        [flag("--cluster-ca", &ca), flag("--cluster-cert", &cert), flag("--cluster-cert-key", &key)].concat()
    }
}
