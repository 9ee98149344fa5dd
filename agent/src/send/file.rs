//! Bodies from files: read in pieces while they are sent, never whole in memory, and without holding the core up.
//!
//! What the page cache has is read on the core: a copy of 64 KiB, some microseconds. What it has not, a thread of the runtime's blocking
//! pool brings in first ([`WARM_BYTES`] at a time), since a disk may take longer than the pacing of the core's other VUs can bear.
//! Nothing is held between two pieces: what a socket did not take is read again.

use std::fs::File;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::task::{JoinHandle, spawn_blocking};
use volcanion_common::series::ErrorKind;

use super::sample::{Failure, detail};
use crate::prepare::message::BodyFile;

/// How much a thread brings into the page cache at once.
const WARM_BYTES: u64 = 1024 * 1024;

/// One sending's way through a file.
#[derive(Debug, Default)]
pub struct FileReading {
    /// Up to where the file was brought into the page cache for us.
    warm_until: u64,
    warming: Option<JoinHandle<io::Result<()>>>,
}

impl FileReading {
    /// Reads from an offset below the body's length; gives how many bytes, at least one.
    ///
    /// # Errors
    /// `body: file changed`: it is shorter than it was when the run was prepared; `body: file unreadable`. Both are the agent's own.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        body: &BodyFile,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, Failure>> {
        let most = usize::try_from(body.length - offset).unwrap_or(usize::MAX).min(buffer.len());
        loop {
            if let Some(warming) = &mut self.warming {
                let warmed = ready!(Pin::new(warming).poll(cx));
                self.warming = None;
                if !matches!(warmed, Ok(Ok(()))) {
                    return Poll::Ready(Err(Failure::new(ErrorKind::Body, detail::FILE_UNREADABLE)));
                }
            }
            let is_warm = offset < self.warm_until;
            let read = if is_warm {
                body.file.read_at(&mut buffer[..most], offset)
            } else {
                read_cached(&body.file, offset, &mut buffer[..most])
            };
            match read {
                Ok(0) => return Poll::Ready(Err(Failure::new(ErrorKind::Body, detail::FILE_CHANGED))),
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if !is_warm && is_not_cached(&error) => self.warm(&body.file, offset, body.length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    return Poll::Ready(Err(Failure::new(ErrorKind::Body, detail::FILE_UNREADABLE)));
                }
            }
        }
    }

    fn warm(&mut self, file: &Arc<File>, offset: u64, length: u64) {
        let end = length.min(offset + WARM_BYTES);
        let file = Arc::clone(file);
        self.warm_until = end;
        self.warming = Some(spawn_blocking(move || {
            let mut piece = vec![0; 64 * 1024];
            let mut at = offset;
            while at < end {
                match file.read_at(&mut piece, at) {
                    // A file that was made shorter shows when it is read for sending.
                    Ok(0) => return Ok(()),
                    Ok(count) => at += count as u64,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }));
    }
}

/// Reads what can be had without waiting for a disk.
fn read_cached(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT)?)
}

/// It would have to wait, or the file system or a sandbox does not know how to say so.
fn is_not_cached(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::INVAL)
    )
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;

    use super::*;

    fn body(bytes: &[u8]) -> (tempfile::NamedTempFile, BodyFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let opened = Arc::new(file.reopen().unwrap());
        (file, BodyFile { file: opened, length: bytes.len() as u64 })
    }

    async fn read_all(reading: &mut FileReading, body: &BodyFile, piece: usize) -> Result<Vec<u8>, Failure> {
        let (mut whole, mut buffer) = (Vec::new(), vec![0; piece]);
        while (whole.len() as u64) < body.length {
            let offset = whole.len() as u64;
            let count = poll_fn(|cx| reading.poll_read(cx, body, offset, &mut buffer)).await?;
            whole.extend_from_slice(&buffer[..count]);
        }
        Ok(whole)
    }

    #[tokio::test]
    async fn a_file_is_read_whole_whether_the_cache_has_it_or_not() {
        let bytes: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
        let (_kept, body) = body(&bytes);
        assert_eq!(read_all(&mut FileReading::default(), &body, 64 * 1024).await.unwrap(), bytes);
        // As on a file system that never reads without waiting.
        let mut reading = FileReading::default();
        let (mut at, mut buffer) = (0, vec![0; 100_000]);
        while at < bytes.len() {
            if at as u64 >= reading.warm_until {
                reading.warm(&body.file, at as u64, body.length);
            }
            let count = poll_fn(|cx| reading.poll_read(cx, &body, at as u64, &mut buffer)).await.unwrap();
            assert_eq!(buffer[..count], bytes[at..at + count]);
            at += count;
        }
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error_and_one_that_grew_is_sent_as_announced() {
        let (mut kept, body) = body(&[7; 1000]);
        kept.write_all(&[8; 1000]).unwrap();
        assert_eq!(read_all(&mut FileReading::default(), &body, 300).await.unwrap(), [7; 1000]);
        kept.as_file().set_len(400).unwrap();
        let failure = read_all(&mut FileReading::default(), &body, 300).await.unwrap_err();
        assert_eq!((failure.kind, failure.detail), (ErrorKind::Body, "file changed"));
    }
}
