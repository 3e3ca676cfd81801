//! Ingress from Kafka and egress to Kafka, against a real broker that the test starts.
//!
//! The broker runs in Java, and Maven fetches it once, into the target directory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod delivering;
mod exactly_once;
mod functions;
mod reading;
mod secure;
mod starting;
mod throughput;

use std::path::PathBuf;

use satchel_testkit::{Dev, Kafka, Setup, until, until_true};
use serde_json::Value;
use tempfile::TempDir;

use functions::Functions;

/// A broker, the functions of an application, and its module file.
struct World {
    kafka: Kafka,
    functions: Functions,
    dir: TempDir,
}

impl World {
    async fn start() -> Self {
        Self::of(Kafka::start()).await
    }

    async fn of(kafka: Kafka) -> Self {
        Self {
            kafka,
            functions: Functions::start().await,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Writes a module file with the functions and these documents, in which `BROKERS` stands for
    /// the address of the broker.
    fn module(&self, documents: &str) -> PathBuf {
        let text = format!(
            "kind: io.statefun.endpoints.v2/http
spec:
  functions: example/*
  urlPathTemplate: {}
---
{}",
            self.functions.url,
            documents.replace("BROKERS", &self.kafka.address())
        );
        let path = self.dir.path().join("module.yaml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The application of a module file with these documents.
    fn setup(&self, documents: &str) -> Setup {
        // The records tell the contexts that functions got, which are those of the records then.
        let untold = Setup::of(self.module(documents)).arg("--trace-messages=0");
        untold.arg("--kafka")
    }
}

/// Ingress from the topic `names`, with further fields.
fn ingress(fields: &str) -> String {
    format!(
        "kind: io.statefun.kafka.v1/ingress
spec:
  id: example/names
  address: BROKERS
  topics:
    - topic: names
      valueType: io.statefun.types/string
      targets: [example/greeter]
{fields}"
    )
}

/// Egress for greetings, with further fields.
fn egress(fields: &str) -> String {
    format!(
        "---
kind: io.statefun.kafka.v1/egress
spec:
  id: example/greetings
  address: BROKERS
{fields}"
    )
}

const EARLIEST: &str = "  startupPosition: {type: earliest}\n";

const EXACTLY_ONCE: &str = "  deliverySemantic: {type: exactly-once}\n";

/// Waits until a process has printed this text.
async fn prints(app: &Dev, text: &str) {
    until_true(&format!("`{text}` is printed"), async || {
        app.printed().contains(text)
    })
    .await;
}

/// Waits until one source is stopped, and returns it as `/readyz` shows it.
async fn stopped(app: &Dev) -> Value {
    until("the source is stopped", async || {
        let ready = app.client.admin(reqwest::Method::GET, "/readyz").await;
        let stopped = ready.json()["stopped_ingresses"].as_array().cloned();
        stopped.unwrap_or_default().into_iter().next()
    })
    .await
}
