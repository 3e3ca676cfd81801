//! Answers that reject one message of the batch for good.
//!
//! The headers are those of [`satchel_protocol::bundle`]. Any status but 2xx may carry them: a
//! gateway adds no such header, so the function itself has answered.

use reqwest::Response;
use reqwest::header::HeaderMap;
use satchel_engine::invocation::{Failure, Rejection};
use satchel_protocol::bundle::{TERMINAL_ERROR_HEADER, TERMINAL_INDEX_HEADER};

use super::error_text;

/// Maximum length of the text of a rejection, in characters. A caller gets it, so it is longer than
/// that of other errors.
const TEXT_CHARS_MAX: usize = 2_000;

/// Returns whether the answer rejects a message for good.
pub(super) fn is_rejection(response: &Response) -> bool {
    response.headers().contains_key(TERMINAL_ERROR_HEADER)
}

/// Reads an answer that rejects a message for good.
pub(super) async fn read(response: Response) -> Failure {
    let (code, index) = verdict(response.headers());
    let mut text = error_text(response, TEXT_CHARS_MAX).await;
    if text.is_empty() {
        "the function rejected the message without a reason".clone_into(&mut text);
    }
    Failure::terminal(text.clone(), Rejection::new(index, code, text))
}

/// Code and position that the headers give. A code that is no number counts as
/// [`Rejection::CODE_DEFAULT`], a position that is none as unknown.
fn verdict(headers: &HeaderMap) -> (u16, Option<u32>) {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text(TERMINAL_ERROR_HEADER).and_then(|code| code.parse().ok());
    let index = text(TERMINAL_INDEX_HEADER).and_then(|index| index.parse().ok());
    (code.unwrap_or(Rejection::CODE_DEFAULT), index)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn codes_and_positions_that_are_no_numbers_say_nothing() {
        for (code, index, expected) in [
            ("404", Some("3"), (404, Some(3))),
            ("404", None, (404, None)),
            ("true", Some("-1"), (500, None)),
            ("99999", Some("first"), (500, None)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TERMINAL_ERROR_HEADER, HeaderValue::from_static(code));
            if let Some(index) = index {
                headers.insert(TERMINAL_INDEX_HEADER, HeaderValue::from_static(index));
            }
            assert_eq!(verdict(&headers), expected, "{code} {index:?}");
        }
    }
}
