//! Envelopes around a record's bytes, by which readers recognize repeated records.
//!
//! `json`: `{"satchel":1,"id":"<32 hexadecimal digits>","data":<the bytes>}` if the bytes are JSON
//! text, else with `"base64":"<the bytes>"` instead of `"data"`. The id is that of the record. It
//! is the same whenever the record is sent again, and no other record has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use satchel_engine::message::MessageId;
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
    pub fn wrap(self, id: MessageId, data: Bytes) -> Bytes {
        match self {
            Self::None => data,
            Self::Json => {
                let content = match json_text(&data) {
                    Some(text) => format!("\"data\":{text}"),
                    None => format!("\"base64\":\"{}\"", STANDARD.encode(&data)),
                };
                format!("{{\"satchel\":1,\"id\":\"{id}\",{content}}}").into()
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
            let bytes = Envelope::Json.wrap(id, Bytes::from_static(data));
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let head = format!("{{\"satchel\":1,\"id\":\"{}\",", "ab".repeat(16));
        assert_eq!(
            wrap(b" {\"a\": 1.0}"),
            format!("{head}\"data\":{{\"a\": 1.0}}}}")
        );
        assert_eq!(wrap(b"\xff{"), format!("{head}\"base64\":\"/3s=\"}}"));
        assert_eq!(wrap(b""), format!("{head}\"base64\":\"\"}}"));
        assert_eq!(Envelope::None.wrap(id, Bytes::from_static(b"x")), "x");
    }
}
