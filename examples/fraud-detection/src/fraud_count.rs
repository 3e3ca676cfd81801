//! *Fraud Count*, one for each account: the frauds confirmed within the window.

use std::collections::BTreeSet;
use std::time::Duration;

use satchel_sdk::{Context, Error, Function, Message, State, Value};
use serde::{Deserialize, Serialize};

use crate::messages::{CountFrauds, FraudConfirmed, FraudCount, WindowOver};

/// The function with its window.
pub struct CountFunction {
    window: Duration,
}

/// Its messages.
#[derive(Debug, Message)]
pub enum CountMessage {
    /// Sent by the stream.
    #[message(json)]
    Confirmed(FraudConfirmed),
    /// Sent by a transaction manager.
    Count(CountFrauds),
    /// Sent by itself, a window ago.
    WindowOver(WindowOver),
}

/// The transactions and not just their number, so that a repeated confirmation counts once.
#[derive(Debug, Default, Serialize, Deserialize, Message)]
#[message(typename = "fraud/confirmed-transactions")]
struct Confirmed {
    transactions: BTreeSet<String>,
}

/// State of an account.
#[derive(State)]
pub struct Account {
    confirmed: Value<Confirmed>,
}

impl CountFunction {
    /// Counts the frauds confirmed at most `window` ago.
    pub fn new(window: Duration) -> Self {
        Self { window }
    }
}

impl Function for CountFunction {
    type Message = CountMessage;
    type State = Account;

    async fn invoke(&self, ctx: &mut Context<Account>, message: CountMessage) -> Result<(), Error> {
        match message {
            CountMessage::Confirmed(FraudConfirmed { transaction }) => {
                let confirmed = ctx.state.confirmed.get_mut_or_default();
                if confirmed.transactions.insert(transaction.clone()) {
                    let me = ctx.self_address().clone();
                    ctx.send_after(self.window, me, &WindowOver { transaction });
                }
            }
            CountMessage::Count(CountFrauds {}) => {
                let confirmed = ctx.state.confirmed.get();
                let count = confirmed.map_or(0, |confirmed| confirmed.transactions.len() as u64);
                ctx.reply(&FraudCount { count })?;
            }
            CountMessage::WindowOver(WindowOver { transaction }) => {
                let confirmed = ctx.state.confirmed.get_mut_or_default();
                confirmed.transactions.remove(&transaction);
                if confirmed.transactions.is_empty() {
                    ctx.state.confirmed.clear();
                }
            }
        }
        Ok(())
    }
}
