//! Adapter of Lambda.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use satchel_engine::output::Emission;
use satchel_engine::trace::TraceParent;
use serde_json::Value;

use super::LambdaSettings;
use crate::egress::content::Content;
use crate::egress::failure;
use crate::egress::{Answer, REQUEST_TIMEOUT, Service, with_timeout};
use satchel_engine::sink::delivery::{Limits, Outcome, Record, Request};

/// Maximum payload of an asynchronous invocation in bytes.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

const REQUESTS_IN_FLIGHT: usize = 32;

/// Header by which AWS X-Ray traces a request. The client context, which could hold the W3C's form,
/// does not reach asynchronous invocations.
const TRACE_HEADER: &str = "x-amzn-trace-id";

/// An asynchronous invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Its payload, as JSON.
    pub payload: String,
    /// Its trace context, as AWS X-Ray writes it.
    pub trace_header: Option<String>,
}

/// Invokes the function.
#[derive(Debug, Clone)]
pub struct LambdaService {
    client: Client,
    settings: LambdaSettings,
    function: Arc<str>,
}

impl LambdaService {
    /// Uses the Lambda of `config`.
    pub fn new(config: &SdkConfig, settings: LambdaSettings) -> Self {
        Self {
            client: Client::new(&with_timeout(config, REQUEST_TIMEOUT)),
            function: settings.function_name.as_str().into(),
            settings,
        }
    }
}

fn payload(emission: &Emission, envelope: bool) -> Result<String, String> {
    let content = Content::of(emission)?;
    if !envelope {
        return Ok(content.json());
    }
    let mut head = format!(
        "{{\"satchel\":1,\"id\":\"{}\",\"typename\":{}",
        emission.id,
        Value::from(content.typename())
    );
    if let Some(trace) = emission.trace {
        head.push_str(&format!(",\"traceparent\":\"{trace}\""));
    }
    Ok(match content.value() {
        Some(_) => format!("{head},\"data\":{}}}", content.json()),
        None => format!("{head},\"base64\":\"{}\"}}", content.text()),
    })
}

impl Service for LambdaService {
    type Payload = Invocation;

    fn limits(&self) -> Limits {
        Limits {
            records_per_request: 1,
            bytes_per_request: PAYLOAD_BYTES_MAX,
            requests_in_flight: REQUESTS_IN_FLIGHT,
            records_in_flight: REQUESTS_IN_FLIGHT,
        }
    }

    fn prepare(&self, emission: Emission) -> Result<Record<Invocation>, String> {
        let payload = payload(&emission, self.settings.envelope)?;
        let bytes = payload.len();
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(format!(
                "the payload has {bytes} bytes, but an asynchronous invocation allows \
                {PAYLOAD_BYTES_MAX}"
            ));
        }
        Ok(Record {
            number: emission.number,
            destination: Arc::clone(&self.function),
            key: None,
            bytes,
            payload: Invocation {
                payload,
                trace_header: emission.trace.map(TraceParent::to_x_ray),
            },
        })
    }

    async fn deliver(&self, request: &Request<Invocation>) -> Answer {
        let mut outcomes = Vec::with_capacity(request.records.len());
        for record in &request.records {
            let Invocation {
                payload,
                trace_header,
            } = &record.payload;
            let trace_header = trace_header.clone();
            let answer = self
                .client
                .invoke()
                .function_name(&*request.destination)
                .set_qualifier(self.settings.qualifier.clone())
                .invocation_type(InvocationType::Event)
                .payload(Blob::new(payload.as_bytes()))
                .customize()
                .mutate_request(move |request| {
                    if let Some(trace) = trace_header.clone() {
                        request.headers_mut().insert(TRACE_HEADER, trace);
                    }
                })
                .send()
                .await;
            match answer {
                Ok(answer) if answer.status_code() == 202 => outcomes.push(Outcome::Delivered),
                Ok(answer) => {
                    let status = answer.status_code();
                    let reason = format!("the response has status {status}, not 202");
                    outcomes.push(Outcome::Retry(reason));
                }
                Err(error) => outcomes.extend(failure::outcomes(&error, 1)),
            }
        }
        Answer::of(outcomes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::content::tests::emission;

    #[test]
    fn the_payload_is_the_value_with_or_without_its_type() {
        let json = emission(1, "example/x", b"{\"a\":1}");
        let binary = emission(1, "example/x", b"\xff");
        assert_eq!(payload(&json, false).unwrap(), "{\"a\":1}");
        let head = format!(
            "{{\"satchel\":1,\"id\":\"{}\",\"typename\":\"example/x\"",
            "01".repeat(16)
        );
        let enclosed = payload(&json, true).unwrap();
        assert_eq!(enclosed, format!("{head},\"data\":{{\"a\":1}}}}"));
        let enclosed = payload(&binary, true).unwrap();
        assert_eq!(enclosed, format!("{head},\"base64\":\"/w==\"}}"));
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let traced = Emission {
            trace: TraceParent::parse(trace),
            ..json
        };
        assert_eq!(payload(&traced, false).unwrap(), "{\"a\":1}");
        assert_eq!(
            payload(&traced, true).unwrap(),
            format!("{head},\"traceparent\":\"{trace}\",\"data\":{{\"a\":1}}}}")
        );
    }
}
