//! Mistakes that an owner could make, each of which a run must notice.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A bucket is loaded from where its image lay when it was first loaded, though a snapshot has moved it since.
    StaleLoad,
    /// What changed over a bucket that was not loaded is forgotten when it is.
    OverlayLost,
    /// The image of a bucket that is not loaded is made of its overlay alone, so that its log is trimmed before both were merged.
    OverlayAsImage,
    /// A bucket is dropped that has changed since its last image in effect.
    EvictDirty,
    /// An owner deletes what it condemned without looking for savepoints.
    NoLookByOwner,
    /// The creator of a savepoint does not look for what was condemned meanwhile.
    NoLookByCreator,
}
