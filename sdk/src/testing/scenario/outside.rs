//! Calls from outside the application.

use super::{DeadLetter, Scenario};
use crate::testing::wire;
use crate::{Address, Message, TerminalError};

/// Reason why a [`call`](Scenario::call) has no reply.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The application came to rest without a reply. One may follow when time passes.
    #[error("the application came to rest without a reply to this call")]
    NoReply,
    /// A function rejected the message with a [`TerminalError`], or could not decode it.
    #[error("status {}: {}", .0.code(), .0)]
    Rejected(TerminalError),
    /// The message became a dead letter.
    #[error(transparent)]
    Failed(Box<DeadLetter>),
}

impl Scenario {
    /// Sends a message as `/call` does, runs the application to rest, and returns the reply.
    ///
    /// The first reply counts. For a reply that needs time to pass, use
    /// [`send_from`](Self::send_from), [`advance`](Self::advance) and
    /// [`messages_to`](Self::messages_to).
    ///
    /// # Errors
    ///
    /// [`CallError`]. Dead letters of other messages of the run are only in
    /// [`dead_letters`](Self::dead_letters).
    ///
    /// # Panics
    ///
    /// As [`run_to_rest`](Self::run_to_rest). Also when the function is not bound, `message` has no
    /// wire form, or the reply is of another type.
    pub async fn call<R: Message>(
        &mut self,
        to: impl Into<Address>,
        message: &impl Message,
    ) -> Result<R, CallError> {
        let to = to.into();
        self.bound(&to);
        let caller = self.world.new_caller();
        self.deliver(Some(caller.clone()), to, wire(message));
        let known = self.world.dead_letters.len();
        // The dead letters of this run are looked at below, for those of this call.
        let _ = self.run_to_rest().await;
        if let Some(reply) = self.world.kept_for(&caller).next() {
            return Ok(reply.read());
        }
        if let Some(rejection) = self.world.rejections.remove(&caller) {
            return Err(CallError::Rejected(rejection));
        }
        let letters = &self.world.dead_letters[known..];
        let failed = letters
            .iter()
            .find(|letter| letter.from.as_ref() == Some(&caller));
        Err(match failed {
            Some(letter) => CallError::Failed(Box::new(letter.clone())),
            None => CallError::NoReply,
        })
    }
}
