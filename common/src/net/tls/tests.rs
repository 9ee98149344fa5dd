use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate of this name, with its key and the authority that the other side is to come from.
fn write(folder: &Path, part: &str, name: &str, issuer: &Issuer, trusted: &Issuer) -> PemFiles {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
    let path = |what: &str| folder.join(format!("{part}.{what}"));
    std::fs::write(path("ca"), trusted.pem()).unwrap();
    std::fs::write(path("crt"), certificate.pem()).unwrap();
    std::fs::write(path("key"), key.serialize_pem()).unwrap();
    PemFiles { ca: Some(path("ca")), own: Some((path("crt"), path("key"))) }
}

/// Whether a byte gets through from a master to an agent.
async fn speaks(master: &ClientTls, agent: &ServerTls) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut accepted = accept(listener, agent.clone(), stop.clone());
    let _stop = stop.drop_guard();
    let tcp = TcpStream::connect(address).await.unwrap();
    let Ok(mut stream) = master.connect(tcp).await else { return false };
    if stream.write_all(b"x").await.is_err() {
        return false;
    }
    // In TLS 1.3 a client learns with its first bytes only that its certificate was refused.
    let served = async {
        let (mut stream, _) = accepted.recv().await.unwrap();
        let byte = stream.read_u8().await.unwrap();
        stream.write_u8(byte).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    tokio::select! {
        byte = stream.read_u8() => byte.is_ok(),
        () = async { served.await; std::future::pending::<()>().await } => unreachable!(),
    }
}

#[tokio::test]
async fn only_master_and_agent_of_one_authority_speak() {
    let folder = TempDir::new().unwrap();
    let (ours, other) = (authority(), authority());
    let write = |part: &str, name: &str, issuer: &Issuer| write(folder.path(), part, name, issuer, &ours);
    let master = ClientTls::for_agents(write("master", MASTER_NAME, &ours)).unwrap();
    let agent = ServerTls::for_masters(write("agent", AGENT_NAME, &ours)).unwrap();
    assert!(speaks(&master, &agent).await);
    let false_master = ClientTls::for_agents(write("m2", MASTER_NAME, &other)).unwrap();
    assert!(!speaks(&false_master, &agent).await, "another authority's master");
    let false_agent = ServerTls::for_masters(write("a2", AGENT_NAME, &other)).unwrap();
    assert!(!speaks(&master, &false_agent).await, "another authority's agent");
    let agent_as_master = ClientTls::for_agents(write("m3", AGENT_NAME, &ours)).unwrap();
    assert!(!speaks(&agent_as_master, &agent).await, "an agent gives no orders");
    let master_as_agent = ServerTls::for_masters(write("a3", MASTER_NAME, &ours)).unwrap();
    assert!(!speaks(&master, &master_as_agent).await, "a master takes none");
}

#[tokio::test]
async fn a_changed_certificate_holds_without_a_restart_and_a_broken_one_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let (old, new) = (authority(), authority());
    let write = |issuer: &Issuer| {
        let of = |part: &str, name: &str| write(folder.path(), part, name, issuer, issuer);
        (of("master", MASTER_NAME), of("agent", AGENT_NAME))
    };
    let (master_files, agent_files) = write(&old);
    let (mut master, mut agent) =
        (ClientTls::for_agents(master_files.clone()).unwrap(), ServerTls::for_masters(agent_files).unwrap());
    let key = &master_files.own.as_ref().unwrap().1;
    let good = std::fs::read(key).unwrap();
    std::fs::write(key, "no key").unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(speaks(&master, &agent).await, "what was there stays");
    std::fs::write(key, good).unwrap();
    write(&new);
    master.0.changed().await.unwrap();
    agent.0.changed().await.unwrap();
    // Either may have been read between two of its files, and is read again then.
    while !speaks(&master, &agent).await {
        tokio::select! {
            changed = master.0.changed() => changed.unwrap(),
            changed = agent.0.changed() => changed.unwrap(),
        }
    }
    let (old_master, _) = write(&new);
    assert!(ClientTls::for_agents(PemFiles { ca: Some("/no/such/file".into()), ..old_master }).is_err());
}
