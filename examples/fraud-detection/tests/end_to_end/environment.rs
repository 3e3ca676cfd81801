//! The environment of the application, which the scenarios do not depend on.

use std::path::Path;

use satchel_testkit::{Cloud, Dev, Record, Setup, example};

/// The running application.
pub(crate) struct App {
    /// The process. It is dropped first, before the services that it uses.
    pub(crate) process: Dev,
    environment: Environment,
}

enum Environment {
    /// `satchel dev`: local streams, local state.
    Dev,
    /// `satchel run`: streams in Kinesis, functions behind Lambda's API, state in S3, the lease in
    /// DynamoDB.
    Aws {
        cloud: Box<Cloud>,
        /// Directory of the module file.
        _dir: tempfile::TempDir,
    },
}

impl App {
    /// Starts it with these variables for its handlers.
    pub(crate) async fn in_dev(variables: &[(&str, &str)]) -> Self {
        let setup = Setup::of(example("fraud-detection"));
        let variables = variables.iter();
        let setup = variables.fold(setup, |setup, (name, value)| setup.env(name, *value));
        Self {
            process: setup.start().await,
            environment: Environment::Dev,
        }
    }

    /// Starts it with these variables for its handlers.
    pub(crate) async fn in_production(variables: &[(&str, &str)]) -> Self {
        let module = example("fraud-detection").join("module.yaml");
        let handler = Path::new(env!("CARGO_BIN_EXE_fraud-detection"));
        let cloud = Cloud::start(&module, handler, variables).await;
        for (stream, shards) in [
            ("transactions", 2),
            ("fraud-confirmations", 2),
            ("alerts", 2),
        ] {
            cloud.create_stream(stream, shards).await;
        }
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("module.yaml");
        // In dev, alerts are exactly once by default. Here the module file asks for it.
        let exactly_once = "  delivery: exactly-once\n  requestTimeout: 1s\n";
        let text = std::fs::read_to_string(&module).unwrap();
        std::fs::write(&copy, text + exactly_once).unwrap();
        let process = cloud.setup(&copy).start().await;
        Self {
            process,
            environment: Environment::Aws {
                cloud: Box::new(cloud),
                _dir: dir,
            },
        }
    }

    /// Puts a record on a stream.
    pub(crate) async fn put(&self, stream: &str, key: &str, data: String) {
        match &self.environment {
            Environment::Dev => drop(self.process.client.put(stream, key, data).await),
            Environment::Aws { cloud, .. } => cloud.put(stream, key, data).await,
        }
    }

    /// Records of a stream, as soon as it has `count` of them.
    pub(crate) async fn records_when(&self, stream: &str, count: usize) -> Vec<Record> {
        match &self.environment {
            Environment::Dev => self.process.client.records_when(stream, count).await,
            Environment::Aws { cloud, .. } => cloud.records_when(stream, count).await,
        }
    }
}
