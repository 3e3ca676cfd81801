//! Defects that are put in on purpose, so that it is seen that checks can fail.

use std::fmt;
use std::str::FromStr;

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Clients repeat their requests under another key each time, so that some take effect twice.
    WithoutKeys,
    /// The egress of the cloud delivers at least once, so that some records leave twice.
    AtLeastOnce,
    /// Some records are never put, as if a stream had lost them after it took them.
    LostRecords,
    /// Some records that left are not seen, as if they had been lost on their way.
    LostEgress,
}

impl Sabotage {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 4] = [
        ("without-keys", Self::WithoutKeys),
        ("at-least-once", Self::AtLeastOnce),
        ("lost-records", Self::LostRecords),
        ("lost-egress", Self::LostEgress),
    ];
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|(name, _)| *name == text);
        named.map(|(_, sabotage)| sabotage).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            format!("there is no sabotage `{text}`; there are {names}")
        })
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.into_iter().find(|(_, known)| known == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}
