//! Shard iterators and `NextToken`s: opaque texts that hold everything needed to continue, and
//! expire after five minutes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use crate::reader::Cursor;

/// Lifetime of a token, as in Kinesis.
pub(super) const LIFETIME_MS: u64 = 300_000;

const VERSION: u8 = 1;
const KIND_ITERATOR: u8 = 1;
const KIND_LISTING: u8 = 2;

/// A shard iterator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardIterator {
    pub(super) stream: String,
    /// Creation time of the stream. It distinguishes a later stream of the same name.
    pub(super) created_ms: u64,
    pub(super) shard: u32,
    pub(super) cursor: Cursor,
    pub(super) issued_ms: u64,
}

/// A `NextToken`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) stream: String,
    /// Last listed name. The list continues after it.
    pub(super) after: String,
    /// Selection of the listed shards.
    pub(super) filter: String,
    pub(super) issued_ms: u64,
}

impl ShardIterator {
    pub(super) fn encode(&self) -> String {
        let mut out = begin(KIND_ITERATOR, self.issued_ms);
        out.put_u64(self.created_ms);
        out.put_u32(self.shard);
        out.put_u64(self.cursor.segment);
        out.put_u64(self.cursor.offset);
        out.put_u64(self.cursor.count);
        out.put_slice(self.stream.as_bytes());
        finish(out)
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let (issued_ms, mut rest) = open(KIND_ITERATOR, text)?;
        Some(Self {
            created_ms: rest.try_get_u64().ok()?,
            shard: rest.try_get_u32().ok()?,
            cursor: Cursor {
                segment: rest.try_get_u64().ok()?,
                offset: rest.try_get_u64().ok()?,
                count: rest.try_get_u64().ok()?,
            },
            stream: String::from_utf8(rest.to_vec()).ok()?,
            issued_ms,
        })
    }
}

impl Listing {
    pub(super) fn encode(&self) -> String {
        let mut out = begin(KIND_LISTING, self.issued_ms);
        for text in [&self.stream, &self.after, &self.filter] {
            out.put_u16(text.len() as u16);
            out.put_slice(text.as_bytes());
        }
        finish(out)
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let (issued_ms, mut rest) = open(KIND_LISTING, text)?;
        let mut text = || {
            let length = rest.try_get_u16().ok()?.into();
            let text = (length <= rest.len()).then(|| rest.split_to(length))?;
            String::from_utf8(text.to_vec()).ok()
        };
        Some(Self {
            stream: text()?,
            after: text()?,
            filter: text()?,
            issued_ms,
        })
    }
}

fn begin(kind: u8, issued_ms: u64) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_slice(&[VERSION, kind]);
    out.put_u64(issued_ms);
    out
}

/// Appends a checksum, so that a token that was not issued here is detected.
fn finish(mut out: BytesMut) -> String {
    let check = xxh3_64(&out);
    out.put_u64(check);
    STANDARD.encode(out)
}

fn open(kind: u8, text: &str) -> Option<(u64, Bytes)> {
    let mut bytes = Bytes::from(STANDARD.decode(text).ok()?);
    let body = bytes.len().checked_sub(8)?;
    let mut check = bytes.split_off(body);
    if check.get_u64() != xxh3_64(&bytes) {
        return None;
    }
    let known = bytes.try_get_u8().ok()? == VERSION && bytes.try_get_u8().ok()? == kind;
    known.then_some((bytes.try_get_u64().ok()?, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_and_nothing_else_is_one() {
        let iterator = ShardIterator {
            stream: "names".to_owned(),
            created_ms: 7,
            shard: 3,
            cursor: Cursor {
                segment: 1,
                offset: 99,
                count: 12,
            },
            issued_ms: 1_700_000_000_000,
        };
        let listing = Listing {
            stream: "names".to_owned(),
            after: "shardId-000000000001".to_owned(),
            filter: "AT_LATEST".to_owned(),
            issued_ms: 1_700_000_000_000,
        };
        let (one, other) = (iterator.encode(), listing.encode());
        assert_eq!(ShardIterator::decode(&one), Some(iterator));
        assert_eq!(Listing::decode(&other), Some(listing));
        assert_eq!(ShardIterator::decode(&other), None);
        assert_eq!(Listing::decode(&one), None);
        for wrong in ["", "AAAA", &one[1..], &one.replacen('A', "B", 1)] {
            assert_eq!(ShardIterator::decode(wrong), None, "{wrong}");
        }
    }
}
