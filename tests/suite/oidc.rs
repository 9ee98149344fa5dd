//! Tokens of an external issuer, by the flags that an operator gives: a stub of one on loopback, with its discovery document and keys.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::routing::get;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::await_some;
use crate::harness::cluster::{admin_key_file, start_master_in};
use crate::harness::etcd::Etcd;
use crate::harness::process::Process;
use crate::harness::rest::http;

const LIMIT: Duration = Duration::from_secs(30);

/// A key of an issuer's, by its name.
struct Signer {
    kid: &'static str,
    pair: KeyPair,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        Self { kid, pair: KeyPair::generate().unwrap() }
    }

    fn jwk(&self) -> Value {
        // An uncompressed point: 4, then 32 bytes each.
        let point = self.pair.public_key_raw();
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid,
            "x": base64url(&point[1..33]), "y": base64url(&point[33..65]) })
    }

    fn token(&self, claims: &Value) -> String {
        let head = Header { kid: Some(self.kid.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&head, claims, &EncodingKey::from_ec_der(&self.pair.serialize_der())).unwrap()
    }
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect::<Vec<_>>();
    let digit = |six: &[u8]| (0..6).fold(0, |value, at| value << 1 | six.get(at).copied().unwrap_or(0));
    bits.chunks(6).map(|six| char::from(DIGITS[usize::from(digit(six))])).collect()
}

/// An issuer that publishes what `keys` holds.
async fn issuer(keys: Arc<Mutex<Vec<Value>>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let about = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
    let published = move || {
        let keys = keys.lock().unwrap().clone();
        async move { Json(json!({ "keys": keys })) }
    };
    let router = axum::Router::new()
        .route("/.well-known/openid-configuration", get(|| async { Json(about) }))
        .route("/keys", get(published));
    tokio::spawn(async { axum::serve(listener, router).await });
    url
}

async fn master(etcd: &Etcd, folder: &TempDir, issuer: &str) -> (Process, String) {
    let flags = [
        "--admin-key-file",
        &admin_key_file(folder, "the-first-admins-key"),
        "--oidc-issuer",
        issuer,
        "--oidc-audience",
        "volcanion",
        "--oidc-role-claim",
        "realm_access.roles",
        "--oidc-role",
        "load-testers=operator,everybody=viewer",
    ];
    let (master, rest) = start_master_in(folder, etcd, &flags).await;
    (master, rest.base)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuers_tokens_have_their_roles_and_a_rotated_key_is_found() {
    let (etcd, folder) = (Etcd::start().await, TempDir::new().unwrap());
    let (one, two, stranger) = (Signer::new("one"), Signer::new("two"), Signer::new("one"));
    let keys = Arc::new(Mutex::new(vec![one.jwk()]));
    // The harness' client brings the TLS provider along.
    let _ = http();
    let issuer = issuer(Arc::clone(&keys)).await;
    let (master, url) = master(&etcd, &folder, &issuer).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = |role: &str, change: Value| {
        let mut claims = json!({ "iss": issuer, "aud": "volcanion", "sub": "7", "email": "a@example.com",
            "exp": now + 600, "realm_access": { "roles": [role] } });
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        claims
    };
    let read = async |token: &str| {
        let asking = http().get(format!("{url}/api/v1/agents")).bearer_auth(token).send();
        asking.await.unwrap().status().as_u16()
    };
    let write = async |token: &str| {
        let plan = json!({ "name": "p", "target_url": "http://127.0.0.1:9/", "users": 1, "duration_sec": 1 });
        let asking = http().post(format!("{url}/api/v1/test-plans")).bearer_auth(token).json(&plan).send();
        asking.await.unwrap().status().as_u16()
    };
    let viewer = one.token(&claims("everybody", json!({})));
    let operator = one.token(&claims("load-testers", json!({})));
    assert_eq!((read(&viewer).await, write(&viewer).await), (200, 403));
    assert_eq!(read(&operator).await, 200);
    await_some("it leads", LIMIT, || async { (write(&operator).await == 201).then_some(()) }).await;

    for (what, token) in [
        ("another audience", one.token(&claims("load-testers", json!({ "aud": "others" })))),
        ("another issuer", one.token(&claims("load-testers", json!({ "iss": "http://127.0.0.1:9" })))),
        ("expired", one.token(&claims("load-testers", json!({ "exp": now - 120 })))),
        ("not yet", one.token(&claims("load-testers", json!({ "nbf": now + 120 })))),
        ("no role here", one.token(&claims("nobody", json!({})))),
        ("signed by a stranger", stranger.token(&claims("load-testers", json!({})))),
    ] {
        assert_eq!((read(&token).await, write(&token).await), (401, 401), "{what}");
    }

    // Its keys change: the new one is found by its name, and the old one is good for nothing any more.
    *keys.lock().unwrap() = vec![two.jwk()];
    let renewed = two.token(&claims("load-testers", json!({})));
    await_some("the new key", LIMIT, || async { (read(&renewed).await == 200).then_some(()) }).await;
    assert_eq!(write(&renewed).await, 201);
    assert_eq!(read(&operator).await, 401, "its key is not the issuer's any more");
    for secret in [&viewer, &operator, &renewed] {
        assert!(!master.lines().iter().any(|line| line.contains(secret.as_str())), "no token is logged");
    }
}
