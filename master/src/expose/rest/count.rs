//! How many requests came, by route, and how long they took until they were answered: counted whoever answers them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use volcanion_common::telemetry::counted::Durations;
use volcanion_common::telemetry::prometheus::Family;

use super::route::Route;

/// The classes of statuses, by their first digit.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What was answered. Cheap to clone. It has as many entries as there are routes and methods, whatever clients ask for.
#[derive(Clone, Default)]
pub(super) struct Requests(Arc<Mutex<BTreeMap<(String, &'static str), Answered>>>);

#[derive(Default)]
struct Answered {
    by_class: [u64; CLASSES.len()],
    took: Durations,
}

impl Requests {
    fn note(&self, route: &Route, status: StatusCode, began: Instant) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1).min(CLASSES.len() - 1);
        // Counts are whole after each change.
        let mut answered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = answered.entry((route.path().to_owned(), route.method)).or_default();
        answered.by_class[class] += 1;
        answered.took.record(began.elapsed());
    }

    /// As metrics.
    pub(super) fn families(&self) -> [Family; 2] {
        let mut count =
            Family::counter("volcanion_rest_requests_total", "Requests over REST that were answered.");
        let mut seconds = Family::histogram(
            "volcanion_rest_request_seconds",
            "How long answers over REST take to begin; events follow as long as they do.",
        );
        for ((route, method), answered) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let call = [("route", &**route), ("method", *method)];
            for (class, number) in CLASSES.iter().zip(answered.by_class).filter(|(_, number)| *number > 0) {
                count.add(&[call[0], call[1], ("status", class)], number as f64);
            }
            answered.took.show(&mut seconds, &call);
        }
        [count, seconds]
    }
}

/// The layer.
pub(super) async fn layer(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = Route::of(&request);
    let response = next.run(request).await;
    requests.note(&route, response.status(), began);
    response
}
