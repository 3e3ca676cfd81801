//! Varints, texts and bytes: the elements of keys and values.

use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::TypedValue;

use crate::address::{Address, FunctionType};
use crate::message::MessageId;

/// The bytes are not a fact of a version that this software knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end too early.
    #[error("a {0} is truncated")]
    Truncated(&'static str),
    /// Bytes are left over.
    #[error("{0} extra bytes follow the last field")]
    LeftOver(usize),
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotText,
    /// A number is too long.
    #[error("a number exceeds 64 bits")]
    TooLong,
    /// A tag is unknown.
    #[error("the {what} {found} is not known to this version")]
    Unknown {
        /// Meaning of the tag.
        what: &'static str,
        /// The tag.
        found: u64,
    },
    /// A sequence number is not a sequence of digits.
    #[error("`{0}` is not a sequence number")]
    SequenceNumber(String),
}

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

pub(super) fn put_option<T>(
    out: &mut Vec<u8>,
    option: Option<T>,
    put: impl FnOnce(&mut Vec<u8>, T),
) {
    match option {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(out, value);
        }
    }
}

pub(super) fn put_function(out: &mut Vec<u8>, function: &FunctionType) {
    put_text(out, function.namespace());
    put_text(out, function.name());
}

pub(super) fn put_address(out: &mut Vec<u8>, address: &Address) {
    put_function(out, &address.function);
    put_text(out, &address.id);
}

pub(super) fn put_typed_value(out: &mut Vec<u8>, value: &TypedValue) {
    put_text(out, &value.typename);
    out.push(u8::from(value.has_value));
    put_bytes(out, &value.value);
}

/// Reads fields one after the other.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed::Truncated("byte"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte().map_err(|_| Malformed::Truncated("number"))?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed::TooLong);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::TooLong)
    }

    pub(super) fn small(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed::TooLong)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed::TooLong)?;
        if length > self.0.len() {
            return Err(Malformed::Truncated("field"));
        }
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn owned_bytes(&mut self) -> Result<Bytes, Malformed> {
        self.bytes().map(Bytes::copy_from_slice)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::NotText)
    }

    pub(super) fn shared_text(&mut self) -> Result<Arc<str>, Malformed> {
        self.text().map(Arc::from)
    }

    pub(super) fn string(&mut self) -> Result<String, Malformed> {
        self.text().map(str::to_owned)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(Malformed::Unknown {
                what: "flag",
                found: found.into(),
            }),
        }
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(super) fn id(&mut self) -> Result<[u8; 16], Malformed> {
        self.array("id")
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], Malformed> {
        let (array, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Malformed::Truncated(what))?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn message_id(&mut self) -> Result<MessageId, Malformed> {
        self.id().map(MessageId)
    }

    pub(super) fn function(&mut self) -> Result<FunctionType, Malformed> {
        let namespace = self.text()?;
        Ok(FunctionType::new(namespace, self.text()?))
    }

    pub(super) fn address(&mut self) -> Result<Address, Malformed> {
        let function = self.function()?;
        Ok(Address::new(function, self.text()?))
    }

    pub(super) fn typed_value(&mut self) -> Result<TypedValue, Malformed> {
        Ok(TypedValue {
            typename: self.string()?,
            has_value: self.flag()?,
            value: self.owned_bytes()?,
        })
    }

    pub(super) fn end(self) -> Result<(), Malformed> {
        match self.0.len() {
            0 => Ok(()),
            length => Err(Malformed::LeftOver(length)),
        }
    }
}
