//! Hold of a fork: whether a start keeps or lifts it.

use satchel_engine::durable::Hold;
use satchel_engine::input::Input;
use tokio::sync::mpsc;

/// Treatment of a fork whose ingresses, timers and outbox are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HoldPolicy {
    /// Keep the hold.
    #[default]
    Keep,
    /// Lift the hold: ingresses, timers and outbox resume.
    Resume,
    /// Lift the hold and drop the content of the outbox.
    ResumeWithoutOutbox,
}

impl HoldPolicy {
    /// Applies the policy to the hold that a takeover found, and returns the hold that remains.
    ///
    /// If the policy lifts the hold, this must be the first input of the partition.
    pub(super) fn apply(
        self,
        held: Option<Hold>,
        inputs: &mpsc::UnboundedSender<Input>,
    ) -> Option<Hold> {
        let drop_outbox = match self {
            Self::Keep => return held,
            Self::Resume => false,
            Self::ResumeWithoutOutbox => true,
        };
        if let Some(hold) = held {
            tracing::info!(origin = %hold.origin, drop_outbox, "hold of this fork lifted");
            // The receiver is alive: the caller starts its loop afterwards.
            let _ = inputs.send(Input::HoldLifted { drop_outbox });
        }
        None
    }
}
