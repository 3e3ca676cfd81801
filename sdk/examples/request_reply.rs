//! Request and reply between functions: a basket asks each item for its price, and replies to its
//! own caller when all prices are there.
//!
//! A function never waits for another. It sends the request, keeps what it needs in its state, and
//! continues when the reply arrives as a message.
//!
//! ```text
//! cargo run -p satchel-sdk --example request_reply
//! ```

use satchel_sdk::prelude::*;
use satchel_sdk::testing::Scenario;
use serde::{Deserialize, Serialize};

const BASKET: FunctionType = FunctionType::new("shop/basket");
const ITEM: FunctionType = FunctionType::new("shop/item");

#[derive(Serialize, Deserialize, Message)]
#[message(typename = "shop/total-of")]
struct TotalOf {
    items: Vec<String>,
}

#[derive(Serialize, Deserialize, Message)]
#[message(typename = "shop/get-price")]
struct GetPrice {}

#[derive(Serialize, Deserialize, Message)]
#[message(typename = "shop/price")]
struct Price {
    cents: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "shop/total")]
struct Total {
    cents: i64,
}

#[derive(Message)]
enum BasketMessage {
    TotalOf(TotalOf),
    Price(Price),
}

/// A total that is being added up.
#[derive(Serialize, Deserialize, Message)]
#[message(typename = "shop/open-total")]
struct OpenTotal {
    caller: Address,
    missing: usize,
    cents: i64,
}

#[derive(State)]
struct Basket {
    open: Value<OpenTotal>,
}

async fn basket(ctx: &mut Context<Basket>, message: BasketMessage) -> Result {
    match message {
        BasketMessage::TotalOf(TotalOf { items }) => {
            let Some(caller) = ctx.caller().cloned() else {
                return Err(TerminalError::new(400, "a total needs a caller").into());
            };
            for item in &items {
                ctx.send(ITEM.id(item), &GetPrice {});
            }
            ctx.state.open.set(OpenTotal {
                caller,
                missing: items.len(),
                cents: 0,
            });
        }
        BasketMessage::Price(Price { cents }) => {
            let Some(mut open) = ctx.state.open.take() else {
                return Ok(());
            };
            open.cents += cents;
            open.missing -= 1;
            if open.missing == 0 {
                ctx.send(&open.caller, &Total { cents: open.cents });
            } else {
                ctx.state.open.set(open);
            }
        }
    }
    Ok(())
}

/// The returned price is the reply to the basket that asked.
async fn item(ctx: &mut Context, _: GetPrice) -> Result<Price> {
    let cents = match ctx.self_address().id() {
        "mug" => 900,
        "spoon" => 250,
        other => return Err(format!("{other} has no price").into()),
    };
    Ok(Price { cents })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let functions = Functions::new().bind(BASKET, basket).bind(ITEM, item);
    let mut app = Scenario::new(functions);
    let question = TotalOf {
        items: vec!["mug".into(), "spoon".into(), "mug".into()],
    };
    let total: Total = app.call(BASKET.id("alice"), &question).await?;
    assert_eq!(total, Total { cents: 2050 });
    println!("{total:?}");
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("the example succeeds");
}
