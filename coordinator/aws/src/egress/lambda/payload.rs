//! Conversion of records to payloads.

use satchel_engine::output::Emission;
use serde_json::Value;

use crate::egress::content::Content;

/// Payload of the invocation for a record, with or without the envelope.
///
/// # Errors
///
/// The bytes do not match their built-in typename.
pub fn payload(emission: &Emission, envelope: bool) -> Result<String, String> {
    let content = Content::of(emission)?;
    if !envelope {
        return Ok(content.json());
    }
    let mut head = format!(
        "{{\"satchel\":1,\"id\":\"{}\",\"typename\":{}",
        emission.id,
        Value::from(content.typename())
    );
    if let Some(trace) = emission.trace {
        head.push_str(&format!(",\"traceparent\":\"{trace}\""));
    }
    Ok(match content.value() {
        Some(_) => format!("{head},\"data\":{}}}", content.json()),
        None => format!("{head},\"base64\":\"{}\"}}", content.text()),
    })
}

#[cfg(test)]
mod tests {
    use satchel_engine::trace::TraceParent;

    use super::*;
    use crate::egress::content::tests::emission;

    #[test]
    fn the_payload_is_the_value_with_or_without_its_type() {
        let json = emission(1, "example/x", b"{\"a\":1}");
        let binary = emission(1, "example/x", b"\xff");
        assert_eq!(payload(&json, false).unwrap(), "{\"a\":1}");
        let head = format!(
            "{{\"satchel\":1,\"id\":\"{}\",\"typename\":\"example/x\"",
            "01".repeat(16)
        );
        let enclosed = payload(&json, true).unwrap();
        assert_eq!(enclosed, format!("{head},\"data\":{{\"a\":1}}}}"));
        let enclosed = payload(&binary, true).unwrap();
        assert_eq!(enclosed, format!("{head},\"base64\":\"/w==\"}}"));
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let traced = Emission {
            trace: TraceParent::parse(trace),
            ..json
        };
        assert_eq!(payload(&traced, false).unwrap(), "{\"a\":1}");
        assert_eq!(
            payload(&traced, true).unwrap(),
            format!("{head},\"traceparent\":\"{trace}\",\"data\":{{\"a\":1}}}}")
        );
    }
}
