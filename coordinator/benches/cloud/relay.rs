//! Functions of which one answers for another.

use satchel_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// A request to have the caller answered by another address.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "example/relay")]
struct Relay {
    /// Id of the address that answers.
    to: String,
}

/// The request that is passed on, with the caller in it.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "example/relayed")]
struct Relayed {
    caller: Address,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "example/arrived")]
struct Arrived {
    arrived: bool,
}

#[derive(State)]
struct Passed {
    passed: Value<i64>,
}

/// Adds the functions `example/direct`, `example/relay` and `example/end`.
pub(crate) fn bind(functions: Functions) -> Functions {
    functions
        .bind("example/direct", direct)
        .bind("example/relay", relay)
        .bind("example/end", end)
}

async fn direct(ctx: &mut Context<Passed>, _: Relay) -> Result<Arrived> {
    count(ctx);
    Ok(Arrived { arrived: true })
}

async fn relay(ctx: &mut Context<Passed>, message: Relay) -> Result<()> {
    count(ctx);
    if let Some(caller) = ctx.caller().cloned() {
        let end: Address = FunctionType::new("example/end").id(message.to);
        ctx.send(end, &Relayed { caller });
    }
    Ok(())
}

async fn end(ctx: &mut Context<Passed>, message: Relayed) -> Result<()> {
    count(ctx);
    ctx.send(message.caller, &Arrived { arrived: true });
    Ok(())
}

fn count(ctx: &mut Context<Passed>) {
    let passed = ctx.state.passed.get_or_default() + 1;
    ctx.state.passed.set(passed);
}
