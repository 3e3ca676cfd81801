//! Envelopes around a record's bytes, by which readers recognize repeated records.
//!
//! `json`: `{"satchel":1,"id":"<32 hexadecimal digits>","data":<the bytes>}` if the bytes are JSON
//! text, else with `"base64":"<the bytes>"` instead of `"data"`. The id is that of the record. It
//! is the same whenever the record is sent again, and no other record has it. A record with a trace
//! context has `"traceparent":"<the context>"` right after the id.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use satchel_engine::message::MessageId;
use satchel_engine::trace::TraceParent;
use serde_json::value::RawValue;

/// Envelope around a record's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Envelope {
    /// No envelope.
    #[default]
    None,
    /// JSON with the record's id.
    Json,
}

impl Envelope {
    /// Wraps the bytes of a record.
    pub fn wrap(self, id: MessageId, trace: Option<TraceParent>, data: Bytes) -> Bytes {
        match self {
            Self::None => data,
            Self::Json => {
                let content = match json_text(&data) {
                    Some(text) => format!("\"data\":{text}"),
                    None => format!("\"base64\":\"{}\"", STANDARD.encode(&data)),
                };
                let mut text = format!("{}{id}", TraceParent::ENVELOPE_HEAD);
                if let Some(trace) = trace {
                    text.push_str(TraceParent::ENVELOPE_FIELD);
                    text.push_str(&trace.to_string());
                }
                text.push_str("\",");
                text.push_str(&content);
                text.push('}');
                text.into()
            }
        }
    }
}

/// The bytes as text, if they are one JSON value.
fn json_text(data: &[u8]) -> Option<&str> {
    let value: &RawValue = serde_json::from_slice(data).ok()?;
    Some(value.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_enclosed_as_it_is_and_other_bytes_as_base64() {
        let id = MessageId([0xab; 16]);
        let wrap = |data: &'static [u8]| {
            let bytes = Envelope::Json.wrap(id, None, Bytes::from_static(data));
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let head = format!("{{\"satchel\":1,\"id\":\"{}\",", "ab".repeat(16));
        assert_eq!(
            wrap(b" {\"a\": 1.0}"),
            format!("{head}\"data\":{{\"a\": 1.0}}}}")
        );
        assert_eq!(wrap(b"\xff{"), format!("{head}\"base64\":\"/3s=\"}}"));
        assert_eq!(wrap(b""), format!("{head}\"base64\":\"\"}}"));
        let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let plain = Envelope::None.wrap(id, trace, Bytes::from_static(b"x"));
        assert_eq!(plain, "x");
        let traced = Envelope::Json.wrap(id, trace, Bytes::from_static(b"1"));
        let text = std::str::from_utf8(&traced).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(parsed["traceparent"], trace.unwrap().to_string());
        assert_eq!(
            (&parsed["satchel"], &parsed["data"]),
            (&1.into(), &1.into())
        );
        assert_eq!(TraceParent::of_envelope(&traced), trace);
    }
}
