//! Where the CPU time of this process goes: samples of its stacks, as pprof's `profile.proto` in gzip, which `go tool pprof` and its like read.
//!
//! A timer on the process's CPU time (`setitimer(ITIMER_PROF)`) interrupts whichever thread runs, some hundred times a second of it, and its stack is noted; that
//! needs no rights. Naming the functions comes after and costs up to some seconds of one core. One profile is made at a time.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};
use prost::Message;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Samples for each second of CPU time: odd, so that what happens each hundredth of a second is not always or never met.
const FREQUENCY_HZ: i32 = 99;
/// The longest profile, in seconds; the shortest is 1.
pub const SECONDS_MAX: u32 = 30;
/// What is not looked into: the unwinder itself, and code that the kernel put there.
const NOT_INTO: [&str; 2] = ["libgcc", "vdso"];

static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);

/// Why there is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProfile {
    /// Of no such length.
    #[error("seconds: {0} is out of range; give 1 to {SECONDS_MAX}")]
    Length(u32),
    /// One is being made.
    #[error("a profile of this process is being made; ask again when it is done")]
    Busy,
    /// The profiler does not work here.
    #[error("the profiler does not work here: {0}; it needs a folder for temporary files (TMPDIR, /dev/shm)")]
    Broken(String),
}

/// Samples for so many seconds, 1 to [`SECONDS_MAX`]; gives the profile.
///
/// # Errors
/// The length is out of range, another profile is being made, or the profiler does not work.
pub async fn profile(seconds: u32) -> Result<Vec<u8>, NoProfile> {
    if !(1..=SECONDS_MAX).contains(&seconds) {
        return Err(NoProfile::Length(seconds));
    }
    let place = ONE_AT_A_TIME.try_acquire().map_err(|_| NoProfile::Busy)?;
    let duration = Duration::from_secs(seconds.into());
    let (place, guard) = blocking(place, begin).await?;
    tokio::time::sleep(duration).await;
    let (_place, profile) = blocking(place, move || end(&guard, duration)).await?;
    Ok(profile)
}

/// Away from the threads that serve; the place is held until it is done, also where nobody waits for it any more.
async fn blocking<T: Send + 'static>(
    place: SemaphorePermit<'static>,
    work: impl FnOnce() -> Result<T, NoProfile> + Send + 'static,
) -> Result<(SemaphorePermit<'static>, T), NoProfile> {
    let working = tokio::task::spawn_blocking(move || work().map(|done| (place, done)));
    working.await.unwrap_or_else(|error| Err(NoProfile::Broken(error.to_string())))
}

fn begin() -> Result<ProfilerGuard<'static>, NoProfile> {
    // The profiler keeps samples in a file without a name. A container whose root cannot be written has memory to share all the same.
    if tempfile::tempfile().is_err() {
        // Said once is enough.
        let _ = tempfile::env::override_temp_dir(Path::new("/dev/shm"));
    }
    let builder = ProfilerGuardBuilder::default().frequency(FREQUENCY_HZ).blocklist(&NOT_INTO);
    builder.build().map_err(|error| NoProfile::Broken(error.to_string()))
}

fn end(guard: &ProfilerGuard<'static>, duration: Duration) -> Result<Vec<u8>, NoProfile> {
    let report = guard.report().build().map_err(|error| NoProfile::Broken(error.to_string()))?;
    let bytes = proto::Profile::of(&report, duration).encode_to_vec();
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    let written = packed.write_all(&bytes).and_then(|()| packed.finish());
    written.map_err(|error| NoProfile::Broken(error.to_string()))
}

/// Texts, each once; the first is the empty one.
#[derive(Default)]
struct Texts {
    places: HashMap<String, i64>,
    all: Vec<String>,
}

impl Texts {
    fn new() -> Self {
        let mut texts = Self::default();
        texts.place("");
        texts
    }

    fn place(&mut self, text: &str) -> i64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.all.len() as i64;
        self.places.insert(text.to_owned(), place);
        self.all.push(text.to_owned());
        place
    }
}

impl proto::Profile {
    fn of(report: &Report, duration: Duration) -> Self {
        let mut texts = Texts::new();
        let mut profile = Self {
            sample_type: vec![
                proto::ValueType { r#type: texts.place("samples"), unit: texts.place("count") },
                proto::ValueType { r#type: texts.place("cpu"), unit: texts.place("nanoseconds") },
            ],
            period_type: Some(proto::ValueType {
                r#type: texts.place("cpu"),
                unit: texts.place("nanoseconds"),
            }),
            period: 1_000_000_000 / i64::from(FREQUENCY_HZ),
            duration_nanos: duration.as_nanos() as i64,
            time_nanos: jiff::Timestamp::now().as_nanosecond() as i64,
            ..Self::default()
        };
        let mut known = HashMap::<(i64, i64, i64), u64>::new();
        for (stack, count) in &report.data {
            let mut location_id = Vec::new();
            // The innermost first, and of what was inlined the innermost too.
            for symbol in stack.frames.iter().flatten() {
                let (name, file) = (texts.place(&symbol.name()), texts.place(&symbol.filename()));
                let line = i64::from(symbol.lineno());
                let id = *known.entry((name, file, line)).or_insert_with(|| profile.add(name, file, line));
                location_id.push(id);
            }
            let thread =
                proto::Label { key: texts.place("thread"), str: texts.place(&stack.thread_name_or_id()) };
            let count = *count as i64;
            profile.sample.push(proto::Sample {
                location_id,
                value: vec![count, count * profile.period],
                label: vec![thread],
            });
        }
        profile.string_table = texts.all;
        profile
    }

    /// A place in the code, as a location and a function of its own.
    fn add(&mut self, name: i64, filename: i64, line: i64) -> u64 {
        let id = self.function.len() as u64 + 1;
        self.function.push(proto::Function { id, name, system_name: name, filename });
        self.location.push(proto::Location { id, line: vec![proto::Line { function_id: id, line }] });
        id
    }
}

/// What is written of `profile.proto` of github.com/google/pprof: its numbers are the wire's.
pub mod proto {
    #![allow(missing_docs)]

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub sample: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub function: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub string_table: Vec<String>,
        #[prost(int64, tag = "9")]
        pub time_nanos: i64,
        #[prost(int64, tag = "10")]
        pub duration_nanos: i64,
        #[prost(message, optional, tag = "11")]
        pub period_type: Option<ValueType>,
        #[prost(int64, tag = "12")]
        pub period: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct ValueType {
        #[prost(int64, tag = "1")]
        pub r#type: i64,
        #[prost(int64, tag = "2")]
        pub unit: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub value: Vec<i64>,
        #[prost(message, repeated, tag = "3")]
        pub label: Vec<Label>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct Label {
        #[prost(int64, tag = "1")]
        pub key: i64,
        #[prost(int64, tag = "2")]
        pub str: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Location {
        #[prost(uint64, tag = "1")]
        pub id: u64,
        #[prost(message, repeated, tag = "4")]
        pub line: Vec<Line>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct Line {
        #[prost(uint64, tag = "1")]
        pub function_id: u64,
        #[prost(int64, tag = "2")]
        pub line: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct Function {
        #[prost(uint64, tag = "1")]
        pub id: u64,
        #[prost(int64, tag = "2")]
        pub name: i64,
        #[prost(int64, tag = "3")]
        pub system_name: i64,
        #[prost(int64, tag = "4")]
        pub filename: i64,
    }

    impl Profile {
        /// A profile as it is sent.
        ///
        /// # Errors
        /// It is no gzip, or no profile.
        pub fn read(packed: &[u8]) -> std::io::Result<Self> {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut bytes)?;
            prost::Message::decode(&*bytes).map_err(std::io::Error::other)
        }

        /// The names of all functions.
        pub fn function_names(&self) -> Vec<&str> {
            let name =
                |function: &Function| self.string_table.get(function.name as usize).map(String::as_str);
            self.function.iter().filter_map(name).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[inline(never)]
    fn a_function_that_is_busy(stop: &AtomicBool) -> u64 {
        let mut sum = 0u64;
        while !stop.load(Ordering::Relaxed) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        sum
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_profile_names_what_used_the_time_and_only_one_is_made_at_a_time() {
        assert_eq!(profile(0).await, Err(NoProfile::Length(0)));
        assert_eq!(profile(SECONDS_MAX + 1).await, Err(NoProfile::Length(31)));
        let stop = Arc::new(AtomicBool::new(false));
        let busy = std::thread::Builder::new().name("busy-thread".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || a_function_that_is_busy(&stop)
        });
        let first = tokio::spawn(profile(1));
        while ONE_AT_A_TIME.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(profile(1).await, Err(NoProfile::Busy));
        let packed = first.await.unwrap().unwrap();
        stop.store(true, Ordering::Relaxed);
        busy.unwrap().join().unwrap();

        let profile = proto::Profile::read(&packed).unwrap();
        assert!(!profile.sample.is_empty());
        let text = |place: i64| &*profile.string_table[place as usize];
        assert_eq!(
            profile.sample_type.iter().map(|kind| text(kind.r#type)).collect::<Vec<_>>(),
            ["samples", "cpu"]
        );
        assert!(
            profile.function_names().iter().any(|name| name.contains("a_function_that_is_busy")),
            "{:?}",
            profile.function_names()
        );
        assert!(profile.sample.iter().any(|sample| text(sample.label[0].str) == "busy-thread"));
        let ids = 1..=profile.location.len() as u64;
        assert!(profile.sample.iter().flat_map(|sample| &sample.location_id).all(|id| ids.contains(id)));
    }
}
