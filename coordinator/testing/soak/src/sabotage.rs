//! Defects injected on purpose, which prove that the checks can fail.

use std::fmt;
use std::str::FromStr;

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Clients repeat a request under a new key each time, so that some requests take effect twice.
    WithoutKeys,
    /// The egress in `cloud` delivers at least once, so that some records are emitted twice.
    AtLeastOnce,
    /// Some records are never put, as if the stream had lost them.
    LostRecords,
    /// Some egress records are ignored, as if they had been lost.
    LostEgress,
    /// Some reads in `spread` return the value before the last increment, as if a former owner had
    /// answered them.
    StaleReads,
}

impl Sabotage {
    /// All defects with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("without-keys", Self::WithoutKeys),
        ("at-least-once", Self::AtLeastOnce),
        ("lost-records", Self::LostRecords),
        ("lost-egress", Self::LostEgress),
        ("stale-reads", Self::StaleReads),
    ];
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|(name, _)| *name == text);
        named.map(|(_, sabotage)| sabotage).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            format!("unknown sabotage `{text}`; known are {names}")
        })
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.into_iter().find(|(_, known)| known == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}
