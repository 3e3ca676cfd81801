//! Messages that become dead letters until an operator heals their address and retries them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Workload, lock};
use crate::clients::Clients;
use crate::egress::SeenEgress;
use crate::functions::poison::{Applied, Healed, PoisonMessage};
use crate::random::Random;

/// Number of addresses that receive poison messages.
const ADDRESSES: u64 = 3;

/// Maximum number of retries of one dead letter. One suffices after healing, unless the process
/// dies meanwhile.
const RETRIES_MAX: usize = 100;

/// Poison messages that were applied, by address.
#[derive(Debug, Default)]
pub(super) struct Poison {
    applied: Mutex<BTreeMap<u64, BTreeSet<u64>>>,
}

impl Workload for Poison {
    const NAME: &'static str = "poison";
    const SHARE: u64 = 2;

    async fn operate(&self, n: u64, clients: &Clients) {
        let mut random = Random::of(clients.seed, n);
        let number = random.below(ADDRESSES);
        let address = address(number);
        let bad = PoisonCall {
            address: &address,
            message: PoisonMessage::Bad { n },
            key: format!("bad-{n}"),
        };
        let heal = PoisonCall {
            address: &address,
            message: PoisonMessage::Heal { n },
            key: format!("heal-{n}"),
        };
        // The message fails, and fails again when it is retried before healing.
        let failures = 1 + usize::from(random.percent(30));
        for _ in 0..failures {
            match bad.attempt(n, clients).await {
                Some(false) => {}
                Some(true) => {
                    let what = format!("{n} at {address} was applied without healing");
                    return clients.violations.record(what);
                }
                None => return,
            }
            clients.metrics.count("dead letters");
            bad.retry(clients).await;
        }
        if heal.until_applied(n, clients).await && bad.until_applied(n, clients).await {
            lock(&self.applied).entry(number).or_default().insert(n);
        }
    }

    async fn mismatch(&self, clients: &Clients, seen: &SeenEgress) -> Option<String> {
        let mut all = BTreeSet::new();
        for number in 0..ADDRESSES {
            let state: Healed = clients.state(&address(number)).await?;
            let applied = lock(&self.applied);
            let applied = applied.get(&number).cloned().unwrap_or_default();
            if state.count != applied.len() as u64 || !state.healed.is_empty() {
                let count = applied.len();
                return Some(format!(
                    "{} applied {} of {count} messages and waits for {:?}",
                    address(number),
                    state.count,
                    state.healed
                ));
            }
            all.extend(applied);
        }
        (all != seen.applied).then(|| {
            let missing: Vec<_> = all.difference(&seen.applied).collect();
            let unexpected: Vec<_> = seen.applied.difference(&all).collect();
            format!("poison messages: {missing:?} were not emitted, {unexpected:?} were unexpected")
        })
    }
}

/// A message that may become a dead letter.
struct PoisonCall<'a> {
    address: &'a str,
    message: PoisonMessage,
    key: String,
}

impl PoisonCall<'_> {
    /// Calls once. Returns true if the message was applied, false if it became a dead letter, and
    /// `None` otherwise, which is recorded as a violation.
    async fn attempt(&self, n: u64, clients: &Clients) -> Option<bool> {
        let reply = clients.call(self.address, &self.message, &self.key).await?;
        let body = super::json(&reply);
        if reply.status == 200 && body == json!(Applied { n }) {
            return Some(true);
        }
        if reply.status == 500 && body["error"]["code"] == "dead_letter" {
            return Some(false);
        }
        let what = format!(
            "unexpected answer to {:?} to {}: {reply:?}",
            self.message, self.address
        );
        clients.violations.record(what);
        None
    }

    /// Retries until the message is applied; `false` if it never is, which is recorded as a
    /// violation.
    async fn until_applied(&self, n: u64, clients: &Clients) -> bool {
        for _ in 0..RETRIES_MAX {
            match self.attempt(n, clients).await {
                Some(true) => return true,
                Some(false) => self.retry(clients).await,
                None => return false,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let what = format!("{:?} to {} was never applied", self.message, self.address);
        clients.violations.record(what);
        false
    }

    /// Retries the dead letter. There is none after a retry whose answer was lost.
    async fn retry(&self, clients: &Clients) {
        let letters = clients.dead_letters(Some("frail/poison")).await;
        let message = serde_json::to_value(&self.message).unwrap_or_default();
        let is_it =
            |letter: &&Value| letter["address"] == self.address && letter["message"] == message;
        let letters = letters.unwrap_or_default();
        let Some(letter) = letters.iter().find(is_it) else {
            return;
        };
        let id = letter["id"].as_str().unwrap_or_default();
        let path = format!("/api/dead-letters/{id}/retry");
        if let Some(reply) = clients.administer(Method::POST, &path).await
            && ![200, 404].contains(&reply.status)
        {
            let what = format!("unexpected answer to the retry of {letter}: {reply:?}");
            clients.violations.record(what);
        }
    }
}

fn address(number: u64) -> String {
    format!("frail/poison/{number}")
}
