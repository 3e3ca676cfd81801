//! Errors that no retry can repair.

use std::error::Error as StdError;

/// Rejection of a message for good: the mistake lies in the message, so no retry can succeed.
///
/// ```
/// use satchel_sdk::{Context, Result, State, TerminalError, Value};
///
/// #[derive(State)]
/// struct Account { balance: Value<i64> }
///
/// async fn withdraw(ctx: &mut Context<Account>, amount: i64) -> Result<i64> {
///     let Some(balance) = ctx.state.balance.get_mut() else {
///         return Err(TerminalError::new(404, "no such account").into());
///     };
///     if amount > *balance {
///         return Err(TerminalError::new(409, "not enough money").into());
///     }
///     *balance -= amount;
///     Ok(*balance)
/// }
/// ```
///
/// - The message changes no state and has no effects. The messages before and after it in its
///   batch keep theirs; see [`protocol::bundle`](crate::protocol::bundle#terminal-errors).
/// - The message is not retried.
/// - A caller that waits for a reply (`/call`) gets [`code`](Self::code) as the HTTP status, and
///   [`message`](Self::message).
/// - A message without such a caller becomes a dead letter at once. If the module file says
///   `onPoison: suspend`, its address is suspended at once instead.
///
/// Any other error is retried. A handler may also return an error of its own type that has a
/// `TerminalError` among its [sources](std::error::Error::source). With the derive of `thiserror`,
/// such a field is `#[source]` or `#[from]`; `#[error(transparent)]` hides it.
///
/// A runtime other than Satchel treats it as any other error. So does a coordinator that does not
/// know terminal errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TerminalError {
    code: u16,
    message: String,
}

impl TerminalError {
    /// A rejection with an HTTP status and a text for the caller.
    ///
    /// # Panics
    ///
    /// When `code` is neither 400 to 499 nor 500.
    #[track_caller]
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        assert!(
            matches!(code, 400..=500),
            "a terminal error has a code from 400 to 499, or 500, and not {code}"
        );
        Self {
            code,
            message: message.into(),
        }
    }

    /// HTTP status for a caller that waits: 400 to 499, or 500.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Text for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Finds a terminal error in an error and its sources.
    pub(crate) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[derive(Debug, thiserror::Error)]
    #[error("the order was rejected")]
    struct Rejected(#[source] TerminalError);

    #[test]
    fn it_is_found_as_itself_and_as_a_source() {
        let error = TerminalError::new(404, "no such order");
        let itself: Error = error.clone().into();
        assert_eq!(TerminalError::find(itself.as_ref()), Some(&error));
        let source: Error = Rejected(error.clone()).into();
        assert_eq!(TerminalError::find(source.as_ref()), Some(&error));
        let other: Error = "no such order".into();
        assert_eq!(TerminalError::find(other.as_ref()), None);
    }

    #[test]
    fn codes_are_400_to_499_and_500() {
        for code in [400, 404, 499, 500] {
            assert_eq!(TerminalError::new(code, "no").code(), code);
        }
        for code in [0, 200, 399, 501, 503] {
            let made = std::panic::catch_unwind(|| TerminalError::new(code, "no"));
            assert!(made.is_err(), "{code}");
        }
    }
}
