//! Counters that few clients increment and read at the same time, for the check of linearizability.

use satchel_sdk::{Context, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

/// Message to a counter. Its reply is the value after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "soak/hot-message")]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum HotMessage {
    /// Increment.
    Add,
    /// Read.
    Read,
}

/// Reply: the value.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/hot-value")]
pub(crate) struct HotValue {
    pub(crate) value: u64,
}

#[derive(State)]
struct Hot {
    value: Value<i64>,
}

pub(super) fn bind(functions: Functions) -> Functions {
    functions.bind("soak/hot", hot)
}

async fn hot(ctx: &mut Context<Hot>, message: HotMessage) -> Result {
    let before = ctx.state.value.get_or_default();
    let value = match message {
        HotMessage::Add => before + 1,
        HotMessage::Read => before,
    };
    if message == HotMessage::Add {
        ctx.state.value.set(value);
    }
    let value = u64::try_from(value)?;
    ctx.reply(&HotValue { value })?;
    Ok(())
}
