//! Messages of `application/vnd.amazon.eventstream`.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;

/// Encodes an event whose payload has this content type.
pub(super) fn event(kind: &str, content_type: &str, payload: Vec<u8>) -> Bytes {
    message(
        [
            (":message-type", "event"),
            (":event-type", kind),
            (":content-type", content_type),
        ],
        payload,
    )
}

/// Encodes an exception, which ends the stream.
pub(super) fn exception(kind: &str, content_type: &str, payload: Vec<u8>) -> Bytes {
    message(
        [
            (":message-type", "exception"),
            (":exception-type", kind),
            (":content-type", content_type),
        ],
        payload,
    )
}

fn message(headers: [(&'static str, &str); 3], payload: Vec<u8>) -> Bytes {
    let mut message = Message::new(payload);
    for (name, value) in headers {
        let value = HeaderValue::String(value.to_owned().into());
        message = message.add_header(Header::new(name, value));
    }
    let mut out = Vec::new();
    write_message_to(&message, &mut out).expect("three short headers and one event fit a message");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_bytes_of_the_format() {
        let expected = [
            &[0, 0, 0, 0x4a, 0, 0, 0, 0x38, 0x5f, 0x63, 0x27, 0x1f][..],
            b"\x0d:message-type\x07\x00\x05event",
            b"\x0b:event-type\x07\x00\x01E",
            b"\x0d:content-type\x07\x00\x01c",
            b"{}",
            &[0x57, 0x4e, 0x7f, 0x5c],
        ];
        assert_eq!(event("E", "c", b"{}".to_vec()), expected.concat());
    }
}
