//! What S3's errors mean to the log.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::{RequestId, RequestIdExt};
use aws_sdk_s3::primitives::ByteStreamError;
use satchel_log::StoreError;

use super::request::{S3Operation, S3Outcome};

/// A request that was not simply done, as S3 or the way to it tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The status of the answer, if there was one.
    status: Option<u16>,
    /// S3's name for the error.
    code: Option<String>,
    /// For a person. Holds no credentials: only what S3 says in its message, and the transport's own errors.
    text: String,
}

/// What the request's caller makes of a [`Problem`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// `412`: there is an object of that key.
    Exists,
    /// There is no object of that key.
    Absent,
    /// `416`: the range begins at or behind the object's end.
    BehindEnd,
    /// Anything else.
    Store(StoreError),
}

impl Problem {
    /// No answer within `limit`.
    pub(super) fn late(limit: Duration) -> Self {
        Self::local(format!("no answer within {} ms", limit.as_millis()))
    }

    /// Something about an answer that should not be.
    pub(super) fn local(text: String) -> Self {
        Self {
            status: None,
            code: None,
            text,
        }
    }

    /// An error about one key in the answer to a request for many.
    pub(super) fn of_key(code: Option<&str>, message: Option<&str>) -> Self {
        Self {
            status: None,
            code: code.map(str::to_owned),
            text: said(code, message),
        }
    }

    /// What it means for a request about `key`.
    pub(super) fn judge(&self, operation: S3Operation, bucket: &str, key: &str) -> Failure {
        let code = self.code.as_deref().unwrap_or_default();
        match (self.status, code) {
            // Completing an upload may fail after the status 200 was sent: then only the code says it.
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
                        " (without the permission s3:ListBucket, S3 says this of an object that does not exist, too)",
                    );
                }
                StoreError::Fatal { key, reason }
            }
        })
    }

    /// Whether asking again can help. What is not known to pass is final only if S3 itself said it.
    fn may_pass(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        let passing = matches!(
            code,
            // S3 is busy, or did not get the whole request.
            "SlowDown"
                | "ServiceUnavailable"
                | "InternalError"
                | "RequestTimeout"
                | "RequestLimitExceeded"
                | "TooManyRequests"
                | "IncompleteBody"
                // The bytes were damaged on their way.
                | "BadDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                // Credentials are renewed, and clocks are set, while the process runs.
                | "ExpiredToken"
                | "ExpiredTokenException"
                | "RequestTimeTooSkewed"
                // A lifecycle rule or a person dropped the parts: the next try uploads them anew.
                | "NoSuchUpload"
        );
        let by_status = match self.status {
            // No status: the transport's trouble, unless it is an error about one key, which has a code.
            None => self.code.is_none(),
            // Something other than S3 answered.
            Some(status) if status < 400 => self.code.is_none() && status < 300,
            // 501 is what stores that only resemble S3 say of what they do not have.
            Some(status) => (status >= 500 && status != 501) || status == 429 || status == 408,
        };
        // Key management throttles under names of its own.
        passing || by_status || code.contains("Throttl")
    }
}

impl Failure {
    /// How the request is counted.
    pub(super) fn outcome(&self) -> S3Outcome {
        match self {
            Failure::Exists | Failure::Absent | Failure::BehindEnd => S3Outcome::Refused,
            Failure::Store(error) if error.is_retryable() => S3Outcome::Unavailable,
            Failure::Store(_) => S3Outcome::Fatal,
        }
    }

    /// The error of an operation that has no use for the other meanings.
    pub(super) fn into_error(self, operation: S3Operation, bucket: &str, key: &str) -> StoreError {
        let unexpected = match self {
            Failure::Store(error) => return error,
            Failure::Exists => "a precondition failed that was not asked for",
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
        // A status of an answer that could not be understood says nothing about what S3 did.
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
        (None, None) => "an error without a name".to_owned(),
    }
}

/// The error and what caused it, each once.
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
