//! The bundle: several batches, for different addresses, in one Lambda request, and their results.
//!
//! The Invoke API of Lambda takes and returns JSON only, so each batch travels as a base64
//! `ToFunction`:
//!
//! ```json
//! {"satchel":1,"bundle":"b1","encoding":"identity","accept":["zstd"],
//!  "batches":[{"attempt":"1-7","to":"<base64 ToFunction>"}]}
//! ```
//!
//! and is answered by
//!
//! ```json
//! {"satchel":1,"bundle":"b1","encoding":"identity",
//!  "results":[{"attempt":"1-7","from":"<base64 FromFunction>"},
//!             {"attempt":"1-8","error":{"type":"panic","message":"…"}}]}
//! ```
//!
//! `encoding` names the compression of every `to` and `from` before base64. A sender may use any
//! encoding that the other side lists in `accept`; the request's list applies to the response.
//! [`Encoding::Identity`] is always accepted.
//!
//! # Terminal errors
//!
//! A function may reject one message for good: no retry can succeed, because the mistake lies in
//! the message. The error of the batch then has the optional field `terminal`:
//!
//! ```json
//! {"attempt":"1-9","error":{"type":"terminal","message":"message 3 of 5: no such account",
//!  "terminal":{"index":2,"code":404,"message":"no such account"}}}
//! ```
//!
//! - `index` is the position of the rejected message in its batch, from 0. A handler that leaves
//!   it out does not know the position; for a batch of one message it is 0.
//! - `code` is 400 to 499, or 500: the HTTP status for a caller that waits for a reply.
//! - `message` is the text for that caller. `error.message` is the text for the operator.
//!
//! The result has no `from`: nothing of the batch takes effect, as with every error. The
//! coordinator then acts by `index`, and in neither case counts a failed attempt:
//!
//! - **0**: The first message is concluded. It leaves its mailbox; a caller that waits gets `code`
//!   and `message`; a message without such a caller becomes a dead letter at once, or suspends its
//!   address at once, as the endpoint is configured. The messages behind it stay queued in order.
//!   They are sent again in the next batch, with unchanged state.
//! - **n > 0**: The next batch of this address has exactly the first `n` messages. When it has
//!   succeeded, the rejected message is the first of the batch after it. The function then judges
//!   that message again, over the state that the messages before it left.
//! - **absent**, in a batch of several messages: The batch is halved until the rejected message is
//!   alone, as after any other error.
//!
//! This rule needs no result that is half answer and half error. Every answer stays one
//! transaction, so effects are exactly once. A message never overtakes another, so order is kept.
//! The price is that the messages before the rejected one run twice, as they do after any error.
//!
//! A reader that does not know `terminal` ignores it and sees an ordinary error. The same holds
//! over HTTP: the response has status 500, and `terminal` travels in the headers
//! [`TERMINAL_ERROR_HEADER`] (`code`) and [`TERMINAL_INDEX_HEADER`] (`index`, optional), with
//! `message` as the body. The coordinator takes any status but 2xx. The status is not `code`,
//! because gateways and older coordinators give several 4xx statuses a meaning of their own, such
//! as 429 (retry) and 413 (split the batch).

mod json;
mod unpack;
mod zstd_contexts;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::{Deserialize, Serialize};

pub use self::unpack::Budget;
use crate::effects::{InvalidAnswer, decode_answer};
use crate::reqreply::{FromFunction, ToFunction};

/// Version of the envelope, its field `satchel`.
pub const VERSION: u32 = 1;

/// Maximum size of all `to` or all `from` of a bundle, decompressed, in bytes.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Header of an HTTP response that rejects a message for good. Its value is [`Terminal::code`].
pub const TERMINAL_ERROR_HEADER: &str = "satchel-terminal-error";

/// Header beside [`TERMINAL_ERROR_HEADER`]. Its value is [`Terminal::index`].
pub const TERMINAL_INDEX_HEADER: &str = "satchel-terminal-index";

/// Compression of each batch before base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// No compression.
    #[default]
    Identity,
    /// One zstd frame for each `to` or `from`.
    Zstd,
}

impl Encoding {
    /// Minimum average size of the parts of a bundle from which zstd saves more than it costs, in
    /// bytes. Each part is a frame of its own, and small frames hardly shrink.
    pub const PART_BYTES_MIN: usize = 1 << 10;

    /// Returns whether compressing pays for a bundle of `parts` parts with `bytes` bytes in all,
    /// which pays from `from_bytes` bytes on at all.
    pub fn pays(parts: usize, bytes: usize, from_bytes: usize) -> bool {
        bytes >= from_bytes && bytes >= parts.saturating_mul(Self::PART_BYTES_MIN)
    }
}

/// Payload of one Lambda request, sent by the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRequest {
    /// Always [`VERSION`].
    pub satchel: u32,
    /// Name of this request, repeated by the response.
    pub bundle: String,
    /// Compression of every `to`.
    #[serde(default)]
    pub encoding: Encoding,
    /// Names of the encodings that the response may use. Unknown names are ignored.
    #[serde(default)]
    pub accept: Vec<String>,
    /// The batches, each for another address.
    pub batches: Vec<BundledBatch>,
}

/// One batch of a [`BundleRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledBatch {
    /// Name of this attempt, repeated by its result.
    pub attempt: String,
    /// A `ToFunction`, compressed by the request's `encoding`, in base64.
    pub to: String,
}

/// Response of one Lambda request, sent by the handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleResponse {
    /// Always [`VERSION`].
    pub satchel: u32,
    /// The request's `bundle`.
    pub bundle: String,
    /// Compression of every `from`.
    #[serde(default)]
    pub encoding: Encoding,
    /// One result for each batch of the request, in any order.
    pub results: Vec<BatchResult>,
}

/// One result of a [`BundleResponse`]: exactly one of `from` and `error` is present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchResult {
    /// The batch's `attempt`.
    pub attempt: String,
    /// A `FromFunction`, compressed by the response's `encoding`, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Reason why this batch has no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<BatchError>,
}

/// Failure of one batch. Other batches of its bundle may have succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchError {
    /// Short name of the kind: `panic`, `function`, `terminal`, `unknown_function`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Description for the operator.
    pub message: String,
    /// Present if one message of the batch was rejected for good; see
    /// [Terminal errors](self#terminal-errors).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
}

/// Rejection of one message of a batch for good; see [Terminal errors](self#terminal-errors).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Position of the message in its batch, from 0. `None` if the handler does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// HTTP status for a caller that waits for a reply: 400 to 499, or 500.
    pub code: u16,
    /// Text for that caller.
    pub message: String,
}

/// Reason why a payload is not a bundle of a version that this side understands.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The payload is not JSON of the envelope's shape.
    #[error("the payload is not a bundle: {0}")]
    Json(#[from] serde_json::Error),
    /// The payload has another `satchel` version.
    #[error("the bundle has version {found}, this side understands version {VERSION}")]
    Version {
        /// Version of the payload.
        found: u32,
    },
    /// A `to` or `from` is not base64.
    #[error("attempt {attempt}: the payload is not base64: {source}")]
    Base64 {
        /// The attempt it belongs to.
        attempt: String,
        /// Error of the decoder.
        source: base64::DecodeError,
    },
    /// A `to` or `from` exceeds what is left of [`DECOMPRESSED_BYTES_MAX`].
    #[error(
        "attempt {attempt}: the parts of a bundle may have {DECOMPRESSED_BYTES_MAX} bytes in all, \
         decompressed, and this one exceeds what is left"
    )]
    TooLarge {
        /// The attempt it belongs to.
        attempt: String,
    },
    /// A `to` or `from` does not decompress.
    #[error("attempt {attempt}: the payload does not decompress: {source}")]
    Decompress {
        /// The attempt it belongs to.
        attempt: String,
        /// Error of the decoder.
        source: std::io::Error,
    },
    /// A `to` is not a `ToFunction`.
    #[error("attempt {attempt}: the payload is not a ToFunction: {source}")]
    Protobuf {
        /// The attempt it belongs to.
        attempt: String,
        /// Error of the decoder.
        source: prost::DecodeError,
    },
    /// A `from` is not a `FromFunction` within its limits.
    #[error("attempt {attempt}: {source}")]
    Answer {
        /// The attempt it belongs to.
        attempt: String,
        /// Reason.
        source: InvalidAnswer,
    },
    /// A result has neither `from` nor `error`, or both.
    #[error("attempt {attempt}: a result has exactly one of `from` and `error`")]
    Ambiguous {
        /// The attempt it belongs to.
        attempt: String,
    },
}

impl BatchError {
    /// An error that says nothing for good: the batch may succeed when it is retried.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            terminal: None,
        }
    }
}

impl BundleRequest {
    /// An empty request, whose response may be compressed with zstd.
    pub fn new(bundle: impl Into<String>, encoding: Encoding) -> Self {
        Self {
            satchel: VERSION,
            bundle: bundle.into(),
            encoding,
            accept: vec!["zstd".to_owned()],
            batches: Vec::new(),
        }
    }

    /// Adds one batch.
    pub fn push(&mut self, attempt: impl Into<String>, to: &ToFunction) {
        self.batches.push(BundledBatch {
            attempt: attempt.into(),
            to: pack(self.encoding, &to.encode_to_vec()),
        });
    }

    /// Reads a payload. Other versions are rejected.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::Json`] and [`EnvelopeError::Version`].
    pub fn from_json(payload: &[u8]) -> Result<Self, EnvelopeError> {
        json::read(payload, |bundle: &Self| bundle.satchel)
    }

    /// Encodes the request as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json::request(self)
    }

    /// Best encoding for the response that both sides know.
    pub fn response_encoding(&self) -> Encoding {
        if self.accept.iter().any(|name| name == "zstd") {
            Encoding::Zstd
        } else {
            Encoding::Identity
        }
    }
}

impl BundledBatch {
    /// Decodes the `ToFunction`, within the budget of its bundle.
    ///
    /// # Errors
    ///
    /// The variants of [`EnvelopeError`] that name an attempt.
    pub fn to_function(
        &self,
        encoding: Encoding,
        budget: &mut Budget,
    ) -> Result<ToFunction, EnvelopeError> {
        let bytes = budget.unpack(encoding, &self.attempt, &self.to)?;
        ToFunction::decode(bytes).map_err(|source| EnvelopeError::Protobuf {
            attempt: self.attempt.clone(),
            source,
        })
    }
}

impl BundleResponse {
    /// An empty response to `bundle`.
    pub fn new(bundle: impl Into<String>, encoding: Encoding) -> Self {
        Self {
            satchel: VERSION,
            bundle: bundle.into(),
            encoding,
            results: Vec::new(),
        }
    }

    /// Adds the result of one batch.
    pub fn push(&mut self, attempt: impl Into<String>, result: Result<&FromFunction, BatchError>) {
        let attempt = attempt.into();
        self.results.push(match result {
            Ok(from) => BatchResult {
                attempt,
                from: Some(pack(self.encoding, &from.encode_to_vec())),
                error: None,
            },
            Err(error) => BatchResult {
                attempt,
                from: None,
                error: Some(error),
            },
        });
    }

    /// Reads a payload. Other versions are rejected.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::Json`] and [`EnvelopeError::Version`].
    pub fn from_json(payload: &[u8]) -> Result<Self, EnvelopeError> {
        json::read(payload, |bundle: &Self| bundle.satchel)
    }

    /// Encodes the response as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json::response(self)
    }
}

impl BatchResult {
    /// Decodes the `FromFunction`, within the budget of its bundle, or the error that the handler
    /// reports for this batch.
    ///
    /// # Errors
    ///
    /// The variants of [`EnvelopeError`] that name an attempt.
    pub fn from_function(
        &self,
        encoding: Encoding,
        budget: &mut Budget,
    ) -> Result<Result<FromFunction, BatchError>, EnvelopeError> {
        match (&self.from, &self.error) {
            (Some(from), None) => {
                let bytes = budget.unpack(encoding, &self.attempt, from)?;
                let from = decode_answer(bytes).map_err(|source| EnvelopeError::Answer {
                    attempt: self.attempt.clone(),
                    source,
                })?;
                Ok(Ok(from))
            }
            (None, Some(error)) => Ok(Err(error.clone())),
            _ => Err(EnvelopeError::Ambiguous {
                attempt: self.attempt.clone(),
            }),
        }
    }
}

fn pack(encoding: Encoding, bytes: &[u8]) -> String {
    match encoding {
        Encoding::Identity => STANDARD.encode(bytes),
        Encoding::Zstd => STANDARD.encode(zstd_contexts::compress(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reqreply::{self, from_function, to_function};

    fn greeting() -> ToFunction {
        ToFunction {
            request: Some(to_function::Request::Invocation(
                to_function::InvocationBatchRequest {
                    target: Some(reqreply::Address {
                        namespace: "example".into(),
                        r#type: "greeter".into(),
                        id: "alice".into(),
                    }),
                    state: vec![],
                    invocations: vec![],
                    declarations: vec![],
                },
            )),
        }
    }

    #[test]
    fn a_request_has_the_documented_form() {
        let mut request = BundleRequest::new("b1", Encoding::Identity);
        request.push("1-7", &ToFunction::default());
        assert_eq!(
            String::from_utf8(request.to_json()).unwrap(),
            concat!(
                r#"{"satchel":1,"bundle":"b1","encoding":"identity","accept":["zstd"],"#,
                r#""batches":[{"attempt":"1-7","to":""}]}"#
            )
        );
    }

    #[test]
    fn a_response_of_any_language_may_leave_out_what_it_does_not_use() {
        let response = BundleResponse::from_json(
            br#"{"satchel":1,"bundle":"b1","results":[{"attempt":"1-7","from":""},
                {"attempt":"1-8","error":{"type":"panic","message":"no"}}]}"#,
        )
        .unwrap();
        assert_eq!(
            response.results[0]
                .from_function(response.encoding, &mut Budget::default())
                .unwrap(),
            Ok(FromFunction::default())
        );
        assert_eq!(
            response.results[1]
                .from_function(response.encoding, &mut Budget::default())
                .unwrap(),
            Err(BatchError::new("panic", "no"))
        );
    }

    #[test]
    fn a_terminal_error_is_an_optional_part_of_an_error() {
        let terminal = |index| BatchError {
            terminal: Some(Terminal {
                index,
                code: 404,
                message: "no such account".into(),
            }),
            ..BatchError::new("terminal", "message 3 of 5: no such account")
        };
        let mut response = BundleResponse::new("b1", Encoding::Identity);
        response.push("1-9", Err(terminal(Some(2))));
        let text = String::from_utf8(response.to_json()).unwrap();
        assert!(
            text.ends_with(concat!(
                r#"{"attempt":"1-9","error":{"type":"terminal","#,
                r#""message":"message 3 of 5: no such account","#,
                r#""terminal":{"index":2,"code":404,"message":"no such account"}}}]}"#
            )),
            "{text}"
        );
        assert_eq!(
            BundleResponse::from_json(text.as_bytes()).unwrap(),
            response
        );

        // A handler in another language need not know the position.
        let text = text.replace(r#""index":2,"#, "");
        let read = BundleResponse::from_json(text.as_bytes()).unwrap();
        assert_eq!(read.results[0].error, Some(terminal(None)));

        // An error without it stays byte for byte the same.
        let plain = serde_json::to_string(&BatchError::new("panic", "no")).unwrap();
        assert_eq!(plain, r#"{"type":"panic","message":"no"}"#);
    }

    #[test]
    fn another_version_is_rejected_by_name() {
        let error = BundleRequest::from_json(br#"{"satchel":2,"sheaf":[]}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the bundle has version 2, this side understands version 1"
        );
    }

    #[test]
    fn both_encodings_round_trip() {
        for encoding in [Encoding::Identity, Encoding::Zstd] {
            let mut request = BundleRequest::new("b1", encoding);
            request.push("1-7", &greeting());
            let request = BundleRequest::from_json(&request.to_json()).unwrap();
            assert_eq!(
                request.batches[0]
                    .to_function(encoding, &mut Budget::default())
                    .unwrap(),
                greeting()
            );

            let answer = FromFunction {
                response: Some(from_function::Response::InvocationResult(
                    from_function::InvocationResponse::default(),
                )),
            };
            let mut response = BundleResponse::new("b1", encoding);
            response.push("1-7", Ok(&answer));
            let response = BundleResponse::from_json(&response.to_json()).unwrap();
            assert_eq!(
                response.results[0]
                    .from_function(encoding, &mut Budget::default())
                    .unwrap(),
                Ok(answer)
            );
        }
    }

    #[test]
    fn a_decompression_bomb_is_rejected() {
        let bomb = zstd::bulk::compress(&vec![0; DECOMPRESSED_BYTES_MAX + 1], 1).unwrap();
        let batch = BundledBatch {
            attempt: "1-7".into(),
            to: STANDARD.encode(bomb),
        };
        let error = batch
            .to_function(Encoding::Zstd, &mut Budget::default())
            .unwrap_err();
        assert!(error.to_string().contains("67108864 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text in "\\PC*", zstd: bool) {
            let encoding = if zstd { Encoding::Zstd } else { Encoding::Identity };
            let _ = BundleRequest::from_json(&bytes);
            let _ = BundleResponse::from_json(&bytes);
            let batch = BundledBatch { attempt: "a".into(), to: text };
            let _ = batch.to_function(encoding, &mut Budget::default());
            let batch = BundledBatch { attempt: "a".into(), to: STANDARD.encode(&bytes) };
            let _ = batch.to_function(encoding, &mut Budget::default());
        }
    }
}
