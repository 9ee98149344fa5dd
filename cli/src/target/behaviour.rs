//! How the target answers: how late, how often wrongly, how much.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;

use crate::args::TargetArgs;

/// The rules of one target.
pub struct Behaviour {
    delay_us: u64,
    jitter_us: u64,
    error_rate: f64,
    body: Bytes,
    drawn: AtomicU64,
}

/// What becomes of one request.
pub struct Answer {
    pub delay: Duration,
    pub status: StatusCode,
}

impl Behaviour {
    pub fn new(args: &TargetArgs) -> Self {
        let body: Vec<u8> = b"ok".iter().copied().cycle().take(args.body_size as usize).collect();
        Self {
            delay_us: args.delay.0,
            jitter_us: args.jitter.0,
            error_rate: args.error_rate,
            body: body.into(),
            drawn: AtomicU64::new(0),
        }
    }

    /// What becomes of the next request.
    pub fn draw(&self) -> Answer {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let jitter_us = (self.jitter_us as f64 * uniform(number * 2)) as u64;
        let failed = uniform(number * 2 + 1) < self.error_rate;
        Answer {
            delay: Duration::from_micros(self.delay_us + jitter_us),
            status: if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK },
        }
    }

    /// The body of every answer.
    pub fn body(&self) -> Bytes {
        self.body.clone()
    }
}

/// The n-th of a fixed sequence of numbers in [0, 1): splitmix64 (Steele, Lea, Flood 2014), so that a target behaves
/// alike each time it is started.
fn uniform(n: u64) -> f64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_share_fails() {
        let behaviour = Behaviour {
            delay_us: 0,
            jitter_us: 1_000,
            error_rate: 0.1,
            body: Bytes::new(),
            drawn: AtomicU64::new(0),
        };
        let answers: Vec<Answer> = (0..10_000).map(|_| behaviour.draw()).collect();
        let failed = answers.iter().filter(|a| a.status != StatusCode::OK).count();
        assert!((900..1_100).contains(&failed), "{failed} of 10000");
        assert!(answers.iter().all(|a| a.delay < Duration::from_millis(1)));
        assert!(answers.iter().any(|a| a.delay > Duration::from_micros(900)));
    }
}
