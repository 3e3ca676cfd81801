//! Listing of a topic's partitions, and the time after which a failure stops the ingress.

use std::time::Duration;

use satchel_clock::Backoff;
use tokio::time::Instant;

use super::consumer::{Consumer, RequestFailure};
use super::{IngressOptions, KafkaObserver, Stop};
use crate::error::KafkaError;
use crate::log_interval::LogInterval;

/// Time for which a topic must be missing or denied without a success in between before its ingress
/// stops. Permissions and new topics take effect on some brokers before others.
const DENIED_FOR: Duration = Duration::from_secs(5);

/// Time since which every request about a topic has failed for a reason of the topic.
#[derive(Debug, Default)]
pub(super) struct Denials {
    since: Option<Instant>,
}

impl Denials {
    /// Notes a success.
    pub(super) fn reset(&mut self) {
        self.since = None;
    }

    /// Notes a failure.
    ///
    /// # Errors
    ///
    /// The failure has lasted long enough to stop the ingress.
    pub(super) fn note(
        &mut self,
        options: &IngressOptions,
        failure: &RequestFailure,
    ) -> Result<(), KafkaError> {
        if let RequestFailure::Unavailable(_) = failure {
            return Ok(());
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < DENIED_FOR {
            return Ok(());
        }
        let (ingress, topic) = (options.ingress.to_string(), options.topic.to_string());
        Err(match failure {
            RequestFailure::Missing => KafkaError::NoTopic { ingress, topic },
            RequestFailure::Denied(reason) | RequestFailure::Unavailable(reason) => {
                KafkaError::Refused {
                    ingress,
                    topic,
                    reason: reason.clone(),
                }
            }
        })
    }
}

/// Describes a failure.
pub(super) fn describe(failure: &RequestFailure) -> String {
    match failure {
        RequestFailure::Missing => "the topic does not exist".to_owned(),
        RequestFailure::Denied(reason) => format!("access denied: {reason}"),
        RequestFailure::Unavailable(reason) => reason.clone(),
    }
}

/// Repeats a request until it succeeds.
///
/// # Errors
///
/// The topic stays missing or denied.
pub(super) async fn persist<T, F>(
    options: &IngressOptions,
    observer: &dyn KafkaObserver,
    denials: &mut Denials,
    what: &str,
    request: impl Fn() -> F,
) -> Result<T, Stop>
where
    F: Future<Output = Result<T, RequestFailure>>,
{
    let mut backoff = Backoff::default();
    let mut log = LogInterval::default();
    loop {
        let failure = match request().await {
            Ok(done) => {
                denials.reset();
                return Ok(done);
            }
            Err(failure) => failure,
        };
        let reason = format!("{what}: {}", describe(&failure));
        observer.failed(&options.ingress, &reason);
        if log.admits() {
            let (ingress, topic) = (&*options.ingress, &*options.topic);
            tracing::warn!(ingress, topic, reason, "Kafka request failed; retrying");
        }
        denials.note(options, &failure)?;
        backoff.wait().await;
    }
}

/// Lists the partitions before anything is assigned.
pub(super) async fn first_partitions(
    consumer: &Consumer,
    options: &IngressOptions,
    observer: &dyn KafkaObserver,
) -> Result<Vec<u32>, Stop> {
    let mut denials = Denials::default();
    let list = || consumer.first_partitions();
    persist(options, observer, &mut denials, "listing partitions", list).await
}
