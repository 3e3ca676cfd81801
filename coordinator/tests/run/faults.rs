//! Every service that `satchel run` uses throttles, fails, answers late and closes connections.
//! Nothing is lost or duplicated, and the process recovers without help.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use satchel_testkit::{ProxiedRequest, Proxy, Service, ServiceFault, until_true};

use super::load::{Greetings, Producer, all_are_counted_once, all_are_greeted_once, cloud, module};

/// A service and an operation.
type Operation = (&'static str, String);

/// Faults injected so far, by operation.
#[derive(Clone, Default)]
struct Injected(Arc<Mutex<BTreeMap<Operation, BTreeSet<ServiceFault>>>>);

impl Injected {
    /// True once these operations have met every kind of fault.
    fn have_met_all(&self, operations: &[(&'static str, &str)]) -> bool {
        let injected = self.0.lock().unwrap();
        operations.iter().all(|(service, operation)| {
            let met = injected.get(&(*service, (*operation).to_owned()));
            met.is_some_and(|met| met.len() == ServiceFault::ALL.len())
        })
    }
}

/// Name of the operation as AWS has it; the HTTP method where it is not in a header.
fn operation(request: &ProxiedRequest<'_>) -> String {
    match request.target.rsplit_once('.') {
        Some((_, operation)) => operation.to_owned(),
        None => request.method.to_string(),
    }
}

/// Share of requests that meet a fault, in percent: higher for operations once a second than for
/// frequent ones.
fn percent(service: &Service, operation: &str) -> u64 {
    match (service.name, operation) {
        ("DynamoDB", _) | ("S3", "GET") => 50,
        _ => 12,
    }
}

/// Starts a proxy that injects faults, the same ones for the same seed and order of requests.
async fn faulty(
    service: &'static Service,
    upstream: &str,
    seed: u64,
    injected: &Injected,
) -> Proxy {
    let proxy = Proxy::start(upstream).await;
    let injected = injected.clone();
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    proxy.decide_with(move |request| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let operation = operation(&request);
        if random % 100 >= percent(service, &operation) {
            return None;
        }
        let at = next.entry(operation.clone()).or_default();
        let kind = ServiceFault::ALL[*at % ServiceFault::ALL.len()];
        *at += 1;
        let mut injected = injected.0.lock().unwrap();
        injected
            .entry((service.name, operation))
            .or_default()
            .insert(kind);
        Some(service.fault(kind))
    });
    proxy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_all_services_lose_nothing_and_double_nothing_without_a_restart() {
    meet_faults(&[], ("S3", "PUT")).await;
}

/// As above, with the commit log in a table. `cargo test -p satchel --test run -- --ignored table`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half a minute; the adapters' tests have the same faults"]
async fn nor_do_they_with_the_commit_log_in_a_table() {
    let in_table = [
        ("SATCHEL_COMMIT_LOG", "dynamodb:commits"),
        ("SATCHEL_CREATE_COMMIT_LOG_TABLE", "true"),
    ];
    meet_faults(&in_table, ("DynamoDB", "GetItem")).await;
}

/// Runs an application with this environment until every service has met every fault, at the
/// operations of all and at `further`.
async fn meet_faults(environment: &[(&str, &str)], further: (&'static str, &'static str)) {
    let seed = std::env::var("RUN_FAULTS_SEED").map_or(1, |seed| seed.parse().unwrap());
    let cloud = cloud(2).await;
    let begun = Instant::now();
    let injected = Injected::default();
    let s3 = faulty(&Service::S3, cloud.moto(), seed, &injected).await;
    let dynamodb = faulty(&Service::DYNAMODB, cloud.moto(), seed, &injected).await;
    let kinesis = faulty(&Service::KINESIS, cloud.kinesis(), seed, &injected).await;
    let lambda = faulty(&Service::LAMBDA, cloud.lambda(), seed, &injected).await;
    let dir = tempfile::tempdir().unwrap();
    let module = module(dir.path(), "");
    // Late answers must exceed the timeout.
    let text = std::fs::read_to_string(&module).unwrap();
    let short_timeout = "  functionName: greeter\n  timeout: 1s\n";
    std::fs::write(
        &module,
        text.replace("  functionName: greeter\n", short_timeout),
    )
    .unwrap();
    let setup = cloud
        .setup(&module)
        .env("AWS_ENDPOINT_URL_S3", s3.endpoint())
        .env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.endpoint())
        .env("AWS_ENDPOINT_URL_KINESIS", kinesis.endpoint())
        .env("AWS_ENDPOINT_URL_LAMBDA", lambda.endpoint())
        .env("SATCHEL_S3_TIMEOUT", "1s");
    let environment = environment.iter();
    let setup = environment.fold(setup, |setup, (name, value)| setup.env(name, *value));
    let mut app = setup.start().await;
    let mut greetings = Greetings::of(&cloud);
    let producer = Producer::begin(&cloud, 200);
    let operations = [
        further,
        ("S3", "GET"),
        ("DynamoDB", "PutItem"),
        ("Kinesis", "GetRecords"),
        ("Kinesis", "PutRecords"),
        ("Lambda", "POST"),
    ];
    until_true("every fault injected", async || {
        greetings.read_new().await;
        injected.have_met_all(&operations)
    })
    .await;
    let put = producer.end().await;
    all_are_greeted_once(&mut greetings, put).await;
    all_are_counted_once(&app.client, put).await;
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    let injected = injected.0.lock().unwrap().clone();
    let took = begun.elapsed();
    eprintln!("{put} records in {took:.1?}, seed {seed}: {injected:?}");
}
