//! A load without requests: it cuts a delta every few milliseconds and knows the sum.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use volcanion_agent::session::load::{Adjustment, Control, Fault, Load, LoadEvent, Loader, Names, Running};
use volcanion_common::delta::{Delta, ScenarioDelta};
use volcanion_common::series::{Outcome, Series, SeriesKey};
use volcanion_common::session::Move;
use volcanion_common::shard::Shard;
use volcanion_common::units::{Micros, RunTime};

const INTERVAL: Duration = Duration::from_millis(10);

/// Runs for so many intervals unless it is stopped.
#[derive(Clone, Default)]
pub struct PacedLoad {
    pub intervals: u64,
    /// Bytes that a delta has at least.
    pub weight: usize,
    /// What all loads counted.
    pub counted: Arc<AtomicU64>,
}

impl Loader for PacedLoad {
    fn prepare(&self, shard: &Shard) -> Result<Box<dyn Load>, Fault> {
        if shard.plan["name"] == "too big" {
            return Err(Fault { code: "file_limit".to_owned(), message: "it does not fit".to_owned() });
        }
        Ok(Box::new(self.clone()))
    }
}

impl Load for PacedLoad {
    fn cores(&self) -> u32 {
        3
    }

    fn names(&self) -> Names {
        let steps = vec![("home \"page\"".to_owned(), "GET".to_owned())];
        Names { steps, scenarios: vec!["browse".to_owned()] }
    }

    fn start(self: Box<Self>, at_ns: u64) -> Result<Running, Fault> {
        let (sender, events) = mpsc::channel(4);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(self.go(at_ns, sender, stopped));
        Ok(Running { events, control: Box::new(Stop(stop)) })
    }
}

struct Stop(watch::Sender<bool>);

impl Control for Stop {
    fn stop(&self, _: Micros) {
        self.0.send_replace(true);
    }

    fn adjust(&self, _: Adjustment) {}

    fn move_lanes(&self, _: &Move) {}

    fn allow_until(&self, _: u64) {}
}

impl PacedLoad {
    async fn go(
        self: Box<Self>,
        at_ns: u64,
        events: mpsc::Sender<LoadEvent>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let _ = events.send(LoadEvent::Started { monotonic_ns: at_ns }).await;
        for number in 0..self.intervals {
            let _ = tokio::time::timeout(INTERVAL, stopped.wait_for(|stopped| *stopped)).await;
            let _ = events.send(LoadEvent::Delta(self.delta(number))).await;
            if *stopped.borrow() {
                break;
            }
        }
        let _ = events.send(LoadEvent::Finished).await;
    }

    fn delta(&self, number: u64) -> Delta {
        let requests = number % 7 + 1;
        self.counted.fetch_add(requests, Ordering::Relaxed);
        let mut delta =
            Delta { from: RunTime(number * 10_000), to: RunTime((number + 1) * 10_000), ..Delta::default() };
        let mut series = Series { requests, ..Series::default() };
        (0..requests).for_each(|n| series.response_time.record(Micros(n * 1_000)));
        delta.series.insert(SeriesKey { step: 0, outcome: Outcome::Status(200) }, series);
        delta.scenarios.insert(0, ScenarioDelta { started: requests, vus: 5, ..ScenarioDelta::default() });
        if self.weight > 0 {
            let heavy = (0, volcanion_common::series::ErrorKind::Reset, "x".repeat(self.weight));
            delta.errors.insert(heavy, 1);
        }
        delta
    }
}
