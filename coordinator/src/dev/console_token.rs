//! Token with which the console of `satchel dev` may change things.
//!
//! Programs on this machine may change things without a token. A web page may not, because any page
//! can reach a loopback port on behalf of its visitor. The console gets a random token in the
//! fragment of its link, which no browser sends anywhere.

use std::fmt::Write as _;

use crate::http::Token;
use crate::random;

/// Random token, printed nowhere but in the link to the console.
pub(super) struct ConsoleToken(String);

impl ConsoleToken {
    /// Makes a token that cannot be guessed.
    pub(super) fn random() -> Self {
        let mut text = String::new();
        for byte in random::bytes::<20>() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// Returns the token as the port checks it.
    pub(super) fn token(&self) -> Token {
        Token::new(&self.0).expect("it has forty digits")
    }

    /// Returns the link to the console at the URL of an administration port.
    pub(super) fn link(&self, admin_url: &str) -> String {
        format!("{admin_url}/#token={}", self.0)
    }
}
