//! Adapter of Lambda.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use satchel_engine::output::Emission;
use satchel_engine::trace::TraceParent;

use super::{LambdaSettings, PAYLOAD_BYTES_MAX, payload};
use crate::egress::failure;
use crate::egress::{Answer, REQUEST_TIMEOUT, Service, with_timeout};
use satchel_engine::sink::delivery::{Limits, Outcome, Record, Request};

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
