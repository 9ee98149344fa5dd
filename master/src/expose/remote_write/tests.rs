//! Against a receiver of the tests' own: what it is sent, what is tried again, and what is left.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use prost::Message;
use volcanion_common::delta::Delta;

use super::protocol::WriteRequest;
use super::*;
use crate::run::rows::row;
use crate::run::tests::any_plan;
use crate::store::{self, StoreUrl};

/// What a receiver answers, then 204 for ever; and what it was sent.
#[derive(Default)]
struct Receiver {
    answers: Mutex<VecDeque<u16>>,
    got: Mutex<Vec<(HeaderMap, WriteRequest)>>,
}

async fn take(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let bytes = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    receiver.got.lock().unwrap().push((headers, WriteRequest::decode(&*bytes).unwrap()));
    StatusCode::from_u16(receiver.answers.lock().unwrap().pop_front().unwrap_or(204)).unwrap()
}

impl Receiver {
    /// Writes these rows to one that answers so first; gives what it was sent.
    async fn written(answers: &[u16], rows: u64, bearer_file: Option<PathBuf>) -> (Arc<Self>, Arc<Outgoing>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let receiver =
            Arc::new(Self { answers: Mutex::new(answers.iter().copied().collect()), ..Self::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v1/write", listener.local_addr().unwrap());
        let router = Router::new().route("/api/v1/write", post(take)).with_state(Arc::clone(&receiver));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let (outgoing, plan) = (Arc::new(Outgoing::default()), Arc::new(any_plan()));
        let run = RunId::new();
        for second in 1..=rows {
            let at = RunTime(second * 1_000_000);
            let delta = Delta { from: RunTime(at.0 - 1_000_000), to: at, ..Delta::default() };
            outgoing.push(Item::Row(row(run, &plan, 0, &delta, &delta, at)));
        }
        let store = store::open(&StoreUrl::Memory).await.unwrap();
        let settings = RemoteWriteSettings { url: url.parse().unwrap(), bearer_file };
        let stop = CancellationToken::new();
        let writing = tokio::spawn(keep_writing(settings, Arc::clone(&outgoing), store, stop.clone()));
        let ended = || {
            ["sent", "refused"].iter().filter_map(|outcome| outgoing.samples().of_name(outcome)).sum::<u64>()
        };
        let wanted = rows * 8;
        tokio::time::timeout(Duration::from_secs(20), async {
            while ended() < wanted {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("every row comes to an end");
        stop.cancel();
        writing.await.unwrap();
        serving.abort();
        (receiver, outgoing)
    }
}

fn label<'a>(series: &'a super::protocol::TimeSeries, name: &str) -> Option<&'a str> {
    series.labels.iter().find(|label| label.name == name).map(|label| &*label.value)
}

#[tokio::test]
async fn a_row_is_one_request_as_the_protocol_says() {
    let (receiver, outgoing) = Receiver::written(&[], 2, None).await;
    let got = receiver.got.lock().unwrap();
    let (headers, request) = &got[0];
    assert_eq!(got.len(), 2);
    for (name, value) in protocol::HEADERS {
        assert_eq!(headers[name], value);
    }
    assert!(headers["user-agent"].to_str().unwrap().starts_with("volcanion/"));
    assert!(!headers.contains_key("authorization"));
    for series in &request.timeseries {
        let names: Vec<&str> = series.labels.iter().map(|label| &*label.name).collect();
        assert!(names.is_sorted() && names[0] == "__name__", "{names:?}");
        assert_eq!((series.samples.len(), series.samples[0].timestamp), (1, 1_000));
        assert_eq!(label(series, "plan"), Some("any"));
    }
    let requests =
        request.timeseries.iter().find(|s| label(s, "__name__") == Some("volcanion_interval_requests"));
    assert!(
        requests.is_some_and(|series| label(series, "step").is_some() && label(series, "scenario").is_some())
    );
    assert_eq!(outgoing.samples().of_name("sent"), Some(16));
}

#[tokio::test]
async fn what_is_not_taken_now_is_tried_again_and_what_is_refused_is_left() {
    let (receiver, outgoing) = Receiver::written(&[503, 429, 204, 400], 3, None).await;
    let got = receiver.got.lock().unwrap();
    let instants: Vec<i64> =
        got.iter().map(|(_, request)| request.timeseries[0].samples[0].timestamp).collect();
    assert_eq!(instants, [1_000, 1_000, 1_000, 2_000, 3_000]);
    assert_eq!(
        (outgoing.samples().of_name("sent"), outgoing.samples().of_name("refused")),
        (Some(16), Some(8))
    );
    assert_eq!(outgoing.retries(), 2);
}

#[tokio::test]
async fn the_token_of_the_file_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token\n").unwrap();
    let (receiver, _) = Receiver::written(&[], 1, Some(file)).await;
    assert_eq!(receiver.got.lock().unwrap()[0].0["authorization"], "Bearer a-token");
}

#[test]
fn a_url_never_shows_its_password() {
    let url: RemoteWriteUrl = "https://user:secret@example.com/api/v1/write?token=secret".parse().unwrap();
    assert_eq!(
        format!("{url} {url:?}"),
        "https://example.com:443/api/v1/write https://example.com:443/api/v1/write"
    );
    for wrong in ["", "example.com", "ftp://example.com/", "http://"] {
        assert_eq!(wrong.parse::<RemoteWriteUrl>(), Err(RemoteWriteUrlError), "{wrong}");
    }
}
