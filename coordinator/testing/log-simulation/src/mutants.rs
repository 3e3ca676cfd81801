//! Mistakes that an owner could make. A run must notice each of them.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A bucket is loaded from the location of its first load, although a snapshot has moved it
    /// since.
    StaleLoad,
    /// Changes of a bucket that is not loaded are forgotten when it is loaded.
    OverlayLost,
    /// The image of a bucket that is not loaded is made of its overlay alone, so that its log is
    /// trimmed before both were merged.
    OverlayAsImage,
    /// A bucket is evicted that has changed since its last image in effect.
    EvictDirty,
    /// An owner deletes condemned objects without looking for savepoints.
    OwnerIgnoresSavepoints,
    /// The creator of a savepoint does not check for objects condemned meanwhile.
    CreatorSkipsCheck,
    /// A pointer is put before the body that it points to is durable.
    PointerBeforeBody,
    /// A collection deletes a body whose pointer is still on its way.
    BodyBeforeItsPointerCollected,
    /// Items are deleted before the archived object that replaces them is durable.
    ItemsDeletedBeforeArchived,
    /// A reader takes the item for the truth where an archived object holds the number too.
    ItemBeatsArchived,
    /// An item is put whether or not there is one of that number.
    UnconditionalPut,
}
