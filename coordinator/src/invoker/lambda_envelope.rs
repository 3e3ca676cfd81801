//! Bundle form of Lambda requests: bundles to payloads, and payloads to outcomes. Does no I/O.
//!
//! The sizes are those of a synchronous `Invoke` of the Lambda API.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use satchel_engine::invocation::{
    AttemptId, BatchOutcome, Bundle, BundleOutcome, Failure, FailureKind, Rejection,
};
use satchel_protocol::bundle::{
    BatchError, BatchResult, Budget, BundleRequest, BundleResponse, Encoding, EnvelopeError,
};
use serde::Deserialize;

/// Maximum payload of a synchronous request to Lambda, in bytes.
pub const REQUEST_BYTES_MAX: usize = 6_291_456;

/// Maximum length of an error's text that is passed on, in characters.
const ERROR_TEXT_CHARS_MAX: usize = 2_000;

/// Codec of the requests of one endpoint, which remembers the encodings that its handlers can read.
///
/// By default, a request is compressed only if it would be too large otherwise, and only if the
/// handler is known to read zstd. It is known once the handler has answered in zstd: there is no
/// other sign, and a handler may be older than the coordinator.
#[derive(Debug, Default)]
pub struct Envelope {
    reads_zstd: AtomicBool,
    compress_from_bytes: Option<usize>,
}

impl Envelope {
    /// Creates a codec that compresses only requests that would be too large otherwise, for
    /// handlers on the same machine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a codec that compresses every request of at least `bytes` bytes whose batches are
    /// not small, for handlers behind a network that is slower than zstd.
    pub fn compressing_from(bytes: usize) -> Self {
        Self {
            compress_from_bytes: Some(bytes),
            ..Self::default()
        }
    }

    /// Encodes the payload of the request.
    ///
    /// # Errors
    ///
    /// [`FailureKind::RequestTooLarge`] if it is larger than [`REQUEST_BYTES_MAX`].
    pub fn encode(&self, bundle: &Bundle) -> Result<Vec<u8>, Failure> {
        let reads_zstd = self.reads_zstd.load(Ordering::Relaxed);
        let bytes: usize = bundle.batches.iter().map(|batch| batch.bytes).sum();
        let parts = bundle.batches.len();
        let pays = self
            .compress_from_bytes
            .is_some_and(|from| Encoding::pays(parts, bytes, from));
        let mut payload = if reads_zstd && pays {
            encode_as(Encoding::Zstd, bundle)
        } else {
            encode_as(Encoding::Identity, bundle)
        };
        if payload.len() > REQUEST_BYTES_MAX && reads_zstd && !pays {
            payload = encode_as(Encoding::Zstd, bundle);
        }
        if payload.len() > REQUEST_BYTES_MAX {
            return Err(Failure::new(
                FailureKind::RequestTooLarge,
                format!(
                    "the request of {} batches has {} bytes; \
                     Lambda accepts at most {REQUEST_BYTES_MAX}",
                    bundle.batches.len(),
                    payload.len()
                ),
            ));
        }
        Ok(payload)
    }

    /// Decodes the handler's answer to `bundle`.
    ///
    /// Only results of attempts that were requested are decoded, each once; the others are passed
    /// on as failures, which the dispatcher counts and drops. An unreadable result, or one beyond
    /// the limits of an answer, fails its batch. An answer that is not a bundle, or answers another
    /// one, fails the whole request. An unknown version of the envelope is
    /// [`FailureKind::Incompatible`].
    pub fn decode(&self, bundle: &Bundle, payload: &[u8]) -> BundleOutcome {
        let response = match BundleResponse::from_json(payload) {
            Ok(response) => response,
            Err(error @ EnvelopeError::Version { .. }) => {
                let text = format!("the handler answers in another version: {error}");
                return BundleOutcome::Failed(Failure::new(FailureKind::Incompatible, text));
            }
            Err(error) => return failed(format!("the answer cannot be read: {error}")),
        };
        if response.bundle != bundle.id.to_string() {
            return failed(format!(
                "the handler answered for another bundle: `{}` instead of `{}`",
                shortened(&response.bundle),
                bundle.id
            ));
        }
        if response.encoding == Encoding::Zstd {
            self.reads_zstd.store(true, Ordering::Relaxed);
        }
        let batches = bundle.batches.iter();
        let mut open: BTreeSet<AttemptId> = batches.map(|batch| batch.attempt).collect();
        let mut budget = Budget::default();
        let mut results = Vec::new();
        for result in &response.results {
            let Some(attempt) = parse_attempt(&result.attempt) else {
                let attempt = shortened(&result.attempt);
                tracing::warn!(attempt, "result for an unknown attempt dropped");
                continue;
            };
            let outcome = if open.remove(&attempt) {
                outcome(result, response.encoding, &mut budget)
            } else {
                let why = "the result was not requested, or repeats another one";
                Err(Failure::new(FailureKind::Function, why))
            };
            results.push((attempt, outcome));
        }
        BundleOutcome::Answered(results)
    }

    /// Converts a function error of Lambda (`{"errorType":…,"errorMessage":…}`), which fails the
    /// whole request. A handler that does not know the version of the request says so by
    /// `invalid_request`, which is [`FailureKind::Incompatible`].
    pub fn function_error(payload: &[u8]) -> Failure {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct FunctionError {
            error_type: Option<String>,
            error_message: Option<String>,
        }
        let error = serde_json::from_slice::<FunctionError>(payload);
        let of_version = error.as_ref().is_ok_and(|error| {
            let message = error.error_message.as_deref().unwrap_or_default();
            error.error_type.as_deref() == Some("invalid_request")
                && message.starts_with("the bundle has version ")
        });
        let kind = match of_version {
            true => FailureKind::Incompatible,
            false => FailureKind::Ambiguous,
        };
        let text = match error {
            Ok(FunctionError {
                error_type: Some(kind),
                error_message: Some(message),
            }) => format!("{kind}: {message}"),
            Ok(FunctionError {
                error_type: Some(only),
                error_message: None,
            })
            | Ok(FunctionError {
                error_type: None,
                error_message: Some(only),
            }) => only,
            _ if payload.is_empty() => "the handler failed without a reason".to_owned(),
            _ => String::from_utf8_lossy(payload).into_owned(),
        };
        Failure::new(kind, shortened(&text))
    }
}

fn encode_as(encoding: Encoding, bundle: &Bundle) -> Vec<u8> {
    let mut request = BundleRequest::new(bundle.id.to_string(), encoding);
    for batch in &bundle.batches {
        request.push(batch.attempt.to_string(), &batch.to_wire());
    }
    request.to_json()
}

/// Decodes a result.
fn outcome(result: &BatchResult, encoding: Encoding, budget: &mut Budget) -> BatchOutcome {
    match result.from_function(encoding, budget) {
        Ok(Ok(from)) => Ok(from),
        Ok(Err(error)) => Err(batch_failure(error)),
        Err(error) => Err(function_failure(&format!(
            "the result cannot be read: {error}"
        ))),
    }
}

/// Converts the error that a handler reports for a batch.
fn batch_failure(error: BatchError) -> Failure {
    let text = format!("{}: {}", error.kind, error.message);
    let Some(terminal) = error.terminal else {
        return function_failure(&text);
    };
    let message = shortened(&terminal.message);
    let rejection = Rejection::new(terminal.index, terminal.code, message);
    Failure::terminal(shortened(&text), rejection)
}

fn function_failure(text: &str) -> Failure {
    Failure::new(FailureKind::Function, shortened(text))
}

/// Parses the text form of an [`AttemptId`].
fn parse_attempt(text: &str) -> Option<AttemptId> {
    let mut parts = text.split('-');
    let attempt = AttemptId {
        partition: parts.next()?.parse().ok()?,
        epoch: parts.next()?.parse().ok()?,
        number: parts.next()?.parse().ok()?,
    };
    // The comparison rejects lenient forms such as `+1-0-2`.
    (parts.next().is_none() && attempt.to_string() == text).then_some(attempt)
}

fn failed(message: String) -> BundleOutcome {
    BundleOutcome::Failed(Failure::new(FailureKind::Ambiguous, message))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(ERROR_TEXT_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests;
