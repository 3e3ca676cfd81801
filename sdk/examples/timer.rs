//! A timer that is cancelled: a cart is reminded of after a day, unless it is checked out first.
//!
//! ```text
//! cargo run -p satchel-sdk --example timer
//! ```

use std::time::Duration;

use satchel_sdk::prelude::*;
use satchel_sdk::testing::Scenario;
use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Token by which a cart cancels its own reminder.
const REMINDER: &str = "reminder";

#[derive(Serialize, Deserialize, Message)]
#[message(typename = "cart/add")]
struct Add {
    item: String,
}

#[derive(Serialize, Deserialize, Message)]
#[message(typename = "cart/check-out")]
struct CheckOut {}

#[derive(Serialize, Deserialize, Message)]
#[message(typename = "cart/remind")]
struct Remind {}

#[derive(Message)]
enum CartMessage {
    Add(Add),
    CheckOut(CheckOut),
    Remind(Remind),
}

#[derive(State)]
struct Cart {
    items: Value<Json<Vec<String>>>,
    reminders: Value<i32>,
}

async fn cart(ctx: &mut Context<Cart>, message: CartMessage) -> Result {
    match message {
        CartMessage::Add(Add { item }) => {
            ctx.state.items.get_mut_or_default().0.push(item);
            // A token that is pending may not be used again, so the former timer goes first.
            ctx.cancel(REMINDER);
            let me = ctx.self_address().clone();
            ctx.send_after(DAY, me, &Remind {}).with_token(REMINDER);
        }
        CartMessage::CheckOut(CheckOut {}) => {
            ctx.cancel(REMINDER);
            ctx.state.items.clear();
        }
        CartMessage::Remind(Remind {}) => *ctx.state.reminders.get_mut_or_default() += 1,
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let mut app = Scenario::new(Functions::new().bind("cart/cart", cart));
    for cart in ["cart/cart/alice", "cart/cart/bob"] {
        app.send(cart, &Add { item: "mug".into() });
    }
    app.run_to_rest().await?;
    assert_eq!(app.pending_timers().len(), 2);

    app.advance(DAY / 2).await?;
    app.send("cart/cart/alice", &CheckOut {});
    app.advance(DAY).await?;

    assert_eq!(app.pending_timers(), []);
    let reminders = |cart| app.state::<Cart>(cart).reminders.get_or_default();
    assert_eq!(reminders("cart/cart/alice"), 0);
    assert_eq!(reminders("cart/cart/bob"), 1);
    println!("Bob was reminded; Alice, who had checked out, was not.");
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("the example succeeds");
}
