//! Follows the frames of one direction of a connection as their bytes go by (RFC 9113 4.1). No I/O.
//!
//! Takes bytes, however they are cut, and tells which stream they belong to. It keeps nothing but a frame's head while that is incomplete, and
//! judges nothing: what is wrong with a frame, the protocol's own implementation says.

/// Of a frame: length, type, flags, stream.
const HEAD_BYTES: usize = 9;

/// What a client sends before its first frame.
pub const PREFACE_BYTES: u32 = 24;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;

/// Where in the frames the next byte stands.
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Of the payload at hand.
    left: u32,
    current: Piece,
}

/// Bytes that belong to one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// 0: the connection itself.
    pub stream: u32,
    /// How many; a frame's head counts once it is whole.
    pub bytes: u64,
    /// Whether they are part of a message, and not of what steers a stream.
    pub is_message: bool,
    /// Whether the frame is the last of its stream's message (where it is a head, with its continuations).
    pub ends_stream: bool,
}

impl Frames {
    /// After so many bytes that are no frames.
    pub fn after(bytes: u32) -> Self {
        Self { left: bytes, ..Self::default() }
    }

    /// Takes the next bytes.
    #[inline]
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Piece)) {
        while !bytes.is_empty() {
            let mut counted = 0;
            if self.left == 0 {
                let taken = bytes.len().min(HEAD_BYTES - self.head_bytes);
                self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&bytes[..taken]);
                self.head_bytes += taken;
                bytes = &bytes[taken..];
                if self.head_bytes < HEAD_BYTES {
                    return;
                }
                self.enter();
                counted = HEAD_BYTES as u64;
            }
            let taken = bytes.len().min(self.left as usize);
            self.left -= taken as u32;
            bytes = &bytes[taken..];
            counted += taken as u64;
            if self.current.stream > 0 {
                each(Piece { bytes: counted, ..self.current });
            }
        }
    }

    fn enter(&mut self) {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.head_bytes = 0;
        self.left = u32::from_be_bytes([0, a, b, c]);
        self.current = Piece {
            // The highest bit is reserved.
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
            bytes: 0,
            is_message: matches!(kind, DATA | HEADERS | CONTINUATION),
            ends_stream: matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn frame(length: usize, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend((stream | 0x8000_0000).to_be_bytes());
        bytes.resize(bytes.len() + length, 0xff);
        bytes
    }

    fn sums(pieces: &[&[u8]], mut frames: Frames) -> BTreeMap<u32, (u64, bool)> {
        let mut sums = BTreeMap::new();
        for bytes in pieces {
            frames.feed(bytes, |piece| {
                let (bytes, has_ended) = sums.entry(piece.stream).or_insert((0, false));
                *bytes += piece.bytes;
                *has_ended |= piece.ends_stream;
            });
        }
        sums
    }

    #[test]
    fn each_byte_belongs_to_its_frames_stream_and_the_connections_own_to_none() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        assert_eq!(bytes.len() as u32, PREFACE_BYTES);
        for (length, kind, flags, stream) in
            [(18, 4, 0, 0), (30, 1, 4, 1), (0, 0, 1, 1), (4, 8, 0, 3), (70_000, 0, 0, 3)]
        {
            bytes.extend(frame(length, kind, flags, stream));
        }
        let expected = BTreeMap::from([(1, (48, true)), (3, (13 + 70_009, false))]);
        assert_eq!(sums(&[&bytes], Frames::after(PREFACE_BYTES)), expected);
    }

    proptest! {
        #[test]
        fn the_sums_do_not_depend_on_where_the_bytes_are_cut(
            list in proptest::collection::vec((0..400_usize, 0..12_u8, any::<u8>(), 0..6_u32), 0..12),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let bytes: Vec<u8> =
                list.iter().flat_map(|(length, kind, flags, stream)| frame(*length, *kind, *flags, *stream)).collect();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|two| &bytes[two[0]..two[1]]).collect();
            prop_assert_eq!(sums(&pieces, Frames::default()), sums(&[&bytes], Frames::default()));
            let total: u64 = list.iter().filter(|(.., stream)| *stream > 0).map(|(length, ..)| *length as u64 + 9).sum();
            prop_assert_eq!(sums(&pieces, Frames::default()).values().map(|(bytes, _)| bytes).sum::<u64>(), total);
        }

        #[test]
        fn any_bytes_are_followed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut counted = 0;
            Frames::default().feed(&bytes, |piece| counted += piece.bytes);
            prop_assert!(counted <= bytes.len() as u64);
        }
    }
}
