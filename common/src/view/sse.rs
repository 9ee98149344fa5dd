//! Server-sent events as a master writes them, read back: by the command line, and by a master that passes another's on.

use std::collections::VecDeque;

/// An event larger than this is none of a master's.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty where it has none.
    pub name: String,
    /// What it is about, never empty.
    pub data: String,
    /// Its id, where it has one.
    pub id: Option<String>,
}

/// The event stream format of the HTML standard (section 9.2.6), as far as a master of ours writes it.
#[derive(Default)]
pub struct Parser {
    line: Vec<u8>,
    event: Event,
}

impl Parser {
    /// Takes bytes, gives whole events; false where an event passes its bound.
    pub fn push(&mut self, bytes: &[u8], ready: &mut VecDeque<Event>) -> bool {
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
