//! An application whose partitions are spread over several processes: any of them answers, and
//! nothing is lost or doubled while processes join, leave and die.

use std::collections::BTreeMap;
use std::time::Instant;

use reqwest::Method;
use satchel_testkit::{Client, Dev, until_true};
use serde_json::{Value, json};

use super::*;

const PARTITIONS: usize = 8;

const ACCOUNTS: u64 = 40;

const LEASE_TIME: Duration = Duration::from_secs(2);

/// A bank in production.
struct Bank {
    aws: Aws,
    setup: Setup,
}

impl Bank {
    async fn open() -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/dev/handlers/bank.py");
        let module = "
kind: satchel.endpoints.v1/lambda
spec:
  functions: example/*
  functionName: greeter
";
        let script = script.display().to_string();
        let command = ["python3", "-B", &script].map(str::to_owned).to_vec();
        let program = Program::Command(command);
        let aws = Aws::with(program, example("greeter"), module).await;
        let setup = aws
            .setup("2s")
            .env("SATCHEL_PARTITIONS", PARTITIONS.to_string())
            .env("SATCHEL_PEER", "127.0.0.1:0")
            .env(ADMIN_TOKEN.0, aws.token());
        Self { aws, setup }
    }
}

fn account(number: u64) -> String {
    format!("example/account/{number}")
}

async fn get(client: &Client, path: &str) -> Value {
    let request = client.try_admin(Method::GET, path, Some(ADMIN_TOKEN.1));
    let reply = request.await.unwrap();
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.json()
}

/// Number of partitions that each process owns, as one of them knows it.
async fn shares(app: &Dev) -> Vec<usize> {
    let members = get(&app.client, "/api/members").await;
    let members = members["members"].as_array().unwrap().iter();
    let shares = members.map(|member| member["partitions"].as_array().unwrap().len());
    let mut shares: Vec<usize> = shares.collect();
    shares.sort_unstable();
    shares
}

async fn have(app: &Dev, expected: &[usize]) {
    until_true(&format!("the shares are {expected:?}"), async || {
        shares(app).await == expected
    })
    .await;
}

/// Transfers of money between accounts, and the balances that they lead to.
#[derive(Default)]
struct Transfers {
    count: u64,
    balances: BTreeMap<u64, i64>,
}

impl Transfers {
    /// Makes transfers at these processes in turn.
    async fn make(&mut self, apps: &[&Dev], count: u64) {
        for number in self.count..self.count + count {
            let (from, to) = (number * 7 % ACCOUNTS, (number * 11 + 5) % ACCOUNTS);
            let amount = (number % 13 + 1) as i64;
            let app = apps[number as usize % apps.len()];
            let request = app.client.to_send(&account(from));
            let request = request.json(&json!({"give": amount, "to": to.to_string()}));
            let request = request.key(format!("transfer-{number}"));
            assert_eq!(request.send_until_answered().await.status, 202);
            *self.balances.entry(from).or_default() -= amount;
            *self.balances.entry(to).or_default() += amount;
        }
        self.count += count;
    }

    async fn are_balanced(&self, app: &Dev) {
        for (number, expected) in &self.balances {
            until_true("the transfers have arrived", async || {
                let call = app.client.to_call(&account(*number)).json(&json!({}));
                let call = call.key(format!("{}-{number}", rand()));
                let reply = call.send_until_answered().await;
                assert_eq!(reply.status, 200, "{reply:?}");
                reply.json()["balance"].as_i64().unwrap() == *expected
            })
            .await;
        }
    }
}

fn rand() -> u128 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_nanos()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_arrive_once_while_processes_join_leave_and_die() {
    let bank = Bank::open().await;
    let mut transfers = Transfers::default();
    let mut one = bank.setup.start().await;
    have(&one, &[8]).await;
    transfers.make(&[&one], 20).await;

    let mut two = bank.setup.start().await;
    let mut three = bank.setup.start().await;
    transfers.make(&[&one, &two, &three], 60).await;
    have(&three, &[2, 3, 3]).await;
    transfers.make(&[&one, &two, &three], 60).await;
    transfers.are_balanced(&two).await;

    // A process dies. The others have its partitions within the lease time and 3 s.
    two.kill9().await;
    let killed = Instant::now();
    transfers.make(&[&one, &three], 30).await;
    until_true("both own all partitions", async || {
        let shares = shares(&one).await;
        shares.iter().sum::<usize>() == 8 && shares.contains(&0)
    })
    .await;
    eprintln!("taken over {:.2?} after the kill", killed.elapsed());
    transfers.are_balanced(&three).await;

    // A process leaves. No call fails meanwhile.
    let leaving = async {
        let ended = one.terminate().await;
        assert_eq!(ended.code, Some(0), "{}", ended.printed);
    };
    let calling = async {
        for number in 0..40 {
            let call = three.client.to_call(&account(number % ACCOUNTS));
            let reply = call.json(&json!({})).send().await.unwrap();
            assert_eq!(reply.status, 200, "{reply:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::join!(leaving, calling);
    transfers.make(&[&three], 30).await;
    transfers.are_balanced(&three).await;
    let members = get(&three.client, "/api/members").await;
    let owners = members["partitions"].as_array().unwrap().iter();
    for place in owners {
        assert_eq!(place["owner"], members["process"], "{members}");
        assert_eq!(place["stage"], "serving", "{members}");
    }
    let ended = three.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    bank.aws.stop().await;
}
