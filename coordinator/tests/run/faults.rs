//! Every service that `satchel run` uses has bad days: it throttles, fails, answers too late, breaks off. Nothing is lost, nothing is doubled, and the process
//! goes on by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use satchel_testkit::{Asked, Proxy, Service, Trouble, until_true};

use super::load::{Greetings, Producer, all_are_counted_once, all_are_greeted_once, cloud, module};

/// A service and what was asked of it.
type Operation = (&'static str, String);

/// What struck.
#[derive(Clone, Default)]
struct Struck(Arc<Mutex<BTreeMap<Operation, BTreeSet<Trouble>>>>);

impl Struck {
    /// Whether these operations have met every kind of fault.
    fn have_met_all(&self, operations: &[(&'static str, &str)]) -> bool {
        let struck = self.0.lock().unwrap();
        operations.iter().all(|(service, operation)| {
            let met = struck.get(&(*service, (*operation).to_owned()));
            met.is_some_and(|met| met.len() == Trouble::ALL.len())
        })
    }
}

/// The name of what is asked for, as AWS has it where it is easily told.
fn operation(asked: &Asked<'_>) -> String {
    match asked.target.rsplit_once('.') {
        Some((_, operation)) => operation.to_owned(),
        None => asked.method.to_string(),
    }
}

/// How many of a hundred requests are treated badly: more of those that are made once a second than of those that are made all the time.
fn percent(service: &Service, operation: &str) -> u64 {
    match (service.name, operation) {
        ("DynamoDB", _) | ("S3", "GET") => 50,
        _ => 12,
    }
}

/// A proxy in front of a service that treats requests badly, the same ones for the same seed and order of requests.
async fn bad_days(service: &'static Service, upstream: &str, seed: u64, struck: &Struck) -> Proxy {
    let proxy = Proxy::start(upstream).await;
    let struck = struck.clone();
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    proxy.obey(move |asked| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let operation = operation(&asked);
        if random % 100 >= percent(service, &operation) {
            return None;
        }
        let at = next.entry(operation.clone()).or_default();
        let kind = Trouble::ALL[*at % Trouble::ALL.len()];
        *at += 1;
        let mut struck = struck.0.lock().unwrap();
        struck
            .entry((service.name, operation))
            .or_default()
            .insert(kind);
        Some(service.fault(kind))
    });
    proxy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_services_do_nothing_is_lost_or_doubled_and_nobody_need_restart_anything() {
    let seed = std::env::var("RUN_FAULTS_SEED").map_or(1, |seed| seed.parse().unwrap());
    let cloud = cloud(2).await;
    let begun = Instant::now();
    let struck = Struck::default();
    let s3 = bad_days(&Service::S3, cloud.moto(), seed, &struck).await;
    let dynamodb = bad_days(&Service::DYNAMODB, cloud.moto(), seed, &struck).await;
    let kinesis = bad_days(&Service::KINESIS, cloud.kinesis(), seed, &struck).await;
    let lambda = bad_days(&Service::LAMBDA, cloud.lambda(), seed, &struck).await;
    let dir = tempfile::tempdir().unwrap();
    let module = module(dir.path(), "");
    // So that what is late is too late.
    let text = std::fs::read_to_string(&module).unwrap();
    let impatient = "  functionName: greeter\n  timeout: 1s\n";
    std::fs::write(
        &module,
        text.replace("  functionName: greeter\n", impatient),
    )
    .unwrap();
    let setup = cloud
        .setup(&module)
        .env("AWS_ENDPOINT_URL_S3", s3.endpoint())
        .env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.endpoint())
        .env("AWS_ENDPOINT_URL_KINESIS", kinesis.endpoint())
        .env("AWS_ENDPOINT_URL_LAMBDA", lambda.endpoint())
        .env("SATCHEL_S3_TIMEOUT", "1s");
    let mut app = setup.start().await;
    let mut greetings = Greetings::of(&cloud);
    let producer = Producer::begin(&cloud, 200);
    let operations = [
        ("S3", "PUT"),
        ("S3", "GET"),
        ("DynamoDB", "PutItem"),
        ("Kinesis", "GetRecords"),
        ("Kinesis", "PutRecords"),
        ("Lambda", "POST"),
    ];
    until_true("every fault struck", async || {
        greetings.read_on().await;
        struck.have_met_all(&operations)
    })
    .await;
    let put = producer.end().await;
    all_are_greeted_once(&mut greetings, put).await;
    all_are_counted_once(&app.client, put).await;
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    let struck = struck.0.lock().unwrap().clone();
    let took = begun.elapsed();
    eprintln!("{put} records in {took:.1?}, seed {seed}: {struck:?}");
}
