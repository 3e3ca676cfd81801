//! The greeter in production, at stand-ins.

use std::sync::Arc;
use std::time::Duration;

use satchel_testkit::{
    Client, Dev, Latency, PricedCloud, PricedFunction, PricedOptions, PricedService, Setup,
};
use serde_json::json;
use tempfile::TempDir;

use crate::relay;

/// Memory of the function in MB.
const FUNCTION_MEMORY_MB: u32 = 256;

/// Token of the administration port.
pub(crate) const ADMIN_TOKEN: &str = "token";

/// Table of the commit log, if it lies in one.
pub(crate) const LOG_TABLE: &str = "commits";

/// Settings of an application.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// `--commit-pace`, such as `50ms`.
    pub(crate) pace: Option<&'static str>,
    /// `--commit-depth`.
    pub(crate) depth: Option<u64>,
    /// True if the commit log is in a table of DynamoDB.
    pub(crate) log_in_table: bool,
    /// `maxLinger` of the endpoint, such as `10ms`.
    pub(crate) linger: Option<&'static str>,
    /// Further documents of the module file.
    pub(crate) documents: &'static str,
    /// Further arguments.
    pub(crate) arguments: Vec<String>,
}

/// A running application and its services.
pub(crate) struct Application {
    pub(crate) cloud: Arc<PricedCloud>,
    pub(crate) client: Client,
    pub(crate) app: Dev,
    /// Setup of further processes.
    pub(crate) setup: Setup,
    _dir: TempDir,
}

impl Application {
    /// Starts it with streams `names` and `greetings` of four shards each.
    pub(crate) async fn start(settings: &Settings) -> Self {
        let options = PricedOptions::like_aws()
            .latency(PricedService::Lambda, Latency::of(12.0, 14.0))
            .function(
                "greeter",
                PricedFunction::new(relay::bind(greeter::functions()), FUNCTION_MEMORY_MB),
            );
        let cloud = PricedCloud::start(options);
        for stream in ["names", "greetings"] {
            cloud.create_stream(stream, 4).await;
        }
        let linger = settings
            .linger
            .map(|linger| format!("  maxLinger: {linger}\n"));
        let module = format!(
            "kind: satchel.endpoints.v1/lambda\nspec:\n  functions: example/*\n  \
             functionName: greeter\n{}{}",
            linger.unwrap_or_default(),
            settings.documents
        );
        let dir = tempfile::tempdir().expect("a directory can be made");
        let file = dir.path().join("module.yaml");
        std::fs::write(&file, module).expect("a file can be made");
        let mut setup = cloud.setup(file).env("SATCHEL_LOG", "warn,satchel=info");
        if let Some(pace) = settings.pace {
            setup = setup.arg(format!("--commit-pace={pace}"));
        }
        if settings.log_in_table {
            setup = setup.arg(format!("--commit-log=dynamodb:{LOG_TABLE}"));
            setup = setup.arg("--create-commit-log-table");
        }
        if let Some(depth) = settings.depth {
            setup = setup.arg(format!("--commit-depth={depth}"));
        }
        let token = dir.path().join("token");
        std::fs::write(&token, ADMIN_TOKEN).expect("a file can be made");
        setup = setup.env("SATCHEL_ADMIN_TOKEN_FILE", token.display().to_string());
        for argument in &settings.arguments {
            setup = setup.arg(argument);
        }
        let app = setup.start().await;
        Self {
            client: app.client.clone(),
            cloud: Arc::new(cloud),
            app,
            setup,
            _dir: dir,
        }
    }

    /// Calls one address and waits for the answer.
    pub(crate) async fn call(&self, number: usize) {
        call(self.client.clone(), number).await;
    }

    /// Waits until what came before has no more effect on commits.
    pub(crate) async fn quiet(&self) {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
}

/// Calls one of many addresses, so that hardly any is busy.
pub(crate) async fn call(client: Client, number: usize) {
    let target = format!("example/greeter/guest-{}", number % 50_000);
    let reply = client.call(&target, &json!({"name": "Alice"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}
