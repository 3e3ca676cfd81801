//! Limits of an answer, checked on its bytes before any of it is built in memory.
//!
//! An empty effect takes two bytes on the wire and a hundred times that in memory, so the size of
//! an answer does not bound the memory that it takes.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message as _};

use crate::reqreply::FromFunction;

/// Maximum number of effects of one answer: messages, delayed messages, records for egresses, and
/// state changes; or of states that it declares.
pub const EFFECTS_MAX: usize = 100_000;

/// Fields of `FromFunction` that hold effects: `invocation_result` and
/// `incomplete_invocation_context`.
const RESPONSES: [u32; 2] = [100, 101];

/// Reason why bytes are not an answer within its limits.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAnswer {
    /// The bytes are not a `FromFunction`.
    #[error("the answer is not a FromFunction: {0}")]
    Malformed(#[from] DecodeError),
    /// The answer has more effects than [`EFFECTS_MAX`].
    #[error("the answer has more than {EFFECTS_MAX} effects; split the work over several messages")]
    TooManyEffects,
}

/// Decodes the answer of a function.
///
/// # Errors
///
/// Returns [`InvalidAnswer`] before the effects are built if there are too many.
pub fn decode_answer(bytes: Bytes) -> Result<FromFunction, InvalidAnswer> {
    let mut effects = 0;
    for_each_part(&bytes, |field, part| {
        if RESPONSES.contains(&field) {
            // Every field of both messages is repeated: one occurrence is one effect.
            for_each_part(part, |_, _| {
                effects += 1;
                if effects > EFFECTS_MAX {
                    Err(InvalidAnswer::TooManyEffects)
                } else {
                    Ok(())
                }
            })
        } else {
            Ok(())
        }
    })?;
    Ok(FromFunction::decode(bytes)?)
}

/// Calls `visit` with the number and content of every length-delimited field of a message.
fn for_each_part(
    mut bytes: &[u8],
    mut visit: impl FnMut(u32, &[u8]) -> Result<(), InvalidAnswer>,
) -> Result<(), InvalidAnswer> {
    while bytes.has_remaining() {
        let (field, wire_type) = decode_key(&mut bytes)?;
        if wire_type != WireType::LengthDelimited {
            skip_field(wire_type, field, &mut bytes, DecodeContext::default())?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut bytes)?).unwrap_or(usize::MAX);
        let Some((part, rest)) = bytes.split_at_checked(length) else {
            // The decoder describes it; it has nothing to build before it gets here.
            return Err(truncated());
        };
        visit(field, part)?;
        bytes = rest;
    }
    Ok(())
}

/// Error of the decoder for a field that is longer than the message.
fn truncated() -> InvalidAnswer {
    let error = FromFunction::decode(&[0xa2, 0x06, 0x01][..]);
    InvalidAnswer::Malformed(error.expect_err("the field is longer than the message"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::encoding::encode_varint;

    use super::*;
    use crate::reqreply::from_function::{Invocation, InvocationResponse, Response};

    fn answer(messages: usize) -> FromFunction {
        FromFunction {
            response: Some(Response::InvocationResult(InvocationResponse {
                outgoing_messages: vec![Invocation::default(); messages],
                ..InvocationResponse::default()
            })),
        }
    }

    /// An answer with `count` empty effects in each of `times` occurrences of the field `field`.
    fn empty_effects(field: u32, times: usize, count: usize) -> Bytes {
        let mut bytes = Vec::new();
        for _ in 0..times {
            encode_varint(u64::from(field << 3 | 2), &mut bytes);
            encode_varint(2 * count as u64, &mut bytes);
            bytes.extend([0x0a, 0x00].repeat(count));
        }
        bytes.into()
    }

    #[test]
    fn an_answer_with_as_many_effects_as_allowed_is_decoded() {
        let answer = answer(EFFECTS_MAX);
        assert_eq!(
            decode_answer(answer.encode_to_vec().into()).unwrap(),
            answer
        );
        assert_eq!(
            decode_answer(Bytes::new()).unwrap(),
            FromFunction::default()
        );
    }

    #[test]
    fn more_effects_than_allowed_are_rejected_wherever_they_are() {
        for bytes in [
            answer(EFFECTS_MAX + 1).encode_to_vec().into(),
            empty_effects(100, 1, EFFECTS_MAX + 1),
            empty_effects(101, 1, EFFECTS_MAX + 1),
            // A repeated field is merged with the earlier one.
            empty_effects(100, 2, EFFECTS_MAX / 2 + 1),
            empty_effects(100, EFFECTS_MAX + 1, 1),
        ] {
            let error = decode_answer(bytes).unwrap_err();
            assert!(matches!(error, InvalidAnswer::TooManyEffects), "{error}");
        }
    }

    #[test]
    fn bytes_that_end_early_are_no_answer() {
        let whole = answer(3).encode_to_vec();
        let error = decode_answer(Bytes::copy_from_slice(&whole[..whole.len() - 1])).unwrap_err();
        assert!(
            error.to_string().contains("is not a FromFunction"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_decoded_is_what_the_decoder_says(bytes: Vec<u8>) {
            let ours = decode_answer(Bytes::from(bytes.clone())).ok();
            prop_assert_eq!(ours, FromFunction::decode(&bytes[..]).ok());
        }
    }
}
