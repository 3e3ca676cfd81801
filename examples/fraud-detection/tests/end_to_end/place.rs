//! Where the application runs: the scenarios need not know.

use std::path::Path;

use satchel_testkit::{Cloud, Dev, Record, Setup, example};

/// The application, running.
pub(crate) struct App {
    /// The process; ended before what it runs on.
    pub(crate) process: Dev,
    place: Place,
}

enum Place {
    /// All of it in `satchel dev`: local streams, local state.
    Dev,
    /// `satchel run`: records come and go by Kinesis, functions are invoked over Lambda's API, state lies in S3 and the lease in DynamoDB.
    Aws {
        cloud: Box<Cloud>,
        /// Holds the module file.
        _dir: tempfile::TempDir,
    },
}

impl App {
    /// With these variables for its handlers.
    pub(crate) async fn in_dev(environment: &[(&str, &str)]) -> Self {
        let setup = Setup::of(example("fraud-detection"));
        let variables = environment.iter();
        let setup = variables.fold(setup, |setup, (name, value)| setup.env(name, *value));
        Self {
            process: setup.start().await,
            place: Place::Dev,
        }
    }

    /// With these variables for its handlers.
    pub(crate) async fn in_production(environment: &[(&str, &str)]) -> Self {
        let module = example("fraud-detection").join("module.yaml");
        let handler = Path::new(env!("CARGO_BIN_EXE_fraud-detection"));
        let cloud = Cloud::start(&module, handler, environment).await;
        for (stream, shards) in [
            ("transactions", 2),
            ("fraud-confirmations", 2),
            ("alerts", 2),
        ] {
            cloud.create_stream(stream, shards).await;
        }
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("module.yaml");
        // In dev alerts are raised exactly once by themselves; here it has to be asked for.
        let exactly_once = "  delivery: exactly-once\n  requestTimeout: 1s\n";
        let text = std::fs::read_to_string(&module).unwrap();
        std::fs::write(&copy, text + exactly_once).unwrap();
        let process = cloud.setup(&copy).start().await;
        let place = Place::Aws {
            cloud: Box::new(cloud),
            _dir: dir,
        };
        Self { process, place }
    }

    /// Puts a record into a stream.
    pub(crate) async fn put(&self, stream: &str, key: &str, data: String) {
        match &self.place {
            Place::Dev => drop(self.process.client.put(stream, key, data).await),
            Place::Aws { cloud, .. } => cloud.put(stream, key, data).await,
        }
    }

    /// What a stream holds, once there are `count` records in it.
    pub(crate) async fn records_when(&self, stream: &str, count: usize) -> Vec<Record> {
        match &self.place {
            Place::Dev => self.process.client.records_when(stream, count).await,
            Place::Aws { cloud, .. } => cloud.records_when(stream, count).await,
        }
    }
}
