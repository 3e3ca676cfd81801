//! Conversion of records to events.

use satchel_engine::output::Emission;
use satchel_engine::trace::TraceParent;
use serde_json::{Value, json};

use super::EventBridgeSettings;
use crate::egress::content::{Content, Selector};

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
    /// Converts a record.
    ///
    /// # Errors
    ///
    /// The record lacks a field.
    pub fn of(emission: &Emission, settings: &EventBridgeSettings) -> Result<Self, String> {
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

    /// Size in bytes that counts against the limits.
    pub fn bytes(&self) -> usize {
        self.source.len() + self.detail_type.len() + self.detail.len() + self.resource.len()
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
