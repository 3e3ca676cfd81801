//! The mailbox of an address, message by message, and what it waits for.

use super::Partition;
use super::schedule::Scheduled;
use crate::address::Address;
use crate::output::{Answer, FlightView, MailboxView, MessageView, TimerView};
use crate::tables::Activity;

/// Maximum size of the messages in one answer, in bytes, unless the first message alone is larger.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Maximum number of timers in an answer.
const TIMERS_MAX: usize = 100;

impl Partition {
    /// Shows messages of a mailbox in order, those after number `after`, and what the address waits
    /// for.
    pub(super) fn show_mailbox(
        &self,
        address: &Address,
        after: Option<u64>,
        limit: usize,
    ) -> Answer {
        let Some(instance) = self.tables.instance(address) else {
            return Answer::NotFound(format!(
                "{address} is unknown: it has no state and nothing pending"
            ));
        };
        let mut view = MailboxView::default();
        let Some(active) = &instance.active else {
            return Answer::Mailbox(Box::new(view));
        };
        if let Activity::InFlight(flight) = &active.activity {
            view.in_flight = Some(FlightView {
                messages: flight.messages,
                since_ms: flight.since_ms,
            });
        }
        if active.activity == Activity::BackingOff {
            let address = address.clone();
            view.next_try_ms = self.schedule.due_ms(&Scheduled::Retry { address });
        }
        view.suspended_since_ms = active.suspension.as_ref().map(|it| it.since_ms);
        let first = match after {
            None => 0,
            Some(after) => active
                .mailbox
                .partition_point(|(number, _)| *number <= after),
        };
        let mut bytes = 0;
        for (number, message) in active.mailbox.range(first..) {
            bytes += message.bytes();
            let is_full = view.messages.len() >= limit || bytes > ANSWER_BYTES_MAX;
            if is_full && !view.messages.is_empty() {
                view.more = true;
                break;
            }
            view.messages.push(MessageView {
                number: *number,
                id: message.id,
                caller: message.caller.clone(),
                message: message.argument.clone(),
                corrects: message.correction.as_ref().map(|it| it.state.clone()),
            });
        }
        let mut timers: Vec<_> = active.timers().map(|(_, timer)| timer).collect();
        timers.sort_by_key(|timer| timer.due_ms);
        view.timers_total = timers.len();
        let shown = timers.into_iter().take(TIMERS_MAX);
        view.timers = shown
            .map(|timer| TimerView {
                owner: address.clone(),
                due_ms: timer.due_ms,
                target: timer.target.clone(),
                typename: timer.message.argument.typename.clone(),
                token: timer.token.clone(),
            })
            .collect();
        Answer::Mailbox(Box::new(view))
    }
}
