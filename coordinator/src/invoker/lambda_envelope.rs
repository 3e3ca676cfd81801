//! The bundle form of a Lambda request: bundles to payloads, payloads to outcomes. Nothing here sends anything.
//!
//! The sizes are those of a synchronous `Invoke` of the Lambda API.

use std::sync::atomic::{AtomicBool, Ordering};

use satchel_engine::invocation::{
    AttemptId, BatchOutcome, Bundle, BundleOutcome, Failure, FailureKind,
};
use satchel_protocol::bundle::{BatchResult, BundleRequest, BundleResponse, Encoding};
use serde::Deserialize;

/// The largest payload that Lambda takes in a synchronous request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 6_291_456;

/// How much of an error's text is passed on, in characters.
const ERROR_TEXT_CHARS_MAX: usize = 2_000;

/// Encodes and decodes the requests of one endpoint, and remembers what its handlers can read.
///
/// A request is sent uncompressed unless it would be too large that way and the handler is known to read zstd, which it is
/// once it has answered in zstd: the envelope has no other way to tell, and a handler may be older than the coordinator.
#[derive(Debug, Default)]
pub struct Envelope {
    reads_zstd: AtomicBool,
    compress_from_bytes: Option<usize>,
}

impl Envelope {
    /// Compresses only what would be too large otherwise: right where the way to the handler costs nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses every request of at least `bytes` bytes: right where the way to the handler is slower than zstd.
    pub fn compressing_from(bytes: usize) -> Self {
        Self {
            compress_from_bytes: Some(bytes),
            ..Self::default()
        }
    }

    /// The payload of the request.
    ///
    /// # Errors
    ///
    /// [`FailureKind::RequestTooLarge`] if it is larger than [`REQUEST_BYTES_MAX`].
    pub fn encode(&self, bundle: &Bundle) -> Result<Vec<u8>, Failure> {
        let reads_zstd = self.reads_zstd.load(Ordering::Relaxed);
        let bytes: usize = bundle.batches.iter().map(|batch| batch.bytes).sum();
        let pays = self.compress_from_bytes.is_some_and(|from| bytes >= from);
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
                    "the request of {} batches has {} bytes, Lambda takes {REQUEST_BYTES_MAX}",
                    bundle.batches.len(),
                    payload.len()
                ),
            ));
        }
        Ok(payload)
    }

    /// What the handler's answer to `bundle` says.
    ///
    /// Results are passed on as they came, also those of attempts that were not asked for. A result that cannot be read fails
    /// its batch; an answer that is no bundle, or answers another one, fails the whole request.
    pub fn decode(&self, bundle: &Bundle, payload: &[u8]) -> BundleOutcome {
        let response = match BundleResponse::from_json(payload) {
            Ok(response) => response,
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
        let results = response.results.iter();
        BundleOutcome::Answered(
            results
                .filter_map(|result| outcome(result, response.encoding))
                .collect(),
        )
    }

    /// What a function error of Lambda (`{"errorType":…,"errorMessage":…}`) says about the whole request.
    pub fn function_error(payload: &[u8]) -> Failure {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct FunctionError {
            error_type: Option<String>,
            error_message: Option<String>,
        }
        let text = match serde_json::from_slice::<FunctionError>(payload) {
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
            _ if payload.is_empty() => "the handler failed without saying why".to_owned(),
            _ => String::from_utf8_lossy(payload).into_owned(),
        };
        Failure::new(FailureKind::Function, shortened(&text))
    }
}

fn encode_as(encoding: Encoding, bundle: &Bundle) -> Vec<u8> {
    let mut request = BundleRequest::new(bundle.id.to_string(), encoding);
    for batch in &bundle.batches {
        request.push(batch.attempt.to_string(), &batch.to_wire());
    }
    request.to_json()
}

/// `None` for a result whose attempt is no name of ours: it answers nothing that was ever asked.
fn outcome(result: &BatchResult, encoding: Encoding) -> Option<(AttemptId, BatchOutcome)> {
    let Some(attempt) = parse_attempt(&result.attempt) else {
        tracing::warn!(attempt = %shortened(&result.attempt), "dropped a result for an attempt that is not ours");
        return None;
    };
    let outcome = match result.from_function(encoding) {
        Ok(Ok(from)) => Ok(from),
        Ok(Err(error)) => Err(format!("{}: {}", error.kind, error.message)),
        Err(error) => Err(format!("the result cannot be read: {error}")),
    };
    let outcome = outcome.map_err(|text| Failure::new(FailureKind::Function, shortened(&text)));
    Some((attempt, outcome))
}

/// Reads what [`AttemptId`] shows itself as.
fn parse_attempt(text: &str) -> Option<AttemptId> {
    let mut parts = text.split('-');
    let attempt = AttemptId {
        partition: parts.next()?.parse().ok()?,
        epoch: parts.next()?.parse().ok()?,
        number: parts.next()?.parse().ok()?,
    };
    // Comparing with the shown form refuses what parses too kindly, such as `+1-0-2`.
    (parts.next().is_none() && attempt.to_string() == text).then_some(attempt)
}

fn failed(message: String) -> BundleOutcome {
    BundleOutcome::Failed(Failure::new(FailureKind::Function, message))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(ERROR_TEXT_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests;
