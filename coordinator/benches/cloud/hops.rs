//! Price of a message that crosses from one partition to another.
//!
//! Three calls take turns, one at a time, each after a quiet time:
//!
//! | Call | Functions | Commits before the answer |
//! |---|---|---|
//! | direct | one | one |
//! | within | two, of one partition | one |
//! | across | two, of two partitions; the answer crosses back | three |
//!
//! The partitions of one process share its `--commit-pace`, so the last of the three waits for it.
//! `across - within` is two hops, and `within - direct` a function. Without a function, `direct` is
//! one commit and the request itself.

use std::time::{Duration, Instant};

use satchel_engine::placement::{PartitionMap, Placement};
use satchel_testkit::{Client, Latencies};
use serde_json::json;

use crate::application::{Application, Settings};

const PARTITIONS: u16 = 2;

/// Time between two calls, after which no pace delays a commit.
const QUIET: Duration = Duration::from_millis(100);

/// Measures hops within a process and between two.
pub(crate) async fn measure(time: Duration) {
    println!("hops between {PARTITIONS} partitions, one call at a time");
    println!(
        "{:<16} {:>7} {:>10} {:>10} {:>10} {:>10} {:>10} {:>14}",
        "", "calls", "direct ms", "within ms", "across ms", "commit ms", "hop ms", "hop - commit"
    );
    for (name, pace, peer) in [
        ("one process", None, false),
        ("without a pace", Some("0ms"), false),
        ("two processes", None, true),
    ] {
        let mut settings = Settings {
            pace,
            arguments: vec![format!("--partitions={PARTITIONS}")],
            ..Settings::default()
        };
        if peer {
            settings.arguments.push("--peer=127.0.0.1:0".to_owned());
        }
        let app = Application::start(&settings).await;
        let other = if peer {
            let other = app.setup.start().await;
            crate::moves::have(&app.app, &[1, 1]).await;
            Some(other)
        } else {
            None
        };
        let mut figures = Vec::new();
        for client in [Some(&app.client), other.as_ref().map(|it| &it.client)]
            .into_iter()
            .flatten()
        {
            figures.push(of_client(client, time).await);
        }
        // The process that owns the first target answers without forwarding the request.
        let best = figures
            .into_iter()
            .min_by(|a, b| a.direct.total_cmp(&b.direct));
        let best = best.expect("there is a process");
        let commit = 2.0 * best.direct - best.within;
        let hop = (best.across - best.within) / 2.0;
        println!(
            "{name:<16} {:>7} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>14.1}",
            best.calls,
            best.direct,
            best.within,
            best.across,
            commit,
            hop,
            hop - commit
        );
    }
    println!();
}

/// Medians of the three calls, in ms.
struct Figures {
    calls: usize,
    direct: f64,
    within: f64,
    across: f64,
}

async fn of_client(client: &Client, time: Duration) -> Figures {
    let (here, neighbour) = (ids_in(0, 2), ids_in(1, 1));
    let calls = [
        (format!("example/direct/{}", here[0]), &here[1]),
        (format!("example/relay/{}", here[0]), &here[1]),
        (format!("example/relay/{}", here[0]), &neighbour[0]),
    ];
    let mut latencies = [const { Vec::new() }; 3];
    let begun = Instant::now();
    while begun.elapsed() < time {
        for ((target, to), latencies) in calls.iter().zip(&mut latencies) {
            tokio::time::sleep(QUIET).await;
            let begun = Instant::now();
            let reply = client.call(target, &json!({"to": to})).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            latencies.push(begun.elapsed());
        }
    }
    let [direct, within, across] = latencies.map(|latencies| {
        // The first calls open connections.
        Latencies::of(latencies.into_iter().skip(3).collect())
    });
    Figures {
        calls: direct.count(),
        direct: direct.percentile_ms(0.5),
        within: within.percentile_ms(0.5),
        across: across.percentile_ms(0.5),
    }
}

/// Ids whose addresses lie in a partition.
fn ids_in(partition: u32, count: usize) -> Vec<String> {
    let placement = Placement::default();
    let map = PartitionMap::even(placement.key_groups, PARTITIONS);
    let ids = (0..).map(|number| format!("hop-{number}"));
    let found = ids.filter(|id| map.partition_of(placement.key_group_of_id(id)) == partition);
    found.take(count).collect()
}
