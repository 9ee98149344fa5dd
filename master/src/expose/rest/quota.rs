//! How often a client may ask.
//!
//! A client with a key is that key, wherever it asks from; without keys it is its address (an IPv6 one by its /64). Who shows a key
//! that is not known yet asks the store something, so addresses have a smaller quota of those. Answers say what is left as
//! draft-ietf-httpapi-ratelimit-headers has it: `RateLimit-Policy: "client";q=400;w=2` and `RateLimit: "client";r=399;t=1`.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use volcanion_common::units::Rate;
use volcanion_common::view::ErrorCode;

use super::problem::Refusal;

/// So many seconds' worth may be asked for at once.
const WINDOW_S: u64 = 2;
/// Unknown keys of one address, a second and at once.
const STRANGERS_A_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
const STRANGERS_AT_ONCE: NonZeroU32 = NonZeroU32::new(50).unwrap();
/// Clients that have not asked for a while are forgotten after so many requests.
const FORGET_EVERY: u32 = 4_096;
static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static LEFT: HeaderName = HeaderName::from_static("ratelimit");

type Limiter = RateLimiter<String, DefaultKeyedStateStore<String>, DefaultClock, StateInformationMiddleware>;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Quotas {
    clients: Option<Arc<Clients>>,
    strangers: Arc<Limiter>,
}

struct Clients {
    limiter: Limiter,
    policy: String,
    burst: u32,
    period: Duration,
    asked: AtomicU32,
}

/// What is left to a client after this request.
pub(super) struct Left(Option<(String, String)>);

impl Quotas {
    /// `rate` is what one client may ask for; `None`: whatever it wants.
    pub(super) fn new(rate: Option<Rate>) -> Self {
        let strangers = Quota::per_second(STRANGERS_A_SECOND).allow_burst(STRANGERS_AT_ONCE);
        Self { clients: rate.and_then(Clients::new).map(Arc::new), strangers: Arc::new(limiter(strangers)) }
    }

    /// Counts a key of this address that has to be asked for.
    ///
    /// # Errors
    /// Too many.
    pub(super) fn stranger(&self, from: IpAddr) -> Result<(), Box<Response>> {
        self.strangers.check_key(&place(from)).map(drop).map_err(|late| {
            refusal(
                late.wait_time_from(DefaultClock::default().now()),
                "too many keys that are not known here",
            )
        })
    }

    /// Counts a request.
    ///
    /// # Errors
    /// Too many.
    pub(super) fn client(&self, client: &str) -> Result<Left, Box<Response>> {
        let Some(clients) = &self.clients else { return Ok(Left(None)) };
        if clients.asked.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            clients.limiter.retain_recent();
        }
        match clients.limiter.check_key(&client.to_owned()) {
            Ok(state) => {
                Ok(Left(Some((clients.policy.clone(), clients.left(state.remaining_burst_capacity())))))
            }
            Err(late) => {
                let wait = late.wait_time_from(DefaultClock::default().now());
                let mut response = refusal(wait, "this client asks too often");
                Left(Some((clients.policy.clone(), clients.left(0)))).dress(response.headers_mut());
                Err(response)
            }
        }
    }

    /// The client of a request without keys.
    pub(super) fn client_at(from: IpAddr) -> String {
        place(from)
    }
}

impl Clients {
    /// `None`: a rate of nothing, or one so high that there is no telling.
    fn new(rate: Rate) -> Option<Self> {
        let micro_per_hour = u128::from(rate.micro_per_hour());
        let period_ns = 3_600_000_000_000_u128.checked_mul(1_000_000)?.checked_div(micro_per_hour)?;
        let period = Duration::from_nanos(u64::try_from(period_ns).ok()?);
        let burst =
            (Duration::from_secs(WINDOW_S).as_nanos() / period_ns.max(1)).clamp(1, u128::from(u32::MAX));
        let burst = NonZeroU32::new(burst as u32)?;
        let quota = Quota::with_period(period)?.allow_burst(burst);
        let policy = format!("\"client\";q={burst};w={WINDOW_S}");
        Some(Self { limiter: limiter(quota), policy, burst: burst.get(), period, asked: AtomicU32::new(0) })
    }

    fn left(&self, left: u32) -> String {
        let until_all_s = (self.period * self.burst.saturating_sub(left)).as_secs_f64().ceil();
        format!("\"client\";r={left};t={until_all_s}")
    }
}

fn limiter(quota: Quota) -> Limiter {
    RateLimiter::keyed(quota).with_middleware::<StateInformationMiddleware>()
}

/// An address as it counts: whoever has an IPv6 address usually has its whole /64.
fn place(from: IpAddr) -> String {
    match from.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("{:x}/64", u128::from(ip) >> 64),
    }
}

fn refusal(wait: Duration, why: &str) -> Box<Response> {
    let seconds = wait.as_secs_f64().ceil().max(1.0);
    let mut response =
        Refusal::new(ErrorCode::RateLimited, format!("{why}; ask again in {seconds} s")).into_response();
    if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    Box::new(response)
}

impl Left {
    /// Says it in an answer.
    pub(super) fn dress(&self, headers: &mut HeaderMap) {
        let Some((policy, left)) = &self.0 else { return };
        for (name, value) in [(&POLICY, policy), (&LEFT, left)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name.clone(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_quota_and_is_told_what_is_left() {
        let quotas = Quotas::new(Some("5/s".parse().unwrap()));
        let mut headers = HeaderMap::new();
        quotas.client("a").unwrap().dress(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"client\";q=10;w=2");
        assert_eq!(headers["ratelimit"], "\"client\";r=9;t=1");
        for _ in 0..9 {
            assert!(quotas.client("a").is_ok());
        }
        let refused = quotas.client("a").err().unwrap();
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (429, &HeaderValue::from_static("1"))
        );
        assert!(quotas.client("b").is_ok());
        assert!((0..1_000).all(|_| Quotas::new(None).client("a").is_ok()));
        let slow = Quotas::new(Some("1/m".parse().unwrap()));
        assert!(slow.client("a").is_ok());
        let refused = slow.client("a").err().unwrap();
        let wait: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((50..=60).contains(&wait), "{wait}");
    }

    #[test]
    fn unknown_keys_of_an_address_are_counted_apart() {
        let quotas = Quotas::new(None);
        let from = |text: &str| text.parse().unwrap();
        let allowed = (0..100).filter(|_| quotas.stranger(from("2001:db8::1")).is_ok()).count();
        assert!((50..60).contains(&allowed), "{allowed}");
        assert!(quotas.stranger(from("2001:db8::2")).is_err(), "the same /64");
        assert!(quotas.stranger(from("2001:db8:0:1::2")).is_ok());
        assert_eq!(place(from("::ffff:10.0.0.1")), "10.0.0.1");
    }
}
