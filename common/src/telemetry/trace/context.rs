//! Where a piece of work stands in a trace, and how that is said to others: W3C Trace Context's `traceparent`.
//!
//! Source: W3C Recommendation "Trace Context", version 00. `tracestate` is not carried on.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::RunId;

/// The header by which a context travels, over HTTP and gRPC alike.
pub const TRACEPARENT: &str = "traceparent";
/// How long its value is in version 00.
pub const TRACEPARENT_BYTES: usize = 55;

/// A trace: all that follows from one request. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// One span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span that work from here on is part of.
    pub span: SpanId,
    /// Whether anybody keeps the trace's spans.
    pub is_sampled: bool,
}

/// Why a text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent; one is 00-<32 hexadecimal digits>-<16>-<2>")]
pub struct NoContext;

impl TraceId {
    /// A new one.
    pub fn random() -> Self {
        Self(u128::from_be_bytes(random()).max(1))
    }

    /// The trace of a run that no traced request began.
    pub fn of_run(run: RunId) -> Self {
        Self(run.0.as_u128().max(1))
    }

    /// As OTLP has it.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl SpanId {
    /// A new one.
    pub fn random() -> Self {
        Self::of(u64::from_be_bytes(random()))
    }

    /// Of a number that was drawn elsewhere; of zero, which is none, as of one.
    pub const fn of(number: u64) -> Self {
        match NonZeroU64::new(number) {
            Some(number) => Self(number),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// As OTLP has it.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl TraceContext {
    /// The place of a run that no traced request began: in a trace that its id tells.
    pub fn of_run(run: RunId) -> Self {
        Self { trace: TraceId::of_run(run), span: SpanId::random(), is_sampled: true }
    }

    /// Another span of the same trace.
    pub fn at(self, span: SpanId) -> Self {
        Self { span, ..self }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace.0, self.span.0, u8::from(self.is_sampled))
    }
}

impl FromStr for TraceContext {
    type Err = NoContext;

    /// Reads version 00, and of later versions what they have in common with it.
    fn from_str(text: &str) -> Result<Self, NoContext> {
        let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = text.splitn(5, '-');
        let mut part =
            |length: usize| parts.next().filter(|part| part.len() == length && is_hex(part)).ok_or(NoContext);
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        if version == "ff" || version == "00" && parts.next().is_some() {
            return Err(NoContext);
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0).ok_or(NoContext)?;
        let span = u64::from_str_radix(span, 16).ok().and_then(NonZeroU64::new).ok_or(NoContext)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NoContext)?;
        Ok(Self { trace: TraceId(trace), span: SpanId(span), is_sampled: flags & 1 == 1 })
    }
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Where the system has no random bytes, ids are all alike: traces are muddled then, and nothing else is.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_reads_back_as_it_is_written() {
        let context: TraceContext = TEXT.parse().unwrap();
        assert!(context.is_sampled);
        assert_eq!((context.to_string().as_str(), TEXT.len()), (TEXT, TRACEPARENT_BYTES));
        let not_kept = TEXT.replace("-01", "-00");
        assert_eq!(not_kept.parse::<TraceContext>().unwrap(), TraceContext { is_sampled: false, ..context });
        let later = format!("cc{}-what-ever", &TEXT[2..]);
        assert_eq!(later.parse::<TraceContext>(), Ok(context));
        let run = RunId::new();
        let of_run = TraceContext::of_run(run);
        assert_eq!(of_run.to_string().parse(), Ok(of_run));
        assert!(of_run.to_string().contains(&run.0.simple().to_string()));
    }

    #[test]
    fn what_is_no_context_is_refused() {
        for wrong in [
            "",
            "00",
            &TEXT[..54],
            &format!("{TEXT}-x"),
            &format!("{TEXT}0"),
            &TEXT.to_uppercase(),
            &TEXT.replace("00-", "ff-"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-+7ad6b7169203331-01",
        ] {
            assert_eq!(wrong.parse::<TraceContext>(), Err(NoContext), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_the_reader(text in "\\PC{0,80}") {
            let _ = text.parse::<TraceContext>();
        }
    }
}
