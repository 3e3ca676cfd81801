//! An application whose partitions are spread over several processes: any of them answers, and
//! nothing is lost or doubled while processes join, leave and die.

use std::collections::BTreeMap;
use std::time::Instant;

use aws_sdk_dynamodb::types::AttributeValue;
use reqwest::Method;
use satchel_testkit::{Client, Dev, until_true};
use serde_json::{Value, json};

use super::*;

const PARTITIONS: usize = 8;

const ACCOUNTS: u64 = 40;

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

async fn post(client: &Client, path: &str) -> u16 {
    let request = client.try_admin(Method::POST, path, Some(ADMIN_TOKEN.1));
    request.await.unwrap().status
}

/// Id of a process.
async fn id(app: &Dev) -> String {
    let members = get(&app.client, "/api/members").await;
    members["process"].as_str().unwrap().to_owned()
}

async fn owner(app: &Dev, partition: usize) -> Value {
    let members = get(&app.client, "/api/members").await;
    members["partitions"][partition]["owner"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_one_application_at_any_process_and_say_where_partitions_should_be() {
    let bank = Bank::open().await;
    let mut one = bank.setup.start().await;
    let mut two = bank.setup.start().await;
    have(&one, &[4, 4]).await;
    for number in 0..ACCOUNTS {
        let strange = json!({"strange": number.to_string()});
        let app = if number % 2 == 0 { &one } else { &two };
        let reply = app.client.call(&account(number), &strange).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    for app in [&one, &two] {
        until_true("all strange messages are dead letters", async || {
            let letters = get(&app.client, "/api/dead-letters?limit=100").await;
            letters["dead_letters"].as_array().unwrap().len() == ACCOUNTS as usize
        })
        .await;
        let partitions = get(&app.client, "/api/partitions").await;
        let listed = partitions["partitions"].as_array().unwrap().iter();
        let numbers: Vec<u64> = listed.map(|it| it["partition"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..PARTITIONS as u64).collect::<Vec<_>>());
        let functions = get(&app.client, "/api/functions").await;
        let functions = functions["functions"].as_array().unwrap().iter();
        let accounts = functions.filter(|it| it["function"] == "example/account");
        let addresses: Vec<_> = accounts.map(|it| it["addresses"].clone()).collect();
        assert_eq!(addresses, [json!(ACCOUNTS)]);
        assert_eq!(get(&app.client, "/api/placement").await["partitions"], 8);
    }
    // A pause holds everywhere, wherever it was asked for.
    let pause = "/api/functions/example/account/pause?reason=test";
    assert_eq!(post(&two.client, pause).await, 200);
    for number in 0..ACCOUNTS {
        let reply = one.client.call(&account(number), &json!({})).await;
        assert_eq!(reply.error_code(), "function_paused");
    }
    let resume = "/api/functions/example/account/resume";
    assert_eq!(post(&one.client, resume).await, 200);

    // A pin moves a partition, and a drain all of them.
    let (first, second) = (id(&one).await, id(&two).await);
    let partitions = 0..PARTITIONS;
    let mut moved = None;
    for partition in partitions {
        if owner(&one, partition).await == json!(first) {
            moved = Some(partition);
        }
    }
    let moved = moved.unwrap();
    let unknown = format!("/api/partitions/{moved}/pin?process=unknown");
    assert_eq!(post(&one.client, &unknown).await, 404);
    let pin = format!("/api/partitions/{moved}/pin?process={second}");
    let unauthorized = one.client.admin(Method::POST, &pin).await;
    assert_eq!(unauthorized.status, 401);
    assert_eq!(post(&one.client, &pin).await, 200);
    until_true("the pinned partition has moved", async || {
        owner(&one, moved).await == json!(second)
    })
    .await;
    let drain = format!("/api/members/{second}/drain");
    let unpin = format!("/api/partitions/{moved}/unpin");
    assert_eq!(post(&two.client, &unpin).await, 200);
    assert_eq!(post(&two.client, &drain).await, 200);
    have(&one, &[0, 8]).await;
    let undrain = format!("/api/members/{second}/undrain");
    assert_eq!(post(&one.client, &undrain).await, 200);
    have(&one, &[4, 4]).await;
    for app in [&one, &two] {
        let reply = app.client.call(&account(3), &json!({})).await;
        assert_eq!(reply.json(), json!({"balance": 0}));
    }
    for app in [&mut one, &mut two] {
        let ended = app.terminate().await;
        assert_eq!(ended.code, Some(0), "{}", ended.printed);
    }
    bank.aws.stop().await;
}

fn signal(app: &Dev, signal: &str) {
    let pid = app.pid().to_string();
    let mut kill = std::process::Command::new("kill");
    assert!(kill.args([signal, &pid]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_sleeps_too_long_loses_its_partitions_and_goes_on_as_a_member() {
    let bank = Bank::open().await;
    let mut transfers = Transfers::default();
    let mut one = bank.setup.start().await;
    let mut two = bank.setup.start().await;
    have(&one, &[4, 4]).await;
    transfers.make(&[&one, &two], 40).await;
    signal(&two, "-STOP");
    let awake = [&one];
    let making = transfers.make(&awake, 40);
    let waking = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        signal(&two, "-CONT");
    };
    tokio::join!(making, waking);
    transfers.make(&[&one, &two], 40).await;
    have(&one, &[4, 4]).await;
    transfers.are_balanced(&two).await;

    // A process that would take all partitions at once is refused.
    let alone = bank.aws.setup("2s").run_to_end().await;
    assert_eq!(alone.code, Some(2), "{}", alone.printed);
    let reason = "start this one with --peer too";
    assert!(alone.printed.contains(reason), "{}", alone.printed);
    // A roster that was deleted is made again, with the owners that there are.
    delete_roster(&bank.aws).await;
    transfers.make(&[&one, &two], 40).await;
    have(&one, &[4, 4]).await;
    transfers.are_balanced(&two).await;
    for app in [&mut one, &mut two] {
        let ended = app.terminate().await;
        assert_eq!(ended.code, Some(0), "{}", ended.printed);
        assert!(!ended.printed.contains("panicked"), "{}", ended.printed);
    }

    // Without members, one process may own all partitions. The next member waits for its end.
    let mut alone = bank.aws.setup("2s").start().await;
    let mut member = bank.setup.start_standby().await;
    transfers.make(&[&alone], 20).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(
        !member.printed().contains("claimed"),
        "{}",
        member.printed()
    );
    let ended = alone.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    member.is_ready().await;
    have(&member, &[8]).await;
    transfers.are_balanced(&member).await;
    let ended = member.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    bank.aws.stop().await;
}

/// Deletes the roster, as an operator could.
async fn delete_roster(aws: &Aws) {
    let dynamodb = aws_sdk_dynamodb::Client::new(&sdk(aws.moto.endpoint()));
    let items = dynamodb.scan().table_name("leases").send().await.unwrap();
    let keys = items.items().iter().map(|item| item["pk"].clone());
    let is_roster = |key: &AttributeValue| key.as_s().unwrap().ends_with("#roster");
    let roster = keys.into_iter().find(is_roster).unwrap();
    let delete = dynamodb.delete_item().table_name("leases");
    delete.key("pk", roster).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_awaits_long_invocations_and_is_orderly_when_they_take_too_long() {
    let bank = Bank::open().await;
    let mut one = bank.setup.start().await;
    let two = bank.setup.start().await;
    have(&one, &[4, 4]).await;
    // Each partition of the process that stops has a call of 2 s, or of longer than it waits.
    let calls = |seconds: u64| {
        let client = two.client.clone();
        let calls = (0..ACCOUNTS).map(move |number| {
            let call = client.to_call(&account(number)).timeout("60s");
            async move {
                let body = json!({"sleep": seconds});
                let call = call.json(&body);
                let call = call.key(format!("sleep-{seconds}-{number}"));
                call.send_until_answered().await.status
            }
        });
        futures::future::join_all(calls.take(8))
    };
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        one.terminate().await
    };
    let (statuses, ended) = tokio::join!(calls(2), stopping);
    assert_eq!(statuses, [200; 8]);
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    let failed = "partition failed in this process";
    assert!(!ended.printed.contains(failed), "{}", ended.printed);

    let mut three = bank.setup.start().await;
    have(&two, &[4, 4]).await;
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        three.terminate().await
    };
    let (statuses, ended) = tokio::join!(calls(12), stopping);
    assert_eq!(statuses, [200; 8]);
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    assert!(!ended.printed.contains(failed), "{}", ended.printed);
    assert!(!ended.printed.contains("did not stop"), "{}", ended.printed);
    bank.aws.stop().await;
}
