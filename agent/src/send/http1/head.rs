//! The head of an answer: status, how its body is framed, whether the connection lives on. No I/O.
//!
//! Framing follows RFC 9112 6.3. Where `transfer-encoding` and `content-length` come together, chunks win and the connection is not
//! used again; contradictory or impossible lengths are an error, never a guess.

use std::mem::MaybeUninit;

use volcanion_common::series::ErrorKind;

use crate::send::kept::Kept;
use crate::send::sample::{Failure, detail};

/// The longest head that is read.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most header lines of a head.
pub const HEADERS_MAX: usize = 128;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; none where the status or the method allow none.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// What a head says that matters to the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its bytes, the empty line included.
    pub length: usize,
    /// 100 to 999.
    pub status: u16,
    /// Of the body that follows.
    pub framing: Framing,
    /// Whether the server will take another request after this answer.
    pub keeps_alive: bool,
}

impl Head {
    /// An answer that announces the real one. 101 is not one: after it the connection speaks something else.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads a head from the start of the bytes; `None`: it does not end in them. What is wanted of the lines of a final answer is put into `kept`.
///
/// # Errors
/// `protocol`, by what is wrong with it. More bytes cannot mend that.
pub fn read(bytes: &[u8], is_head_request: bool, kept: &mut Kept) -> Result<Option<Head>, Failure> {
    let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let length = match parser().parse_response_with_uninit_headers(&mut response, bytes, &mut lines) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(protocol(detail::TOO_LARGE)),
        Err(httparse::Error::Status) => return Err(protocol(detail::STATUS)),
        Err(_) => return Err(protocol(detail::HEAD)),
    };
    let status = response.code.unwrap_or_default();
    if status < 100 {
        return Err(protocol(detail::STATUS));
    }
    let mut fields = Fields::default();
    for line in response.headers.iter() {
        fields.take(line)?;
    }
    let is_1_1 = response.version == Some(1);
    let has_no_body = is_head_request || status < 200 || status == 204 || status == 304;
    let framing = if has_no_body { Framing::Length(0) } else { fields.framing()? };
    let asked_to_stay = if is_1_1 { !fields.close } else { fields.keep_alive && !fields.close };
    let is_suspect = fields.is_coded && (fields.length.is_some() || !is_1_1);
    let keeps_alive = asked_to_stay && !is_suspect && framing != Framing::UntilClose && status != 101;
    let head = Head { length, status, framing, keeps_alive };
    if kept.wants_any() && !head.is_interim() {
        response.headers.iter().for_each(|line| kept.take(line.name.as_bytes(), line.value));
    }
    Ok(Some(head))
}

/// Takes what servers in the field send and browsers accept: folded lines and blanks before a colon.
fn parser() -> httparse::ParserConfig {
    let mut parser = httparse::ParserConfig::default();
    parser
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true);
    parser
}

const fn protocol(detail: &'static str) -> Failure {
    Failure::new(ErrorKind::Protocol, detail)
}

/// The header fields that decide on framing and reuse.
#[derive(Default)]
struct Fields<'a> {
    length: Option<Length>,
    /// There is a transfer coding other than `identity`.
    is_coded: bool,
    /// The last of them.
    coding: &'a [u8],
    close: bool,
    keep_alive: bool,
}

/// What the lines of `content-length` say together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Wrong,
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: &httparse::Header<'a>) -> Result<(), Failure> {
        // Names are told apart by their length first: most lines are looked at no further.
        match line.name.len() {
            10 if line.name.eq_ignore_ascii_case("connection") => {
                for token in list(line.value) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if line.name.eq_ignore_ascii_case("content-length") => {
                for text in line.value.split(|b| *b == b',') {
                    let length = number(text.trim_ascii()).map_or(Length::Wrong, Length::Bytes);
                    let agrees = self.length.is_none_or(|before| before == length);
                    self.length = Some(if agrees { length } else { Length::Wrong });
                }
            }
            17 if line.name.eq_ignore_ascii_case("transfer-encoding") => {
                for coding in list(line.value).filter(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
                    if self.coding.eq_ignore_ascii_case(b"chunked") {
                        // Chunks within chunks, or under another coding: forbidden, and no end can be found in it.
                        return Err(protocol(detail::FRAMING));
                    }
                    self.is_coded = true;
                    self.coding = coding;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self) -> Result<Framing, Failure> {
        match self.length {
            _ if self.coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            _ if self.is_coded => Ok(Framing::UntilClose),
            Some(Length::Bytes(length)) => Ok(Framing::Length(length)),
            Some(Length::Wrong) => Err(protocol(detail::FRAMING)),
            None => Ok(Framing::UntilClose),
        }
    }
}

/// The elements of a comma-separated list.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Digits only, and within what a file can have.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0_i64;
    for byte in text {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    u64::try_from(value).ok()
}
