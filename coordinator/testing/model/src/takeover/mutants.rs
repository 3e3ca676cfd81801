//! Mistakes of the processes that take the log over.

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Rule 1: a commit counts without a look at the epochs.
    IgnoreFence,
    /// Rule 1: the manifest is not read again after the takeover record.
    TrustManifest,
    /// A takeover counts although what it read of the log may have been collected meanwhile, so
    /// that others' late records fill the holes.
    ReadForever,
    /// Rule 2: two processes can hold one epoch.
    ShareEpoch,
    /// Rule 3: a delta that met a void object is moved past later ones of its epoch.
    Renumber,
    /// Rule 4: a manifest does not say which epoch was in force before its replay starts.
    ForgetForce,
    /// A commit counts although one before it does not.
    SkipPrefix,
    /// A process writes its takeover record without a look at the epochs after it read the end.
    TrustEnd,
    /// An owner passes a void object without a look at the epochs.
    TrustVoid,
    /// A process takes the log over although it read a takeover of a higher epoch.
    IgnoreSuccessor,
}

impl Mutant {
    /// All mutants.
    pub const ALL: [Self; 10] = [
        Self::IgnoreFence,
        Self::TrustManifest,
        Self::ReadForever,
        Self::ShareEpoch,
        Self::Renumber,
        Self::ForgetForce,
        Self::SkipPrefix,
        Self::TrustEnd,
        Self::TrustVoid,
        Self::IgnoreSuccessor,
    ];
}
