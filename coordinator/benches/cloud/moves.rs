//! Moves of partitions between processes, under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use satchel_engine::placement::{PartitionMap, Placement};
use satchel_testkit::{Client, Dev, Latencies};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::application::{ADMIN_TOKEN, Application, Settings};
use crate::streams::{STREAMS, put};

const PARTITIONS: u32 = 8;

/// Records per second meanwhile.
const RATE: usize = 2_000;

/// Lease time, in seconds. A kill is found out after it.
const LEASE_S: u64 = 4;

const MOVES: usize = 24;

const KILLS: usize = 3;

/// Pause between two calls to a partition.
const PAUSE: Duration = Duration::from_millis(5);

/// Calls to one address of each partition, one after the other, through all processes in turn.
struct Probes {
    clients: Arc<Mutex<Vec<Client>>>,
    stop: Arc<AtomicBool>,
    calling: Vec<JoinHandle<()>>,
    /// Answered calls by partition.
    calls: Vec<Calls>,
}

/// Begin and end of each call.
type Calls = Arc<Mutex<Vec<(Instant, Instant)>>>;

impl Probes {
    fn begin(client: Client) -> Self {
        let mut probes = Self {
            clients: Arc::new(Mutex::new(vec![client])),
            stop: Arc::default(),
            calling: Vec::new(),
            calls: Vec::new(),
        };
        for partition in 0..PARTITIONS {
            let calls = Calls::default();
            let (clients, stop) = (Arc::clone(&probes.clients), Arc::clone(&probes.stop));
            let target = format!("example/greeter/{}", id_in(partition));
            let done = Arc::clone(&calls);
            probes.calling.push(tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let client = {
                        let clients = clients.lock().expect("no holder panics");
                        clients[number % clients.len()].clone()
                    };
                    let begun = Instant::now();
                    let body = json!({"name": "Alice"});
                    let call = client.to_call(&target).json(&body);
                    let call = call.key(format!("{partition}-{number}"));
                    // A process that was killed does not answer: another one is asked.
                    let answered = tokio::time::timeout(Duration::from_secs(60), call.send());
                    if matches!(answered.await, Ok(Ok(reply)) if reply.status == 200) {
                        let call = (begun, Instant::now());
                        done.lock().expect("no holder panics").push(call);
                        tokio::time::sleep(PAUSE).await;
                    }
                    number += 1;
                }
            }));
            probes.calls.push(calls);
        }
        probes
    }

    fn set(&self, processes: &[&Dev]) {
        let clients = processes.iter().map(|process| process.client.clone());
        *self.clients.lock().expect("no holder panics") = clients.collect();
    }

    /// Longest time without an answer of a partition since `from`.
    fn silence(&self, partition: u32, from: Instant) -> Duration {
        let calls = self.calls[partition as usize].lock();
        let calls = calls.expect("no holder panics");
        let ends = calls.iter().map(|(_, ended)| *ended);
        let mut last = from;
        let mut longest = Duration::ZERO;
        for end in ends.filter(|end| *end >= from) {
            longest = longest.max(end - last);
            last = end;
        }
        longest.max(last.elapsed())
    }

    /// Usual time of a call and its pause.
    fn usual(&self) -> Duration {
        let mut gaps = Vec::new();
        for calls in &self.calls {
            let calls = calls.lock().expect("no holder panics");
            let between = calls.windows(2).map(|pair| pair[1].1 - pair[0].1);
            gaps.extend(between);
        }
        Duration::from_secs_f64(Latencies::of(gaps).percentile_ms(0.5) / 1e3)
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for calling in self.calling {
            calling.await.expect("a probe does not panic");
        }
    }
}

/// An id whose address lies in a partition.
fn id_in(partition: u32) -> String {
    let placement = Placement::default();
    let map = PartitionMap::even(placement.key_groups, PARTITIONS as u16);
    let mut ids = (0..).map(|number| format!("probe-{number}"));
    let found = ids.find(|id| map.partition_of(placement.key_group_of_id(id)) == partition);
    found.expect("each partition has ids")
}

async fn members(app: &Dev) -> Value {
    let reply = app
        .client
        .try_admin(Method::GET, "/api/members", Some(ADMIN_TOKEN));
    reply.await.expect("the process answers").json()
}

/// Waits until the processes have these numbers of partitions, in any order.
pub(crate) async fn have(app: &Dev, expected: &[usize]) {
    loop {
        let members = members(app).await;
        let shares = members["members"].as_array().into_iter().flatten();
        let shares = shares.filter_map(|it| it["partitions"].as_array().map(Vec::len));
        let mut shares: Vec<usize> = shares.filter(|share| *share > 0).collect();
        shares.sort_unstable();
        if shares == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn print(name: &str, silences: Vec<Duration>) {
    let silences = Latencies::of(silences);
    println!(
        "{name:<44} {:>6} {:>8.0} {:>8.0} {:>8.0}",
        silences.count(),
        silences.percentile_ms(0.5),
        silences.percentile_ms(0.99),
        silences.percentile_ms(1.0),
    );
}

/// Measures joins, planned moves and kills.
pub(crate) async fn measure() {
    let settings = Settings {
        // Four busy partitions in each process: 50 ms for each.
        pace: Some("12ms"),
        documents: STREAMS,
        arguments: vec![
            format!("--partitions={PARTITIONS}"),
            "--peer=127.0.0.1:0".to_owned(),
            format!("--lease-time={LEASE_S}s"),
        ],
        ..Settings::default()
    };
    let mut app = Application::start(&settings).await;
    let cloud = Arc::clone(&app.cloud);
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            while !stop.load(Ordering::Relaxed) {
                put(&cloud, Duration::from_secs(1), RATE).await;
            }
        }
    });
    let probes = Probes::begin(app.client.clone());
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!(
        "{PARTITIONS} partitions, {RATE} records/s, lease time {LEASE_S} s, on 2 cores with \
         everything else; silence of the partition concerned"
    );
    let begun = Instant::now();
    let mut other = app.setup.start().await;
    have(&app.app, &[4, 4]).await;
    println!(
        "a process that joins has its share after {:.1?}",
        begun.elapsed()
    );
    probes.set(&[&app.app, &other]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("usual gap between two answers: {:.0?}", probes.usual());
    println!(
        "{:<44} {:>6} {:>8} {:>8} {:>8}",
        "", "events", "p50 ms", "p99 ms", "max ms"
    );

    let mut silences = Vec::new();
    for number in 0..MOVES {
        let partition = number as u32 % PARTITIONS;
        let known = members(&app.app).await;
        let owner = known["partitions"][partition as usize]["owner"].clone();
        let ids = known["members"].as_array().into_iter().flatten();
        let mut ids = ids.map(|it| it["process"].clone());
        let to = ids
            .find(|id| *id != owner)
            .expect("there are two processes");
        let to = to.as_str().unwrap_or_default().to_owned();
        let from = Instant::now();
        let pin = format!("/api/partitions/{partition}/pin?process={to}");
        let pinned = app
            .app
            .client
            .try_admin(Method::POST, &pin, Some(ADMIN_TOKEN));
        assert_eq!(pinned.await.expect("the process answers").status, 200);
        while members(&app.app).await["partitions"][partition as usize]["owner"] != to.as_str() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        silences.push(probes.silence(partition, from));
    }
    print("planned move", silences);
    for partition in 0..PARTITIONS {
        let unpin = format!("/api/partitions/{partition}/unpin");
        let unpinned = app
            .app
            .client
            .try_admin(Method::POST, &unpin, Some(ADMIN_TOKEN));
        assert_eq!(unpinned.await.expect("the process answers").status, 200);
    }
    let mut silences = Vec::new();
    for _ in 0..KILLS {
        have(&app.app, &[4, 4]).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let known = members(&app.app).await;
        let of_this = known["process"].clone();
        let from = Instant::now();
        other.kill9().await;
        probes.set(&[&app.app]);
        have(&app.app, &[8]).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        for partition in 0..PARTITIONS {
            if known["partitions"][partition as usize]["owner"] != of_this {
                silences.push(probes.silence(partition, from));
            }
        }
        other = app.setup.start().await;
    }
    print("kill", silences);
    stop.store(true, Ordering::Relaxed);
    load.await.expect("the load does not panic");
    probes.end().await;
    for process in [&mut app.app, &mut other] {
        assert_eq!(process.terminate().await.code, Some(0));
    }
    println!();
}
