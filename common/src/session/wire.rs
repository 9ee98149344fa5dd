//! Orders and reports to protobuf and back.

use volcanion_proto::v1 as pb;

use super::hello::HELLO_BYTES_MAX;
use super::{Change, DeltaFrame, Move, Moved, Order, Report, SealedHello, ShardState, StopWhy, Welcome};
use crate::ids::{Incarnation, Seq};
use crate::plan::Level;
use crate::units::{Micros, Rate, RunTime};

/// A message that this version cannot read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message without a legal {0}; is the other side of another version?")]
pub struct UnreadableMessage(&'static str);

impl From<Order> for pb::Order {
    fn from(order: Order) -> Self {
        use pb::order::Order as Body;
        let body = match order {
            Order::Hello(hello) => Body::Hello(in_the_open(&hello)),
            Order::Prepare { sealed_shard, seal } => {
                Body::Prepare(pb::Prepare { sealed_shard: sealed_shard.to_vec(), seal: seal.to_vec() })
            }
            Order::StartAt { monotonic_ns } => Body::StartAt(pb::StartAt { monotonic_ns }),
            Order::Stop { why, graceful } => {
                let why = match why {
                    StopWhy::Cancelled => pb::stop::Why::Cancelled,
                    StopWhy::Threshold => pb::stop::Why::Threshold,
                    StopWhy::Failed => pb::stop::Why::Failed,
                };
                Body::Stop(pb::Stop { why: why.into(), graceful_us: graceful.0 })
            }
            Order::Adjust(Change { number, scenario, at, level }) => {
                let level = match level {
                    Level::Vus(vus) => pb::adjust::Level::Vus(vus),
                    Level::Rate(rate) => pb::adjust::Level::RateMicroPerHour(rate.micro_per_hour()),
                };
                Body::Adjust(pb::Adjust { number, scenario, at_us: at.0, level: Some(level) })
            }
            Order::Move(Move { number, scenario, from, release, take }) => {
                Body::Move(pb::Move { number, scenario, from_us: from.0, release, take })
            }
            Order::Ack(seq) => Body::Ack(pb::Ack { seq: seq.0 }),
            Order::Alive { monotonic_ns } => Body::Alive(pb::Alive { monotonic_ns }),
            Order::Release => Body::Release(pb::Release {}),
        };
        Self { order: Some(body) }
    }
}

/// A Hello with what it seals beside it, for agents that know no seal yet.
fn in_the_open(hello: &SealedHello) -> pb::Hello {
    let sealed = pb::Hello {
        sealed_hello: hello.sealed_hello.to_vec(),
        seal: hello.seal.to_vec(),
        ..pb::Hello::default()
    };
    let Ok((said, _)) = hello.read() else { return sealed };
    pb::Hello {
        run_id: said.run.to_string(),
        epoch: said.epoch.0,
        agent_id: said.agent.0,
        incarnation: said.incarnation.0,
        last_seq: said.last_seq.0,
        ..sealed
    }
}

impl TryFrom<pb::Order> for Order {
    type Error = UnreadableMessage;

    fn try_from(message: pb::Order) -> Result<Self, UnreadableMessage> {
        use pb::order::Order as Body;
        Ok(match message.order.ok_or(UnreadableMessage("order"))? {
            Body::Hello(pb::Hello { sealed_hello, seal, .. }) => {
                if sealed_hello.len() > HELLO_BYTES_MAX {
                    return Err(UnreadableMessage("hello"));
                }
                Self::Hello(SealedHello { sealed_hello: sealed_hello.into(), seal: seal.into() })
            }
            Body::Prepare(prepare) => {
                Self::Prepare { sealed_shard: prepare.sealed_shard.into(), seal: prepare.seal.into() }
            }
            Body::StartAt(start) => Self::StartAt { monotonic_ns: start.monotonic_ns },
            Body::Stop(stop) => Self::Stop {
                why: match stop.why() {
                    pb::stop::Why::Cancelled => StopWhy::Cancelled,
                    pb::stop::Why::Threshold => StopWhy::Threshold,
                    pb::stop::Why::Failed => StopWhy::Failed,
                    pb::stop::Why::Unspecified => return Err(UnreadableMessage("why")),
                },
                graceful: Micros(stop.graceful_us),
            },
            Body::Adjust(adjust) => Self::Adjust(Change {
                number: adjust.number,
                scenario: adjust.scenario,
                at: RunTime(adjust.at_us),
                level: match adjust.level.ok_or(UnreadableMessage("level"))? {
                    pb::adjust::Level::Vus(vus) => Level::Vus(vus),
                    pb::adjust::Level::RateMicroPerHour(rate) => Level::Rate(Rate::from_micro_per_hour(rate)),
                },
            }),
            Body::Move(pb::Move { number, scenario, from_us, release, take }) => {
                if !is_ascending(&release) || !is_ascending(&take) {
                    return Err(UnreadableMessage("lane"));
                }
                Self::Move(Move { number, scenario, from: RunTime(from_us), release, take })
            }
            Body::Ack(ack) => Self::Ack(Seq(ack.seq)),
            Body::Alive(pb::Alive { monotonic_ns }) => Self::Alive { monotonic_ns },
            Body::Release(pb::Release {}) => Self::Release,
        })
    }
}

impl From<Report> for pb::Report {
    fn from(report: Report) -> Self {
        use pb::report::Report as Body;
        let body = match report {
            Report::Welcome(welcome) => {
                let state = match welcome.state {
                    ShardState::New => pb::welcome::State::New,
                    ShardState::Prepared => pb::welcome::State::Prepared,
                    ShardState::Running => pb::welcome::State::Running,
                    ShardState::Finished => pb::welcome::State::Finished,
                };
                Body::Welcome(pb::Welcome {
                    incarnation: welcome.incarnation.0,
                    state: state.into(),
                    run_time_us: welcome.run_time.0,
                    first_unacked: welcome.first_unacked.0,
                    adjusted: welcome.adjusted,
                    moved: welcome.moved.into_iter().map(pb::Moved::from).collect(),
                    monotonic_ns: welcome.monotonic_ns,
                })
            }
            Report::Prepared { cores } => Body::Prepared(pb::Prepared { cores }),
            Report::Started { monotonic_ns } => Body::Started(pb::Started { monotonic_ns }),
            Report::Adjusted { number, from } => Body::Adjusted(pb::Adjusted { number, from_us: from.0 }),
            Report::Moved(moved) => Body::Moved(moved.into()),
            Report::Delta(frame) => Body::Delta(pb::DeltaFrame {
                seq: frame.seq.0,
                index: frame.index,
                count: frame.count,
                body: frame.body,
            }),
            Report::Finished { last_seq } => Body::Finished(pb::Finished { last_seq: last_seq.0 }),
            Report::Fault { code, message } => Body::Fault(pb::Fault { code, message }),
            Report::Draining => Body::Draining(pb::Draining {}),
        };
        Self { report: Some(body) }
    }
}

impl TryFrom<pb::Report> for Report {
    type Error = UnreadableMessage;

    fn try_from(message: pb::Report) -> Result<Self, UnreadableMessage> {
        use pb::report::Report as Body;
        Ok(match message.report.ok_or(UnreadableMessage("report"))? {
            Body::Welcome(welcome) => Self::Welcome(Welcome {
                incarnation: Incarnation(welcome.incarnation),
                state: match welcome.state() {
                    pb::welcome::State::New => ShardState::New,
                    pb::welcome::State::Prepared => ShardState::Prepared,
                    pb::welcome::State::Running => ShardState::Running,
                    pb::welcome::State::Finished => ShardState::Finished,
                    pb::welcome::State::Unspecified => return Err(UnreadableMessage("state")),
                },
                run_time: RunTime(welcome.run_time_us),
                first_unacked: Seq(welcome.first_unacked),
                adjusted: welcome.adjusted,
                moved: welcome.moved.into_iter().map(Moved::from).collect(),
                monotonic_ns: welcome.monotonic_ns,
            }),
            Body::Prepared(prepared) => Self::Prepared { cores: prepared.cores },
            Body::Started(started) => Self::Started { monotonic_ns: started.monotonic_ns },
            Body::Adjusted(adjusted) => {
                Self::Adjusted { number: adjusted.number, from: RunTime(adjusted.from_us) }
            }
            Body::Moved(moved) => Self::Moved(moved.into()),
            Body::Delta(frame) => {
                if frame.index >= frame.count || frame.body.len() > super::FRAME_BYTES_MAX {
                    return Err(UnreadableMessage("frame"));
                }
                Self::Delta(DeltaFrame {
                    seq: Seq(frame.seq),
                    index: frame.index,
                    count: frame.count,
                    body: frame.body,
                })
            }
            Body::Finished(finished) => Self::Finished { last_seq: Seq(finished.last_seq) },
            Body::Fault(fault) => Self::Fault { code: fault.code, message: fault.message },
            Body::Draining(pb::Draining {}) => Self::Draining,
        })
    }
}

impl From<Moved> for pb::Moved {
    fn from(Moved { number, from }: Moved) -> Self {
        Self { number, from_us: from.0 }
    }
}

impl From<pb::Moved> for Moved {
    fn from(pb::Moved { number, from_us }: pb::Moved) -> Self {
        Self { number, from: RunTime(from_us) }
    }
}

fn is_ascending(lanes: &[u32]) -> bool {
    lanes.windows(2).all(|pair| pair[0] < pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_level_is_read_as_it_was_written() {
        for level in [Level::Vus(0), Level::Vus(u64::MAX), Level::Rate(Rate::ZERO), Level::Rate(Rate::MAX)] {
            let change = Change { number: 7, scenario: 3, at: RunTime(1_234_567), level };
            let order = Order::Adjust(change);
            assert_eq!(Order::try_from(pb::Order::from(order.clone())), Ok(order));
        }
        let report = Report::Adjusted { number: 7, from: RunTime(u64::MAX) };
        assert_eq!(Report::try_from(pb::Report::from(report.clone())), Ok(report));
        let without_level = pb::order::Order::Adjust(pb::Adjust { number: 1, ..pb::Adjust::default() });
        assert!(Order::try_from(pb::Order { order: Some(without_level) }).is_err());
    }

    #[test]
    fn a_hello_is_read_as_it_was_sealed_and_one_without_end_not_at_all() {
        let hello = |bytes: usize| {
            Order::Hello(SealedHello { sealed_hello: vec![b'x'; bytes].into(), seal: vec![1; 32].into() })
        };
        let longest = hello(HELLO_BYTES_MAX);
        assert_eq!(Order::try_from(pb::Order::from(longest.clone())), Ok(longest));
        assert!(Order::try_from(pb::Order::from(hello(HELLO_BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn a_move_of_lanes_is_read_as_it_was_written() {
        let order = Order::Move(Move {
            number: u64::MAX,
            scenario: 3,
            from: RunTime(5_000_000),
            release: vec![0, 7, 300],
            take: Vec::new(),
        });
        assert_eq!(Order::try_from(pb::Order::from(order.clone())), Ok(order));
        let moved = Moved { number: 9, from: RunTime(5_000_001) };
        let report = Report::Moved(moved);
        assert_eq!(Report::try_from(pb::Report::from(report.clone())), Ok(report));
        let welcome = Report::Welcome(Welcome {
            incarnation: Incarnation(1),
            state: ShardState::Running,
            run_time: RunTime(7),
            first_unacked: Seq(0),
            adjusted: 2,
            moved: vec![Moved { number: 8, ..moved }, moved],
            monotonic_ns: u64::MAX,
        });
        assert_eq!(Report::try_from(pb::Report::from(welcome.clone())), Ok(welcome));
        let alive = Order::Alive { monotonic_ns: 3 };
        assert_eq!(Order::try_from(pb::Order::from(alive.clone())), Ok(alive));
        let twice = pb::order::Order::Move(pb::Move { take: vec![4, 4], ..pb::Move::default() });
        assert!(Order::try_from(pb::Order { order: Some(twice) }).is_err());
    }
}
