//! `archived/<last>-<first>`: the items of consecutive numbers of a log, which were deleted from
//! the table after this object was durable.
//!
//! Layout: frame `SARC` version 1; partition (u32), first number (u64), count (u32), length of the
//! items before compression (u32), items (zstd): for each the length (varint) and the content. An
//! item is a log object, or a pointer to its body.
//!
//! The last number comes first in the name, so that a listing after a number begins with the
//! objects that may hold the next one.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::codec::{Source, compress, decompress, put_varint};
use crate::error::Defect;
use crate::frame::Frame;
use crate::record::BODY_BYTES_MAX;

/// Maximum number of items in one object. A constant of the format: it bounds how far behind a
/// number the name of the object that holds it can lie.
pub(crate) const ARCHIVED_MAX: u64 = 1_000;

const FRAME: Frame = Frame {
    magic: *b"SARC",
    version: 1,
    name: "archived log",
};

/// The numbers that an object holds, without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Span {
    /// Name of the object, behind the prefix of all archived objects.
    pub(crate) fn name(&self) -> String {
        format!("{:020}-{:020}", self.last, self.first)
    }

    /// Greatest name of an object that ends before `number`.
    pub(crate) fn name_before(number: u64) -> String {
        Self {
            first: u64::MAX,
            last: number.saturating_sub(1),
        }
        .name()
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (last, first) = name.split_once('-')?;
        let digits = |text: &str| {
            (text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse().ok())
                .flatten()
        };
        let span = Self {
            first: digits(first)?,
            last: digits(last)?,
        };
        let whole = span.first <= span.last && span.last - span.first < ARCHIVED_MAX;
        whole.then_some(span)
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.numbers().contains(&number)
    }

    pub(crate) fn numbers(&self) -> RangeInclusive<u64> {
        self.first..=self.last
    }
}

/// Encodes the items of consecutive numbers from `first` on.
pub(crate) fn encode(partition: u32, first: u64, items: &[Bytes]) -> Bytes {
    let mut raw = Vec::with_capacity(items.iter().map(|item| item.len() + 3).sum());
    for item in items {
        put_varint(&mut raw, item.len() as u64);
        raw.extend_from_slice(item);
    }
    let body = compress(&raw);
    let mut out = FRAME.open(20 + body.len());
    out.extend_from_slice(&partition.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    let count = u32::try_from(items.len()).expect("at most ARCHIVED_MAX items");
    out.extend_from_slice(&count.to_le_bytes());
    let length = u32::try_from(raw.len()).expect("items are small");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&body);
    FRAME.close(out)
}

/// Decodes the object of `span`: one item for each of its numbers.
pub(crate) fn decode(object: &Bytes, partition: u32, span: Span) -> Result<Vec<Bytes>, Defect> {
    let mut source = Source::new(FRAME.content(object)?);
    let found = (source.u32()?, source.u64()?, u64::from(source.u32()?));
    let expected = (partition, span.first, span.last - span.first + 1);
    if found != expected {
        let say = |(partition, first, count): (u32, u64, u64)| {
            format!("{count} from {first} of partition {partition}")
        };
        return Err(Defect::Mismatch {
            field: "range of numbers",
            found: say(found),
            expected: say(expected),
        });
    }
    let raw_len = source.u32()? as usize;
    if raw_len > BODY_BYTES_MAX {
        return Err(Defect::Malformed("its body exceeds the maximum length"));
    }
    let body = source.take(source.remaining())?;
    let raw = decompress(body, raw_len)?;
    let mut source = Source::new(&raw);
    let mut items = Vec::new();
    for _ in span.numbers() {
        let length = source.length()?;
        items.push(raw.slice_ref(source.take(length)?));
    }
    source.end()?;
    Ok(items)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::assert_every_flipped_bit_is_found;

    proptest! {
        #[test]
        fn items_read_back_as_written(
            items in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..20),
            first in 1..u64::MAX / 2,
        ) {
            let items: Vec<Bytes> = items.into_iter().map(Bytes::from).collect();
            let span = Span { first, last: first + items.len() as u64 - 1 };
            let object = encode(3, first, &items);
            prop_assert_eq!(decode(&object, 3, span), Ok(items));
            prop_assert_eq!(Span::parse(&span.name()), Some(span));
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
            let span = Span { first: 1, last: 2 };
            prop_assert!(decode(&Bytes::from(bytes), 0, span).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let object = encode(
            0,
            7,
            &[Bytes::from_static(b"one"), Bytes::from_static(b"two")],
        );
        let span = Span { first: 7, last: 8 };
        assert_every_flipped_bit_is_found(&object, |bytes| {
            decode(&Bytes::copy_from_slice(bytes), 0, span).is_err()
        });
    }

    #[test]
    fn an_object_under_another_name_is_refused() {
        let object = encode(0, 7, &[Bytes::from_static(b"one")]);
        let refused = decode(&object, 0, Span { first: 8, last: 8 }).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "its range of numbers is 1 from 7 of partition 0, expected 1 from 8 of partition 0"
        );
    }

    #[test]
    fn names_are_ordered_by_their_last_number_and_are_bounded() {
        let name = |first, last| Span { first, last }.name();
        assert!(name(1, 9) < name(3, 10) && name(9, 9) > Span::name_before(9));
        assert!(name(1, 8) < Span::name_before(9));
        assert_eq!(
            Span::parse(&name(1, 1_001)),
            None,
            "more than an object holds"
        );
        assert_eq!(Span::parse(&name(3, 2)), None);
        assert_eq!(Span::parse("00000000000000000009"), None);
    }
}
