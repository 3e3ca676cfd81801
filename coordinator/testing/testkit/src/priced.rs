//! S3, DynamoDB, Lambda and Kinesis with the latency of AWS, throttling, and a bill.
//!
//! ```text
//!  satchel run ──HTTP──► port of a service ─ throttle ─ half the latency ─ effect ─ the rest
//!                          │                                                   │
//!                          └────────────── counted by operation ───────────────┴─► Bill
//! ```
//!
//! The emulators of [`crate::Cloud`] show that requests are right. These stand-ins show what they
//! cost and how long they take: each operation has a distribution of latencies (see [`Latency`]),
//! drawn from one seed, and is counted as AWS bills it (see [`Bill`]). They know the operations
//! that this project uses, and refuse others by name. Prices are not here: they are the
//! coordinator's.
//!
//! All services run in a thread of their own with a runtime of its own, on loopback ports, until
//! the [`PricedCloud`] is dropped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use satchel_local_streams::Streams;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::dev::Setup;

use self::dynamodb::DynamoDb;
use self::kinesis::Kinesis;
use self::lambda::Lambda;
pub(crate) use self::latency::Random;
use self::s3::S3;
use self::server::{Conditions, Port, serve};

pub use self::bill::{Bill, PricedService, Usage};
pub use self::lambda::PricedFunction;
pub use self::latency::{Latency, Throttle};
pub use self::streams::PricedFollower;

mod bill;
mod dynamodb;
mod kinesis;
mod lambda;
mod latency;
mod s3;
mod server;
mod streams;

/// Bucket that exists from the start.
const BUCKET: &str = "roots";

/// Number of threads that serve.
const THREADS: usize = 2;

/// Options of [`PricedCloud`].
#[derive(Debug)]
pub struct PricedOptions {
    seed: u64,
    conditions: BTreeMap<PricedService, Conditions>,
    functions: BTreeMap<String, Arc<PricedFunction>>,
    kinesis_limits: bool,
}

impl Default for PricedOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl PricedOptions {
    /// Services that answer at once and never throttle.
    pub fn new() -> Self {
        let conditions = ALL.map(|service| {
            let none = Conditions {
                latency: Latency::NONE,
                latencies: BTreeMap::new(),
                throttle: Throttle::NONE,
            };
            (service, none)
        });
        Self {
            seed: 1,
            conditions: conditions.into(),
            functions: BTreeMap::new(),
            kinesis_limits: true,
        }
    }

    /// Services with latencies like those of AWS within a region: S3 25 ms for writes (99th
    /// percentile 80 ms) and 15 ms for reads (60 ms), DynamoDB 5 ms (15 ms), Kinesis 15 ms (50 ms)
    /// for writes and 8 ms (25 ms) for reads, and functions that take 12 ms (40 ms).
    pub fn like_aws() -> Self {
        Self::new()
            .latency(PricedService::S3, Latency::of(25.0, 80.0))
            .latency_of(PricedService::S3, "GetObject", Latency::of(15.0, 60.0))
            .latency(PricedService::DynamoDb, Latency::of(5.0, 15.0))
            .latency(PricedService::Lambda, Latency::of(12.0, 40.0))
            .latency(PricedService::Kinesis, Latency::of(8.0, 25.0))
            .latency_of(
                PricedService::Kinesis,
                "PutRecords",
                Latency::of(15.0, 50.0),
            )
            .latency_of(PricedService::Kinesis, "PutRecord", Latency::of(15.0, 50.0))
    }

    /// Sets the seed of all random numbers.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the latency of all operations of a service that have none of their own.
    #[must_use]
    pub fn latency(mut self, service: PricedService, latency: Latency) -> Self {
        self.conditions_of(service).latency = latency;
        self
    }

    /// Sets the latency of one operation.
    #[must_use]
    pub fn latency_of(mut self, service: PricedService, operation: &str, latency: Latency) -> Self {
        let latencies = &mut self.conditions_of(service).latencies;
        latencies.insert(operation.to_owned(), latency);
        self
    }

    /// Sets which requests of a service are throttled.
    #[must_use]
    pub fn throttle(mut self, service: PricedService, throttle: Throttle) -> Self {
        self.conditions_of(service).throttle = throttle;
        self
    }

    /// Adds a function.
    #[must_use]
    pub fn function(mut self, name: &str, function: PricedFunction) -> Self {
        self.functions.insert(name.to_owned(), Arc::new(function));
        self
    }

    /// Lets streams take any number of reads and writes, unlike Kinesis.
    #[must_use]
    pub fn unlimited_streams(mut self) -> Self {
        self.kinesis_limits = false;
        self
    }

    fn conditions_of(&mut self, service: PricedService) -> &mut Conditions {
        let conditions = self.conditions.get_mut(&service);
        conditions.expect("every service has conditions")
    }
}

const ALL: [PricedService; 4] = [
    PricedService::S3,
    PricedService::DynamoDb,
    PricedService::Lambda,
    PricedService::Kinesis,
];

/// The running services. Dropping it stops them.
#[derive(Debug)]
pub struct PricedCloud {
    begun: Instant,
    addresses: BTreeMap<PricedService, SocketAddr>,
    ports: BTreeMap<PricedService, Arc<Port>>,
    s3: Arc<S3>,
    dynamodb: Arc<DynamoDb>,
    streams: Streams,
    runtime: Handle,
    roots: AtomicU32,
    /// Contains an empty file that replaces the AWS configuration of this machine.
    empty: TempDir,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl PricedCloud {
    /// Starts all services.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub fn start(options: PricedOptions) -> Self {
        let random = Arc::new(Random::seeded(options.seed));
        let ports = options.conditions.into_iter().map(|(service, conditions)| {
            let port = Port::new(Arc::clone(&random), conditions);
            (service, Arc::new(port))
        });
        let ports: BTreeMap<_, _> = ports.collect();
        let s3 = Arc::new(S3::new(BUCKET));
        let dynamodb = Arc::new(DynamoDb::default());
        let lambda = Arc::new(Lambda::new(options.functions));
        let (stop, stopped) = oneshot::channel();
        let (bound, addresses) = std::sync::mpsc::channel();
        let services = (Arc::clone(&s3), Arc::clone(&dynamodb), lambda);
        let streams = Streams::ephemeral();
        let served = streams.clone();
        let of = ports.clone();
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(THREADS)
                .enable_all()
                .build()
                .expect("a runtime can be built");
            runtime.block_on(async {
                let kinesis = Arc::new(Kinesis::new(served, options.kinesis_limits));
                let mut addresses = BTreeMap::new();
                for (service, port) in of {
                    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
                    let listener = listener.expect("a free port");
                    let address = listener.local_addr().expect("it is bound");
                    addresses.insert(service, address);
                    match service {
                        PricedService::S3 => {
                            tokio::spawn(serve(listener, port, Arc::clone(&services.0)))
                        }
                        PricedService::DynamoDb => {
                            tokio::spawn(serve(listener, port, Arc::clone(&services.1)))
                        }
                        PricedService::Lambda => {
                            tokio::spawn(serve(listener, port, Arc::clone(&services.2)))
                        }
                        PricedService::Kinesis => {
                            tokio::spawn(serve(listener, port, Arc::clone(&kinesis)))
                        }
                    };
                }
                // The receiver waits for it.
                let _ = bound.send((addresses, Handle::current()));
                let _ = stopped.await;
            });
            runtime.shutdown_background();
        });
        let (addresses, runtime) = addresses.recv().expect("the services start");
        Self {
            begun: Instant::now(),
            addresses,
            ports,
            s3,
            dynamodb,
            streams,
            runtime,
            roots: AtomicU32::new(0),
            empty: empty(),
            stop: Some(stop),
            serving: Some(serving),
        }
    }

    /// Base URL of a service.
    pub fn endpoint(&self, service: PricedService) -> String {
        format!("http://{}", self.addresses[&service])
    }

    /// Name of the bucket that exists from the start.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// Environment that directs every AWS client to the services and away from the AWS
    /// configuration of this machine.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let nothing = self.empty.path().join("nothing").display().to_string();
        vec![
            ("AWS_ENDPOINT_URL_S3", self.endpoint(PricedService::S3)),
            (
                "AWS_ENDPOINT_URL_DYNAMODB",
                self.endpoint(PricedService::DynamoDb),
            ),
            (
                "AWS_ENDPOINT_URL_LAMBDA",
                self.endpoint(PricedService::Lambda),
            ),
            (
                "AWS_ENDPOINT_URL_KINESIS",
                self.endpoint(PricedService::Kinesis),
            ),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIDOFTHETEST".to_owned()),
            (
                "AWS_SECRET_ACCESS_KEY",
                "the-secret-key-of-the-test".to_owned(),
            ),
            ("AWS_CONFIG_FILE", nothing.clone()),
            ("AWS_SHARED_CREDENTIALS_FILE", nothing),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// The application of a module file as `satchel run` starts it here: state in S3 under a root
    /// of its own, and a lease in DynamoDB.
    pub fn setup(&self, module: impl Into<std::path::PathBuf>) -> Setup {
        let number = self.roots.fetch_add(1, Ordering::Relaxed);
        let setup = Setup::of(module)
            .in_production(format!("s3://{BUCKET}/root-{number}"))
            .env("SATCHEL_LEASE_TABLE", "leases")
            .env("SATCHEL_CREATE_LEASE_TABLE", "true");
        let variables = self.environment().into_iter();
        variables.fold(setup, |setup, (name, value)| setup.env(name, value))
    }

    /// Use of all services since the start.
    pub fn bill(&self) -> Bill {
        let mut bill = Bill {
            time: self.begun.elapsed(),
            stored_bytes: self.s3.stored_bytes(),
            item_bytes: self.dynamodb.item_bytes(),
            ..Bill::default()
        };
        for (service, port) in &self.ports {
            port.add_to(&mut bill, *service);
        }
        bill
    }

    /// Changes the latency of all operations of a service that have none of their own.
    pub fn set_latency(&self, service: PricedService, latency: Latency) {
        self.ports[&service].conditions().latency = latency;
    }

    /// Changes which requests of a service are throttled.
    pub fn set_throttle(&self, service: PricedService, throttle: Throttle) {
        self.ports[&service].conditions().throttle = throttle;
    }
}

impl Drop for PricedCloud {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            // A panic of the thread has been printed.
            let _ = serving.join();
        }
    }
}

fn empty() -> TempDir {
    let empty = tempfile::tempdir().expect("a directory can be made");
    std::fs::write(empty.path().join("nothing"), "").expect("a file can be made");
    empty
}
