//! Wires and streams, as far as gRPC over TCP lets them misbehave: a stream's words come in order, or late, or with its end not at all; its two ends may learn of
//! that end at very different times; a new stream may overtake what an old one still brings.

use volcanion_agent::session::machine::StreamId;
use volcanion_common::ids::{AgentId, RunId};
use volcanion_common::session::{Hello, Order, Report};
use volcanion_master::run::machine::Event;
use volcanion_master::session::HELLO_EXPIRES_MS;

use crate::world::{Item, MS, SECOND, World, tell};

/// How long a master waits for a Welcome.
const OPEN_TIMEOUT: u64 = 5 * SECOND;

/// A stream, with the nodes at its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamKey {
    pub place: usize,
    pub master: usize,
    pub agent: usize,
}

/// All wires and streams.
pub struct Network {
    /// By master and agent.
    wires: Vec<Vec<Wire>>,
    pub streams: Vec<Stream>,
}

/// Between a master and an agent.
#[derive(Clone, Copy, Default)]
struct Wire {
    /// Until then it brings nothing; what is said meanwhile comes after.
    black_until_ns: u64,
    /// Until then it may take up to so long.
    slow_until_ns: u64,
    slow_ms: u64,
}

/// One stream.
pub struct Stream {
    pub key: StreamKey,
    pub run: RunId,
    pub name: AgentId,
    /// The master's number for it, and which life of the master it belongs to.
    pub number: u64,
    pub master_life: u32,
    /// The agent's number for it, once it came there, and the agent's life then.
    pub id: Option<StreamId>,
    pub agent_life: Option<u32>,
    pub is_master_open: bool,
    pub is_agent_open: bool,
    /// The Welcome has come.
    pub is_up: bool,
    /// Nothing that is said from now on comes.
    is_cut: bool,
    down_last_ns: u64,
    up_last_ns: u64,
}

impl Network {
    pub fn new(masters: usize, agents: usize) -> Self {
        Self { wires: vec![vec![Wire::default(); agents]; masters], streams: Vec::new() }
    }

    pub fn is_black(&self, master: usize, agent: usize, now_ns: u64) -> bool {
        self.wires[master][agent].black_until_ns > now_ns
    }

    pub fn heal(&mut self) {
        self.wires.iter_mut().flatten().for_each(|wire| *wire = Wire::default());
    }

    /// Streams of which somebody still holds an end.
    pub fn open_streams(&self) -> impl Iterator<Item = usize> {
        let open = |stream: &Stream| !stream.is_cut && (stream.is_master_open || stream.is_agent_open);
        self.streams.iter().enumerate().filter(move |(_, stream)| open(stream)).map(|(place, _)| place)
    }
}

impl World {
    /// How long a word takes on a wire, once that brings something.
    pub fn delay(&mut self, master: usize, agent: usize) -> u64 {
        let wire = self.network.wires[master][agent];
        let now_ns = self.now_ns();
        let base = self.chance.between(50_000, 2 * MS);
        let slow = if wire.slow_until_ns > now_ns { self.chance.below(wire.slow_ms * MS) } else { 0 };
        wire.black_until_ns.saturating_sub(now_ns) + base + slow
    }

    /// A master opens a stream.
    pub fn open_stream(&mut self, master: usize, agent: usize, number: u64, hello: Hello) -> StreamKey {
        let key = StreamKey { place: self.network.streams.len(), master, agent };
        self.network.streams.push(Stream {
            key,
            run: hello.run,
            name: hello.agent.clone(),
            number,
            master_life: self.masters[master].life,
            id: None,
            agent_life: None,
            is_master_open: true,
            is_agent_open: false,
            is_up: false,
            is_cut: false,
            down_last_ns: 0,
            up_last_ns: 0,
        });
        self.agenda.after(OPEN_TIMEOUT, Item::OpenTimeout { stream: key });
        let node = &self.masters[master];
        let expires_unix_ms = node.now(self.now_ns()).unix_ms + HELLO_EXPIRES_MS;
        let sealed = hello.sealed(&self.key, expires_unix_ms).expect("a Hello can be written");
        self.say_down(key, Order::Hello(sealed));
        key
    }

    pub fn say_down(&mut self, key: StreamKey, order: Order) {
        let at_ns = self.down_at(key);
        if !self.network.streams[key.place].is_cut {
            let said_ns = self.now_ns();
            self.agenda.at(at_ns, Item::Down { stream: key, order, said_ns });
        }
    }

    pub fn say_up(&mut self, key: StreamKey, report: Report) {
        let at_ns = self.up_at(key);
        if !self.network.streams[key.place].is_cut {
            self.agenda.at(at_ns, Item::Up { stream: key, report });
        }
    }

    fn down_at(&mut self, key: StreamKey) -> u64 {
        let at_ns = self.now_ns() + self.delay(key.master, key.agent);
        let stream = &mut self.network.streams[key.place];
        stream.down_last_ns = stream.down_last_ns.max(at_ns);
        stream.down_last_ns
    }

    fn up_at(&mut self, key: StreamKey) -> u64 {
        let at_ns = self.now_ns() + self.delay(key.master, key.agent);
        let stream = &mut self.network.streams[key.place];
        stream.up_last_ns = stream.up_last_ns.max(at_ns);
        stream.up_last_ns
    }

    /// The master ends it, after what it said on it.
    pub fn close_at_master(&mut self, key: StreamKey) {
        let at_ns = self.down_at(key);
        let stream = &mut self.network.streams[key.place];
        if std::mem::take(&mut stream.is_master_open) && !stream.is_cut {
            self.agenda.at(at_ns, Item::DownClosed { stream: key });
        }
    }

    /// The agent ends it, after what it said on it.
    pub fn close_at_agent(&mut self, key: StreamKey) {
        let at_ns = self.up_at(key);
        let stream = &mut self.network.streams[key.place];
        if std::mem::take(&mut stream.is_agent_open) && !stream.is_cut {
            self.agenda.at(at_ns, Item::UpClosed { stream: key });
        }
    }

    /// A stream breaks: its ends learn of it after these times, and what is on its way by then may still come.
    pub fn cut(&mut self, place: usize, master_after_ns: u64, agent_after_ns: u64) {
        let key = self.key_of(place);
        let stream = &mut self.network.streams[place];
        stream.is_cut = true;
        tell!(
            self,
            "stream {place} is cut: master in {} ms, agent in {} ms",
            master_after_ns / MS,
            agent_after_ns / MS
        );
        self.agenda.after(master_after_ns, Item::UpClosed { stream: key });
        self.agenda.after(agent_after_ns, Item::DownClosed { stream: key });
    }

    pub fn key_of(&self, place: usize) -> StreamKey {
        self.network.streams[place].key
    }

    /// A wire goes black: what is said waits. Where that is longer than a side's patience, that side gives its streams up.
    pub fn black_out(&mut self, master: usize, agent: usize, for_ns: u64) {
        let now_ns = self.now_ns();
        let wire = &mut self.network.wires[master][agent];
        wire.black_until_ns = wire.black_until_ns.max(now_ns + for_ns);
        tell!(self, "no word between m{master} and a{agent} for {} ms", for_ns / MS);
        self.lose_patience(for_ns, |key| (key.master, key.agent) == (master, agent));
    }

    /// Streams bring nothing for a while: where that is longer than a side's patience, that side gives them up.
    pub fn lose_patience(&mut self, for_ns: u64, of: impl Fn(StreamKey) -> bool) {
        let (master_ns, agent_ns) =
            (self.chance.between(2_000, 4_000) * MS, self.chance.between(5_000, 15_000) * MS);
        let silent: Vec<StreamKey> =
            self.network.open_streams().map(|place| self.key_of(place)).filter(|key| of(*key)).collect();
        for stream in silent {
            if for_ns > master_ns {
                self.agenda.after(master_ns, Item::UpClosed { stream });
            }
            if for_ns > agent_ns {
                self.agenda.after(agent_ns, Item::DownClosed { stream });
            }
        }
    }

    pub fn slow_down(&mut self, master: usize, agent: usize, for_ns: u64, slow_ms: u64) {
        let now_ns = self.now_ns();
        tell!(self, "m{master} and a{agent} are up to {slow_ms} ms apart for {} ms", for_ns / MS);
        let wire = &mut self.network.wires[master][agent];
        (wire.slow_until_ns, wire.slow_ms) = (now_ns + for_ns, slow_ms);
    }

    /// Something came up.
    pub fn report_arrives(&mut self, key: StreamKey, report: Report) {
        let stream = &mut self.network.streams[key.place];
        if !stream.is_master_open {
            return;
        }
        let (run, life, number, agent) = (stream.run, stream.master_life, stream.number, stream.name.clone());
        let event = match report {
            Report::Welcome(welcome) => {
                stream.is_up = true;
                Event::Opened { agent, stream: number, welcome }
            }
            report => Event::Report { agent, stream: number, report },
        };
        self.run_event_of(key.master, life, run, event);
    }

    /// The stream's end has come to the master.
    pub fn up_closed(&mut self, key: StreamKey) {
        let stream = &mut self.network.streams[key.place];
        if !std::mem::take(&mut stream.is_master_open) {
            return;
        }
        let (run, life, number, agent) = (stream.run, stream.master_life, stream.number, stream.name.clone());
        let event = if stream.is_up {
            Event::StreamLost { agent, stream: number }
        } else {
            let reason = "it ended the stream without a word".to_owned();
            Event::Refused { agent, stream: number, reason, fatal: false }
        };
        self.run_event_of(key.master, life, run, event);
        // What the master has given up it closes; the agent hears of it where it can.
        if !self.network.streams[key.place].is_cut {
            let at_ns = self.down_at(key);
            self.agenda.at(at_ns, Item::DownClosed { stream: key });
        }
    }

    pub fn refused(&mut self, key: StreamKey, reason: String, fatal: bool) {
        let stream = &mut self.network.streams[key.place];
        if !std::mem::take(&mut stream.is_master_open) {
            return;
        }
        let (run, life, number, agent) = (stream.run, stream.master_life, stream.number, stream.name.clone());
        self.run_event_of(key.master, life, run, Event::Refused { agent, stream: number, reason, fatal });
    }

    pub fn open_timeout(&mut self, key: StreamKey) {
        if !self.network.streams[key.place].is_up && self.network.streams[key.place].is_master_open {
            self.refused(key, "no answer within 5 s".to_owned(), false);
            let at_ns = self.down_at(key);
            self.agenda.at(at_ns, Item::DownClosed { stream: key });
        }
    }
}
