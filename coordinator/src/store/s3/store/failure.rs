//! Classification of S3's errors for the log.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::{RequestId, RequestIdExt};
use aws_sdk_s3::primitives::ByteStreamError;
use satchel_log::{OBJECT_BYTES_MAX, StoreError};

use super::{S3Operation, S3Outcome};

/// Failed request, as S3 or the transport reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// HTTP status of the answer, if there was one.
    status: Option<u16>,
    /// S3's error code.
    code: Option<String>,
    /// Text for people. It has no credentials, only S3's message and the transport's errors.
    text: String,
}

/// Meaning of a [`Problem`] for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// `412`: an object with that key exists.
    Exists,
    /// No object with that key exists.
    Absent,
    /// `416`: the range begins at or beyond the object's end.
    BehindEnd,
    /// Any other error.
    Store(StoreError),
}

impl Problem {
    /// Returns the problem of an answer that did not arrive within `limit`.
    pub(super) fn late(limit: Duration) -> Self {
        Self::local(format!("no answer within {} ms", limit.as_millis()))
    }

    /// Returns the problem of an object that is larger than any of this software.
    pub(super) fn too_large(bytes: u64) -> Self {
        let text = format!("it has {bytes} bytes; an object has at most {OBJECT_BYTES_MAX}");
        Self::of_key(Some("EntityTooLarge"), Some(&text))
    }

    /// Returns the problem of an invalid answer.
    pub(super) fn local(text: String) -> Self {
        Self {
            status: None,
            code: None,
            text,
        }
    }

    /// Returns the problem of one key in the answer to a request for many.
    pub(super) fn of_key(code: Option<&str>, message: Option<&str>) -> Self {
        Self {
            status: None,
            code: code.map(str::to_owned),
            text: said(code, message),
        }
    }

    /// Classifies the problem of a request about `key`.
    pub(super) fn judge(&self, operation: S3Operation, bucket: &str, key: &str) -> Failure {
        let code = self.code.as_deref().unwrap_or_default();
        match (self.status, code) {
            // Completing an upload may fail after the status 200 was sent. Then only the code shows
            // it.
            (Some(412), _) | (_, "PreconditionFailed") => return Failure::Exists,
            (_, "NoSuchKey") => return Failure::Absent,
            (Some(416), _) => return Failure::BehindEnd,
            _ => {}
        }
        let key = key.to_owned();
        let mut reason = format!("{operation} in bucket {bucket}: {}", self.text);
        Failure::Store(match (self.status, code) {
            (Some(409), _) | (_, "ConditionalRequestConflict" | "OperationAborted") => {
                StoreError::Conflict { key, reason }
            }
            _ if self.may_pass() => StoreError::Unavailable { key, reason },
            _ => {
                if code == "AccessDenied" && operation == S3Operation::GetObject {
                    reason.push_str(
                        " (without the permission s3:ListBucket, S3 also answers this \
                         for an object that does not exist)",
                    );
                }
                StoreError::Fatal { key, reason }
            }
        })
    }

    /// Returns true if a retry can help. An unknown error is final only if S3 itself reported it.
    fn may_pass(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        let passing = matches!(
            code,
            // S3 is busy, or did not receive the whole request.
            "SlowDown"
                | "ServiceUnavailable"
                | "InternalError"
                | "RequestTimeout"
                | "RequestLimitExceeded"
                | "TooManyRequests"
                | "IncompleteBody"
                // The bytes were damaged in transfer.
                | "BadDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                // Credentials are renewed, and clocks set, while the process runs.
                | "ExpiredToken"
                | "ExpiredTokenException"
                | "RequestTimeTooSkewed"
                // A lifecycle rule or an operator dropped the parts. The next attempt uploads them
                // again.
                | "NoSuchUpload"
        );
        let by_status = match self.status {
            // No status: an error of the transport, unless it is about one key, which has a code.
            None => self.code.is_none(),
            // The answer did not come from S3.
            Some(status) if status < 400 => self.code.is_none() && status < 300,
            // Stores that resemble S3 answer 501 for unsupported features.
            Some(status) => (status >= 500 && status != 501) || status == 429 || status == 408,
        };
        // Key management has its own names for throttling.
        passing || by_status || code.contains("Throttl")
    }
}

impl Failure {
    /// Outcome of the request for metrics.
    pub(super) fn outcome(&self) -> S3Outcome {
        match self {
            Failure::Exists | Failure::Absent | Failure::BehindEnd => S3Outcome::Refused,
            Failure::Store(error) if error.is_retryable() => S3Outcome::Unavailable,
            Failure::Store(_) => S3Outcome::Fatal,
        }
    }

    /// Returns the error of an operation for which the other meanings are unexpected.
    pub(super) fn into_error(self, operation: S3Operation, bucket: &str, key: &str) -> StoreError {
        let unexpected = match self {
            Failure::Store(error) => return error,
            Failure::Exists => "an unrequested precondition failed",
            Failure::Absent => "there is no such object",
            Failure::BehindEnd => "the range cannot be satisfied",
        };
        StoreError::Fatal {
            key: key.to_owned(),
            reason: format!("{operation} in bucket {bucket}: {unexpected}"),
        }
    }
}

impl<E> From<SdkError<E>> for Problem
where
    E: Error + ProvideErrorMetadata + 'static,
{
    fn from(error: SdkError<E>) -> Self {
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        if let SdkError::ServiceError(context) = &error {
            let answer = context.err();
            let mut text = said(answer.code(), answer.message());
            if answer.code().is_none() && answer.message().is_none() {
                text = chain(&error);
            }
            if let Some(status) = status {
                text.push_str(&format!(" (status {status}"));
                if let Some(id) = error.request_id() {
                    text.push_str(&format!(", request {id}"));
                }
                if let Some(id) = error.extended_request_id() {
                    text.push_str(&format!(", {id}"));
                }
                text.push(')');
            }
            return Self {
                status,
                code: answer.code().map(str::to_owned),
                text,
            };
        }
        // The status of an unreadable answer does not show what S3 did.
        Self::local(chain(&error))
    }
}

impl From<ByteStreamError> for Problem {
    fn from(error: ByteStreamError) -> Self {
        Self::local(chain(&error))
    }
}

fn said(code: Option<&str>, message: Option<&str>) -> String {
    match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => "an error without a code".to_owned(),
    }
}

/// Formats the error and its causes, each once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: Option<u16>, code: Option<&str>) -> Failure {
        let problem = Problem {
            status,
            code: code.map(str::to_owned),
            text: said(code, Some("words")),
        };
        problem.judge(S3Operation::PutObject, "b", "k")
    }

    #[test]
    fn an_answer_to_the_condition_is_no_error() {
        assert_eq!(
            judged(Some(412), Some("PreconditionFailed")),
            Failure::Exists
        );
        assert_eq!(
            judged(Some(200), Some("PreconditionFailed")),
            Failure::Exists
        );
        assert_eq!(judged(Some(404), Some("NoSuchKey")), Failure::Absent);
        assert_eq!(judged(Some(416), Some("InvalidRange")), Failure::BehindEnd);
    }

    #[test]
    fn a_conflict_is_told_apart() {
        let conflict = Failure::Store(StoreError::Conflict {
            key: "k".to_owned(),
            reason: "PutObject in bucket b: ConditionalRequestConflict: words".to_owned(),
        });
        assert_eq!(
            judged(Some(409), Some("ConditionalRequestConflict")),
            conflict
        );
    }

    #[test]
    fn what_may_pass_is_worth_another_try() {
        for (status, code) in [
            (Some(503), Some("SlowDown")),
            (Some(500), Some("InternalError")),
            (Some(500), None),
            (Some(502), None),
            (Some(200), Some("InternalError")),
            (Some(400), Some("RequestTimeout")),
            (Some(429), Some("TooManyRequests")),
            (Some(400), Some("BadDigest")),
            (Some(400), Some("ExpiredToken")),
            (Some(403), Some("RequestTimeTooSkewed")),
            (Some(400), Some("KMS.ThrottlingException")),
            (Some(404), Some("NoSuchUpload")),
            (None, None),
            (None, Some("InternalError")),
        ] {
            let Failure::Store(StoreError::Unavailable { .. }) = judged(status, code) else {
                panic!("{status:?} {code:?}: {:?}", judged(status, code));
            };
        }
    }

    #[test]
    fn what_a_person_must_mend_is_final_and_names_bucket_key_and_operation() {
        for (status, code) in [
            (Some(403), Some("AccessDenied")),
            (Some(403), Some("InvalidAccessKeyId")),
            (Some(403), Some("SignatureDoesNotMatch")),
            (Some(404), Some("NoSuchBucket")),
            (Some(301), Some("PermanentRedirect")),
            (Some(400), Some("KMS.DisabledException")),
            (Some(400), Some("AuthorizationHeaderMalformed")),
            (Some(405), Some("MethodNotAllowed")),
            (Some(501), Some("NotImplemented")),
            (None, Some("AccessDenied")),
        ] {
            let code_text = code.unwrap_or_default();
            let fatal = Failure::Store(StoreError::Fatal {
                key: "k".to_owned(),
                reason: format!("PutObject in bucket b: {code_text}: words"),
            });
            assert_eq!(judged(status, code), fatal);
        }
    }

    #[test]
    fn a_chain_of_errors_says_each_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("inner: {0}")]
        struct Middle(#[source] std::io::Error);
        let error = Outer(Middle(std::io::Error::other("root")));
        assert_eq!(chain(&error), "outer: inner: root");
    }
}
