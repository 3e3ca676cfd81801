//! Difference of this machine's calendar from that of a service, by the `Date` of its answers.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use satchel_clock::calendar_ms;

/// Interceptor that remembers the difference at the last answer. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ServerDate(Arc<Mutex<Option<i64>>>);

impl ServerDate {
    /// Returns by how much this machine was ahead at the last answer with a `Date`, in ms; `None`
    /// before the first one.
    pub fn ahead_ms(&self) -> Option<i64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for ServerDate {
    fn name(&self) -> &'static str {
        "ServerDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|text| DateTime::from_str(text, Format::HttpDate).ok());
        if let Some(server_ms) = date.and_then(|date| date.to_millis().ok())
            && let Ok(here_ms) = i64::try_from(calendar_ms())
        {
            // `Date` has whole seconds, rounded down.
            let ahead_ms = here_ms - server_ms - 500;
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead_ms);
        }
        Ok(())
    }
}
