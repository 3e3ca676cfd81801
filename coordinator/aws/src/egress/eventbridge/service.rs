//! Adapter of EventBridge.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::operation::put_events::PutEventsError;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use satchel_engine::output::Emission;
use satchel_engine::trace::TraceParent;
use serde_json::{Value, json};

use super::EventBridgeSettings;
use crate::egress::batch;
use crate::egress::content::{Content, Selector};
use crate::egress::failure;
use crate::egress::{Answer, REQUEST_TIMEOUT, Service, with_timeout};
use crate::error_text::describe_entry;
use satchel_engine::sink::delivery::{Limits, Outcome, Record, Request};

/// Maximum size of a request, and thus of an event, in bytes.
const BYTES_PER_REQUEST: usize = 256 << 10;

/// Maximum length of a source and of a detail type in bytes.
const NAME_BYTES_MAX: usize = 256;

/// An event to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its source.
    pub source: String,
    /// Its detail type.
    pub detail_type: String,
    /// Its detail, a JSON object.
    pub detail: String,
    /// The record's id.
    pub resource: String,
    /// Its trace context, as AWS X-Ray writes it.
    pub trace_header: Option<String>,
}

impl Event {
    fn of(emission: &Emission, settings: &EventBridgeSettings) -> Result<Self, String> {
        let content = Content::of(emission)?;
        let detail = match content.value() {
            None | Some(Value::Object(_)) => content.json(),
            Some(value) => json!({"typename": content.typename(), "value": value}).to_string(),
        };
        let name = |what: &str, selector: &Selector| {
            let name = selector.select(emission, &content)?;
            match name.len() {
                1..=NAME_BYTES_MAX => Ok(name),
                bytes => Err(format!(
                    "its {what} has {bytes} bytes, and {NAME_BYTES_MAX} are allowed"
                )),
            }
        };
        Ok(Self {
            source: name("source", &settings.source)?,
            detail_type: name("detail type", &settings.detail_type)?,
            detail,
            resource: format!("satchel:{}", emission.id),
            trace_header: emission.trace.map(TraceParent::to_x_ray),
        })
    }

    fn bytes(&self) -> usize {
        self.source.len() + self.detail_type.len() + self.detail.len() + self.resource.len()
    }
}

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
        batch::limits(BYTES_PER_REQUEST)
    }

    fn prepare(&self, emission: Emission) -> Result<Record<Event>, String> {
        let event = Event::of(&emission, &self.settings)?;
        let bytes = event.bytes();
        batch::check_size("the event", bytes, BYTES_PER_REQUEST)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::content::tests::emission;

    #[test]
    fn a_detail_is_an_object_whatever_the_value() {
        let settings = EventBridgeSettings {
            event_bus: "default".into(),
            source: "shop".parse().unwrap(),
            detail_type: "$typename".parse().unwrap(),
        };
        let detail = |value: &[u8]| {
            let event = Event::of(&emission(1, "example/x", value), &settings).unwrap();
            assert_eq!((&*event.source, &*event.detail_type), ("shop", "example/x"));
            event.detail
        };
        assert_eq!(detail(b"{\"a\": 1}"), "{\"a\": 1}");
        assert_eq!(detail(b"[1]"), "{\"typename\":\"example/x\",\"value\":[1]}");
        assert_eq!(
            detail(b"\xff"),
            "{\"base64\":\"/w==\",\"typename\":\"example/x\"}"
        );
        let traced = Emission {
            trace: TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ..emission(1, "example/x", b"{}")
        };
        assert_eq!(
            Event::of(&traced, &settings)
                .unwrap()
                .trace_header
                .as_deref(),
            Some("Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1")
        );
    }
}
