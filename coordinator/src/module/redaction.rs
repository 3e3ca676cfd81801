//! Values of placeholders, which may be secrets: no problem shows them.

use std::fmt;

/// Minimum length of a value that is replaced wherever it occurs, in characters. A shorter one is
/// hardly a secret, and would be found inside ordinary words: it is replaced only in quotes.
const ANYWHERE_CHARS_MIN: usize = 4;

/// Texts of a module file after and before their placeholders were replaced, longest first.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Redactions(Vec<(String, String)>);

impl Redactions {
    /// Adds a text that the file wrote as `written`, and that the environment made `resolved`.
    pub(crate) fn add(&mut self, resolved: &str, written: &str) {
        if resolved.is_empty() || resolved == written {
            return;
        }
        let escaped = resolved.escape_debug().to_string();
        for resolved in [resolved, &escaped] {
            let pair = (resolved.to_owned(), written.to_owned());
            if !self.0.contains(&pair) {
                self.0.push(pair);
            }
        }
        self.0
            .sort_by_key(|(resolved, _)| std::cmp::Reverse(resolved.len()));
    }

    /// Returns `message` with what the file wrote in the place of every value.
    pub(crate) fn apply(&self, message: String) -> String {
        let mut pieces = vec![Piece::Text(message)];
        for (resolved, written) in &self.0 {
            // What was put in is never looked at again: it may resemble another value.
            let split = pieces.into_iter().flat_map(|piece| match piece {
                Piece::Text(text) => split(&text, resolved, written),
                written @ Piece::Written(_) => vec![written],
            });
            pieces = split.collect();
        }
        let texts = pieces.into_iter().map(|piece| match piece {
            Piece::Text(text) | Piece::Written(text) => text,
        });
        texts.collect()
    }
}

/// The values stay out of debugging output too.
impl fmt::Debug for Redactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = self.0.iter().map(|(_, written)| written);
        f.debug_list().entries(written).finish()
    }
}

enum Piece {
    Text(String),
    Written(String),
}

fn split(text: &str, resolved: &str, written: &str) -> Vec<Piece> {
    let anywhere = resolved.chars().count() >= ANYWHERE_CHARS_MIN;
    let quote = |char: Option<char>| char.is_some_and(|char| "`'\"".contains(char));
    let mut pieces = Vec::new();
    let mut from = 0;
    for (at, _) in text.match_indices(resolved) {
        let end = at + resolved.len();
        let quoted = quote(text[..at].chars().next_back()) && quote(text[end..].chars().next());
        if anywhere || quoted {
            pieces.push(Piece::Text(text[from..at].to_owned()));
            pieces.push(Piece::Written(written.to_owned()));
            from = end;
        }
    }
    pieces.push(Piece::Text(text[from..].to_owned()));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactions(pairs: &[(&str, &str)]) -> Redactions {
        let mut redactions = Redactions::default();
        for (resolved, written) in pairs {
            redactions.add(resolved, written);
        }
        redactions
    }

    #[test]
    fn every_value_is_replaced_by_what_the_file_wrote() {
        let redactions = redactions(&[
            ("s3cr3t", "${SECRET}"),
            ("key=s3cr3t", "key=${SECRET}"),
            ("a\"b\n", "${ODD}"),
            ("20", "${BATCH}"),
            ("", "${EMPTY}"),
        ]);
        for (message, expected) in [
            ("`key=s3cr3t` is wrong", "`key=${SECRET}` is wrong"),
            ("xs3cr3tx and s3cr3t", "x${SECRET}x and ${SECRET}"),
            (r#""a\"b\n" is wrong"#, r#""${ODD}" is wrong"#),
            ("`20` is not one of 2020", "`${BATCH}` is not one of 2020"),
            ("nothing to see", "nothing to see"),
        ] {
            assert_eq!(redactions.apply(message.to_owned()), expected);
        }
        assert!(!format!("{redactions:?}").contains("s3cr3t"));
    }

    #[test]
    fn what_was_put_in_is_not_replaced_again() {
        let redactions = redactions(&[("s3cr3t", "${SECRET}"), ("SECRET", "${NAME}")]);
        assert_eq!(redactions.apply("s3cr3t".to_owned()), "${SECRET}");
    }
}
