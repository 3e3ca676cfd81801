//! Accounts that send one another money, at once or later. None appears or vanishes.

use std::collections::BTreeMap;
use std::time::Duration;

use satchel_sdk::{Context, FunctionType, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

use super::{Recent, violation};

const ACCOUNT: FunctionType = FunctionType::new("soak/account");

/// What an account takes.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/account-message")]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum AccountMessage {
    /// From outside: new money.
    Mint { n: u64, amount: i64 },
    /// From outside: money for another account, so much later.
    Transfer {
        n: u64,
        amount: i64,
        to: String,
        delay_ms: u64,
    },
    /// From another account. Those that come at once have numbers without gaps, by sender.
    Deposit { amount: i64, number: Option<u64> },
}

/// What an account remembers.
#[derive(Debug, Default, Serialize, Deserialize, Message)]
#[message(typename = "soak/account-book")]
pub(crate) struct Book {
    pub(crate) balance: i64,
    /// How many deposits were sent at once, by receiver.
    pub(crate) sent: BTreeMap<String, u64>,
    /// How many of them came, by sender.
    pub(crate) received: BTreeMap<String, u64>,
    /// How many deposits were sent for later.
    pub(crate) sent_late: u64,
    /// How many of those came.
    pub(crate) received_late: u64,
    recent: Recent,
}

#[derive(State)]
struct Account {
    book: Value<Book>,
}

pub(super) fn bind(functions: Functions) -> Functions {
    functions.bind_type(ACCOUNT, AccountFunction)
}

struct AccountFunction;

impl satchel_sdk::Function for AccountFunction {
    type Message = AccountMessage;
    type State = Account;

    async fn invoke(&self, ctx: &mut Context<Account>, message: AccountMessage) -> Result {
        match message {
            AccountMessage::Mint { n, amount } => mint(ctx, n, amount),
            AccountMessage::Transfer {
                n,
                amount,
                to,
                delay_ms,
            } => transfer(ctx, n, amount, to, delay_ms),
            AccountMessage::Deposit { amount, number } => deposit(ctx, amount, number),
        }
        Ok(())
    }
}

fn mint(ctx: &mut Context<Account>, n: u64, amount: i64) {
    note(ctx, n);
    ctx.state.book.get_mut_or_default().balance += amount;
}

fn transfer(ctx: &mut Context<Account>, n: u64, amount: i64, to: String, delay_ms: u64) {
    note(ctx, n);
    let book = ctx.state.book.get_mut_or_default();
    book.balance -= amount;
    if delay_ms > 0 {
        book.sent_late += 1;
        let number = None;
        let deposit = AccountMessage::Deposit { amount, number };
        ctx.send_after(Duration::from_millis(delay_ms), ACCOUNT.id(to), &deposit);
    } else {
        let number = book.sent.entry(to.clone()).or_default();
        *number += 1;
        let number = Some(*number);
        ctx.send(ACCOUNT.id(to), &AccountMessage::Deposit { amount, number });
    }
}

fn deposit(ctx: &mut Context<Account>, amount: i64, number: Option<u64>) {
    let me = ctx.self_address().clone();
    let from = ctx.caller().map(|caller| caller.id().to_owned());
    let book = ctx.state.book.get_mut_or_default();
    book.balance += amount;
    match (number, from) {
        (Some(number), Some(from)) => {
            let last = book.received.entry(from.clone()).or_default();
            if number != *last + 1 {
                violation(
                    &me,
                    format!("deposit {number} of {from} comes after its deposit {last}"),
                );
            }
            *last = number;
        }
        (Some(number), None) => violation(&me, format!("deposit {number} comes from nobody")),
        (None, _) => book.received_late += 1,
    }
}

fn note(ctx: &mut Context<Account>, n: u64) {
    let me = ctx.self_address().clone();
    if !ctx.state.book.get_mut_or_default().recent.note(n) {
        violation(&me, format!("operation {n} is applied twice"));
    }
}
