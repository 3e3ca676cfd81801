//! An application with one component of each kind, and outcomes of its requests, for tests.

use std::path::Path;
use std::sync::Arc;

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::clock::Reading;
use satchel_engine::dispatcher::EndpointHealth;
use satchel_engine::invocation::{
    AttemptId, Batch, BundleOutcome, EndpointIndex, Failure, FailureKind,
};

use super::Status;
use crate::module::Application;

const MODULE: &str = "
kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: greeter}
---
kind: io.statefun.endpoints.v2/http
spec: {functions: web/one, urlPathTemplate: 'http://127.0.0.1:9/{function.name}'}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/names
  awsRegion: {type: specific, id: eu-central-1}
  streams:
    - {stream: names, valueType: example/name, targets: [example/greeter]}
---
kind: io.statefun.kinesis.v1/egress
spec: {id: example/out, awsRegion: {type: specific, id: eu-central-1}}
";

/// Endpoint `greeter` of [`application`].
pub(crate) const GREETER: EndpointIndex = EndpointIndex(0);

/// Difference of the boot-time clock from the calendar, in ms.
pub(crate) const BOOTED_AT_MS: u64 = 500;

/// Returns the application.
pub(crate) fn application() -> Application {
    Application::parse(Path::new("module.yaml"), MODULE, &|_| None).unwrap()
}

/// Returns a batch for `example/greeter/<id>`.
pub(crate) fn batch(id: &str, number: u64) -> Arc<Batch> {
    Arc::new(Batch {
        attempt: AttemptId {
            partition: 0,
            epoch: 1,
            number,
        },
        target: Address::new(FunctionType::new("example", "greeter"), id),
        state: vec![],
        declarations: [].into(),
        messages: vec![],
        bytes: 0,
    })
}

/// Returns the outcome of a request that failed as a whole.
pub(crate) fn failure(kind: FailureKind, message: &str) -> BundleOutcome {
    BundleOutcome::Failed(Failure::new(kind, message))
}

/// Returns the health of an endpoint that is down since a moment of the calendar.
pub(crate) fn down_since(calendar_ms: u64) -> EndpointHealth {
    EndpointHealth {
        down_since_ms: Some(calendar_ms - BOOTED_AT_MS),
        ..EndpointHealth::default()
    }
}

impl Status {
    /// Ends a request to `greeter`, which the dispatcher judges by `health`.
    pub(crate) fn greeter_ended(
        &self,
        calendar_ms: u64,
        batches: &[Arc<Batch>],
        outcome: BundleOutcome,
        health: EndpointHealth,
    ) {
        let now = Reading {
            boot_ms: calendar_ms.saturating_sub(BOOTED_AT_MS),
            calendar_ms,
        };
        let endpoint = (GREETER, &"greeter".into());
        self.request_ended(now, endpoint, batches, outcome, |_| health);
    }
}
