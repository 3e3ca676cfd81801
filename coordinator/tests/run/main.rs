//! `satchel run` as a process: state in S3 and leases in DynamoDB (moto), functions over the Invoke
//! API of dev's Lambda with real handlers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use satchel::dev::lambda::invoke_api::{InvokeApi, Served};
use satchel::dev::lambda::{FunctionSpec, Launcher, LocalLambda, LogLines, Program, exec_handler};
use satchel::metrics::Metrics;
use satchel_testkit::{Moto, Setup, example};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

mod bundles;
mod clock;
mod commit_log;
mod faults;
mod handover;
mod hanging;
mod load;
mod partitions;
mod peers;
mod queues;
mod refusals;
mod requests;
mod resharding;
mod serving;
mod sources;
mod spread;

/// Secret key that must not appear in any output.
const SECRET: &str = "the-secret-key-of-the-test";

/// Environment variable of the file of the administration token, and the token.
const ADMIN_TOKEN: (&str, &str) = ("SATCHEL_ADMIN_TOKEN_FILE", "s3cret");

/// Bucket that exists from the start.
const BUCKET: &str = "state-of-the-test";

/// Emulators of the AWS services that `satchel run` uses, and a module file of an application on
/// them.
struct Aws {
    moto: Moto,
    lambda: Arc<LocalLambda>,
    api: InvokeApi,
    lambda_endpoint: String,
    dir: tempfile::TempDir,
    _server: JoinSet<()>,
}

impl Aws {
    /// Starts everything with the handler of the greeter example as the function `greeter`.
    async fn with_greeter() -> Self {
        let module = "
kind: satchel.endpoints.v1/lambda
spec:
  functions: example/*
  functionName: greeter
";
        let program = Program::Cargo {
            bin: "greeter".to_owned(),
            release: false,
        };
        Self::with(program, example("greeter"), module).await
    }

    /// Starts everything with one function, `greeter`, whose handlers run `program` in `dir`.
    async fn with(program: Program, dir: PathBuf, module: &str) -> Self {
        let moto = Moto::start();
        let spec = FunctionSpec {
            name: "greeter".to_owned(),
            dir,
            program,
            environment: Vec::new(),
            processes_max: 10,
            memory_mb: 256,
            watch: false,
            launcher: Launcher::new(
                env!("CARGO_BIN_EXE_satchel"),
                [exec_handler::SUBCOMMAND.into()],
            ),
            log_lines: LogLines::stderr(),
        };
        let lambda = Arc::new(LocalLambda::start(spec).await.unwrap());
        let api = InvokeApi::of(vec![Served {
            name: "greeter".to_owned(),
            lambda: Arc::clone(&lambda),
            timeout: Duration::from_secs(30),
            qualifiers: vec!["live".to_owned()],
            concurrency_max: None,
        }]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lambda_endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        let serving = api.clone();
        server.spawn(async move {
            let stopped = std::future::pending();
            serving
                .serve(listener, Metrics::new(), stopped)
                .await
                .unwrap();
        });
        let config = aws_sdk_s3::config::Builder::from(&sdk(moto.endpoint()));
        let s3 = aws_sdk_s3::Client::from_conf(config.force_path_style(true).build());
        s3.create_bucket().bucket(BUCKET).send().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("module.yaml"), module).unwrap();
        std::fs::write(dir.path().join("nothing"), "").unwrap();
        Self {
            moto,
            lambda,
            api,
            lambda_endpoint,
            dir,
            _server: server,
        }
    }

    /// The application in production, which creates its lease table at the start.
    fn setup(&self, lease_time: &str) -> Setup {
        let setup = Setup::of(self.dir.path())
            .in_production(format!("s3://{BUCKET}/app"))
            .env("SATCHEL_LEASE_TABLE", "leases")
            .env("SATCHEL_CREATE_LEASE_TABLE", "true")
            .env("SATCHEL_LEASE_TIME", lease_time);
        let environment = self.environment().into_iter();
        environment.fold(setup, |setup, (name, value)| setup.env(name, value))
    }

    /// Environment that directs every AWS client to the emulators and away from the AWS
    /// configuration of this machine.
    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.moto.endpoint().to_owned()),
            ("AWS_ENDPOINT_URL_LAMBDA", self.lambda_endpoint.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIDOFTHETEST".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_CONFIG_FILE", self.nothing()),
            ("AWS_SHARED_CREDENTIALS_FILE", self.nothing()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// Creates a stream, a queue, a topic, an event bus and a table of this name.
    async fn create_one_of_each(&self, name: &str) {
        let sdk = sdk(self.moto.endpoint());
        let kinesis = aws_sdk_kinesis::Client::new(&sdk);
        let stream = kinesis.create_stream().stream_name(name).shard_count(1);
        stream.send().await.unwrap();
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        sqs.create_queue().queue_name(name).send().await.unwrap();
        let sns = aws_sdk_sns::Client::new(&sdk);
        sns.create_topic().name(name).send().await.unwrap();
        let events = aws_sdk_eventbridge::Client::new(&sdk);
        events.create_event_bus().name(name).send().await.unwrap();
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let key = AttributeDefinition::builder().attribute_name("pk");
        let key = key.attribute_type(ScalarAttributeType::S).build().unwrap();
        let schema = KeySchemaElement::builder().attribute_name("pk");
        let schema = schema.key_type(KeyType::Hash).build().unwrap();
        let table = dynamodb.create_table().table_name(name);
        let table = table.attribute_definitions(key).key_schema(schema);
        let table = table.billing_mode(BillingMode::PayPerRequest);
        table.send().await.unwrap();
    }

    /// Path of a file with the administration token.
    fn token(&self) -> String {
        let path = self.dir.path().join("token");
        std::fs::write(&path, ADMIN_TOKEN.1).unwrap();
        path.display().to_string()
    }

    fn nothing(&self) -> String {
        self.dir.path().join("nothing").display().to_string()
    }

    async fn stop(self) {
        self.lambda.shutdown().await;
    }
}

/// An AWS configuration that takes nothing from this machine.
fn sdk(endpoint: &str) -> SdkConfig {
    let key = Credentials::new("AKIDOFTHETEST", SECRET, None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(key))
        .endpoint_url(endpoint)
        .build()
}
