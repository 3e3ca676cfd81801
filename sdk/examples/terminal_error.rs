//! A terminal error: a mistake of the caller is answered as a mistake, and is not retried.
//!
//! ```text
//! cargo run -p satchel-sdk --example terminal_error
//! ```

use satchel_sdk::prelude::*;
use satchel_sdk::testing::{CallError, Scenario};
use serde::{Deserialize, Serialize};

const ACCOUNT: &str = "bank/account/alice";

#[derive(Serialize, Deserialize, Message)]
#[message(typename = "bank/withdraw")]
struct Withdraw {
    cents: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "bank/balance")]
struct Balance {
    cents: i64,
}

#[derive(State)]
struct Account {
    cents: Value<i64>,
    withdrawals: Value<i32>,
}

async fn account(ctx: &mut Context<Account>, message: Withdraw) -> Result<Balance> {
    let Withdraw { cents } = message;
    // The error takes back this write and every effect of the message.
    *ctx.state.withdrawals.get_mut_or_default() += 1;
    let Some(balance) = ctx.state.cents.get_mut() else {
        return Err(TerminalError::new(404, "no such account").into());
    };
    if cents > *balance {
        return Err(TerminalError::new(409, "not enough money").into());
    }
    *balance -= cents;
    Ok(Balance { cents: *balance })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let mut app = Scenario::new(Functions::new().bind("bank/account", account)).attempts(8);
    let withdraw = Withdraw { cents: 700 };

    // A caller gets the status and the text.
    let error = app.call::<Balance>(ACCOUNT, &withdraw).await;
    let rejected = TerminalError::new(404, "no such account");
    assert_eq!(error, Err(CallError::Rejected(rejected)));

    app.set_value(ACCOUNT, "cents", &1000_i64);
    let balance: Balance = app.call(ACCOUNT, &withdraw).await?;
    assert_eq!(balance, Balance { cents: 300 });
    let state: Account = app.state(ACCOUNT);
    assert_eq!(state.withdrawals.get(), Some(&1));

    // A message without a caller becomes a dead letter at once, after one attempt of eight.
    app.send(ACCOUNT, &withdraw);
    let letter = app
        .run_to_rest()
        .await
        .expect_err("the message is rejected");
    assert_eq!(
        (letter.attempts, letter.error.kind.as_str()),
        (1, "terminal")
    );
    println!("{letter}");
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("the example succeeds");
}
