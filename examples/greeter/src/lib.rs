//! Counts how often it has met somebody, and greets.

use satchel_sdk::egress::KinesisRecord;
use satchel_sdk::{Context, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

/// Somebody to be greeted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "example/name")]
pub struct Name {
    /// What to call them.
    pub name: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "example/greeting")]
pub struct Greeting {
    /// What to say.
    pub greeting: String,
    /// How often this address has greeted, this time included.
    pub seen: i64,
}

#[derive(State)]
struct Greeted {
    seen: Value<i64>,
}

/// The functions of this application.
pub fn functions() -> Functions {
    Functions::new().bind("example/greeter", greet)
}

async fn greet(ctx: &mut Context<Greeted>, message: Name) -> Result {
    let seen = ctx.state.seen.get_or_default() + 1;
    ctx.state.seen.set(seen);

    let greeting = Greeting {
        greeting: words(&message.name, seen),
        seen,
    };
    if ctx.caller().is_some() {
        ctx.reply(&greeting)?;
    } else {
        let id = ctx.self_address().id().to_owned();
        let record = KinesisRecord::new("greetings", id).json(&greeting);
        ctx.egress("example/greetings", &record);
    }
    Ok(())
}

fn words(name: &str, seen: i64) -> String {
    match seen {
        1 => format!("Hello {name}, nice to meet you."),
        2 => format!("Hello again {name}."),
        _ => format!("Hello {name}, we have met {seen} times."),
    }
}
