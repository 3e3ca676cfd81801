//! Transfers whose effect on every account is known.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{Workload, lock};
use crate::clients::Clients;
use crate::egress::SeenEgress;
use crate::functions::bank::{AccountMessage, Book};
use crate::random::Random;

/// Number of accounts.
const ACCOUNTS: u64 = 10;

/// Maximum delay of a transfer, in ms.
const DELAY_MAX_MS: u64 = 2_000;

/// Expected balance of each account.
#[derive(Debug, Default)]
pub(super) struct Bank {
    balances: Mutex<BTreeMap<u64, i64>>,
}

impl Workload for Bank {
    const NAME: &'static str = "bank";
    const SHARE: u64 = 20;

    async fn operate(&self, n: u64, clients: &Clients) {
        let mut random = Random::of(clients.seed, n);
        let (account, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
        let amount = 1 + random.below(100) as i64;
        let mints = random.percent(10);
        let delay_ms = match random.percent(25) {
            true => 1 + random.below(DELAY_MAX_MS),
            false => 0,
        };
        let message = match mints {
            true => AccountMessage::Mint { n, amount },
            false => AccountMessage::Transfer {
                n,
                amount,
                to: to.to_string(),
                delay_ms,
            },
        };
        let key = format!("bank-{n}");
        if !clients.send(&address(account), &message, &key).await {
            return;
        }
        let mut balances = lock(&self.balances);
        if mints {
            *balances.entry(account).or_default() += amount;
        } else {
            *balances.entry(account).or_default() -= amount;
            *balances.entry(to).or_default() += amount;
        }
    }

    async fn mismatch(&self, clients: &Clients, _: &SeenEgress) -> Option<String> {
        let mut books = BTreeMap::new();
        for account in 0..ACCOUNTS {
            let book: Book = clients.state(&address(account)).await?;
            books.insert(account, book);
        }
        let balances = lock(&self.balances);
        for (account, book) in &books {
            let expected = balances.get(account).copied().unwrap_or_default();
            if book.balance != expected {
                return Some(format!(
                    "account {account} has balance {}, expected {expected}",
                    book.balance
                ));
            }
            for (other, received) in &book.received {
                let other: u64 = other.parse().unwrap_or(u64::MAX);
                let sent = books
                    .get(&other)
                    .and_then(|book| book.sent.get(&account.to_string()));
                if sent != Some(received) {
                    return Some(format!(
                        "account {account} received {received} deposits from account {other}, \
                         which sent {sent:?}"
                    ));
                }
            }
        }
        let sent: u64 = books.values().map(|book| book.sent_late).sum();
        let received: u64 = books.values().map(|book| book.received_late).sum();
        (sent != received).then(|| format!("{sent} delayed deposits were sent, {received} arrived"))
    }
}

fn address(account: u64) -> String {
    format!("soak/account/{account}")
}
