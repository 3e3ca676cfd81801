//! Counts its meetings with each guest, and greets.

use satchel_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// A guest to be greeted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "example/name")]
pub struct Name {
    /// Name of the guest.
    pub name: String,
}

/// Greeting of a guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "example/greeting")]
pub struct Greeting {
    /// Text of the greeting.
    pub greeting: String,
    /// Number of greetings of this address, this one included.
    pub seen: i64,
}

#[derive(State)]
struct Greeted {
    seen: Value<i64>,
}

/// Functions of this application.
pub fn functions() -> Functions {
    Functions::new().bind("example/greeter", greet)
}

/// Replies to a caller. A name from the stream is greeted on the other stream.
async fn greet(ctx: &mut Context<Greeted>, message: Name) -> Result<Greeting> {
    let seen = ctx.state.seen.get_or_default() + 1;
    ctx.state.seen.set(seen);

    let greeting = Greeting {
        greeting: words(&message.name, seen),
        seen,
    };
    if ctx.caller().is_none() {
        let id = ctx.self_address().id().to_owned();
        let record = KinesisRecord::new("greetings", id).json(&greeting);
        ctx.egress("example/greetings", &record);
    }
    Ok(greeting)
}

fn words(name: &str, seen: i64) -> String {
    match seen {
        1 => format!("Hello {name}, nice to meet you."),
        2 => format!("Hello again {name}."),
        _ => format!("Hello {name}, we have met {seen} times."),
    }
}
