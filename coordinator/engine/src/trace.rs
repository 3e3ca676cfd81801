//! Trace context of a request, after the W3C's Trace Context: the header `traceparent`.
//!
//! Satchel passes the context of a request on to the message, to what the function sends on account
//! of that message, and so on. Without stories of messages ([`crate::story`]) it is unchanged. With
//! them, each message of a sampled trace is a span, and its parent is the span of the message that
//! caused it.

use std::fmt;

use crate::hex::Hex;

/// Trace context: the trace, the span that caused the message, and flags.
///
/// Written `00-<32 digits>-<16 digits>-<2 digits>`, in lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// Id of the trace.
    pub trace_id: [u8; 16],
    /// Id of the span that caused the message.
    pub parent_id: [u8; 8],
    /// Flags; bit 0 says that the caller samples the trace.
    pub flags: u8,
}

/// Length of the text form of version 00.
const LENGTH: usize = 55;

impl TraceParent {
    /// Size of the durable form, in bytes.
    pub(crate) const BYTES: usize = 25;

    /// Flag that the trace is sampled.
    const SAMPLED: u8 = 1;

    /// Returns the id of the span of a message: the first eight bytes of the message's id, which
    /// are never zeros.
    #[must_use]
    pub fn span_of(message: [u8; 16]) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = message;
        match [a, b, c, d, e, f, g, h] {
            [0, 0, 0, 0, 0, 0, 0, 0] => [0, 0, 0, 0, 0, 0, 0, 1],
            span => span,
        }
    }

    /// Returns the context of a message that begins a sampled trace, whose id is that of the
    /// message. The message is its own parent here, which tells it from all others.
    #[must_use]
    pub fn root(message: [u8; 16]) -> Self {
        Self {
            trace_id: message,
            parent_id: Self::span_of(message),
            flags: Self::SAMPLED,
        }
    }

    /// Returns whether the trace is sampled.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// Returns the same context, sampled or not.
    #[must_use]
    pub fn sampled(self, sampled: bool) -> Self {
        let flags = self.flags & !Self::SAMPLED | u8::from(sampled);
        Self { flags, ..self }
    }

    /// Returns the context of what a message causes.
    #[must_use]
    pub fn through(self, message: [u8; 16]) -> Self {
        Self {
            parent_id: Self::span_of(message),
            ..self
        }
    }

    /// Parses the value of a header `traceparent`.
    ///
    /// Returns `None` for a value that the specification tells receivers to ignore: a wrong form,
    /// version `ff`, or an id of zeros. A value of a later version is read like version 00, which
    /// it must begin with.
    pub fn parse(text: &str) -> Option<Self> {
        let version = digits::<1>(text.get(..2)?)?[0];
        let rest_is_valid = match version {
            0 => text.len() == LENGTH,
            0xff => false,
            _ => text.len() == LENGTH || text.as_bytes().get(LENGTH) == Some(&b'-'),
        };
        let bytes = text.as_bytes();
        let separated = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        if !rest_is_valid || !separated {
            return None;
        }
        let parsed = Self {
            trace_id: digits(text.get(3..35)?)?,
            parent_id: digits(text.get(36..52)?)?,
            flags: digits::<1>(text.get(53..LENGTH)?)?[0],
        };
        let known = parsed.trace_id != [0; 16] && parsed.parent_id != [0; 8];
        known.then_some(parsed)
    }

    /// Head of the JSON envelope that Satchel's egress to Kinesis puts around a record, up to the
    /// id: `{"satchel":1,"id":"<32 digits>","traceparent":"…",…}`.
    pub const ENVELOPE_HEAD: &str = "{\"satchel\":1,\"id\":\"";

    /// Text between the id and the trace context in the envelope.
    pub const ENVELOPE_FIELD: &str = "\",\"traceparent\":\"";

    /// Parses the trace context of a record in Satchel's envelope, which has it right after the id.
    /// Returns `None` for any other record.
    pub fn of_envelope(record: &[u8]) -> Option<Self> {
        let rest = record.strip_prefix(Self::ENVELOPE_HEAD.as_bytes())?;
        let rest = rest.get(32..)?;
        let rest = rest.strip_prefix(Self::ENVELOPE_FIELD.as_bytes())?;
        let text = rest
            .get(..LENGTH)
            .filter(|_| rest.get(LENGTH) == Some(&b'"'))?;
        Self::parse(std::str::from_utf8(text).ok()?)
    }

    /// Returns the trace context as AWS X-Ray writes it: `Root=1-…;Parent=…;Sampled=…`. X-Ray's
    /// trace id is that of the W3C, whose first four bytes it takes for a time.
    pub fn to_x_ray(self) -> String {
        let trace = Hex(&self.trace_id).to_string();
        let (time, rest) = trace.split_at(8);
        let parent = Hex(&self.parent_id).to_string();
        let sampled = self.flags & 1;
        format!("Root=1-{time}-{rest};Parent={parent};Sampled={sampled}")
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..24].copy_from_slice(&self.parent_id);
        bytes[24] = self.flags;
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [trace @ .., _, _, _, _, _, _, _, _, flags] = bytes;
        let mut parent_id = [0; 8];
        parent_id.copy_from_slice(&bytes[16..24]);
        Self {
            trace_id: trace,
            parent_id,
            flags,
        }
    }
}

/// Parses lower-case hexadecimal digits, two for each byte.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let valid = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * N || !text.as_bytes().iter().all(valid) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, parent) = (Hex(&self.trace_id), Hex(&self.parent_id));
        write!(f, "00-{trace}-{parent}-{:02x}", self.flags)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_of_an_envelope_is_found_where_the_egress_puts_it_and_nowhere_else() {
        let trace = TraceParent::parse(EXAMPLE);
        let id = "ab".repeat(16);
        let record = |text: &str| TraceParent::of_envelope(text.as_bytes());
        let whole = format!(
            "{}{id}{}{EXAMPLE}\",\"data\":1}}",
            TraceParent::ENVELOPE_HEAD,
            TraceParent::ENVELOPE_FIELD
        );
        assert_eq!(record(&whole), trace);
        for other in [
            String::new(),
            format!("{{\"traceparent\":\"{EXAMPLE}\"}}"),
            format!("{{\"satchel\":1,\"id\":\"{id}\",\"data\":1}}"),
            whole.replace("00-", "ff-"),
            whole[..whole.len() - 11].to_owned(),
        ] {
            assert_eq!(record(&other), None, "{other}");
        }
    }

    #[test]
    fn x_ray_gets_the_same_trace_in_its_own_form() {
        let trace = TraceParent::parse(EXAMPLE).unwrap();
        assert_eq!(
            trace.to_x_ray(),
            "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"
        );
    }

    #[test]
    fn a_span_is_named_by_its_message_and_never_by_zeros() {
        assert_eq!(TraceParent::span_of([7; 16]), [7; 8]);
        let mut zeros = [9; 16];
        zeros[..8].fill(0);
        assert_eq!(TraceParent::span_of(zeros), [0, 0, 0, 0, 0, 0, 0, 1]);
        let trace = TraceParent::parse(EXAMPLE).unwrap();
        let expected = "00-4bf92f3577b34da6a3ce929d0e0e4736-0707070707070707-01";
        assert_eq!(trace.through([7; 16]).to_string(), expected);
        assert!(trace.is_sampled() && !trace.sampled(false).is_sampled());
    }

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_value_is_written_as_it_was_read() {
        let trace = TraceParent::parse(EXAMPLE).unwrap();
        assert_eq!(trace.to_string(), EXAMPLE);
        assert_eq!(TraceParent::from_bytes(trace.to_bytes()), trace);
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-further";
        assert_eq!(TraceParent::parse(later), Some(trace));
        assert_eq!(TraceParent::parse(&later[..55]), Some(trace));
    }

    #[test]
    fn a_value_that_must_be_ignored_is_none() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-further",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01further",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ü-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }
}
