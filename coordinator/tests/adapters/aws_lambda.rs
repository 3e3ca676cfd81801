//! The Invoke API of dev's Lambda with the AWS SDK as its client, and the invoker of `satchel run`
//! on it: real handler processes with the semantics of AWS.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_lambda::error::ProvideErrorMetadata as _;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use satchel::dev::lambda::invoke_api::{InvokeApi, Served};
use satchel::dev::lambda::{FunctionSpec, Launcher, LocalLambda, LogLines, Program, exec_handler};
use satchel::metrics::Metrics;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

mod invoker;
mod semantics;
mod web_pages;

/// A function behind the Invoke API.
struct Fixture {
    sdk: SdkConfig,
    lambda: Arc<LocalLambda>,
    api: InvokeApi,
    _dir: tempfile::TempDir,
    _server: JoinSet<()>,
}

impl Fixture {
    /// Starts a function; `handler` is the source of a Python program.
    async fn of(handler: &str, processes_max: usize, concurrency_max: Option<usize>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("handler.py"), handler).unwrap();
        let command = ["python3", "handler.py"].map(str::to_owned).to_vec();
        let spec = FunctionSpec {
            name: "greeter".into(),
            dir: dir.path().to_owned(),
            program: Program::Command(command),
            environment: Vec::new(),
            processes_max,
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
            name: "greeter".into(),
            lambda: Arc::clone(&lambda),
            timeout: Duration::from_secs(2),
            qualifiers: vec!["live".into()],
            concurrency_max,
        }]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        let serving = api.clone();
        server.spawn(async move {
            serving
                .serve(listener, Metrics::new(), std::future::pending())
                .await
                .unwrap();
        });
        Self {
            sdk: sdk(&format!("http://{address}")),
            lambda,
            api,
            _dir: dir,
            _server: server,
        }
    }

    /// The SDK's default client, without retries.
    fn client(&self) -> Client {
        let config = aws_sdk_lambda::config::Builder::from(&self.sdk)
            .retry_config(aws_config::retry::RetryConfig::disabled());
        Client::from_conf(config.build())
    }

    async fn stop(self) {
        self.lambda.shutdown().await;
    }
}

pub(super) fn sdk(endpoint: &str) -> SdkConfig {
    let key = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(key))
        .endpoint_url(endpoint)
        .build()
}
