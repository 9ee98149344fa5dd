//! A leader in a few lines: it opens streams, takes deltas by `seq = high-water + 1`, and sums them up.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use volcanion_common::delta::Delta;
use volcanion_common::ids::{Epoch, Incarnation, RunId, Seq};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{DeltaFrame, FRAME_BYTES_MAX, Hello, Order, Report, SealedHello};
use volcanion_common::shard::{ScenarioShare, Shard};
use volcanion_proto::v1 as pb;
use volcanion_proto::v1::agent_client::AgentClient;

use crate::Started;

/// Whatever is awaited comes within this, or the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Leader {
    pub client: AgentClient<Channel>,
    pub key: ClusterKey,
    pub run: RunId,
    pub epoch: Epoch,
    incarnation: Incarnation,
    pub high_water: Seq,
    pub total: Delta,
    pub frames_of_largest: u32,
    partial: Vec<u8>,
}

pub struct Stream {
    orders: mpsc::Sender<pb::Order>,
    reports: Streaming<pb::Report>,
}

impl Leader {
    pub async fn of(started: &Started) -> Self {
        let address = format!("http://{}", started.agent.grpc_address());
        Self {
            client: AgentClient::connect(address).await.unwrap(),
            key: started.key.clone(),
            run: RunId::new(),
            epoch: Epoch(1),
            incarnation: started.agent.incarnation(),
            high_water: Seq(0),
            total: Delta::default(),
            frames_of_largest: 0,
            partial: Vec::new(),
        }
    }

    pub fn hello(&self) -> Hello {
        Hello {
            run: self.run,
            epoch: self.epoch,
            agent: "a".into(),
            incarnation: self.incarnation,
            last_seq: self.high_water,
        }
    }

    /// Opens a stream; the first report is still to be read.
    pub async fn open(&mut self) -> Stream {
        let hello = self.hello();
        self.open_as(hello).await
    }

    pub async fn open_without_hello(&mut self) -> Stream {
        let (orders, receiver) = mpsc::channel(64);
        orders.send(Order::Alive { monotonic_ns: 0 }.into()).await.unwrap();
        let reports = self.client.session(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Stream { orders, reports }
    }

    pub async fn open_as(&mut self, hello: Hello) -> Stream {
        let sealed = hello.sealed(&self.key, u64::MAX).unwrap();
        self.open_sealed(sealed).await
    }

    pub async fn open_sealed(&mut self, hello: SealedHello) -> Stream {
        self.partial.clear();
        let (orders, receiver) = mpsc::channel(64);
        orders.send(Order::Hello(hello).into()).await.unwrap();
        let reports = self.client.session(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Stream { orders, reports }
    }

    pub fn prepare(
        &self,
        started: &Started,
        plan: serde_json::Value,
        scenarios: Vec<ScenarioShare>,
    ) -> Order {
        let shard = Shard {
            run: self.run,
            epoch: self.epoch,
            agent: "a".into(),
            incarnation: self.incarnation,
            expires_unix_ms: u64::MAX,
            seed: 1,
            plan,
            scenarios,
            first_vu: 0,
            ready_for: Vec::new(),
            orphan_timeout: None,
            trace: None,
        };
        let bytes = serde_json::to_vec(&shard).unwrap();
        let seal = started.key.seal(&bytes);
        Order::Prepare { sealed_shard: bytes.into(), seal: seal.into() }
    }

    /// Takes a frame; gives the number of a delta that is whole and new.
    pub fn take(&mut self, frame: &DeltaFrame) -> Option<Seq> {
        assert!(frame.body.len() <= FRAME_BYTES_MAX);
        if frame.index == 0 {
            self.partial.clear();
        }
        self.partial.extend_from_slice(&frame.body);
        if frame.index + 1 < frame.count {
            return None;
        }
        assert!(frame.seq <= self.high_water.next(), "a gap: {} after {}", frame.seq, self.high_water);
        if frame.seq < self.high_water.next() {
            return None;
        }
        self.frames_of_largest = self.frames_of_largest.max(frame.count);
        self.high_water = frame.seq;
        self.total.add(&Delta::from_bytes(&self.partial).unwrap());
        Some(frame.seq)
    }

    /// Prepares and starts at once; answers when load has started.
    pub async fn start(&mut self, stream: &mut Stream, prepare: Order) {
        let welcome = stream.report().await;
        assert!(matches!(welcome, Report::Welcome(_)), "{welcome:?}");
        stream.order(prepare).await;
        let prepared = stream.report().await;
        assert!(matches!(prepared, Report::Prepared { .. }), "{prepared:?}");
        stream.order(Order::StartAt { monotonic_ns: 0 }).await;
        let begun = stream.report().await;
        assert!(matches!(begun, Report::Started { .. }), "{begun:?}");
    }

    /// Takes and acknowledges deltas until the agent has said its end and all is here.
    pub async fn take_to_the_end(&mut self, stream: &mut Stream) -> Seq {
        let mut end = None;
        loop {
            match stream.report().await {
                Report::Delta(frame) if self.take(&frame).is_some() => {
                    stream.order(Order::Ack(self.high_water)).await;
                }
                Report::Finished { last_seq } => end = Some(last_seq),
                Report::Fault { code, message } => panic!("{code}: {message}"),
                _ => {}
            }
            if end == Some(self.high_water) {
                return self.high_water;
            }
        }
    }
}

impl Stream {
    pub async fn order(&self, order: Order) {
        self.orders.send(order.into()).await.unwrap();
    }

    pub async fn report(&mut self) -> Report {
        self.next().await.unwrap().expect("a report, not the stream's end")
    }

    /// The next report, the stream's end, or why it was ended.
    pub async fn next(&mut self) -> Result<Option<Report>, Status> {
        let message = timeout(PATIENCE, self.reports.message()).await.expect("a report in time")?;
        Ok(message.map(|message| Report::try_from(message).unwrap()))
    }
}
