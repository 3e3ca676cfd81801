//! What a failed request says about its records.

use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use satchel_engine::sink::delivery::Outcome;

/// Codes by which services say that it was too much at once.
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

/// Codes by which services say that there is no such place.
const MISSING: [&str; 5] = [
    "AWS.SimpleQueueService.NonExistentQueue",
    "NotFound",
    "NotFoundException",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
];

/// Codes by which services find fault with what they were asked. Whatever else they say may be better next time: above all what concerns
/// credentials and permissions, which people mend.
const INVALID: [&str; 13] = [
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
    "RequestTooLargeException",
    "SerializationException",
    "ValidationException",
];

/// Why a request failed, for people: code and message of the service, or what came between.
pub fn describe<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => DisplayErrorContext(error).to_string(),
    }
}

/// Whether the request may have had its effect: unless it never left, or the service says that it is at fault itself.
pub fn is_in_doubt<E>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::ServiceError(failure) => !failure.raw().status().is_client_error(),
        _ => true,
    }
}

/// What becomes of each of `records` records of a request that failed as a whole.
pub fn outcomes<E, R>(error: &SdkError<E, R>, records: usize) -> Vec<Outcome>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let reason = describe(error);
    let outcome = of_code(error.code().unwrap_or_default(), reason, records == 1);
    vec![outcome; records]
}

/// What a service's code says of a record; `alone` if nothing else can be the reason.
pub fn of_code(code: &str, reason: String, alone: bool) -> Outcome {
    // Some codes come as `namespace#Name`.
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
        Outcome::Again(reason)
    }
}

/// Whether the code speaks of who asks, and not of what is asked: people mend that, and the record is as good as before.
pub fn is_permission(code: &str) -> bool {
    [
        "AccessDenied",
        "Unauthorized",
        "Authorization",
        "Token",
        "Signature",
        "Credential",
        "Kms",
        "KMS",
    ]
    .iter()
    .any(|part| code.contains(part))
}
