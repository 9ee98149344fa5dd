//! One answer, from its first byte to its last, however it is cut into pieces. No I/O.
//!
//! Interim answers are skipped. The body is counted, never kept. Bytes are held only while a head is incomplete, and at most
//! [`HEAD_BYTES_MAX`] of them. The verdict depends on the bytes alone, not on where they were cut.

use volcanion_common::series::ErrorKind;

use super::body::Chunks;
use super::head::{self, Framing, HEAD_BYTES_MAX, Head};
use crate::send::kept::Kept;
use crate::send::sample::{Failure, detail};

/// The most interim answers before the real one.
const INTERIM_MAX: u8 = 32;

/// How often a head that comes in pieces is read again at a new line.
const READS_MAX: u32 = 256;

/// How much of a held head's memory is kept for the next one.
const HELD_BYTES_KEPT: usize = 4 * 1024;

/// Reads one answer.
#[derive(Debug)]
pub struct Response {
    is_head_request: bool,
    state: State,
    /// The start of a head that came in pieces.
    held: Vec<u8>,
    /// How much of it was there when it was last read.
    read_at: usize,
    /// How often it was read.
    reads: u32,
    /// Line breaks before it, which some servers send after a body.
    blanks: usize,
    interim: u8,
    status: u16,
    keeps_alive: bool,
}

#[derive(Debug)]
enum State {
    Head,
    /// So many bytes are to come.
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    Done,
}

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to come.
    More,
    /// It is whole.
    Whole,
}

impl Response {
    /// For the answer to a request; that to HEAD has no body.
    pub fn new(is_head_request: bool) -> Self {
        Self {
            is_head_request,
            state: State::Head,
            held: Vec::new(),
            read_at: 0,
            reads: 0,
            blanks: 0,
            interim: 0,
            status: 0,
            keeps_alive: false,
        }
    }

    /// Of the answer; 0 until its head is read.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the connection may carry another request; only meaningful once whole.
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Whether only the end of the connection ends this answer.
    pub fn is_until_close(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    /// Bytes of an incomplete head that it holds: at most [`HEAD_BYTES_MAX`].
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// How often the head at hand was read anew.
    #[cfg(test)]
    pub fn reads(&self) -> u32 {
        self.reads
    }

    /// Takes the next bytes; what is wanted of the answer's head is put into `kept`. Bytes after the answer's end leave it whole, but cost the
    /// connection.
    ///
    /// # Errors
    /// `protocol` or `body`: what came is no answer. Nothing more may be fed then.
    pub fn feed(&mut self, mut bytes: &[u8], kept: &mut Kept) -> Result<Progress, Failure> {
        while matches!(self.state, State::Head) && !bytes.is_empty() {
            match self.take_head(bytes, kept)? {
                Some(rest) => bytes = rest,
                None => return Ok(Progress::More),
            }
        }
        self.take_body(bytes)
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// The answer had not.
    pub fn end(&mut self) -> Result<(), Failure> {
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            State::Length(_) | State::Chunked(_) => Err(Failure::new(ErrorKind::Body, detail::TRUNCATED)),
            State::Head => {
                // What was held back from the parser may be wrong rather than short.
                head::read(&self.held, self.is_head_request, &mut Kept::default())?;
                Err(Failure::new(ErrorKind::Reset, detail::IN_THE_ANSWER))
            }
        }
    }

    /// Reads a head; gives the bytes after it, or nothing where it goes on.
    fn take_head<'a>(&mut self, mut bytes: &'a [u8], kept: &mut Kept) -> Result<Option<&'a [u8]>, Failure> {
        let before = self.held.len();
        if before == 0 {
            let blanks = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.blanks += blanks;
            bytes = &bytes[blanks..];
            if self.blanks > HEAD_BYTES_MAX {
                return Err(Failure::new(ErrorKind::Protocol, detail::TOO_LARGE));
            }
        }
        let taken = bytes.len().min(HEAD_BYTES_MAX - before);
        let head = if before == 0 {
            head::read(&bytes[..taken], self.is_head_request, kept)?
        } else {
            self.held.extend_from_slice(&bytes[..taken]);
            if self.is_worth_reading(before) || taken < bytes.len() {
                (self.read_at, self.reads) = (self.held.len(), self.reads + 1);
                head::read(&self.held, self.is_head_request, kept)?
            } else {
                None
            }
        };
        match head {
            Some(head) => {
                self.enter(&head)?;
                self.let_go();
                Ok(Some(&bytes[head.length - before..]))
            }
            None if taken < bytes.len() => Err(Failure::new(ErrorKind::Protocol, detail::TOO_LARGE)),
            None => {
                if before == 0 {
                    self.held.extend_from_slice(bytes);
                    self.read_at = bytes.len();
                }
                Ok(None)
            }
        }
    }

    /// Whether to read the held bytes again: reading anew at every byte would cost the square of a head's length. A new line, so that
    /// what is wrong is found at once, but not for ever so; then an empty line, or a doubled length.
    fn is_worth_reading(&self, before: usize) -> bool {
        let tail = &self.held[before.saturating_sub(2)..];
        let has_line = || self.held[before..].contains(&b'\n');
        let has_end =
            || tail.windows(2).any(|two| two == b"\n\n") || tail.windows(3).any(|three| three == b"\n\r\n");
        self.held.len() >= 2 * self.read_at || has_line() && (self.reads < READS_MAX || has_end())
    }

    fn let_go(&mut self) {
        (self.read_at, self.reads, self.blanks) = (0, 0, 0);
        if self.held.capacity() > HELD_BYTES_KEPT {
            self.held = Vec::new();
        } else {
            self.held.clear();
        }
    }

    fn enter(&mut self, head: &Head) -> Result<(), Failure> {
        if head.is_interim() {
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Err(Failure::new(ErrorKind::Protocol, detail::TOO_LARGE));
            }
            return Ok(());
        }
        self.status = head.status;
        self.keeps_alive = head.keeps_alive;
        self.state = match head.framing {
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunks::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Ok(())
    }

    fn take_body(&mut self, bytes: &[u8]) -> Result<Progress, Failure> {
        let taken = match &mut self.state {
            State::Head => return Ok(Progress::More),
            State::UntilClose => return Ok(Progress::More),
            State::Done => 0,
            State::Length(left) => {
                let taken = (*left).min(bytes.len() as u64);
                *left -= taken;
                if *left > 0 {
                    return Ok(Progress::More);
                }
                taken as usize
            }
            State::Chunked(chunks) => {
                let taken = chunks.feed(bytes)?;
                if !chunks.is_done() {
                    return Ok(Progress::More);
                }
                taken
            }
        };
        // What comes after an answer that nobody asked for belongs to no request: the connection is spent.
        self.keeps_alive &= taken == bytes.len();
        self.state = State::Done;
        Ok(Progress::Whole)
    }
}
