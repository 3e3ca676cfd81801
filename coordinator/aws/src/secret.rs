//! Texts that must not be displayed.

use std::fmt;

/// A text that must not be displayed. Its `Debug` output hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Pass it on only to its intended recipient.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_when_debugged() {
        let shown = format!("{:?}", Secret::new("hunter2"));
        assert_eq!(shown, "(hidden)");
    }
}
