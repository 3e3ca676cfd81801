//! Lambda's Invoke API over functions in this process.
//!
//! An invocation runs the functions as `satchel-function-handler` runs them on Lambda, and takes at
//! least the drawn latency, which is billed in whole ms. Concurrency is unlimited unless a function
//! limits it: requests above its limit are throttled. Only `RequestResponse` and `DryRun` are
//! known; anything else is refused with its name. There are no cold starts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::http::Method;
use satchel_function_handler::lambda::Handler;
use satchel_sdk::Functions;
use serde_json::json;

use super::bill::Usage;
use super::server::{Answer, Ask, Service, Timing};

/// Maximum size of a request in bytes (AWS Lambda's limit of a synchronous request).
const REQUEST_BYTES_MAX: usize = 6_291_456;

/// Timeout of every function.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A function of the stand-in.
pub struct PricedFunction {
    handler: Handler,
    memory_mb: u32,
    concurrency_max: usize,
    running: AtomicUsize,
}

impl PricedFunction {
    /// A function with this memory, in MB.
    pub fn new(functions: Functions, memory_mb: u32) -> Self {
        Self {
            handler: Handler::new(functions),
            memory_mb,
            concurrency_max: usize::MAX,
            running: AtomicUsize::new(0),
        }
    }

    /// Throttles requests while this many are running.
    #[must_use]
    pub fn concurrency_max(mut self, requests: usize) -> Self {
        self.concurrency_max = requests;
        self
    }
}

impl fmt::Debug for PricedFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PricedFunction")
            .field("memory_mb", &self.memory_mb)
            .field("concurrency_max", &self.concurrency_max)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Lambda {
    functions: BTreeMap<String, Arc<PricedFunction>>,
}

impl Lambda {
    pub(super) fn new(functions: BTreeMap<String, Arc<PricedFunction>>) -> Self {
        Self { functions }
    }

    async fn invoke(&self, ask: &Ask, timing: &Timing<'_>) -> Answer {
        let name = name(ask).unwrap_or_default();
        let Some(function) = self.functions.get(name) else {
            return refusal(404, "ResourceNotFoundException", "no such function");
        };
        if ask.body.len() > REQUEST_BYTES_MAX {
            return refusal(413, "RequestTooLargeException", "the request is too large");
        }
        let Ok(payload) = std::str::from_utf8(&ask.body) else {
            return refusal(400, "InvalidRequestContentException", "not UTF-8");
        };
        let running = Running::of(function);
        if running.before >= function.concurrency_max {
            let usage = Usage {
                throttled: 1,
                ..Usage::default()
            };
            return self.throttled().usage(usage);
        }
        let answer = function.handler.answer(payload, Some(TIMEOUT)).await;
        timing.answer().await;
        let took_ms = timing.begun.elapsed().as_secs_f64() * 1e3;
        let drawn_ms = timing.latency.as_secs_f64() * 1e3;
        // Waking up late is this machine's fault, not the function's.
        let billed_ms = if timing.latency.is_zero() {
            took_ms
        } else {
            drawn_ms
        };
        let billed_ms = (billed_ms.ceil() as u64).max(1);
        let gigabytes = f64::from(function.memory_mb) / 1024.0;
        let usage = Usage {
            billed_ms,
            gigabyte_seconds: gigabytes * billed_ms as f64 / 1e3,
            ..Usage::default()
        };
        let answered = Answer::new(200).usage(usage);
        match answer {
            Ok(payload) => answered.body("application/json", payload),
            Err(error) => answered
                .body("application/json", error)
                .header("x-amz-function-error", "Unhandled"),
        }
    }
}

/// A place among the running requests of a function.
struct Running<'f> {
    function: &'f PricedFunction,
    before: usize,
}

impl<'f> Running<'f> {
    fn of(function: &'f PricedFunction) -> Self {
        let before = function.running.fetch_add(1, Ordering::Relaxed);
        Self { function, before }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.function.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service for Lambda {
    fn operation(&self, ask: &Ask) -> Result<String, Answer> {
        let kind = ask.header("x-amz-invocation-type");
        match (&ask.method, name(ask), kind) {
            (&Method::POST, Some(_), None | Some("RequestResponse")) => Ok("Invoke".to_owned()),
            (&Method::POST, Some(_), Some("DryRun")) => Ok("DryRun".to_owned()),
            _ => {
                let what = format!("{} {} as {kind:?}", ask.method, ask.path);
                let text = format!("the stand-in does not know {what}");
                Err(refusal(501, "NotImplemented", &text))
            }
        }
    }

    fn throttled(&self) -> Answer {
        refusal(429, "TooManyRequestsException", "Rate Exceeded.")
    }

    async fn perform(&self, operation: &str, ask: Ask, timing: Timing<'_>) -> Answer {
        match operation {
            "DryRun" => match self.functions.contains_key(name(&ask).unwrap_or_default()) {
                true => Answer::new(204),
                false => refusal(404, "ResourceNotFoundException", "no such function"),
            },
            _ => self.invoke(&ask, &timing).await,
        }
    }
}

/// Name of the function that the path names.
fn name(ask: &Ask) -> Option<&str> {
    let name = ask.path.strip_prefix("2015-03-31/functions/")?;
    name.strip_suffix("/invocations")
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let body = json!({"Type": "User", "message": message}).to_string();
    Answer::new(status)
        .body("application/json", body)
        .header("x-amzn-errortype", code)
}
