//! Standard output, and texts that are safe to show.

use std::io::{ErrorKind, Write};

use crate::error::{Exit, Failure};

/// Writes a line. Returns false if standard output is closed, as by `| head`.
pub(crate) fn line(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    let newline: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
    let written = out
        .write_all(bytes)
        .and_then(|()| out.write_all(newline))
        .and_then(|()| out.flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::caused(Exit::Environment, "standard output", error)),
    }
}

/// Returns a text with a blank in the place of each character that is not printable.
///
/// Texts of an application (ids, names, reasons) may hold what steers a terminal or hides or
/// reverses parts of a line: control characters, and characters without a shape of their own.
pub(crate) fn printable(text: &str) -> String {
    let chars = text.chars();
    chars
        .map(|it| if is_printable(it) { it } else { ' ' })
        .collect()
}

/// Returns false for control characters, line separators, and characters that Unicode calls format
/// or default-ignorable.
pub(crate) fn is_printable(it: char) -> bool {
    !it.is_control()
        && !matches!(it,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_hides_text_becomes_a_blank() {
        for (text, shown) in [
            ("orders/order/Zoë 日本 🍐", "orders/order/Zoë 日本 🍐"),
            ("\u{1b}]0;title\u{7}\u{9b}31m", " ]0;title  31m"),
            ("a\nb\tc\rd\u{7f}e\0", "a b c d e "),
            ("abc\u{202e}cba\u{2066}", "abc cba "),
            ("zero\u{200b}width\u{feff}\u{ad}\u{e0041}", "zero width   "),
            ("e\u{301}", "e\u{301}"),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }
}
