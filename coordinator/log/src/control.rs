//! Decisions about the durable form, committed as log records: the manifest in effect, and the
//! objects that may be deleted later.
//!
//! Layout, repeated to the end: tag (u8), then
//! - 1, a manifest takes effect: its number (varint), the checksum of its object (u64);
//! - 2, a condemnation: log objects below this number (varint), number of manifests and their
//!   numbers (varints), number of segments and their names (varints: snapshot, epoch, index).

use crate::codec::{Source, put_varint};
use crate::error::Defect;
use crate::segment::SegmentName;

/// The decisions of one control record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// The manifest from which readers start from now on.
    pub effect: Option<Effect>,
    /// Objects that are no longer needed.
    pub condemned: Vec<Condemned>,
}

/// A manifest takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The manifest.
    pub manifest: u64,
    /// Checksum of the whole object, so that no other object can replace it.
    pub checksum: u64,
}

/// Objects that may be deleted once this condemnation is durable and older than the grace period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condemned {
    /// Log objects below this number; 0 for none.
    pub log_below: u64,
    /// Manifests.
    pub manifests: Vec<u64>,
    /// Segments.
    pub segments: Vec<SegmentName>,
}

impl Condemned {
    /// Returns true if nothing is condemned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.log_below == 0 && self.manifests.is_empty() && self.segments.is_empty()
    }

    /// Merges two condemnations.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.log_below = self.log_below.max(other.log_below);
        self.manifests.extend(other.manifests);
        self.manifests.sort_unstable();
        self.manifests.dedup();
        self.segments.extend(other.segments);
        self.segments.sort_unstable();
        self.segments.dedup();
        self
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.log_below);
        put_varint(out, self.manifests.len() as u64);
        for manifest in &self.manifests {
            put_varint(out, *manifest);
        }
        put_varint(out, self.segments.len() as u64);
        for segment in &self.segments {
            segment.put(out);
        }
    }

    pub(crate) fn read(source: &mut Source<'_>) -> Result<Self, Defect> {
        let log_below = source.varint()?;
        let manifests = source.length()?;
        let manifests = (0..manifests)
            .map(|_| source.varint())
            .collect::<Result<_, _>>()?;
        let segments = source.length()?;
        let segments = (0..segments)
            .map(|_| SegmentName::read(source))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            log_below,
            manifests,
            segments,
        })
    }
}

impl Control {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(effect) = &self.effect {
            out.push(1);
            put_varint(&mut out, effect.manifest);
            out.extend_from_slice(&effect.checksum.to_le_bytes());
        }
        for condemned in &self.condemned {
            out.push(2);
            condemned.put(&mut out);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Defect> {
        let mut source = Source::new(bytes);
        let mut control = Self::default();
        while !source.is_empty() {
            match source.u8()? {
                1 => {
                    let effect = Effect {
                        manifest: source.varint()?,
                        checksum: source.u64()?,
                    };
                    if control.effect.replace(effect).is_some() {
                        return Err(Defect::Malformed("it puts two manifests in effect"));
                    }
                }
                2 => control.condemned.push(Condemned::read(&mut source)?),
                _ => return Err(Defect::Malformed("it holds a decision of unknown kind")),
            }
        }
        Ok(control)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn condemned() -> impl Strategy<Value = Condemned> {
        let segment =
            (any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(snapshot, epoch, index)| {
                SegmentName {
                    snapshot,
                    epoch,
                    index,
                }
            });
        (
            any::<u64>(),
            prop::collection::vec(any::<u64>(), 0..4),
            prop::collection::vec(segment, 0..4),
        )
            .prop_map(|(log_below, manifests, segments)| Condemned {
                log_below,
                manifests,
                segments,
            })
    }

    proptest! {
        #[test]
        fn decisions_read_back_as_written(
            effect in prop::option::of((any::<u64>(), any::<u64>())),
            condemned in prop::collection::vec(condemned(), 0..3),
        ) {
            let control = Control {
                effect: effect.map(|(manifest, checksum)| Effect { manifest, checksum }),
                condemned,
            };
            prop_assert_eq!(Control::decode(&control.encode()), Ok(control));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Control::decode(&bytes);
        }
    }

    #[test]
    fn an_unknown_decision_is_refused() {
        assert_eq!(
            Control::decode(&[9]),
            Err(Defect::Malformed("it holds a decision of unknown kind"))
        );
    }
}
