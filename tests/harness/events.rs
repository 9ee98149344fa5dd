//! A client that follows a run's events through every cut, as a browser would: it comes back with the id of the last event that it heard.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use volcanion_common::view::sse::Parser;

use super::await_some;
use super::rest::http;

/// One event as it was heard.
#[derive(Clone, Debug)]
pub struct Heard {
    pub id: u64,
    pub name: String,
    pub data: Value,
}

/// The client; it ends with the run's `end`, or when it is dropped.
pub struct Follower {
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Follows a run at masters that it asks in turn.
    pub fn of(bases: &[&str], run: &str) -> Self {
        let urls: Vec<String> =
            bases.iter().map(|base| format!("{base}/api/v1/test-runs/{run}/events")).collect();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(follow(urls, Arc::clone(&heard)));
        Self { heard, task }
    }

    /// Everything so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("no holder panics").clone()
    }

    /// Awaits `end`, and gives everything.
    pub async fn ended(&self, limit: Duration) -> Vec<Heard> {
        await_some("the event `end`", limit, || async {
            let heard = self.heard();
            heard.last().is_some_and(|event| event.name == "end").then_some(heard)
        })
        .await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(urls: Vec<String>, heard: Arc<Mutex<Vec<Heard>>>) {
    for url in urls.iter().cycle() {
        let last = heard.lock().expect("no holder panics").last().map(|event: &Heard| event.id);
        let mut request = http().get(url);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        if let Ok(mut response) = request.send().await
            && response.status() == 200
        {
            let (mut parser, mut ready) = (Parser::default(), VecDeque::new());
            while let Ok(Some(bytes)) = response.chunk().await {
                assert!(parser.push(&bytes, &mut ready), "an event keeps its bound");
                for event in ready.drain(..) {
                    let id = event.id.and_then(|id| id.parse().ok()).expect("every event has an id");
                    let data = serde_json::from_str(&event.data).expect("an event's data is JSON");
                    let is_end = event.name == "end";
                    heard.lock().expect("no holder panics").push(Heard { id, name: event.name, data });
                    if is_end {
                        return;
                    }
                }
            }
        }
        // Cut off, or nobody leads: once more in a moment.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
