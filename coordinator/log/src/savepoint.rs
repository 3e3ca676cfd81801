//! `savepoints/<name>`: a named state of the partition, and the objects needed to read it.
//!
//! Layout: frame `SSAV` version 1; partition (u32), name (text), manifest (u8: 0 none, 1 one; then
//! its number (u64) and the checksum of its object (u64)), first log number that must be replayed
//! (u64), last one (u64), time of that (u64, ms), time of creation (u64, ms), nonce of the creator
//! (16 bytes), software (text), comment (text), number of segments and their names (varints:
//! snapshot, epoch, index). A text is its length (varint) and UTF-8.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::codec::{Source, put_varint};
use crate::control::{Condemned, Effect};
use crate::error::Defect;
use crate::frame::Frame;
use crate::owner::Nonce;
use crate::segment::SegmentName;

const FRAME: Frame = Frame {
    magic: *b"SSAV",
    version: 1,
    name: "savepoint",
};

/// Maximum length of a name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Name of a savepoint: 1 to 64 characters of `A-Z a-z 0-9 . _ -`, not beginning with a dot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SavepointName {
    bytes: [u8; NAME_BYTES_MAX],
    len: u8,
}

/// A text that is not the name of a savepoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" cannot name a savepoint: use 1 to 64 characters of A-Z a-z 0-9 . _ -, \
     not beginning with a dot"
)]
pub struct InvalidSavepointName(String);

impl FromStr for SavepointName {
    type Err = InvalidSavepointName;

    fn from_str(text: &str) -> Result<Self, InvalidSavepointName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        if !fits || text.starts_with('.') || !text.bytes().all(allowed) {
            return Err(InvalidSavepointName(text.to_owned()));
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self {
            bytes,
            len: text.len() as u8,
        })
    }
}

impl SavepointName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)])
            .expect("a name is checked to be ASCII when it is made")
    }
}

impl fmt::Display for SavepointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SavepointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// A savepoint: the fold of the log through a number, kept until it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Savepoint {
    /// The partition.
    pub partition: u32,
    /// Its name.
    pub name: SavepointName,
    /// The manifest whose images are used, with the checksum of its object; `None` if the log
    /// reaches back to the beginning.
    pub manifest: Option<Effect>,
    /// The first log number that must be replayed.
    pub replay_from: u64,
    /// The last log number that belongs to it.
    pub through: u64,
    /// Partition time of that number, in milliseconds since 1970.
    pub committed_at_ms: u64,
    /// Time of creation in milliseconds since 1970, by the calendar clock of the creator.
    pub created_at_ms: u64,
    /// Random bytes of the creator, so that no two savepoints are byte for byte the same.
    pub nonce: Nonce,
    /// Creator: a program and its version.
    pub software: String,
    /// Purpose, for people.
    pub comment: String,
    /// All segments that the manifest needs.
    pub segments: Vec<SegmentName>,
}

impl Savepoint {
    pub(crate) fn needs_log(&self, number: u64) -> bool {
        (self.replay_from..=self.through).contains(&number)
    }

    pub(crate) fn needs_manifest(&self, number: u64) -> bool {
        self.manifest
            .is_some_and(|manifest| manifest.manifest == number)
    }

    pub(crate) fn needs_segment(&self, name: &SegmentName) -> bool {
        self.segments.contains(name)
    }

    /// Returns true if an object that it needs is condemned.
    pub(crate) fn is_touched_by(&self, condemned: &Condemned) -> bool {
        self.replay_from < condemned.log_below
            || condemned.manifests.iter().any(|n| self.needs_manifest(*n))
            || condemned.segments.iter().any(|n| self.needs_segment(n))
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = FRAME.open(128 + self.software.len() + self.comment.len());
        out.extend_from_slice(&self.partition.to_le_bytes());
        put_text(&mut out, self.name.as_str());
        out.push(u8::from(self.manifest.is_some()));
        if let Some(effect) = &self.manifest {
            out.extend_from_slice(&effect.manifest.to_le_bytes());
            out.extend_from_slice(&effect.checksum.to_le_bytes());
        }
        for number in [
            self.replay_from,
            self.through,
            self.committed_at_ms,
            self.created_at_ms,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.nonce);
        put_text(&mut out, &self.software);
        put_text(&mut out, &self.comment);
        put_varint(&mut out, self.segments.len() as u64);
        for segment in &self.segments {
            segment.put(&mut out);
        }
        FRAME.close(out)
    }

    /// Decodes the savepoint `name` of `partition`.
    ///
    /// # Errors
    /// [`Defect`] says what is wrong: damage, an unknown version, or a savepoint that belongs
    /// elsewhere.
    pub fn decode(object: &[u8], partition: u32, name: &SavepointName) -> Result<Self, Defect> {
        let mut source = Source::new(FRAME.content(object)?);
        let found_partition = source.u32()?;
        let found_name = text(&mut source)?;
        for (field, found, expected) in [
            (
                "partition",
                found_partition.to_string(),
                partition.to_string(),
            ),
            ("name", found_name, name.to_string()),
        ] {
            if found != expected {
                return Err(Defect::Mismatch {
                    field,
                    found,
                    expected,
                });
            }
        }
        let manifest = match source.u8()? {
            0 => None,
            1 => Some(Effect {
                manifest: source.u64()?,
                checksum: source.u64()?,
            }),
            _ => return Err(Defect::Malformed("it has undefined flags")),
        };
        let savepoint = Self {
            partition,
            name: *name,
            manifest,
            replay_from: source.u64()?,
            through: source.u64()?,
            committed_at_ms: source.u64()?,
            created_at_ms: source.u64()?,
            nonce: source.array()?,
            software: text(&mut source)?,
            comment: text(&mut source)?,
            segments: (0..source.length()?)
                .map(|_| SegmentName::read(&mut source))
                .collect::<Result<_, _>>()?,
        };
        source.end()?;
        Ok(savepoint)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn text(source: &mut Source<'_>) -> Result<String, Defect> {
    let len = source.length()?;
    let bytes = source.take(len)?.to_vec();
    String::from_utf8(bytes).map_err(|_| Defect::Malformed("a text in it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::assert_every_flipped_bit_is_found;

    fn savepoint(comment: String, manifest: Option<(u64, u64)>) -> Savepoint {
        Savepoint {
            partition: 3,
            name: "before-2.0".parse().expect("a name"),
            manifest: manifest.map(|(manifest, checksum)| Effect { manifest, checksum }),
            replay_from: 41,
            through: 77,
            committed_at_ms: 1_700_000_000_000,
            created_at_ms: 1_700_000_000_001,
            nonce: [5; 16],
            software: "satchel 0.1.0".to_owned(),
            comment,
            segments: vec![SegmentName {
                snapshot: 40,
                epoch: 2,
                index: 1,
            }],
        }
    }

    proptest! {
        #[test]
        fn a_savepoint_reads_back_as_written(
            comment: String,
            manifest in prop::option::of((any::<u64>(), any::<u64>())),
        ) {
            let savepoint = savepoint(comment, manifest);
            let decoded = Savepoint::decode(&savepoint.encode(), 3, &savepoint.name);
            prop_assert_eq!(decoded, Ok(savepoint));
        }

        #[test]
        fn a_name_is_read_back_or_refused(text: String) {
            match text.parse::<SavepointName>() {
                Ok(name) => prop_assert_eq!(name.as_str(), text),
                Err(InvalidSavepointName(refused)) => prop_assert_eq!(refused, text),
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
            let name = "name".parse().expect("a name");
            prop_assert!(Savepoint::decode(&bytes, 0, &name).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_of_a_savepoint_is_found() {
        let savepoint = savepoint("before the release".to_owned(), Some((40, 7)));
        assert_every_flipped_bit_is_found(&savepoint.encode(), |bytes| {
            Savepoint::decode(bytes, 3, &savepoint.name).is_err()
        });
    }

    #[test]
    fn names_that_no_store_could_hold_are_refused() {
        let long = "x".repeat(65);
        for text in ["", ".", ".hidden", "a/b", "a b", "ä", long.as_str()] {
            assert_eq!(
                text.parse::<SavepointName>(),
                Err(InvalidSavepointName(text.to_owned()))
            );
        }
        for text in ["a", "2026-11-21", "v1.2_rc-3", &long[..64]] {
            assert_eq!(text.parse::<SavepointName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_savepoint_under_another_name_is_refused_by_name() {
        let object = savepoint(String::new(), None).encode();
        let other = "after".parse().expect("a name");
        assert_eq!(
            Savepoint::decode(&object, 3, &other)
                .unwrap_err()
                .to_string(),
            "its name is before-2.0, expected after"
        );
    }
}
