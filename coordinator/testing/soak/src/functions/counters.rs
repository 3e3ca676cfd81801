//! Counts each operation once.

use satchel_sdk::{Context, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

use super::{Recent, violation};

/// Counts an operation.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/add")]
pub(crate) struct Add {
    pub(crate) n: u64,
}

/// Reply: the count including this operation.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "soak/place")]
pub(crate) struct Ordinal {
    pub(crate) place: u64,
}

/// State of a counter.
#[derive(Debug, Default, Serialize, Deserialize, Message)]
#[message(typename = "soak/counted")]
pub(crate) struct Counted {
    pub(crate) count: u64,
    recent: Recent,
}

#[derive(State)]
struct Counter {
    counted: Value<Counted>,
}

pub(super) fn bind(functions: Functions) -> Functions {
    functions.bind("soak/counter", count)
}

async fn count(ctx: &mut Context<Counter>, add: Add) -> Result {
    let me = ctx.self_address().clone();
    let counted = ctx.state.counted.get_mut_or_default();
    if !counted.recent.note(add.n) {
        violation(&me, format!("operation {} was applied twice", add.n));
    }
    counted.count += 1;
    let place = counted.count;
    ctx.reply(&Ordinal { place })?;
    Ok(())
}
