//! The chunked coding (RFC 9112 7.1), counted and not kept. No I/O.
//!
//! Any cut of the same bytes gives the same result; what is held between two pieces is a few words. Extensions and trailers are
//! skipped within bounds; a line may end in LF alone, as browsers allow.

use volcanion_common::series::ErrorKind;

use crate::send::sample::{Failure, detail};

/// The longest line of a chunk's size with its extensions.
const SIZE_LINE_BYTES_MAX: u32 = 16 * 1024;

/// The longest trailer section.
const TRAILER_BYTES_MAX: u32 = 64 * 1024;

/// Where in a chunked body the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    place: Place,
    /// Of the chunk at hand: as read so far, then what is left of it.
    size: u64,
    /// Bytes of the size line, or of the trailers.
    line_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// No digit of the size yet.
    SizeStart,
    Size,
    Extension,
    /// After the CR of the size line.
    SizeLf,
    Data,
    /// After the data: CR LF, or LF.
    DataEnd,
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    Trailer,
    /// After a CR at the start of a line: the LF that ends the body.
    LastLf,
    Done,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { place: Place::SizeStart, size: 0, line_bytes: 0 }
    }
}

impl Chunks {
    /// Takes the next bytes; gives how many belonged to the body, which is less than all only when [`Chunks::is_done`].
    ///
    /// # Errors
    /// `body: chunk`: the bytes are no chunks, or their lines pass the bounds.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut at = 0;
        while at < bytes.len() && self.place != Place::Done {
            if self.place == Place::Data {
                let taken = self.size.min((bytes.len() - at) as u64);
                self.size -= taken;
                at += taken as usize;
                if self.size == 0 {
                    self.place = Place::DataEnd;
                }
            } else {
                self.byte(bytes[at]).ok_or(Failure::new(ErrorKind::Body, detail::CHUNK))?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// Whether the last chunk and its trailers are read.
    pub fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// One byte outside of a chunk's data; `None`: it cannot stand there.
    fn byte(&mut self, byte: u8) -> Option<()> {
        self.line_bytes += 1;
        self.place = match (self.place, byte) {
            (Place::SizeStart | Place::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16)?;
                self.size = self.size.checked_mul(16)?.checked_add(digit.into())?;
                Place::Size
            }
            (Place::Size, b';' | b' ' | b'\t') => Place::Extension,
            (Place::Size | Place::Extension, b'\r') => Place::SizeLf,
            (Place::Size | Place::Extension | Place::SizeLf, b'\n') => {
                self.line_bytes = 0;
                if self.size == 0 { Place::TrailerStart } else { Place::Data }
            }
            (Place::Extension, _) => Place::Extension,
            (Place::DataEnd, b'\r') => Place::DataLf,
            (Place::DataEnd | Place::DataLf, b'\n') => {
                self.line_bytes = 0;
                Place::SizeStart
            }
            (Place::TrailerStart, b'\r') => Place::LastLf,
            (Place::TrailerStart | Place::LastLf, b'\n') => Place::Done,
            (Place::Trailer, b'\n') => Place::TrailerStart,
            (Place::TrailerStart | Place::Trailer, _) => Place::Trailer,
            _ => return None,
        };
        let bound = match self.place {
            Place::TrailerStart | Place::Trailer | Place::LastLf => TRAILER_BYTES_MAX,
            _ => SIZE_LINE_BYTES_MAX,
        };
        (self.line_bytes <= bound).then_some(())
    }
}
