//! Messages that fail until their address is healed.

use std::collections::BTreeSet;

use satchel_sdk::{Context, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

use super::{EgressRecord, Recent, emit, violation};

/// Message to an address.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/poison-message")]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum PoisonMessage {
    /// Fails unless this number is healed.
    Bad { n: u64 },
    /// Heals this number.
    Heal { n: u64 },
}

/// Reply: this number was applied or healed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "soak/applied")]
pub(crate) struct Applied {
    pub(crate) n: u64,
}

/// State of an address.
#[derive(Debug, Default, Serialize, Deserialize, Message)]
#[message(typename = "soak/healed")]
pub(crate) struct Healed {
    /// Numbers that are healed and not applied yet.
    pub(crate) healed: BTreeSet<u64>,
    /// Number of applied messages.
    pub(crate) count: u64,
    recent: Recent,
}

#[derive(State)]
struct Frail {
    healed: Value<Healed>,
}

pub(super) fn bind(functions: Functions) -> Functions {
    functions.bind("frail/poison", poison)
}

async fn poison(ctx: &mut Context<Frail>, message: PoisonMessage) -> Result {
    let me = ctx.self_address().clone();
    let state = ctx.state.healed.get_mut_or_default();
    let n = match message {
        PoisonMessage::Heal { n } => {
            if !state.healed.insert(n) {
                violation(&me, format!("{n} was healed twice"));
            }
            n
        }
        PoisonMessage::Bad { n } => {
            if !state.recent.note(n) {
                violation(&me, format!("{n} was applied twice"));
            } else if !state.healed.remove(&n) {
                return Err(format!("{n} is poisonous").into());
            }
            state.count += 1;
            emit(ctx, me.id(), &EgressRecord::Applied { n });
            n
        }
    };
    if ctx.caller().is_some() {
        ctx.reply(&Applied { n })?;
    }
    Ok(())
}
