//! A target in the test's own process that notes when each request came, and holds answers back as a test wants it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One request.
#[derive(Clone, Debug)]
pub struct Noted {
    pub path: String,
    pub at: Instant,
}

/// What was noted so far, in the order of coming.
pub type Notes = Arc<Mutex<Vec<Noted>>>;

/// Says for a request, by its number from 0, when it may be answered.
type Hold = dyn Fn(usize, Notes) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// A target that listens until it is dropped.
pub struct NotingTarget {
    pub url: String,
    notes: Notes,
    task: JoinHandle<()>,
}

impl NotingTarget {
    /// One that answers at once.
    pub async fn start() -> Self {
        Self::start_with(|_, _| async {}).await
    }

    /// One that answers when the future is done that `hold` gives for the request.
    pub async fn start_with<F>(hold: impl Fn(usize, Notes) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let notes = Notes::default();
        let noted = notes.clone();
        let hold: Arc<Hold> = Arc::new(move |number, notes| Box::pin(hold(number, notes)));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Without it an answer might wait for the acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                tokio::spawn(answer(stream, noted.clone(), hold.clone()));
            }
        });
        Self { url, notes, task }
    }

    /// Everything that came.
    pub fn noted(&self) -> Vec<Noted> {
        self.notes.lock().expect("no holder panics").clone()
    }

    /// The seconds from the first request to each, ascending.
    pub fn seconds(&self) -> Vec<f64> {
        let noted = self.noted();
        noted.iter().map(|one| one.at.duration_since(noted[0].at).as_secs_f64()).collect()
    }

    /// How many requests came to a path.
    pub fn requests_to(&self, path: &str) -> usize {
        self.noted().iter().filter(|one| one.path == path).count()
    }
}

impl Drop for NotingTarget {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Requests without bodies, one after the other.
async fn answer(mut stream: TcpStream, notes: Notes, hold: Arc<Hold>) {
    let (mut buffer, mut held) = ([0; 4096], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        held.extend_from_slice(&buffer[..read]);
        while let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            let at = Instant::now();
            let head: Vec<u8> = held.drain(..end + 4).collect();
            let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
            let number = {
                let mut notes = notes.lock().expect("no holder panics");
                notes.push(Noted { path, at });
                notes.len() - 1
            };
            hold(number, notes.clone()).await;
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    }
}
