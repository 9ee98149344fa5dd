//! Tokens of an external issuer (OpenID Connect): JWTs that it signed for us, its claims mapped to roles.
//!
//! Signatures are by the issuer's published keys (JWKS), which are fetched at the first use, again now and then, and at once when a token names
//! a key that is not known. Only signatures by key pairs are taken, for a shared secret is none here.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;
use volcanion_common::view::Role;

use super::{Caller, Denied};

/// How long fetching may take.
const FETCH_MAX: Duration = Duration::from_secs(5);
/// How long keys are used without looking for others.
const KEYS_FRESH: Duration = Duration::from_secs(600);
/// How soon one looks again because of a key that is not known.
const FETCH_AGAIN: Duration = Duration::from_secs(10);
/// How far clocks may be apart.
const LEEWAY_S: u64 = 30;
/// What a document of the issuer's may be.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// What signs.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Whose tokens are taken, and what they let do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSettings {
    /// As in the claim `iss`; its keys are found by `/.well-known/openid-configuration` below it.
    pub issuer: String,
    /// As in the claim `aud`.
    pub audience: String,
    /// The claim that says what one is: a text or a list of texts; dots lead into objects, as in `realm_access.roles`.
    pub role_claim: String,
    /// What each of its values lets do; the highest counts.
    pub roles: Vec<(String, Role)>,
}

/// See the module.
pub(super) struct Oidc {
    settings: OidcSettings,
    keys: Mutex<Option<(JwkSet, Instant)>>,
    client: std::sync::OnceLock<reqwest::Client>,
    fetching: tokio::sync::Mutex<()>,
}

impl Oidc {
    pub fn new(settings: OidcSettings) -> Self {
        Self {
            settings,
            keys: Mutex::default(),
            client: std::sync::OnceLock::new(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// Whether this looks like a token rather than a key of ours.
    pub fn is_token(shown: &str) -> bool {
        shown.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    pub fn has_keys(&self) -> bool {
        self.held().is_some()
    }

    /// Who shows this token.
    pub async fn caller(&self, token: &str) -> Result<Caller, Denied> {
        let head = decode_header(token).map_err(|_| denied("it is no JWT"))?;
        if !ALGORITHMS.contains(&head.alg) {
            return Err(denied(&format!("{:?} is no signature that is taken", head.alg)));
        }
        let key = self.key(head.kid.as_deref()).await?;
        let mut validation = Validation::new(head.alg);
        validation.leeway = LEEWAY_S;
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims =
            decode::<Value>(token, &key, &validation).map_err(|error| denied(&error.to_string()))?.claims;
        // jsonwebtoken takes one that is no number, or too large a one, as if it were not there (CVE-2026-25537); `exp`, the other time, is required.
        let now_s = Timestamp::now().as_second() as f64;
        let is_early = |from: &Value| from.as_f64().is_none_or(|from_s| from_s > now_s + LEEWAY_S as f64);
        if claims.get("nbf").is_some_and(is_early) {
            return Err(denied("it does not hold yet (`nbf`)"));
        }
        let role = self.role(&claims).ok_or_else(|| {
            denied(&format!("its claim `{}` names nothing that has a role here", self.settings.role_claim))
        })?;
        let text = |name: &str| claims[name].as_str().map(str::to_owned);
        let id = text("sub").unwrap_or_default();
        let name =
            ["preferred_username", "email", "name"].into_iter().find_map(text).unwrap_or_else(|| id.clone());
        Ok(Caller { id: format!("{} {id}", self.settings.issuer), name, role })
    }

    fn role(&self, claims: &Value) -> Option<Role> {
        // A claim's own name may have dots, as URLs do.
        let claim = claims.get(&self.settings.role_claim).or_else(|| {
            self.settings.role_claim.split('.').try_fold(claims, |value, name| value.get(name))
        })?;
        let has = |wanted: &str| match claim {
            Value::String(text) => text == wanted,
            Value::Array(list) => list.iter().any(|value| value == wanted),
            _ => false,
        };
        self.settings.roles.iter().filter(|(value, _)| has(value)).map(|(_, role)| *role).max()
    }

    async fn key(&self, kid: Option<&str>) -> Result<DecodingKey, Denied> {
        let known = |oidc: &Self| {
            let (keys, fetched) = oidc.held()?;
            let found = match kid {
                Some(kid) => keys.find(kid).cloned(),
                // Without a name it must be the only one.
                None => (keys.keys.len() == 1).then(|| keys.keys[0].clone()),
            };
            Some((found, fetched.elapsed()))
        };
        let may_stand = |found: Option<(Option<_>, Duration)>| match found {
            Some((Some(key), age)) if age < KEYS_FRESH => Some(Some(key)),
            Some((None, age)) if age < FETCH_AGAIN => Some(None),
            _ => None,
        };
        let key = match may_stand(known(self)) {
            Some(key) => key,
            None => {
                let _one_at_a_time = self.fetching.lock().await;
                if may_stand(known(self)).is_none() {
                    match self.fetch().await {
                        Ok(keys) => {
                            *self.keys.lock().unwrap_or_else(PoisonError::into_inner) =
                                Some((keys, Instant::now()));
                        }
                        Err(why) => tracing::warn!(
                            issuer = self.settings.issuer,
                            why,
                            "the issuer's keys are not had"
                        ),
                    }
                }
                known(self).and_then(|(key, _)| key)
            }
        };
        let key = key.ok_or_else(|| denied("the issuer's key that it names is not known here"))?;
        DecodingKey::from_jwk(&key).map_err(|error| denied(&error.to_string()))
    }

    fn held(&self) -> Option<(JwkSet, Instant)> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let issuer = self.settings.issuer.trim_end_matches('/');
        let about = self.document(&format!("{issuer}/.well-known/openid-configuration")).await?;
        let about: Value = serde_json::from_slice(&about).map_err(|error| error.to_string())?;
        if about["issuer"].as_str().map(|said| said.trim_end_matches('/')) != Some(issuer) {
            return Err("it says to be another issuer".to_owned());
        }
        let url = about["jwks_uri"].as_str().ok_or("its configuration has no jwks_uri")?;
        serde_json::from_slice(&self.document(url).await?).map_err(|error| format!("{url}: {error}"))
    }

    async fn document(&self, url: &str) -> Result<Vec<u8>, String> {
        let client = self.client.get_or_init(reqwest::Client::new);
        let failed = |error: reqwest::Error| format!("{url}: {error}");
        let mut answer = client
            .get(url)
            .timeout(FETCH_MAX)
            .send()
            .await
            .and_then(|answer| answer.error_for_status())
            .map_err(failed)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > DOCUMENT_BYTES_MAX {
                return Err(format!("{url}: the answer is too large"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

fn denied(why: &str) -> Denied {
    Denied::Token(why.to_owned())
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use axum::routing::get;
    use jiff::Timestamp;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    /// An issuer with a key of its own.
    struct Issuer {
        url: String,
        key: EncodingKey,
    }

    fn base64url(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let bits =
                chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for digit in 0..=chunk.len() {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            }
        }
        text
    }

    async fn issuer() -> Issuer {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref();
        let jwk = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "one",
            "x": base64url(&point[1..33]), "y": base64url(&point[33..65]) }] });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let about = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
        let router = axum::Router::new()
            .route("/.well-known/openid-configuration", get(|| async { Json(about) }))
            .route("/keys", get(|| async { Json(jwk) }));
        tokio::spawn(async { axum::serve(listener, router).await });
        Issuer { url, key: EncodingKey::from_ec_der(key.as_ref()) }
    }

    #[tokio::test]
    async fn a_token_of_the_issuer_has_the_highest_role_that_it_names() {
        let (issuer, other) = (issuer().await, issuer().await);
        let oidc = Oidc::new(OidcSettings {
            issuer: issuer.url.clone(),
            audience: "volcanion".to_owned(),
            role_claim: "realm_access.roles".to_owned(),
            roles: vec![("load".to_owned(), Role::Operator), ("all".to_owned(), Role::Viewer)],
        });
        let now = Timestamp::now().as_second();
        let good = json!({ "iss": issuer.url, "aud": "volcanion", "sub": "7", "email": "a@example.com", "exp": now + 60,
            "realm_access": { "roles": ["all", "load", "more"] } });
        let token = |claims: &Value, key: &EncodingKey, kid: &str| {
            let head = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
            encode(&head, claims, key).unwrap()
        };
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            token(&claims, &issuer.key, "one")
        };
        let caller = oidc.caller(&token(&good, &issuer.key, "one")).await.unwrap();
        assert_eq!((&*caller.name, caller.role), ("a@example.com", Role::Operator));
        assert!(oidc.caller(&with("nbf", json!(now as f64 - 0.5))).await.is_ok());
        let wrong = [
            token(&good, &other.key, "one"),
            token(&good, &issuer.key, "two"),
            with("iss", json!(other.url)),
            with("aud", json!("others")),
            with("exp", json!(now - 120)),
            with("nbf", json!(now + 120)),
            with("nbf", json!(1e300)),
            with("nbf", json!((now - 120).to_string())),
            with("nbf", Value::Null),
            with("realm_access", json!({ "roles": ["more"] })),
            with("realm_access", json!("load")),
            encode(&Header::new(Algorithm::HS256), &good, &EncodingKey::from_secret(b"secret")).unwrap(),
            "a.b.c".to_owned(),
        ];
        for (number, token) in wrong.iter().enumerate() {
            assert!(matches!(oidc.caller(token).await, Err(Denied::Token(_))), "{number}");
        }
    }
}
