//! Adapter of EventBridge.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::operation::put_events::PutEventsError;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use satchel_engine::output::Emission;

use super::{EVENT_BYTES_MAX, Event, EventBridgeSettings};
use crate::egress::batch;
use crate::egress::content::check_size;
use crate::egress::failure;
use crate::egress::{Answer, REQUEST_TIMEOUT, Service, with_timeout};
use crate::error_text::describe_entry;
use satchel_engine::sink::delivery::{Limits, Outcome, Record, Request};

/// Puts events.
#[derive(Debug, Clone)]
pub struct EventBridgeService {
    client: Client,
    settings: EventBridgeSettings,
    bus: Arc<str>,
}

impl EventBridgeService {
    /// Uses the EventBridge of `config`.
    pub fn new(config: &SdkConfig, settings: EventBridgeSettings) -> Self {
        Self {
            client: Client::new(&with_timeout(config, REQUEST_TIMEOUT)),
            bus: settings.event_bus.as_str().into(),
            settings,
        }
    }
}

impl Service for EventBridgeService {
    type Payload = Event;

    fn limits(&self) -> Limits {
        batch::limits(EVENT_BYTES_MAX)
    }

    fn prepare(&self, emission: Emission) -> Result<Record<Event>, String> {
        let event = Event::of(&emission, &self.settings)?;
        let bytes = event.bytes();
        check_size("the event", bytes, EVENT_BYTES_MAX)?;
        Ok(Record {
            number: emission.number,
            destination: Arc::clone(&self.bus),
            key: None,
            bytes,
            payload: event,
        })
    }

    async fn deliver(&self, request: &Request<Event>) -> Answer {
        let entries = request.records.iter().map(|record| {
            let event = &record.payload;
            PutEventsRequestEntry::builder()
                .event_bus_name(&*request.destination)
                .source(&event.source)
                .detail_type(&event.detail_type)
                .detail(&event.detail)
                .resources(&event.resource)
                .set_trace_header(event.trace_header.clone())
                .build()
        });
        let answer = self
            .client
            .put_events()
            .set_entries(Some(entries.collect()))
            .send()
            .await;
        batch::answer(request, answer, |answer, count| {
            let entries = answer.entries();
            if entries.len() != count {
                let found = entries.len();
                return vec![Outcome::Retry(format!("{found} results for {count} events")); count];
            }
            let outcomes =
                entries
                    .iter()
                    .map(|entry| match (entry.error_code(), entry.event_id()) {
                        (Some(code), _) => {
                            let reason =
                                describe_entry::<PutEventsError>(code, entry.error_message());
                            failure::of_code(code, reason, true)
                        }
                        (None, Some(_)) => Outcome::Delivered,
                        (None, None) => Outcome::Retry("the response gives it no id".to_owned()),
                    });
            outcomes.collect()
        })
    }
}
