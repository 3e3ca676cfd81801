//! The bundle: several batches, for different addresses, in one Lambda request, and their results.
//!
//! The Invoke API of Lambda takes and returns JSON only, so each batch travels as a base64 `ToFunction`:
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
//! `encoding` says how the bytes of every `to` and `from` were compressed before base64; a sender may use any encoding that
//! the other side lists in `accept` (the request's list, for the response). [`Encoding::Identity`] is always accepted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::reqreply::{FromFunction, ToFunction};

/// The version of the envelope, its field `satchel`.
pub const VERSION: u32 = 1;

/// A decompressed `to` or `from` is never allowed to grow over this many bytes.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// How the bytes of each batch are compressed before base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Not at all.
    #[default]
    Identity,
    /// A zstd frame each.
    Zstd,
}

/// What the coordinator sends: the payload of one Lambda request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRequest {
    /// Always [`VERSION`].
    pub satchel: u32,
    /// Names this request; the response repeats it.
    pub bundle: String,
    /// How every `to` is compressed.
    #[serde(default)]
    pub encoding: Encoding,
    /// What the response may be compressed with, by name; unknown names are ignored.
    #[serde(default)]
    pub accept: Vec<String>,
    /// The batches, for different addresses.
    pub batches: Vec<BundledBatch>,
}

/// One batch of a [`BundleRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledBatch {
    /// Names this attempt; its result repeats it.
    pub attempt: String,
    /// A `ToFunction`, compressed as the request's `encoding` says, in base64.
    pub to: String,
}

/// What the handler answers: the response of one Lambda request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleResponse {
    /// Always [`VERSION`].
    pub satchel: u32,
    /// The request's `bundle`.
    pub bundle: String,
    /// How every `from` is compressed.
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
    /// A `FromFunction`, compressed as the response's `encoding` says, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why this batch has no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<BatchError>,
}

/// Why one batch failed, while the others of its bundle may have succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchError {
    /// A short name of the kind: `panic`, `function`, `unknown_function`, `unknown_typename`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, for the operator.
    pub message: String,
}

/// Why a payload is not a bundle of a version that this side understands.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The payload is not JSON of the envelope's shape.
    #[error("the payload is not a bundle: {0}")]
    Json(#[from] serde_json::Error),
    /// The payload has another `satchel` version.
    #[error("the bundle has version {found}, this side understands version {VERSION}")]
    Version {
        /// The version it has.
        found: u32,
    },
    /// A `to` or `from` is not base64.
    #[error("attempt {attempt}: the payload is not base64: {source}")]
    Base64 {
        /// The attempt it belongs to.
        attempt: String,
        /// What is wrong.
        source: base64::DecodeError,
    },
    /// A `to` or `from` does not decompress, or grows over [`DECOMPRESSED_BYTES_MAX`].
    #[error("attempt {attempt}: the payload does not decompress: {source}")]
    Decompress {
        /// The attempt it belongs to.
        attempt: String,
        /// What is wrong.
        source: std::io::Error,
    },
    /// A `to` or `from` is not the protobuf message it should be.
    #[error("attempt {attempt}: the payload is not a {expected}: {source}")]
    Protobuf {
        /// The attempt it belongs to.
        attempt: String,
        /// `ToFunction` or `FromFunction`.
        expected: &'static str,
        /// What is wrong.
        source: prost::DecodeError,
    },
    /// A result has neither `from` nor `error`, or both.
    #[error("attempt {attempt}: a result has exactly one of `from` and `error`")]
    Ambiguous {
        /// The attempt it belongs to.
        attempt: String,
    },
}

impl BundleRequest {
    /// A request with no batches yet, whose response may be compressed with zstd.
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

    /// Reads a payload, refusing other versions.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::Json`] and [`EnvelopeError::Version`].
    pub fn from_json(payload: &[u8]) -> Result<Self, EnvelopeError> {
        check_version(payload)?;
        Ok(serde_json::from_slice(payload)?)
    }

    /// The request as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialize")
    }

    /// What the response may be compressed with: the best that both sides know.
    pub fn response_encoding(&self) -> Encoding {
        if self.accept.iter().any(|name| name == "zstd") {
            Encoding::Zstd
        } else {
            Encoding::Identity
        }
    }
}

impl BundledBatch {
    /// The `ToFunction` inside.
    ///
    /// # Errors
    ///
    /// Everything that [`EnvelopeError`] names about one attempt.
    pub fn to_function(&self, encoding: Encoding) -> Result<ToFunction, EnvelopeError> {
        let bytes = unpack(encoding, &self.attempt, &self.to)?;
        ToFunction::decode(bytes).map_err(|source| EnvelopeError::Protobuf {
            attempt: self.attempt.clone(),
            expected: "ToFunction",
            source,
        })
    }
}

impl BundleResponse {
    /// A response to `bundle` with no results yet.
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

    /// Reads a payload, refusing other versions.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::Json`] and [`EnvelopeError::Version`].
    pub fn from_json(payload: &[u8]) -> Result<Self, EnvelopeError> {
        check_version(payload)?;
        Ok(serde_json::from_slice(payload)?)
    }

    /// The response as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialize")
    }
}

impl BatchResult {
    /// The `FromFunction` inside, or the error that the handler reports for this batch.
    ///
    /// # Errors
    ///
    /// Everything that [`EnvelopeError`] names about one attempt.
    pub fn from_function(
        &self,
        encoding: Encoding,
    ) -> Result<Result<FromFunction, BatchError>, EnvelopeError> {
        match (&self.from, &self.error) {
            (Some(from), None) => {
                let bytes = unpack(encoding, &self.attempt, from)?;
                let from =
                    FromFunction::decode(bytes).map_err(|source| EnvelopeError::Protobuf {
                        attempt: self.attempt.clone(),
                        expected: "FromFunction",
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

/// Reads the version alone first, so that a bundle of another shape is refused by its version and not by a missing field.
fn check_version(payload: &[u8]) -> Result<(), EnvelopeError> {
    #[derive(Deserialize)]
    struct Version {
        satchel: u32,
    }
    let found = serde_json::from_slice::<Version>(payload)?.satchel;
    if found == VERSION {
        Ok(())
    } else {
        Err(EnvelopeError::Version { found })
    }
}

fn pack(encoding: Encoding, bytes: &[u8]) -> String {
    match encoding {
        Encoding::Identity => STANDARD.encode(bytes),
        Encoding::Zstd => STANDARD
            .encode(zstd::bulk::compress(bytes, 1).expect("compressing to memory cannot fail")),
    }
}

fn unpack(encoding: Encoding, attempt: &str, text: &str) -> Result<Bytes, EnvelopeError> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|source| EnvelopeError::Base64 {
            attempt: attempt.to_owned(),
            source,
        })?;
    match encoding {
        Encoding::Identity => Ok(bytes.into()),
        Encoding::Zstd => {
            decompress(&bytes)
                .map(Bytes::from)
                .map_err(|source| EnvelopeError::Decompress {
                    attempt: attempt.to_owned(),
                    source,
                })
        }
    }
}

/// Decompresses without trusting the size that the frame states.
fn decompress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut out = Vec::new();
    let limit = DECOMPRESSED_BYTES_MAX as u64 + 1;
    zstd::stream::read::Decoder::new(bytes)?
        .take(limit)
        .read_to_end(&mut out)?;
    if out.len() as u64 == limit {
        return Err(std::io::Error::other(format!(
            "it is larger than {DECOMPRESSED_BYTES_MAX} bytes"
        )));
    }
    Ok(out)
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
            r#"{"satchel":1,"bundle":"b1","encoding":"identity","accept":["zstd"],"batches":[{"attempt":"1-7","to":""}]}"#
        );
    }

    #[test]
    fn a_response_of_any_language_may_leave_out_what_it_does_not_use() {
        let response = BundleResponse::from_json(
            br#"{"satchel":1,"bundle":"b1","results":[{"attempt":"1-7","from":""},{"attempt":"1-8","error":{"type":"panic","message":"no"}}]}"#,
        )
        .unwrap();
        assert_eq!(
            response.results[0]
                .from_function(response.encoding)
                .unwrap(),
            Ok(FromFunction::default())
        );
        assert_eq!(
            response.results[1]
                .from_function(response.encoding)
                .unwrap()
                .unwrap_err()
                .message,
            "no"
        );
    }

    #[test]
    fn another_version_is_refused_by_name() {
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
                request.batches[0].to_function(encoding).unwrap(),
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
                response.results[0].from_function(encoding).unwrap(),
                Ok(answer)
            );
        }
    }

    #[test]
    fn a_decompression_bomb_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; DECOMPRESSED_BYTES_MAX + 1], 1).unwrap();
        let batch = BundledBatch {
            attempt: "1-7".into(),
            to: STANDARD.encode(bomb),
        };
        let error = batch.to_function(Encoding::Zstd).unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text in "\\PC*", zstd: bool) {
            let encoding = if zstd { Encoding::Zstd } else { Encoding::Identity };
            let _ = BundleRequest::from_json(&bytes);
            let _ = BundleResponse::from_json(&bytes);
            let batch = BundledBatch { attempt: "a".into(), to: text };
            let _ = batch.to_function(encoding);
            let batch = BundledBatch { attempt: "a".into(), to: STANDARD.encode(&bytes) };
            let _ = batch.to_function(encoding);
        }
    }
}
