//! An application of several partitions in one process: what crosses between them arrives once,
//! over kills, and people see one application.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use satchel_testkit::{Client, Dev, Setup, example, until_true};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::crashes::load::{Load, number};
use crate::offline::roots::state_of;
use crate::offline::tool::tool;

const ACCOUNTS: u64 = 24;

/// A bank, and the directory of its module file.
struct Bank {
    setup: Setup,
    _dir: TempDir,
}

impl Bank {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("module.yaml");
        std::fs::write(&file, module()).unwrap();
        Self {
            setup: Setup::of(file).env("SATCHEL_RETENTION", "1h"),
            _dir: dir,
        }
    }

    async fn start(&self, partitions: &str) -> Dev {
        let setup = self.setup.clone().env("SATCHEL_PARTITIONS", partitions);
        setup.start().await
    }

    fn state(&self) -> PathBuf {
        state_of(&self.setup)
    }
}

fn module() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev/handlers/bank.py");
    format!(
        "kind: satchel.endpoints.v1/lambda
spec:
  functions: example/*
  functionName: bank
  dev: {{command: [python3, -B, {}]}}
",
        json!(script)
    )
}

fn account(number: u64) -> String {
    format!("example/account/{number}")
}

async fn balance(client: &Client, number: u64) -> i64 {
    let reply = client.call(&account(number), &json!({})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["balance"].as_i64().unwrap()
}

/// Gets a document of the administration port.
async fn list(client: &Client, path: &str) -> Value {
    let reply = client.admin(Method::GET, path).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// A transfer of money from one account to another.
struct Transfer {
    number: u64,
    from: u64,
    to: u64,
    amount: i64,
}

impl Transfer {
    /// Sends the transfer, over crashes of the process too.
    async fn send(&self, client: &Client) {
        let request = client.to_send(&account(self.from));
        let request = request.json(&json!({"give": self.amount, "to": self.to.to_string()}));
        let request = request.key(format!("transfer-{}", self.number));
        assert_eq!(request.send_until_answered().await.status, 202);
    }
}

/// Transfers that were made, and the balances that they lead to.
#[derive(Default)]
struct Transfers {
    count: u64,
    balances: BTreeMap<u64, i64>,
}

impl Transfers {
    /// Returns the next transfers.
    fn next(&mut self, count: u64) -> Vec<Transfer> {
        let numbers = self.count..self.count + count;
        self.count += count;
        let transfers = numbers.map(|number| {
            let transfer = Transfer {
                number,
                from: number * 7 % ACCOUNTS,
                to: (number * 11 + 5) % ACCOUNTS,
                amount: (number % 13 + 1) as i64,
            };
            *self.balances.entry(transfer.from).or_default() -= transfer.amount;
            *self.balances.entry(transfer.to).or_default() += transfer.amount;
            transfer
        });
        transfers.collect()
    }

    async fn make(&mut self, client: &Client, count: u64) {
        for transfer in self.next(count) {
            transfer.send(client).await;
        }
    }

    async fn are_balanced(&self, client: &Client) {
        for (number, expected) in &self.balances {
            until_true("the transfers have arrived", async || {
                balance(client, *number).await == *expected
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_between_partitions_arrive_once_over_kills() {
    let bank = Bank::new();
    let mut app = bank.start("4").await;
    let mut transfers = Transfers::default();
    for _ in 0..4 {
        transfers.make(&app.client, 30).await;
        app.kill9().await;
        app.restart().await;
    }
    transfers.make(&app.client, 30).await;
    transfers.are_balanced(&app.client).await;
    let mut sent = 0.0;
    for partition in 0..4 {
        let sample = format!("satchel_peer_messages_sent_total{{partition=\"{partition}\"}}");
        sent += app.client.metric(&sample).await.unwrap_or_default();
    }
    assert!(sent > 0.0, "nothing crossed between partitions");
    assert_eq!(app.terminate().await.code, Some(0));

    let verified = tool(&bank.state(), &["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let states = tool(&bank.state(), &["state", "export"]);
    assert_eq!(states.code, 0, "{states:?}");
    let lines = states.out.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["address"].as_str().unwrap().to_owned()
    });
    let addresses: BTreeSet<String> = lines.collect();
    assert_eq!(addresses, (0..ACCOUNTS).map(account).collect());
}

/// Restores moments of a bank that transfers money all the time, and sums up each fork once all
/// that was under way has arrived. Long form: `SATCHEL_TEST_MOMENTS=200`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_moment_of_several_partitions_is_a_consistent_cut() {
    let bank = Bank::new();
    let mut app = bank.start("8").await;
    let begun = SystemTime::now();
    let mut transfers = Transfers::default();
    for _ in 0..4 {
        let making = (0..8).map(|_| {
            let numbers = transfers.next(25);
            let client = app.client.clone();
            async move {
                for transfer in numbers {
                    transfer.send(&client).await;
                }
            }
        });
        futures::future::join_all(making.collect::<Vec<_>>()).await;
    }
    let took = begun.elapsed().unwrap();
    // Of a root that is served, a moment shortly before is copied.
    let live = restored(&bank, "").await;
    assert_eq!(live, 0, "now");
    assert_eq!(app.terminate().await.code, Some(0));
    for moment in 1..=number("SATCHEL_TEST_MOMENTS", 6) {
        let part = moment as f64 / (number("SATCHEL_TEST_MOMENTS", 6) + 1) as f64;
        let at = begun + took.mul_f64(part);
        let at_ms = at.duration_since(UNIX_EPOCH).unwrap().as_millis();
        let text = jiff::Timestamp::from_millisecond(at_ms as i64).unwrap();
        assert_eq!(restored(&bank, &format!("@{text}")).await, 0, "{text}");
    }
}

/// Restores the bank into a root of its own, runs that until nothing is under way, and returns the
/// sum of all balances.
async fn restored(bank: &Bank, at: &str) -> i64 {
    let origin = format!("{}{at}", bank.state().display());
    let fork = Bank::new();
    let setup = fork.setup.clone().env("SATCHEL_RESTORE", origin);
    let mut app = setup.start().await;
    let mut settled = None;
    for _ in 0..200 {
        let mut balances = Vec::new();
        for number in 0..ACCOUNTS {
            balances.push(balance(&app.client, number).await);
        }
        let waiting = app.client.metric("satchel_peer_waiting_bytes").await;
        if settled.as_ref() == Some(&balances) && waiting == Some(0.0) {
            break;
        }
        settled = Some(balances);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(app.terminate().await.code, Some(0));
    settled.unwrap().into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_and_lists_of_several_partitions_are_those_of_one_application() {
    let bank = Bank::new();
    let mut app = bank.start("4").await;
    let client = &app.client;
    for number in 0..ACCOUNTS {
        // The reply comes from another account, which most often has another partition.
        let other = (number + 1) % ACCOUNTS;
        let through = json!({"through": other.to_string()});
        let reply = client.call(&account(number), &through).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.json(), json!({"told_by": other.to_string()}));
        let strange = json!({"strange": number.to_string()});
        assert_eq!(client.call(&account(number), &strange).await.status, 200);
    }
    until_true("all strange messages are dead letters", async || {
        client.dead_letters().await.len() == ACCOUNTS as usize
    })
    .await;
    let ids = |letters: &[Value]| -> BTreeSet<String> {
        let ids = letters.iter().map(|letter| letter["id"].as_str().unwrap());
        ids.map(str::to_owned).collect()
    };
    let all = ids(&client.dead_letters().await);
    assert_eq!(all.len(), ACCOUNTS as usize);

    // In pages, each dead letter is listed once.
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(client, &format!("/api/dead-letters?limit=5{after}")).await;
        paged.extend(page["dead_letters"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(paged.len(), all.len());
    assert_eq!(ids(&paged), all);

    let (mut found, mut after) = (BTreeSet::new(), String::new());
    loop {
        let page = list(client, &format!("/api/addresses?limit=5{after}")).await;
        for entry in page["addresses"].as_array().unwrap() {
            assert!(found.insert(entry["address"].as_str().unwrap().to_owned()));
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let accounts: BTreeSet<String> = (0..ACCOUNTS).map(account).collect();
    assert!(found.is_superset(&accounts), "{found:?}");

    let first = all.first().unwrap();
    let dropped = client.drop_dead_letter(first).await;
    assert_eq!(dropped.status, 200, "{dropped:?}");
    let (mut changed, mut cursor) = (0, String::new());
    loop {
        let path = format!("/api/dead-letters/drop?all=true&limit=5{cursor}");
        let answer = client.admin(Method::POST, &path).await.json();
        changed += answer["changed"].as_u64().unwrap();
        match answer["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(changed, ACCOUNTS - 1);
    assert_eq!(client.dead_letters().await, Vec::<Value>::new());

    let placement = list(client, "/api/placement").await;
    assert_eq!(placement["partitions"], 4);
    let partitions = list(client, "/api/partitions").await;
    let partitions = partitions["partitions"].as_array().unwrap();
    let ranges: Vec<_> = partitions
        .iter()
        .map(|it| it["key_groups"].clone())
        .collect();
    let expected = [[0, 255], [256, 511], [512, 767], [768, 1023]];
    assert_eq!(json!(ranges), json!(expected));
    let figures = |name: &str| -> u64 {
        let figures = partitions.iter().map(|it| it[name].as_u64().unwrap());
        figures.sum()
    };
    assert!(figures("sent_to_peers") > 0);
    assert_eq!(figures("sent_to_peers"), figures("taken_from_peers"));
    let functions = list(client, "/api/functions").await;
    let functions = functions["functions"].as_array().unwrap().iter();
    let accounts = functions.filter(|function| function["function"] == "example/account");
    let addresses: Vec<_> = accounts.map(|it| it["addresses"].clone()).collect();
    assert_eq!(addresses, [json!(ACCOUNTS)]);

    // A pause holds for every partition.
    let pause = "/api/functions/example/account/pause?reason=test";
    let paused = client.admin(Method::POST, pause).await;
    assert_eq!(paused.status, 200, "{paused:?}");
    for number in 0..ACCOUNTS {
        let reply = client.call(&account(number), &json!({})).await;
        assert_eq!(reply.status, 503);
    }
    let resume = "/api/functions/example/account/resume";
    let resumed = client.admin(Method::POST, resume).await;
    assert_eq!(resumed.status, 200, "{resumed:?}");
    assert_eq!(balance(client, 0).await, 0);
    assert_eq!(app.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_root_keeps_its_number_of_partitions() {
    let bank = Bank::new();
    let mut app = bank.start("3").await;
    assert_eq!(balance(&app.client, 1).await, 0);
    assert_eq!(app.terminate().await.code, Some(0));

    let mut other = bank.setup.clone().env("SATCHEL_PARTITIONS", "2").begin();
    let ended = other.ended().await;
    assert_eq!(ended.code, Some(4), "{}", ended.printed);
    let told = "this root has the number of partitions 3, not 2 (--partitions)";
    assert!(ended.printed.contains(told), "{}", ended.printed);

    let mut app = bank.setup.start().await;
    let placement = list(&app.client, "/api/placement").await;
    assert_eq!(placement["partitions"], 3);
    assert_eq!(app.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_savepoint_fixes_all_partitions_at_one_moment_or_none() {
    let bank = Bank::new();
    let mut app = bank.start("4").await;
    let mut transfers = Transfers::default();
    let mut refused = 0;
    for round in 0..4 {
        let name = format!("live-{round}");
        let making = transfers.next(40);
        let client = app.client.clone();
        let making = tokio::spawn(async move {
            for transfer in making {
                transfer.send(&client).await;
            }
        });
        let state = bank.state();
        let create = move || tool(&state, &["savepoint", "create", &name]);
        let created = tokio::task::spawn_blocking(create).await.unwrap();
        making.await.unwrap();
        match created.code {
            0 => assert_eq!(restored(&bank, &format!("@live-{round}")).await, 0),
            1 => {
                refused += 1;
                assert!(created.err.contains("passed between them"), "{created:?}");
            }
            _ => panic!("{created:?}"),
        }
    }
    transfers.are_balanced(&app.client).await;
    assert_eq!(app.terminate().await.code, Some(0));
    let listed = tool(&bank.state(), &["savepoint", "list"]);
    assert_eq!(listed.out.lines().count(), (4 - refused) * 4, "{listed:?}");

    // Nothing passes between the partitions of a root that is not served.
    let created = tool(&bank.state(), &["savepoint", "create", "closed"]);
    assert_eq!(created.code, 0, "{created:?}");
    assert_eq!(created.out.lines().count(), 4, "{created:?}");
    assert_eq!(restored(&bank, "@closed").await, 0);
    let again = tool(&bank.state(), &["savepoint", "create", "closed"]);
    assert_eq!(again.code, 1, "{again:?}");

    // One of a creator that died can be deleted, and is refused until then.
    let lost = bank.state().join("partitions/2/savepoints/closed");
    std::fs::remove_file(lost).unwrap();
    let read = tool(&bank.state(), &["state", "export", "--at", "closed"]);
    assert_ne!(read.code, 0, "{read:?}");
    let deleted = tool(&bank.state(), &["savepoint", "delete", "closed"]);
    assert_eq!(deleted.code, 0, "{deleted:?}");
    let deleted = tool(&bank.state(), &["savepoint", "delete", "closed"]);
    assert_eq!(deleted.code, 1, "{deleted:?}");
    let verified = tool(&bank.state(), &["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_several_partitions_under_load_lose_nothing_and_double_nothing() {
    let setup = Setup::of(example("greeter")).env("SATCHEL_PARTITIONS", "4");
    let mut app = setup.start().await;
    let mut load = Load::begin(&app.client);
    for _ in 0..4 {
        load.answered(40).await;
        app.kill9().await;
        app.restart().await;
        load.last_answers_are_given_again().await;
    }
    load.answered(40).await;
    load.everything_is_done_once(&app.client).await;
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
}
