//! A run's events by SSE, taken up again after a cut with the id of the last one heard.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};
use uuid::Uuid;
use volcanion_common::view::sse::{Event, Parser};

use super::{Client, update};
use crate::cluster::Update;
use crate::exit::Failure;

/// Cuts in a row after which the master is given up.
const CUTS_MAX: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

struct Follower {
    client: Client,
    run: Uuid,
    response: Option<reqwest::Response>,
    parser: Parser,
    ready: VecDeque<Event>,
    last_id: Option<String>,
    cuts: u32,
    ended: bool,
}

/// The events of a run. The first connection must succeed; later cuts are bridged.
pub(super) async fn follow(
    client: Client,
    run: Uuid,
) -> Result<impl Stream<Item = Result<Update, Failure>> + Send, Failure> {
    let mut follower = Follower {
        client,
        run,
        response: None,
        parser: Parser::default(),
        ready: VecDeque::new(),
        last_id: None,
        cuts: 0,
        ended: false,
    };
    follower.connect().await?;
    Ok(stream::unfold(follower, |mut follower| async move {
        let next = follower.next().await?;
        Some((next, follower))
    })
    .boxed())
}

impl Follower {
    async fn connect(&mut self) -> Result<(), Failure> {
        let path = format!("test-runs/{}/events", self.run);
        let mut request = self
            .client
            .request(Method::GET, &path)
            .header(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = &self.last_id {
            request = request.header("last-event-id", id);
        }
        self.response = Some(self.client.send(request).await?);
        self.parser = Parser::default();
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<Update, Failure>> {
        loop {
            if self.ended {
                return None;
            }
            while let Some(event) = self.ready.pop_front() {
                self.last_id = event.id.or(self.last_id.take());
                match update(&event.name, &event.data) {
                    Ok(Some(update)) => {
                        self.ended = matches!(update, Update::End(_));
                        self.cuts = 0;
                        return Some(Ok(update));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        self.ended = true;
                        return Some(Err(Failure::could_not_run(format!(
                            "the master sent an event that this version cannot read: {error}"
                        ))));
                    }
                }
            }
            let chunk = match &mut self.response {
                Some(response) => response.chunk().await.ok().flatten(),
                None => None,
            };
            match chunk {
                Some(bytes) if self.parser.push(&bytes, &mut self.ready) => {}
                _ => {
                    self.response = None;
                    self.cuts += 1;
                    if self.cuts > CUTS_MAX {
                        self.ended = true;
                        return Some(Err(Failure::could_not_run(
                            "the master does not answer any more; the run may still go on",
                        )));
                    }
                    tokio::time::sleep(PAUSE).await;
                    // A master that restarts refuses connections for a while: that is what the cuts are counted for.
                    let _ = self.connect().await;
                }
            }
        }
    }
}
