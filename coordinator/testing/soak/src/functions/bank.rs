//! Accounts that transfer money, immediately or delayed. No money appears or vanishes.

use std::collections::BTreeMap;
use std::time::Duration;

use satchel_sdk::{Context, FunctionType, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

use super::{Recent, violation};

const ACCOUNT: FunctionType = FunctionType::new("soak/account");

/// Message to an account.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/account-message")]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum AccountMessage {
    /// Sent by a client: new money.
    Mint { n: u64, amount: i64 },
    /// Sent by a client: money for another account, after a delay.
    Transfer {
        n: u64,
        amount: i64,
        to: String,
        delay_ms: u64,
    },
    /// Sent by another account. Immediate deposits of one sender are numbered without gaps.
    Deposit { amount: i64, number: Option<u64> },
}

/// State of an account.
#[derive(Debug, Default, Serialize, Deserialize, Message)]
#[message(typename = "soak/account-book")]
pub(crate) struct Book {
    pub(crate) balance: i64,
    /// Number of immediate deposits sent, by receiver.
    pub(crate) sent: BTreeMap<String, u64>,
    /// Number of immediate deposits received, by sender.
    pub(crate) received: BTreeMap<String, u64>,
    /// Number of delayed deposits sent.
    pub(crate) sent_late: u64,
    /// Number of delayed deposits received.
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
                    format!("deposit {number} of {from} arrived after its deposit {last}"),
                );
            }
            *last = number;
        }
        (Some(number), None) => violation(&me, format!("deposit {number} has no sender")),
        (None, _) => book.received_late += 1,
    }
}

fn note(ctx: &mut Context<Account>, n: u64) {
    let me = ctx.self_address().clone();
    if !ctx.state.book.get_mut_or_default().recent.note(n) {
        violation(&me, format!("operation {n} was applied twice"));
    }
}
