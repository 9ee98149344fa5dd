//! A run's events by SSE, taken up again after a cut with the id of the last one heard.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};
use uuid::Uuid;

use super::{Client, update};
use crate::cluster::Update;
use crate::exit::Failure;

/// Cuts in a row after which the master is given up.
const CUTS_MAX: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);
/// An event larger than this is none of a master's.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

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

#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
    id: Option<String>,
}

/// The event stream format of the HTML standard (section 9.2.6), as far as a master of ours writes it.
#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    event: Event,
}

impl Parser {
    /// Takes bytes, gives whole events; false where an event passes its bound.
    fn push(&mut self, bytes: &[u8], ready: &mut VecDeque<Event>) -> bool {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(ready),
                b'\r' => {}
                _ => self.line.push(*byte),
            }
        }
        self.line.len() + self.event.data.len() <= EVENT_BYTES_MAX
    }

    fn end_line(&mut self, ready: &mut VecDeque<Event>) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if !event.data.is_empty() {
                ready.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" => self.event.id = Some(value.to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text =
            b": hello\n\nevent: snapshot\nid: 7\ndata: {\"a\":\ndata: 1}\n\nevent: end\r\ndata: {}\r\n\r\n";
        let whole = |size: usize| {
            let (mut parser, mut ready) = (Parser::default(), VecDeque::new());
            text.chunks(size).for_each(|chunk| assert!(parser.push(chunk, &mut ready)));
            ready
        };
        let expected = VecDeque::from([
            Event { name: "snapshot".into(), data: "{\"a\":\n1}".into(), id: Some("7".into()) },
            Event { name: "end".into(), data: "{}".into(), id: None },
        ]);
        for size in 1..=text.len() {
            assert_eq!(whole(size), expected);
        }
    }
}
