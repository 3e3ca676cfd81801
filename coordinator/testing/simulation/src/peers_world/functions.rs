//! The functions of an application of several partitions. Each keeps one text as its state.
//!
//! | Function | Message | Effect |
//! |---|---|---|
//! | `account` | `give to amount` | takes from its balance, sends `take amount` |
//! | `account` | `lend to amount ms` | the same, and the message is sent after a delay |
//! | `account` | `take amount` | adds to its balance |
//! | `source` | `emit to count` | sends the next numbers of this pair, `source/id number` |
//! | `ordered` | `sender number` | must be the number after the last one of this sender |
//! | `hop` | `hop path caller` | passes it to the next id of the path; the last one replies |
//! | `burst` | `burst depth width` | sends `width` messages of one depth less |

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_engine::address::Address;
use satchel_engine::invocation::{Batch, BatchMessage};
use satchel_protocol::reqreply::from_function::{
    self, DelayedInvocation, IncompleteInvocationContext, InvocationResponse,
    PersistedValueMutation, PersistedValueSpec,
};
use satchel_protocol::reqreply::{FromFunction, TypedValue};

use crate::functions::{TEXT, text, text_of};

/// Namespace of the functions.
pub(super) const NAMESPACE: &str = "bank";

/// Name of the only state of each function.
pub(super) const STATE: &str = "value";

/// Number of instances of each function.
pub(super) const IDS: u64 = 12;

/// Text that makes a message of a burst longer.
const PADDING: &str = "0123456789012345678901234567890123456789012345678901234567890123456789";

pub(super) fn address(name: &str, id: impl Into<Arc<str>>) -> Address {
    crate::functions::address(NAMESPACE, name, id)
}

/// Runs a function over a batch. What contradicts a law is added to `violations`.
pub(super) fn run(batch: &Batch, violations: &mut Vec<String>) -> FromFunction {
    let Some(state) = batch.state.iter().find(|state| &*state.name == STATE) else {
        return declaration();
    };
    let value = state.value.as_ref();
    let before = value.map_or(String::new(), |(_, value)| {
        String::from_utf8_lossy(value).into_owned()
    });
    let mut run = Run {
        own: &batch.target,
        state: before.clone(),
        response: InvocationResponse::default(),
        violations,
        cause: 0,
    };
    for (cause, message) in (1..).zip(&batch.messages) {
        run.cause = cause;
        run.message(message);
    }
    if run.state != before {
        run.response.state_mutations.push(PersistedValueMutation {
            mutation_type: 1,
            state_name: STATE.to_owned(),
            state_value: Some(text(run.state)),
        });
    }
    FromFunction {
        response: Some(from_function::Response::InvocationResult(run.response)),
    }
}

fn declaration() -> FromFunction {
    let missing_values = vec![PersistedValueSpec {
        state_name: STATE.to_owned(),
        type_typename: TEXT.to_owned(),
        ..PersistedValueSpec::default()
    }];
    FromFunction {
        response: Some(from_function::Response::IncompleteInvocationContext(
            IncompleteInvocationContext {
                missing_values,
                ..IncompleteInvocationContext::default()
            },
        )),
    }
}

struct Run<'a> {
    own: &'a Address,
    state: String,
    response: InvocationResponse,
    violations: &'a mut Vec<String>,
    /// Number of the message in the batch, from 1.
    cause: u32,
}

impl Run<'_> {
    fn message(&mut self, message: &BatchMessage) {
        let content = text_of(&message.argument);
        let words: Vec<&str> = content.split(' ').collect();
        match (self.own.function.name(), &words[..]) {
            ("account", ["give", to, amount]) => {
                self.add(-number(amount));
                self.send(&address("account", *to), format!("take {amount}"));
            }
            ("account", ["lend", to, amount, ms]) => {
                self.add(-number(amount));
                let target = address("account", *to);
                let delayed = DelayedInvocation {
                    delay_in_ms: number(ms),
                    target: Some(target.to_wire()),
                    argument: Some(text(format!("take {amount}"))),
                    cause: self.cause,
                    ..DelayedInvocation::default()
                };
                self.response.delayed_invocations.push(delayed);
            }
            ("account", ["take", amount]) => self.add(number(amount)),
            ("source", ["emit", to, count]) => {
                let mut next = pairs(&self.state);
                let last = next.entry((*to).to_owned()).or_default();
                let first = *last + 1;
                *last += number(count) as u64;
                let last = *last;
                self.state = of_pairs(&next);
                for number in first..=last {
                    let own = &self.own.id;
                    self.send(&address("ordered", *to), format!("source/{own} {number}"));
                }
            }
            ("ordered", [sender, sent]) => {
                let mut last = pairs(&self.state);
                let known = last.entry((*sender).to_owned()).or_default();
                let sent = number(sent) as u64;
                if sent != *known + 1 {
                    let own = self.own;
                    let violation = format!("{own} gets {sent} of {sender} after {known}");
                    self.violations.push(violation);
                }
                *known = sent;
                self.state = of_pairs(&last);
            }
            ("hop", ["hop", path, caller]) => self.hop(message, path, caller),
            ("burst", ["burst", depth, width, ..]) => self.burst(number(depth), number(width)),
            _ => self
                .violations
                .push(format!("{} does not understand {content:?}", self.own)),
        }
    }

    fn hop(&mut self, message: &BatchMessage, path: &str, caller: &str) {
        let caller = match (caller, &message.caller) {
            ("-", Some(caller)) => caller.id.to_string(),
            _ => caller.to_owned(),
        };
        match path.split_once(',') {
            Some((next, rest)) => {
                self.send(&address("hop", next), format!("hop {rest} {caller}"));
            }
            None => {
                let target = crate::functions::address("satchel", "call", caller);
                self.send(&target, "done".to_owned());
            }
        }
    }

    fn burst(&mut self, depth: i64, width: i64) {
        if depth == 0 {
            self.add(1);
            return;
        }
        let own = number(&self.own.id) as u64;
        for sent in 0..width as u64 {
            let to = (own * 5 + sent + 1) % IDS;
            let content = format!("burst {} {width} {PADDING}", depth - 1);
            self.send(&address("burst", to.to_string()), content);
        }
    }

    fn add(&mut self, amount: i64) {
        self.state = (number(&self.state) + amount).to_string();
    }

    fn send(&mut self, target: &Address, content: String) {
        self.response
            .outgoing_messages
            .push(from_function::Invocation {
                target: Some(target.to_wire()),
                argument: Some(text(content)),
                cause: self.cause,
            });
    }
}

/// Number of messages without further messages that a burst ends with.
pub(super) fn burst_total(depth: u64, width: u64) -> u64 {
    width.pow(depth as u32)
}

pub(super) fn number(word: &str) -> i64 {
    word.parse().unwrap_or(0)
}

/// Reads a state of the form `a=1,b=2`.
pub(super) fn pairs(state: &str) -> BTreeMap<String, u64> {
    let pairs = state.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), number(value) as u64))
        .collect()
}

fn of_pairs(pairs: &BTreeMap<String, u64>) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(",")
}

/// Returns the money that a message will add to a balance.
pub(super) fn money_of(target: &Address, argument: &TypedValue) -> i64 {
    let takes = target.function.namespace() == NAMESPACE && target.function.name() == "account";
    let content = text_of(argument);
    match content.split_once(' ') {
        Some(("take", amount)) if takes => number(amount),
        _ => 0,
    }
}
