//! Any process answers: forwarding to the owner, rolling upgrades, and a load balancer over two
//! processes while owners are stopped and killed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use satchel_testkit::{ASKED, Balancer, Cloud, Dev};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::load::{cloud, number};
use super::*;

/// Lease time of the processes behind the balancer.
const LEASE_TIME: Duration = Duration::from_secs(2);

/// Time for which a request waits for an owner.
const PATIENCE: Duration = LEASE_TIME.saturating_add(Duration::from_secs(6));

/// Maximum number of attempts that a call with a key repeats after a kill: its connection breaks
/// once, and the process that forwards it loses its own once.
const REPEATS_MAX: usize = 3;

/// Time that a call may take beyond that on a busy machine.
const BUSY: Duration = Duration::from_secs(10);

fn greeter(cloud: &Cloud) -> Setup {
    cloud.setup(example("greeter").join("module.yaml"))
}

fn with_peer(setup: Setup) -> Setup {
    setup.env("SATCHEL_PEER", "127.0.0.1:0")
}

async fn call(app: &Dev, name: &str, token: Option<&str>) -> (u16, Value) {
    let address = format!("example/greeter/{name}");
    let call = app.client.to_call(&address).json(&json!({"name": name}));
    let call = match token {
        Some(token) => call.header("authorization", format!("Bearer {token}")),
        None => call,
    };
    let reply = call.send().await.unwrap();
    let json = serde_json::from_slice(&reply.body).unwrap_or_default();
    (reply.status, json)
}

async fn event(app: &Dev, outcome: &str) -> f64 {
    let sample = format!("satchel_forwarding_events_total{{outcome=\"{outcome}\"}}");
    app.client.metric(&sample).await.unwrap_or_default()
}

async fn probe(app: &Dev) -> (u16, String) {
    let reply = app.client.admin(reqwest::Method::GET, "/readyz/traffic");
    let reply = reply.await;
    (
        reply.status,
        String::from_utf8_lossy(&reply.body).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_answers_calls_of_clients_that_have_the_token() {
    let cloud = cloud(1).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, ADMIN_TOKEN.1).unwrap();
    let setup = with_peer(greeter(&cloud));
    let setup = setup.env("SATCHEL_HTTP_TOKEN_FILE", file.display().to_string());
    let owner = setup.start().await;
    let standby = setup.start_standby().await;
    let token = Some(ADMIN_TOKEN.1);
    assert_eq!(call(&owner, "alice", token).await.1["seen"], 1);
    assert_eq!(call(&standby, "alice", token).await.1["seen"], 2);
    assert_eq!(call(&standby, "alice", None).await.0, 401);
    assert_eq!(call(&standby, "alice", Some("wrong")).await.0, 401);
    assert_eq!(call(&owner, "alice", token).await.1["seen"], 3);
    // Administration too.
    let address = standby.client.address("example/greeter/alice").await;
    assert_eq!(address.json()["state"][0]["value"], json!(3));
    assert!(event(&standby, "answered").await >= 1.0);
    assert_eq!(event(&owner, "answered").await, 0.0);
    assert_eq!(
        probe(&owner).await,
        (200, r#"{"state":"serving"}"#.to_owned())
    );
    assert_eq!(
        probe(&standby).await,
        (200, r#"{"state":"forwarding"}"#.to_owned())
    );
    // Keys may be printed. They are hashes of public ones.
    for printed in [owner.printed(), standby.printed()] {
        assert!(!printed.contains(ADMIN_TOKEN.1), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_with_and_without_a_peer_port_hand_over_to_one_another() {
    let cloud = cloud(1).await;
    let old = greeter(&cloud);
    let new = with_peer(old.clone());
    let mut owner = old.start().await;
    let mut standby = new.start_standby().await;
    satchel_testkit::until_true("the standby has read the lease", async || {
        let (status, body) = call(&standby, "alice", None).await;
        (status, &body["error"]["code"]) == (503, &json!("standby"))
    })
    .await;
    assert_eq!(call(&owner, "alice", None).await.1["seen"], 1);
    let ended = owner.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    standby.is_ready().await;
    let mut owner = standby;
    assert_eq!(call(&owner, "alice", None).await.1["seen"], 2);

    let mut standby = old.start_standby().await;
    let (status, body) = call(&standby, "alice", None).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("standby")));
    let ended = owner.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    standby.is_ready().await;
    assert_eq!(call(&standby, "alice", None).await.1["seen"], 3);
}

/// Two processes behind a load balancer.
struct Fleet {
    setup: Setup,
    balancer: Balancer,
    owner: Dev,
    standby: Dev,
}

impl Fleet {
    async fn start(cloud: &Cloud) -> Self {
        let setup = with_peer(greeter(cloud));
        let balancer = Balancer::start().await;
        let owner = setup.start().await;
        let standby = setup.start_standby().await;
        let fleet = Self {
            setup,
            balancer,
            owner,
            standby,
        };
        fleet.add(&fleet.owner);
        fleet.add(&fleet.standby);
        fleet
    }

    fn add(&self, app: &Dev) {
        let check = format!("{}/readyz/traffic", app.client.admin_url());
        self.balancer.add(app.client.url(), Some(check));
    }

    /// Replaces the owner, which ends, by the standby, and the standby by a new process.
    async fn replace(&mut self) -> Dev {
        let standby = self.setup.start_standby().await;
        self.add(&standby);
        let owner = std::mem::replace(&mut self.standby, standby);
        std::mem::replace(&mut self.owner, owner)
    }

    /// Stops the owner as a deployment does.
    async fn stop(&mut self) -> Event {
        let url = self.owner.client.url();
        let from = Instant::now();
        let ended = self.owner.terminate().await;
        assert_eq!(ended.code, Some(0), "{}", ended.printed);
        let to = Instant::now();
        let awaited = |line: &&str| line.contains("those in progress were awaited");
        eprintln!(
            "{}",
            ended.printed.lines().find(awaited).unwrap_or_default()
        );
        self.standby.is_ready().await;
        self.balancer.remove(&url);
        drop(self.replace().await);
        let kind = Kind::Stop;
        Event {
            kind,
            url,
            from,
            to,
        }
    }

    async fn kill(&mut self) -> Event {
        let url = self.owner.client.url();
        let from = Instant::now();
        self.owner.kill9().await;
        let to = Instant::now();
        self.standby.is_ready().await;
        eprintln!("taken over {:.2?} after a kill", from.elapsed());
        self.balancer.remove(&url);
        drop(self.replace().await);
        let kind = Kind::Kill;
        Event {
            kind,
            url,
            from,
            to,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stop,
    Kill,
}

/// End of an owner.
#[derive(Debug)]
struct Event {
    kind: Kind,
    url: String,
    /// Times before the signal and after the end of the process.
    from: Instant,
    to: Instant,
}

/// A call and its end.
#[derive(Debug)]
struct Called {
    keyed: bool,
    begun: Instant,
    ended: Instant,
    /// Attempts that a client with a key repeated, because the balancer's connection broke or the
    /// outcome was unknown.
    repeated: usize,
    outcome: Result<i64, Failed>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Failed {
    status: u16,
    code: String,
    message: String,
    asked: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.code)
    }
}

/// Calls at a constant rate, whatever the answers are. Every other call has a key.
struct Load {
    stop: Arc<AtomicBool>,
    calling: JoinHandle<Vec<Called>>,
}

impl Load {
    fn begin(url: String, per_second: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let calling = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / per_second));
            let mut calls = JoinSet::new();
            let mut number = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                calls.spawn(one_call(http.clone(), url.clone(), number));
                number += 1;
            }
            calls.join_all().await
        });
        Self { stop, calling }
    }

    /// Stops and returns all calls.
    async fn end(self) -> Vec<Called> {
        self.stop.store(true, Ordering::Relaxed);
        self.calling.await.unwrap()
    }
}

/// Calls an address of its own, so that a call that took effect twice is seen.
async fn one_call(http: reqwest::Client, url: String, number: u64) -> Called {
    let keyed = number.is_multiple_of(2);
    let begun = Instant::now();
    let mut repeated = 0;
    let outcome = loop {
        let url = format!("{url}/call/example/greeter/caller-{number}");
        let call = http.post(url).body(r#"{"name":"caller"}"#);
        let call = match keyed {
            true => call.header("idempotency-key", format!("key-{number}")),
            false => call,
        };
        let answer = call.send().await.unwrap();
        let status = answer.status().as_u16();
        let asked = answer.headers()[ASKED].to_str().unwrap().to_owned();
        let body: Value =
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default();
        if status == 200 {
            break Ok(body["seen"].as_i64().unwrap());
        }
        let text = |field: &str| body["error"][field].as_str().unwrap_or("-").to_owned();
        let (code, message) = (text("code"), text("message"));
        if keyed && repeated < 100 && (status == 502 || code == "unknown") {
            repeated += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        break Err(Failed {
            status,
            code,
            message,
            asked,
        });
    };
    Called {
        keyed,
        begun,
        ended: Instant::now(),
        repeated,
        outcome,
    }
}

/// Returns true if a call was in flight at an owner that was killed, so that its outcome cannot be
/// known: the balancer's connection to the owner broke, or that of the standby did.
fn was_in_flight_at_a_kill(call: &Called, failed: &Failed, events: &[Event]) -> bool {
    let kills = events.iter().filter(|event| event.kind == Kind::Kill);
    kills.into_iter().any(|kill| {
        let at_its_port = failed.status == 502 && failed.asked == kill.url;
        let forwarded = (failed.status, failed.code.as_str()) == (503, "unknown");
        !call.keyed && kill.meets(call) && (at_its_port || forwarded)
    })
}

impl Event {
    /// Returns true if the call was in flight at some time from the signal to the end.
    fn meets(&self, call: &Called) -> bool {
        call.begun < self.to && call.ended > self.from
    }
}

impl Called {
    /// Returns true if attempts were repeated for no other reason than a kill: the call was in
    /// flight at one, and was repeated no more often than the balancer may send it to the dead.
    fn repeats_after_a_kill(&self, events: &[Event]) -> bool {
        let mut kills = events.iter().filter(|event| event.kind == Kind::Kill);
        self.repeated <= REPEATS_MAX && kills.any(|kill| kill.meets(self))
    }
}

/// With `PEERS_STOPS`, `PEERS_KILLS` and `PEERS_RATE` (calls a second), other than two stops, two
/// kills and a moderate rate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_load_balancer_stopped_owners_fail_no_call_and_killed_ones_only_those_in_flight() {
    let stops = number("PEERS_STOPS", 2);
    let kills = number("PEERS_KILLS", 2);
    let rate = number("PEERS_RATE", 50);
    let cloud = cloud(1).await;
    let mut fleet = Fleet::start(&cloud).await;
    let load = Load::begin(fleet.balancer.url(), rate);
    let settle = Duration::from_millis(500);
    tokio::time::sleep(settle).await;
    let mut events = Vec::new();
    for turn in 0..stops.max(kills) {
        if turn < stops {
            events.push(fleet.stop().await);
            tokio::time::sleep(settle).await;
        }
        if turn < kills {
            events.push(fleet.kill().await);
            tokio::time::sleep(settle).await;
        }
    }
    let calls = load.end().await;
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    let (mut wrong, mut late, mut repeats) = (Vec::new(), 0, Vec::new());
    let mut longest = BTreeMap::new();
    for call in &calls {
        let took = call.ended - call.begun;
        let stopped = events.iter().find(|event| event.meets(call));
        let stopped = stopped.map(|event| event.kind);
        let longest = longest.entry(format!("{stopped:?}")).or_insert(took);
        *longest = took.max(*longest);
        if call.repeated > 0 {
            repeats.push(call.repeated);
            if !call.repeats_after_a_kill(&events) {
                wrong.push(call);
                continue;
            }
        }
        match &call.outcome {
            Ok(1) if took < PATIENCE + BUSY => late += usize::from(took > PATIENCE),
            Err(failure) if was_in_flight_at_a_kill(call, failure, &events) => {
                *failed.entry(failure.to_string()).or_default() += 1;
            }
            _ => wrong.push(call),
        }
    }
    eprintln!(
        "{} calls at {rate}/s, {stops} stops, {kills} kills: {} failed that should not, in flight \
         without a key at a kill {failed:?}, repeated with a key {}, at most {} times, answered \
         after more than {PATIENCE:?} {late}; longest {longest:.2?}",
        calls.len(),
        wrong.len(),
        repeats.len(),
        repeats.iter().max().unwrap_or(&0),
    );
    let started = calls.iter().map(|call| call.begun).min().unwrap();
    let since = |at: Instant| at.duration_since(started);
    for event in &events {
        let (from, to) = (since(event.from), since(event.to));
        eprintln!(
            "{:?} of {} from {from:.2?} to {to:.2?}",
            event.kind, event.url
        );
    }
    for call in wrong.iter().take(20) {
        let (begun, ended) = (since(call.begun), since(call.ended));
        let outcome = &call.outcome;
        eprintln!(
            "call from {begun:.2?} to {ended:.2?}, key {}, repeated {}: {outcome:?}",
            call.keyed, call.repeated
        );
    }
    assert!(wrong.is_empty(), "{} calls failed", wrong.len());
}
