//! A network namespace of a test's own, with loopback only, and forwarders between its loopback and ours.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::await_some;
use super::process::{Process, run};

/// A namespace; it ends with the process that holds it.
pub struct Namespace {
    holder: Process,
    /// Its end stops the forwarders' threads.
    stops: Vec<oneshot::Sender<()>>,
}

impl Namespace {
    /// Makes one; nothing, and why, where that is not allowed.
    pub async fn make() -> Result<Self, String> {
        let probe = run("unshare", &["--net", "true"]).await;
        if probe.code != 0 {
            return Err(format!("unshare --net: {}", probe.stderr.trim()));
        }
        let holder = Process::start("namespace", "unshare", &["--net", "sleep", "1800"]);
        let namespace = Self { holder, stops: Vec::new() };
        let ours = fs::read_link("/proc/self/ns/net").map_err(|error| error.to_string())?;
        await_some("the namespace is there", Duration::from_secs(10), || async {
            fs::read_link(namespace.path()).ok().filter(|theirs| *theirs != ours)
        })
        .await;
        namespace.command("ip link set lo up").await;
        Ok(namespace)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Program and arguments that run another program in it.
    pub fn inside<'a>(&self, program: &'a str, args: &[&'a str]) -> (&'static str, Vec<String>) {
        let mut words = vec![format!("--net={}", self.path()), program.to_owned()];
        words.extend(args.iter().map(|word| (*word).to_owned()));
        ("nsenter", words)
    }

    /// Runs a shell's command in it.
    pub async fn command(&self, line: &str) {
        let (program, words) = self.inside("sh", &["-c", line]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = run(program, &words).await;
        assert_eq!(done.code, 0, "{line}: {}", done.stderr);
    }

    /// Lets its loopback reach ours at the same port.
    pub async fn let_out(&mut self, port: u16) {
        self.let_out_at(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
    }

    /// Lets what is bound to this address of its reach our loopback at the same port.
    pub async fn let_out_at(&mut self, address: SocketAddr) {
        let listener = self.in_it(move || TcpListener::bind(address)).await;
        let (stop, stopped) = oneshot::channel::<()>();
        self.stops.push(stop);
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
        std::thread::spawn(move || forward(listener, to, stopped));
    }

    /// A port of our loopback that leads to this one of its.
    pub async fn let_in(&mut self, port: u16) -> SocketAddr {
        self.let_in_to(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
    }

    /// A port of our loopback that leads to what it reaches at this address.
    pub async fn let_in_to(&mut self, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        self.stops.push(stop);
        let path = self.path();
        std::thread::spawn(move || {
            enter(&path);
            forward(listener, to, stopped);
        });
        address
    }

    /// So many connections from within it to this port; they end when they are dropped.
    pub async fn occupy(&self, port: u16, count: usize) -> Vec<std::net::TcpStream> {
        let connect = move || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        self.in_it(move || (0..count).map(|_| connect()).collect()).await
    }

    /// Does something on a thread that is in it: a socket belongs to the namespace in which it was made.
    async fn in_it<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> T {
        let path = self.path();
        let (done, result) = oneshot::channel();
        std::thread::spawn(move || {
            enter(&path);
            let _ = done.send(what());
        });
        result.await.unwrap().unwrap()
    }
}

fn enter(path: &str) {
    let namespace = File::open(path).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Brings what comes in to an address as the calling thread reaches it.
fn forward(listener: TcpListener, address: SocketAddr, stopped: oneshot::Receiver<()>) {
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let accept = async {
            loop {
                let Ok((mut from, _)) = listener.accept().await else { return };
                tokio::spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(address).await {
                        let _ = (from.set_nodelay(true), to.set_nodelay(true));
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    });
}
