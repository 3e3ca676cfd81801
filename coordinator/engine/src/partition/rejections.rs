//! Rejection of one message for good, by its function or because of a mistake in the answer of its
//! function.
//!
//! The rule is that of [`satchel_protocol::bundle`]. The batch has no effects, as after any other
//! failure, and no message is retried on account of the rejected one:
//!
//! ```text
//!  m0 m1 [m2] m3     m2 is rejected: nothing of the batch is applied
//!  m0 m1             the next batch; its effects are applied
//!  [m2] m3           m2 is judged again, over the state that m0 and m1 left; now it is concluded
//!  m3                the rest
//! ```
//!
//! Every round concludes a message or makes the batch smaller, so no back-off is needed, and a
//! function that names another position each time makes progress all the same.

use super::Partition;
use super::notices::shortened;
use crate::address::Address;
use crate::durable::Outcome;
use crate::invocation::{EndpointIndex, Failure, FailureKind, Rejection};
use crate::story::Step;
use crate::tables::Flight;

impl Partition {
    /// Handles a batch that holds a rejected message.
    pub(super) fn batch_rejected(
        &mut self,
        address: &Address,
        flight: Flight,
        endpoint: EndpointIndex,
        failure: &Failure,
    ) {
        let rejection = failure.rejection.as_ref();
        let index = rejection.and_then(|rejection| rejection.index);
        match position(index, flight.messages) {
            Some(0) => self.reject_head(address, flight, endpoint, failure),
            Some(before) => {
                self.limit_batch(address, before, before);
                self.make_ready(address);
            }
            None => {
                self.isolate(address, flight.messages);
                self.make_ready(address);
            }
        }
    }

    /// Concludes the message at the head. A caller that waits for its outcome gets the verdict.
    /// Without one, the message is given up at once, as after its last attempt.
    fn reject_head(
        &mut self,
        address: &Address,
        flight: Flight,
        endpoint: EndpointIndex,
        failure: &Failure,
    ) {
        let active = self.tables.active(address);
        let head = active.and_then(|active| active.mailbox.front());
        let caller = head.and_then(|(_, message)| message.caller.clone());
        let Some(caller) = caller.filter(|caller| self.awaits_outcome(caller)) else {
            if !flight.presumed_failed {
                self.count_attempt(address, failure.message.clone());
            }
            self.give_up_or_suspend(address, endpoint, failure.message.clone());
            return;
        };
        let Some((head, _)) = self.take_head(address) else {
            return;
        };
        self.counts.rejected += 1;
        let (code, message) = match &failure.rejection {
            Some(rejection) => (rejection.code, rejection.message.clone()),
            None => (Rejection::CODE_DEFAULT, failure.message.clone()),
        };
        self.tell_fact((head.id, head.trace), true, || Step::Rejected {
            code,
            reason: shortened(&message).into(),
        });
        self.resolve(&caller, &Outcome::Rejected { code, message });
        self.make_ready(address);
        self.tables.prune(address);
    }
}

/// Position of the rejected message in a batch of `messages`. A position outside the batch says
/// nothing, and in a batch of one message there is only one position.
fn position(index: Option<u32>, messages: usize) -> Option<usize> {
    if messages == 1 {
        return Some(0);
    }
    let index = usize::try_from(index?).ok()?;
    (index < messages).then_some(index)
}

/// Beginning of the reason of a failure that is a defect of an answer.
pub(super) const NOT_ACCEPTED: &str = "the answer was not accepted: ";

/// Reason why an answer is not accepted.
pub(super) enum Defect {
    /// A mistake of the function that every retry repeats.
    Mistake {
        /// 1 + the index of the message that caused it, or 0 if that is unknown.
        cause: u32,
        text: String,
    },
    /// The answer is not one that a sound handler gives. Another handler, or another version, may
    /// answer soundly.
    Unsound(String),
}

impl Defect {
    /// A mistake caused by a message: 1 + its index, or 0 if that is unknown.
    pub(super) fn mistake(cause: u32, text: String) -> Self {
        Self::Mistake { cause, text }
    }

    /// Converts the defect to the failure of the batch.
    pub(super) fn into_failure(self) -> Failure {
        let describe = |text| format!("{NOT_ACCEPTED}{text}");
        match self {
            Self::Mistake { cause, text } => {
                let message = describe(text);
                let index = cause.checked_sub(1);
                let rejection = Rejection::new(index, Rejection::CODE_DEFAULT, message.clone());
                Failure::terminal(message, rejection)
            }
            Self::Unsound(text) => Failure::new(FailureKind::Function, describe(text)),
        }
    }
}
