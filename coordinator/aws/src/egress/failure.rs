//! Classification of failed requests.

use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};

use crate::error_text::{Operation, describe};
use satchel_engine::sink::delivery::Outcome;

/// Error codes of services for throttling.
const THROTTLES: [&str; 13] = [
    "KMSThrottlingException",
    "KmsThrottled",
    "LimitExceededException",
    "OverLimit",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttled",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Error codes of services for a missing target.
const MISSING: [&str; 5] = [
    "AWS.SimpleQueueService.NonExistentQueue",
    "NotFound",
    "NotFoundException",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
];

/// Error codes of services for an invalid request. Any other error may pass by the next attempt,
/// above all one about credentials or permissions, which a person corrects.
const INVALID: [&str; 15] = [
    "AWS.SimpleQueueService.BatchRequestTooLong",
    "BatchRequestTooLong",
    "InvalidArgumentException",
    "InvalidMessageContents",
    "InvalidParameter",
    "InvalidParameterValue",
    "InvalidParameterValueException",
    "InvalidRequestContentException",
    "ItemCollectionSizeLimitExceededException",
    "ParameterValueInvalid",
    "RequestEntityTooLargeException",
    "RequestTooLargeException",
    "SerializationException",
    "SerializedRequestEntityTooLargeException",
    "ValidationException",
];

/// True if the request may have taken effect. That is so unless it was not sent, or the service
/// reports a client error.
pub fn is_in_doubt<E>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::ServiceError(failure) => !failure.raw().status().is_client_error(),
        _ => true,
    }
}

/// Outcome of each of `records` records of a request that failed as a whole.
pub fn outcomes<E: Operation>(error: &SdkError<E, HttpResponse>, records: usize) -> Vec<Outcome> {
    let reason = describe(error);
    let outcome = of_code(error.code().unwrap_or_default(), reason, records == 1);
    vec![outcome; records]
}

/// Outcome of a record for an error code. `alone` is true if no other record can be the cause.
pub fn of_code(code: &str, reason: String, alone: bool) -> Outcome {
    // Some codes have the form `namespace#Name`.
    let code = code.rsplit('#').next().unwrap_or(code);
    if THROTTLES.contains(&code) {
        Outcome::Throttled(reason)
    } else if MISSING.contains(&code) {
        Outcome::Missing(reason)
    } else if INVALID.contains(&code) {
        match alone {
            true => Outcome::Refused(reason),
            false => Outcome::Suspect(reason),
        }
    } else {
        Outcome::Retry(reason)
    }
}

/// True if the code concerns the caller's permissions rather than the request. A person corrects
/// those, and the record remains valid.
pub fn is_permission(code: &str) -> bool {
    [
        "AccessDenied",
        "Unauthorized",
        "Authorization",
        "Token",
        "Signature",
        "Credential",
        // The access key does not exist.
        "UnrecognizedClient",
        "Kms",
        "KMS",
    ]
    .iter()
    .any(|part| code.contains(part))
}
