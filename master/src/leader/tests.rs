//! Terms that come and go under an election that the test holds in its hand.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use volcanion_common::ids::RunId;
use volcanion_common::registry::{Fleet, Member, Membership, RegistryError};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::telemetry::trace::Tracer;
use volcanion_common::view::ErrorCode;

use super::*;
use crate::run::table::RunEventKind;
use crate::run::tests::members_named;
use crate::store::samples::document_named;
use crate::store::{self, StoreUrl};

const LIMIT: Duration = Duration::from_secs(20);

/// An election whose outcome the test says.
#[derive(Default)]
struct Hand {
    standing: Mutex<watch::Sender<Standing>>,
    fleet: watch::Sender<Fleet>,
    campaigns: AtomicU32,
    resigned: Arc<AtomicU32>,
}

struct InHand {
    standing: watch::Receiver<Standing>,
    resigned: Arc<AtomicU32>,
}

#[async_trait]
impl Registry for Hand {
    async fn join(&self, _: Member) -> Result<Box<dyn Membership>, RegistryError> {
        Err(RegistryError::Unavailable("nobody joins here".to_owned()))
    }

    async fn watch(&self) -> Result<watch::Receiver<Fleet>, RegistryError> {
        Ok(self.fleet.subscribe())
    }

    async fn campaign(&self, _: Candidate) -> Result<Box<dyn Candidacy>, RegistryError> {
        self.campaigns.fetch_add(1, Ordering::SeqCst);
        let standing = self.standing.lock().unwrap().subscribe();
        Ok(Box::new(InHand { standing, resigned: Arc::clone(&self.resigned) }))
    }
}

#[async_trait]
impl Candidacy for InHand {
    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    async fn resign(&self) {
        self.resigned.fetch_add(1, Ordering::SeqCst);
    }
}

/// A master without REST.
struct Desk {
    hand: Arc<Hand>,
    office: Office,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    folder: TempDir,
}

impl Desk {
    async fn new(first: Standing) -> Self {
        let folder = TempDir::new().unwrap();
        let url = StoreUrl::SqliteFile(folder.path().join("store.db"));
        let store = store::open(&url).await.unwrap();
        let hand = Arc::new(Hand::default());
        hand.fleet.send_replace(Fleet { members: Arc::new(members_named(&["a"])), connected: true });
        hand.standing.lock().unwrap().send_replace(first);
        let stop = CancellationToken::new();
        let config =
            Config { store: url, stop_runs_on_exit: false, ..Config::embedded(ClusterKey::random()) };
        let world = World {
            store: Arc::clone(&store),
            agents: Agents::watch(&*hand).await.unwrap(),
            dialer: Dialer::default(),
            config: Arc::new(config),
            tracer: Tracer::off(),
            outgoing: None,
            stop: stop.clone(),
        };
        let us = Candidate { id: "us".to_owned(), rest: Some("http://us:1".to_owned()), store: None };
        let (campaigner, office) = Campaigner::begin(world, Arc::clone(&hand) as _, us).await.unwrap();
        let task = tokio::spawn(campaigner.stand(Duration::from_secs(5)));
        Self { hand, office, store, stop, task, folder }
    }

    fn say(&self, standing: Standing) {
        self.hand.standing.lock().unwrap().send_replace(standing);
    }

    async fn until(&self, leader: Leader) {
        let mut tenure = self.office.tenure.clone();
        let waiting = tokio::time::timeout(LIMIT, tenure.wait_for(|tenure| tenure.leader == leader)).await;
        if waiting.is_err() {
            panic!("{leader:?} does not come; it is {:?}", self.office.leader());
        }
    }

    /// Awaits office, readiness included: that is no change of the tenure.
    async fn until_ready(&self) -> Runs {
        let waiting = async {
            while self.office.leader() != Leader::Here || self.office.runs().check_ready().is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting).await.expect("it takes office");
        self.office.runs()
    }
}

fn another(rest: Option<&str>) -> Standing {
    Standing::Follows(Candidate { id: "another".to_owned(), rest: rest.map(str::to_owned), store: None })
}

async fn refuses_writes(runs: &Runs) {
    let error = runs.create_plan(document_named("refused")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NoLeader);
    assert_eq!(runs.check_ready().unwrap_err().code, ErrorCode::NoLeader);
}

#[tokio::test]
async fn a_leader_that_is_followed_leaves_its_runs_unwritten_and_may_lead_again() {
    let desk = Desk::new(Standing::Leads).await;
    let first = desk.office.runs();
    first.check_ready().expect("whoever is elected at once leads from the start");
    let plan = first.create_plan(document_named("p")).await.unwrap();
    let run = RunId(first.start_run(plan.id, None).await.unwrap().id);
    let mut events = first.events(run, None).await.unwrap();

    desk.say(another(Some("http://another:1")));
    desk.until(Leader::At("http://another:1".to_owned())).await;
    let following = async {
        while events.next().await.is_some_and(|event| !matches!(event.kind, RunEventKind::End(_))) {}
    };
    tokio::time::timeout(LIMIT, following).await.expect("streams end with the term");
    let standby = desk.office.runs();
    refuses_writes(&first).await;
    refuses_writes(&standby).await;
    assert_eq!((first.going(), standby.going()), (0, 0), "its table is empty");
    assert!(!standby.run(run).await.unwrap().status.is_ended(), "reads go on, and the run was left as it is");
    assert_eq!(standby.metrics(run).await.unwrap().run_id, run.0);
    assert_eq!(standby.events(run, None).await.err().unwrap().code, ErrorCode::NoLeader, "no false end");
    assert_eq!(standby.plan(plan.id).await.unwrap().plan.name, "p");

    desk.say(Standing::Leads);
    let second = desk.until_ready().await;
    assert_eq!(desk.store.epoch().await.unwrap(), Epoch(2));
    second.create_plan(document_named("q")).await.unwrap();
    refuses_writes(&first).await;
    // It had not begun, so nobody can take it up: it gets its end.
    let events = second.events(run, None).await.unwrap();
    let last = tokio::time::timeout(LIMIT, events.collect::<Vec<_>>()).await.unwrap().pop().unwrap();
    assert!(matches!(last.kind, RunEventKind::End(_)) && last.id > 2_000_000_000, "{}", last.id);
    assert!(second.run(run).await.unwrap().status.is_ended());
}

/// What a run cannot be taken up without is missing for a moment only: it is nobody's fault, and no run ends for it.
#[tokio::test]
async fn a_store_that_fails_while_a_run_is_taken_up_delays_it_and_ends_nothing() {
    let desk = Desk::new(Standing::Leads).await;
    let plan = desk.office.runs().create_plan(document_named("p")).await.unwrap();
    let run = RunId(desk.office.runs().start_run(plan.id, None).await.unwrap().id);
    desk.say(another(Some("http://another:1")));
    desk.until(Leader::At("http://another:1".to_owned())).await;

    let file = SqliteConnectOptions::new().filename(desk.folder.path().join("store.db"));
    let mut beside = SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::query("ALTER TABLE totals RENAME TO away").execute(&mut beside).await.unwrap();
    desk.say(Standing::Leads);
    let tried_twice = async {
        while desk.store.epoch().await.unwrap() < Epoch(3) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, tried_twice).await.expect("it tries again");
    assert!(!desk.store.run(run).await.unwrap().unwrap().status.is_ended());
    sqlx::query("ALTER TABLE away RENAME TO totals").execute(&mut beside).await.unwrap();

    let runs = desk.until_ready().await;
    let events = runs.events(run, None).await.unwrap();
    tokio::time::timeout(LIMIT, events.collect::<Vec<_>>()).await.expect("it comes to its end");
    let message = runs.run(run).await.unwrap().message.unwrap();
    assert!(message.contains("before the load began"), "as of any run that had not begun: {message}");
}

#[tokio::test]
async fn one_that_the_store_deposes_does_not_take_office_again_while_only_a_stale_election_says_so() {
    let desk = Desk::new(Standing::Leads).await;
    desk.store.raise_epoch().await.unwrap();
    desk.until(Leader::Nobody).await;
    refuses_writes(&desk.office.runs()).await;
    assert_eq!(desk.store.epoch().await.unwrap(), Epoch(2), "the other one's epoch stands");
    desk.say(another(Some("http://another:1")));
    desk.until(Leader::At("http://another:1".to_owned())).await;
    desk.say(Standing::Leads);
    desk.until_ready().await;
    assert_eq!(desk.store.epoch().await.unwrap(), Epoch(3));
}

#[tokio::test]
async fn one_that_stands_by_says_where_the_leader_is_and_takes_office_once_elected() {
    let desk = Desk::new(another(Some("http://another:1"))).await;
    assert_eq!(desk.office.leader(), Leader::At("http://another:1".to_owned()));
    refuses_writes(&desk.office.runs()).await;
    assert_eq!(desk.store.epoch().await.unwrap(), Epoch(0), "it deposed nobody");
    desk.say(another(None));
    desk.until(Leader::Hidden).await;
    // Its own address: that is itself, before it was killed.
    desk.say(another(Some("http://us:1")));
    desk.until(Leader::Nobody).await;
    desk.say(Standing::Leads);
    desk.until_ready().await;
}

#[tokio::test]
async fn one_that_ends_resigns_once_and_leaves_its_runs() {
    let desk = Desk::new(Standing::Leads).await;
    let runs = desk.office.runs();
    let plan = runs.create_plan(document_named("p")).await.unwrap();
    let run = RunId(runs.start_run(plan.id, None).await.unwrap().id);
    desk.stop.cancel();
    tokio::time::timeout(LIMIT, desk.task).await.expect("it ends").unwrap();
    assert_eq!(desk.hand.resigned.load(Ordering::SeqCst), 1);
    assert_eq!(desk.hand.campaigns.load(Ordering::SeqCst), 1);
    assert!(!desk.store.run(run).await.unwrap().unwrap().status.is_ended(), "the next master has it");
}

#[tokio::test]
async fn one_that_sees_a_leader_of_another_store_stands_by_and_sends_it_nothing() {
    let theirs = Candidate {
        id: "theirs".to_owned(),
        rest: Some("http://theirs:1".to_owned()),
        store: Some("other".to_owned()),
    };
    let desk = Desk::new(Standing::Barred(theirs.clone())).await;
    assert_eq!(desk.office.leader(), Leader::OfAnotherStore(theirs));
    refuses_writes(&desk.office.runs()).await;
    assert_eq!(desk.store.epoch().await.unwrap(), Epoch(0), "it took no office");
    desk.say(Standing::Leads);
    desk.until_ready().await;
}
