//! Parts that the services have in common which take up to ten records in a request: SQS, SNS and
//! EventBridge.

use aws_sdk_sqs::error::SdkError;
use satchel_engine::sink::delivery::{Limits, Outcome, Request};

use super::{Answer, failure};
use crate::error_text::{Operation, describe_entry};

/// Maximum number of records in a request.
const RECORDS_PER_REQUEST: usize = 10;

const REQUESTS_IN_FLIGHT: usize = 16;

/// Limits of a service that takes requests of up to this size.
pub(super) fn limits(bytes_per_request: usize) -> Limits {
    Limits {
        records_per_request: RECORDS_PER_REQUEST,
        bytes_per_request,
        requests_in_flight: REQUESTS_IN_FLIGHT,
        records_in_flight: REQUESTS_IN_FLIGHT * RECORDS_PER_REQUEST,
    }
}

/// Attributes of a [`Message`](super::sqs::Message), in the type of the service's SDK.
macro_rules! attributes {
    ($value:ty, $message:expr) => {{
        let attributes = $message.attributes.iter().map(|(name, value)| {
            let value = <$value>::builder()
                .data_type("String")
                .string_value(value)
                .build();
            (name.clone(), value.expect("it has a type"))
        });
        attributes.collect()
    }};
}

pub(super) use attributes;

/// Reads the answer to a request. `read` gets the answer and the number of records, and returns the
/// outcome of each.
pub(super) fn answer<P, T, E: Operation>(
    request: &Request<P>,
    answer: Result<T, SdkError<E>>,
    read: impl FnOnce(T, usize) -> Vec<Outcome>,
) -> Answer {
    let count = request.records.len();
    Answer::of(match answer {
        Ok(answer) => read(answer, count),
        Err(error) => failure::outcomes(&error, count),
    })
}

/// Failure of an entry of a batch: code, message, and whether it is the sender's fault.
type Fault<'a> = (&'a str, Option<&'a str>, bool);

/// Outcome of each of `count` entries, whose ids are their indexes.
pub(super) fn each<'a, E: Operation>(
    count: usize,
    delivered: impl Iterator<Item = &'a str>,
    failed: impl Iterator<Item = (&'a str, Fault<'a>)>,
) -> Vec<Outcome> {
    let missing = || Outcome::Retry("the response does not mention it".to_owned());
    let mut outcomes: Vec<Outcome> = (0..count).map(|_| missing()).collect();
    let index = |id: &str| id.parse().ok().filter(|index: &usize| *index < count);
    for index in delivered.filter_map(index) {
        outcomes[index] = Outcome::Delivered;
    }
    for (id, (code, message, is_senders)) in failed {
        let Some(index) = index(id) else { continue };
        let reason = describe_entry::<E>(code, message);
        outcomes[index] = match failure::of_code(code, reason, true) {
            Outcome::Retry(reason) if is_senders && !failure::is_permission(code) => {
                Outcome::Refused(reason)
            }
            outcome => outcome,
        };
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchError;

    use super::*;
    use crate::egress::content::check_size;

    #[test]
    fn entries_fail_one_by_one_and_one_that_is_not_mentioned_is_retried() {
        let fault = |code: &'static str, senders| (code, Some("why"), senders);
        let failed = [
            ("1", fault("InvalidMessageContents", true)),
            ("2", fault("InternalError", false)),
            ("3", fault("AccessDenied", true)),
            ("9", fault("InternalError", false)),
        ];
        let outcomes = each::<SendMessageBatchError>(5, ["0"].into_iter(), failed.into_iter());
        let expected = [
            Outcome::Delivered,
            Outcome::Refused("SQS SendMessageBatch: InvalidMessageContents: why".into()),
            Outcome::Retry("SQS SendMessageBatch: InternalError: why".into()),
            Outcome::Retry("SQS SendMessageBatch: AccessDenied: why".into()),
            Outcome::Retry("the response does not mention it".into()),
        ];
        assert_eq!(outcomes, expected);
    }

    #[test]
    fn a_record_that_is_too_large_is_refused_with_its_size() {
        assert_eq!(check_size("the event", 10, 10), Ok(()));
        let refused = check_size("the event", 11, 10).unwrap_err();
        assert_eq!(refused, "the event has 11 bytes, and 10 are allowed");
    }
}
