//! Module file of the application.

use std::path::Path;

/// Returns the module file, with `handler` as the command of its functions if given, and with
/// additional fields for its egress.
pub(super) fn module(handler: Option<&Path>, egress_fields: &str) -> String {
    let dev = handler.map_or(String::new(), |handler| {
        let dev = serde_json::json!({"command": [handler]});
        format!("  dev: {dev}\n")
    });
    format!(
        "kind: satchel.endpoints.v1/lambda
spec:
  functions: soak/*
  functionName: soak
  timeout: 2s
  retries: {{maxAttempts: 1000, backoff: {{initial: 50ms, max: 1s}}}}
{dev}---
kind: satchel.endpoints.v1/lambda
spec:
  functions: frail/*
  functionName: soak-frail
  timeout: 2s
  retries: {{maxAttempts: 2, backoff: {{initial: 50ms, max: 200ms}}}}
{dev}---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: soak/items
  awsRegion: {{type: default}}
  startupPosition: {{type: earliest}}
  streams:
    - stream: items
      valueType: soak/item
      targets: [soak/sequence]
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: soak/out
  awsRegion: {{type: default}}
{egress_fields}"
    )
}
