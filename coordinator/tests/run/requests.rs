//! Requests are counted at stand-ins with the latency of AWS: what an idle application, calls and
//! records cause, and whether `satchel cost` knows it.
//!
//! The long form has fewer requests at the edges of its time:
//!
//! ```text
//! SATCHEL_TEST_REQUESTS_SECONDS=60 cargo test --workspace --test run -- --nocapture requests
//! ```

use std::time::Duration;

use satchel::cost::{Architecture, CommitLog, Load, Streams, Tasks, Usage, estimate};
use satchel_testkit::{
    Bill, Dev, Latency, OpenLoop, PricedCloud, PricedFunction, PricedOptions, PricedService,
    until_true,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use PricedService::{DynamoDb, Kinesis, Lambda, S3};

/// Latencies of S3, DynamoDB and functions: median and 99th percentile, in ms.
const PUT_MS: (f64, f64) = (25.0, 80.0);
const TABLE_MS: (f64, f64) = (5.0, 15.0);
const FUNCTION_MS: (f64, f64) = (12.0, 20.0);

/// Table of the commit log, if it lies in one.
const LOG_TABLE: &str = "commits";

/// Lease time of the applications, which is short so that there are renewals to count.
const LEASE_TIME_MS: f64 = 2_000.0;

const MODULE: &str = "
kind: satchel.endpoints.v1/lambda
spec:
  functions: example/*
  functionName: greeter
";

const STREAMS: &str = "
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/names
  awsRegion: {type: default}
  startupPosition: {type: earliest}
  streams:
    - stream: names
      valueType: example/name
      targets: [example/greeter]
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: example/greetings
  awsRegion: {type: default}
";

/// Time of a measurement, in the short form unless the environment says otherwise.
fn seconds(short: u64) -> Duration {
    let set = std::env::var("SATCHEL_TEST_REQUESTS_SECONDS").ok();
    let set = set.map(|set| {
        set.parse()
            .expect("SATCHEL_TEST_REQUESTS_SECONDS is a number")
    });
    Duration::from_secs(set.unwrap_or(short))
}

/// The greeter on stand-ins.
struct Priced {
    app: Dev,
    cloud: PricedCloud,
    _dir: TempDir,
}

impl Priced {
    async fn start(documents: &str, arguments: &[&str]) -> Self {
        let of = |(median, p99)| Latency::of(median, p99);
        let options = PricedOptions::new()
            .latency(S3, of(PUT_MS))
            .latency(DynamoDb, of(TABLE_MS))
            .latency(Lambda, of(FUNCTION_MS))
            .function("greeter", PricedFunction::new(greeter::functions(), 256));
        let cloud = PricedCloud::start(options);
        for stream in ["names", "greetings"] {
            cloud.create_stream(stream, 1).await;
        }
        let dir = tempfile::tempdir().unwrap();
        let module = dir.path().join("module.yaml");
        std::fs::write(&module, format!("{MODULE}{documents}")).unwrap();
        let lease_time = format!("{LEASE_TIME_MS}ms");
        let setup = cloud.setup(module).env("SATCHEL_LEASE_TIME", lease_time);
        let setup = arguments.iter().fold(setup, |setup, it| setup.arg(*it));
        let app = setup.start().await;
        Self {
            app,
            cloud,
            _dir: dir,
        }
    }

    /// Mean time in ms of the commits while `run` runs, and what it returns.
    async fn commit_ms<T>(&self, run: impl Future<Output = T>) -> (f64, T) {
        let of = async |name: &str| {
            let sample = format!("satchel_commit_seconds_{name}{{partition=\"0\"}}");
            self.app.client.metric(&sample).await.unwrap_or(0.0)
        };
        let before = (of("sum").await, of("count").await);
        let result = run.await;
        let (seconds, count) = (of("sum").await - before.0, of("count").await - before.1);
        (seconds * 1e3 / count, result)
    }

    /// Mean time in ms of the requests to the function while `run` runs, and what it returns.
    async fn invocation_ms<T>(&self, run: impl Future<Output = T>) -> (f64, T) {
        let of = async |name: &str| {
            let sample = format!("satchel_invocation_seconds_{name}{{endpoint=\"greeter\"}}");
            self.app.client.metric(&sample).await.unwrap_or(0.0)
        };
        let before = (of("sum").await, of("count").await);
        let result = run.await;
        let (seconds, count) = (of("sum").await - before.0, of("count").await - before.1);
        (seconds * 1e3 / count, result)
    }

    async fn call(&self, id: &str) {
        let target = format!("example/greeter/{id}");
        let reply = self
            .app
            .client
            .call(&target, &json!({"name": "Alice"}))
            .await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// Waits until no S3 request was made for a while.
    async fn is_quiet(&self) {
        let count = || self.cloud.bill().all_of(S3).requests;
        let (mut requests, mut since) = (count(), Instant::now());
        until_true("no request to S3 is made", async || {
            if count() != requests {
                (requests, since) = (count(), Instant::now());
            }
            since.elapsed() > Duration::from_millis(1_500)
        })
        .await;
    }

    /// Calls at this rate, from many clients, each to an address of its own. Returns the bill of
    /// that time.
    async fn calls(&self, rate: f64, time: Duration) -> Bill {
        let before = self.cloud.bill();
        let load = OpenLoop {
            rate,
            time,
            seed: 1,
        };
        let latencies = load
            .run(|number| {
                let client = self.app.client.clone();
                async move {
                    let target = format!("example/greeter/guest-{}", number % 5_000);
                    let reply = client.call(&target, &json!({"name": "Alice"})).await;
                    assert_eq!(reply.status, 200, "{reply:?}");
                }
            })
            .await;
        let bill = self.cloud.bill().since(&before);
        eprintln!(
            "{rate} calls/s: p50 {:.1} ms, p99 {:.1} ms\n{bill}",
            latencies.percentile_ms(0.5),
            latencies.percentile_ms(0.99)
        );
        bill
    }

    /// Puts records at this rate, a tenth of a second's worth at a time. Returns the bill of that
    /// time.
    async fn records(&self, rate: usize, time: Duration) -> Bill {
        let before = self.cloud.bill();
        let ticks = time.as_millis() / 100;
        let mut interval = tokio::time::interval(Duration::from_millis(100));
        for tick in 0..ticks as usize {
            interval.tick().await;
            let records = (0..rate / 10).map(|number| {
                let key = format!("guest-{}", (tick * rate / 10 + number) % 5_000);
                (key, br#"{"name":"Bob"}"#.to_vec())
            });
            self.cloud.put_all("names", records.collect()).await;
        }
        interval.tick().await;
        let bill = self.cloud.bill().since(&before);
        eprintln!("{rate} records/s\n{bill}");
        bill
    }
}

/// The load as `satchel cost` describes it.
fn load(calls: f64, records: f64) -> Load {
    let mean = |(median, p99)| Latency::of(median, p99).mean_ms();
    Load {
        calls,
        call_bytes: 100.0,
        streams: Streams {
            count: 2,
            shards: Some(1),
            records_in: records,
            records_out: records,
            record_bytes: 60.0,
            read_interval_ms: 200.0,
        },
        function_ms: mean(FUNCTION_MS),
        function_memory_mb: 256.0,
        function_log_bytes: 0.0,
        message_bytes: 100.0,
        state_bytes: 100_000.0,
        log: CommitLog::S3,
        store_ms: mean(PUT_MS),
        commit_pace_ms: 50.0,
        commit_interval_ms: 1_000.0,
        commit_depth: 2.0,
        max_linger_ms: 10.0,
        lease_renewal_ms: LEASE_TIME_MS / 3.0,
        lease_poll_ms: 1_000.0,
        partitions: 1,
        tasks: Tasks {
            count: 1,
            vcpu: 0.25,
            memory_gb: 0.5,
            architecture: Architecture::Arm,
            spot: false,
            public_address: true,
            load_balancer: false,
            peer: false,
            emf: false,
        },
    }
}

/// Quantities that differ from the model's: by more than 10 %, and besides by more than what
/// begins or ends outside of the time.
struct Comparison {
    time: Duration,
    differing: Vec<String>,
}

impl Comparison {
    fn of(bill: &Bill, usage: &Usage) -> Self {
        let mut comparison = Self::of_stores(bill, usage);
        let invoked = bill.of(Lambda, "Invoke");
        let requests = invoked.requests as f64;
        comparison.add("Lambda requests", requests, usage.lambda_requests, 2.0);
        let seconds = invoked.gigabyte_seconds;
        comparison.add("Lambda GB-s", seconds, usage.lambda_gb_seconds, 0.02);
        // Records of the last half of a second leave after the end of the time.
        let units = bill.of(Kinesis, "PutRecords").payload_units as f64;
        let edge = usage.kinesis_units * 0.5;
        comparison.add("Kinesis units", units, usage.kinesis_units, edge);
        comparison
    }

    /// Compares what commits and leases need, alone.
    fn of_stores(bill: &Bill, usage: &Usage) -> Self {
        let mut comparison = Self {
            time: bill.time,
            differing: Vec::new(),
        };
        let requests = |service, operation| bill.of(service, operation).requests as f64;
        let puts = requests(S3, "PutObject");
        comparison.add("S3 PUT", puts, usage.s3_puts, 2.0);
        let gets = requests(S3, "GetObject");
        comparison.add("S3 GET", gets, usage.s3_gets, 2.0);
        let lists = requests(S3, "ListObjectsV2");
        comparison.add("S3 LIST", lists, usage.s3_lists, 2.0);
        let (table, log) = (bill.all_of(DynamoDb), bill.all_of_table(LOG_TABLE));
        let renewals = table.write_units - log.write_units;
        comparison.add("lease writes", renewals, usage.lease_writes, 1.0);
        comparison.add("DynamoDB reads", table.read_units, usage.lease_reads, 1.0);
        comparison.add("log writes", log.write_units, usage.log_writes, 2.0);
        comparison
    }

    fn add(&mut self, name: &str, counted: f64, modelled_rate: f64, edge: f64) {
        let modelled = modelled_rate * self.time.as_secs_f64();
        let compared = format!("{name}: {counted:.2} counted, {modelled:.2} by the model");
        eprintln!("{compared}");
        if (counted - modelled).abs() > modelled * 0.1 + edge {
            self.differing.push(compared);
        }
    }

    fn agrees(&self) -> bool {
        self.differing.is_empty()
    }
}

/// Measures until the model agrees. A machine that is busy with something else makes fewer commits
/// in a second than the pace allows, so a few attempts are allowed.
async fn agree(usage: &Usage, mut measure: impl AsyncFnMut() -> Bill) {
    let mut differing = Vec::new();
    for _ in 0..3 {
        let comparison = Comparison::of(&measure().await, usage);
        if comparison.agrees() {
            return;
        }
        differing = comparison.differing;
    }
    panic!("the model differs from what was counted: {differing:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_an_idle_application_reads_the_roster_as_the_model_says() {
    let priced = Priced::start("", &["--partitions=8", "--peer=127.0.0.1:0"]).await;
    priced.call("alice").await;
    priced.is_quiet().await;
    let load = load(0.0, 0.0);
    let load = Load {
        partitions: 8,
        // Four looks in a lease time.
        lease_poll_ms: LEASE_TIME_MS / 4.0,
        tasks: Tasks {
            peer: true,
            ..load.tasks
        },
        ..load
    };
    agree(&estimate(&load), async || {
        let before = priced.cloud.bill();
        sleep(seconds(10)).await;
        priced.cloud.bill().since(&before)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_application_makes_no_request_to_s3() {
    let priced = Priced::start("", &[]).await;
    priced.call("alice").await;
    priced.is_quiet().await;
    agree(&estimate(&load(0.0, 0.0)), async || {
        let before = priced.cloud.bill();
        sleep(seconds(10)).await;
        let bill = priced.cloud.bill().since(&before);
        eprintln!("idle\n{bill}");
        assert_eq!(bill.all_of(S3).requests, 0, "{bill}");
        assert_eq!(bill.all_of(Lambda).requests, 0, "{bill}");
        bill
    })
    .await;
    priced.call("alice").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_calls_a_second_make_at_most_20_4_puts_a_second_and_what_the_model_says() {
    let priced = Priced::start("", &[]).await;
    // The first calls open connections and fetch declarations.
    priced.calls(50.0, Duration::from_secs(1)).await;
    for rate in [100.0, 20.0] {
        let mut differing = Vec::new();
        for _ in 0..3 {
            let calls = priced.calls(rate, seconds(4));
            let (invocation_ms, bill) = priced.invocation_ms(calls).await;
            let puts = bill.rate(S3, "PutObject");
            assert!(puts <= 20.4, "{puts} PUT/s");
            let usage = returning(&load(rate, 0.0), invocation_ms);
            differing = Comparison::of(&bill, &usage).differing;
            if differing.is_empty() {
                break;
            }
        }
        assert!(differing.is_empty(), "the model differs: {differing:#?}");
    }
}

/// Returns what a load needs whose requests to the function return after `invocation_ms`. What the
/// machine adds to the time of the function lets more messages gather, and is not billed.
fn returning(load: &Load, invocation_ms: f64) -> Usage {
    assert!(
        invocation_ms > load.function_ms * 0.9,
        "an invocation takes {invocation_ms} ms"
    );
    eprintln!("an invocation takes {invocation_ms:.1} ms");
    let usage = estimate(load);
    let later = estimate(&Load {
        function_ms: invocation_ms,
        ..*load
    });
    Usage {
        lambda_requests: later.lambda_requests,
        lambda_gb_seconds: usage.lambda_gb_seconds * later.lambda_requests / usage.lambda_requests,
        ..usage
    }
}

/// Returns the load whose commits take `commit_ms` by the model, each with those before it.
///
/// Without a pace, the time of a commit decides how many there are, and the machine's share of it
/// is not known beforehand.
fn taking(load: &Load, commit_ms: f64) -> Load {
    let (mut low, mut high) = (0.0, commit_ms);
    for _ in 0..20 {
        let store_ms = f64::midpoint(low, high);
        let load = Load { store_ms, ..*load };
        match estimate(&load).commit_ms < commit_ms {
            true => low = store_ms,
            false => high = store_ms,
        }
    }
    Load {
        store_ms: f64::midpoint(low, high),
        ..*load
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_a_short_pace_and_without_one_make_the_requests_that_the_model_says() {
    for (pace, pace_ms) in [("--commit-pace=0ms", 0.0), ("--commit-pace=20ms", 20.0)] {
        let priced = Priced::start("", &[pace]).await;
        priced.calls(50.0, Duration::from_secs(1)).await;
        let load = Load {
            commit_pace_ms: pace_ms,
            ..load(100.0, 0.0)
        };
        let mut differing = Vec::new();
        for _ in 0..3 {
            let calls = priced.calls(load.calls, seconds(4));
            let (commit_ms, bill) = priced.commit_ms(calls).await;
            assert!(
                commit_ms > load.store_ms * 0.8,
                "a commit takes {commit_ms} ms"
            );
            let load = taking(&load, commit_ms);
            eprintln!(
                "{pace}: a commit takes {commit_ms:.1} ms, {:.1} alone",
                load.store_ms
            );
            differing = Comparison::of_stores(&bill, &estimate(&load)).differing;
            if differing.is_empty() {
                break;
            }
        }
        assert!(
            differing.is_empty(),
            "{pace}: the model differs: {differing:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_with_the_commit_log_in_a_table_make_the_requests_that_the_model_says() {
    let log = format!("--commit-log=dynamodb:{LOG_TABLE}");
    let priced = Priced::start("", &[&log, "--create-commit-log-table"]).await;
    priced.calls(50.0, Duration::from_secs(1)).await;
    let mut usage = estimate(&Load {
        log: CommitLog::DynamoDb,
        store_ms: Latency::of(TABLE_MS.0, TABLE_MS.1).mean_ms(),
        commit_pace_ms: 25.0,
        ..load(100.0, 0.0)
    });
    // Deletions, and the reads before them, come an hour later.
    usage.log_writes /= 2.0;
    usage.log_reads = 0.0;
    let mut differing = Vec::new();
    for _ in 0..3 {
        let bill = priced.calls(100.0, seconds(4)).await;
        differing = Comparison::of_stores(&bill, &usage).differing;
        if differing.is_empty() {
            return;
        }
    }
    panic!("the model differs from what was counted: {differing:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_from_stream_to_stream_make_the_requests_that_the_model_says() {
    let priced = Priced::start(STREAMS, &[]).await;
    priced.records(200, Duration::from_secs(1)).await;
    let usage = estimate(&load(0.0, 300.0));
    agree(&usage, async || priced.records(300, seconds(5)).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_of_egress_causes_no_commit_before_the_interval() {
    let priced = Priced::start(STREAMS, &["--commit-interval=3s"]).await;
    priced.call("bob").await;
    priced.is_quiet().await;
    let puts = || priced.cloud.bill().of(S3, "PutObject").requests;
    let before = puts();
    let record = ("bob".to_owned(), br#"{"name":"Bob"}"#.to_vec());
    priced.cloud.put_all("names", vec![record]).await;
    let mut greetings = priced.cloud.follow("greetings").await;
    assert_eq!(greetings.next().await.len(), 1);
    let acknowledged = Instant::now();
    let with_record = puts();
    assert_eq!(
        with_record - before,
        1,
        "the greeting is committed before it leaves"
    );
    sleep(Duration::from_millis(1_800)).await;
    assert_eq!(puts(), with_record, "its acknowledgement waits");
    until_true("the acknowledgement is committed", async || {
        puts() > with_record
    })
    .await;
    let waited = acknowledged.elapsed();
    assert!(waited > Duration::from_secs(2), "{waited:?}");
    assert_eq!(puts() - with_record, 1);
}
