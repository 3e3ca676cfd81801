//! Messages that are rejected for good, among messages that are not.

use satchel_sdk::{Context, Functions, Message, Result, State, TerminalError, Value};
use serde::{Deserialize, Serialize};

use super::{Recent, violation};

/// HTTP status of a rejection.
pub(crate) const CODE: u16 = 410;

/// Message to an address.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/claim")]
pub(crate) struct Claim {
    pub(crate) n: u64,
    /// True if the message is rejected.
    pub(crate) is_wrong: bool,
}

/// Reply: this number was accepted.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "soak/accepted")]
pub(crate) struct Accepted {
    pub(crate) n: u64,
}

/// State of an address.
#[derive(Debug, Default, Serialize, Deserialize, Message)]
#[message(typename = "soak/judged")]
pub(crate) struct Judged {
    /// Number of accepted messages.
    pub(crate) accepted: u64,
    /// Number of rejected messages, which must stay 0: a rejected message changes nothing.
    pub(crate) rejected: u64,
    recent: Recent,
}

#[derive(State)]
struct Judge {
    judged: Value<Judged>,
}

/// Text of the rejection of `n`.
pub(crate) fn verdict(n: u64) -> String {
    format!("the claim {n} is wrong")
}

pub(super) fn bind(functions: Functions) -> Functions {
    functions.bind("frail/judge", judge)
}

async fn judge(ctx: &mut Context<Judge>, claim: Claim) -> Result<Accepted> {
    let me = ctx.self_address().clone();
    let state = ctx.state.judged.get_mut_or_default();
    let n = claim.n;
    if claim.is_wrong {
        state.rejected += 1;
        return Err(TerminalError::new(CODE, verdict(n)).into());
    }
    if !state.recent.note(n) {
        violation(&me, format!("{n} was accepted twice"));
    }
    state.accepted += 1;
    Ok(Accepted { n })
}
