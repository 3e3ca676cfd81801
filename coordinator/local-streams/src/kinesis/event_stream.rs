//! Messages of `application/vnd.amazon.eventstream`:
//!
//! ```text
//! total length u32, length of headers u32, CRC-32 of both u32,
//! headers (each: length of name u8, name, 7 (a string), length u16, value), payload, CRC-32 of all before u32
//! ```
//! Numbers are big endian.

use bytes::{BufMut, Bytes, BytesMut};

/// An event whose payload has this content type.
pub(super) fn event(kind: &str, content_type: &str, payload: &[u8]) -> Bytes {
    message(
        &[
            (":message-type", "event"),
            (":event-type", kind),
            (":content-type", content_type),
        ],
        payload,
    )
}

/// An exception that ends the stream.
pub(super) fn exception(kind: &str, content_type: &str, payload: &[u8]) -> Bytes {
    message(
        &[
            (":message-type", "exception"),
            (":exception-type", kind),
            (":content-type", content_type),
        ],
        payload,
    )
}

fn message(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let header_bytes: usize = headers
        .iter()
        .map(|(name, value)| 4 + name.len() + value.len())
        .sum();
    let total = 12 + header_bytes + payload.len() + 4;
    let mut out = BytesMut::with_capacity(total);
    out.put_u32(total as u32);
    out.put_u32(header_bytes as u32);
    out.put_u32(crc32fast::hash(&out));
    for (name, value) in headers {
        out.put_u8(name.len() as u8);
        out.put_slice(name.as_bytes());
        out.put_u8(7);
        out.put_u16(value.len() as u16);
        out.put_slice(value.as_bytes());
    }
    out.put_slice(payload);
    out.put_u32(crc32fast::hash(&out));
    out.freeze()
}
