//! Messages that become dead letters, until somebody heals their address and retries them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Workload, lock};
use crate::functions::poison::{Applied, Healed, PoisonMessage};
use crate::left::SeenToLeave;
use crate::outside::Outside;
use crate::random::Random;

/// At how many addresses there is poison.
const ADDRESSES: u64 = 3;

/// How often somebody who was told of a dead letter retries it at most: it is enough once it is healed, unless the process dies over it.
const RETRIES_MAX: usize = 100;

/// What was poisonous and is applied, by address.
#[derive(Debug, Default)]
pub(super) struct Poison {
    applied: Mutex<BTreeMap<u64, BTreeSet<u64>>>,
}

impl Workload for Poison {
    const NAME: &'static str = "poison";
    const SHARE: u64 = 2;

    async fn operate(&self, n: u64, outside: &Outside) {
        let mut random = Random::of(outside.seed, n);
        let number = random.below(ADDRESSES);
        let address = address(number);
        let bad = Letter {
            address: &address,
            message: PoisonMessage::Bad { n },
            key: format!("bad-{n}"),
        };
        let heal = Letter {
            address: &address,
            message: PoisonMessage::Heal { n },
            key: format!("heal-{n}"),
        };
        // It fails, and fails again when it is retried unhealed.
        let failures = 1 + usize::from(random.percent(30));
        for _ in 0..failures {
            match bad.attempt(n, outside).await {
                Some(false) => {}
                Some(true) => {
                    let what = format!("{n} at {address} is applied, and was never healed");
                    return outside.violations.note(what);
                }
                None => return,
            }
            outside.tally.count("dead letters");
            bad.retry(outside).await;
        }
        if heal.until_applied(n, outside).await && bad.until_applied(n, outside).await {
            lock(&self.applied).entry(number).or_default().insert(n);
        }
    }

    async fn lacks(&self, outside: &Outside, seen: &SeenToLeave) -> Option<String> {
        let mut all = BTreeSet::new();
        for number in 0..ADDRESSES {
            let state: Healed = outside.state(&address(number)).await?;
            let applied = lock(&self.applied);
            let applied = applied.get(&number).cloned().unwrap_or_default();
            if state.count != applied.len() as u64 || !state.healed.is_empty() {
                let count = applied.len();
                return Some(format!(
                    "{} applied {} of {count}, and waits for {:?}",
                    address(number),
                    state.count,
                    state.healed
                ));
            }
            all.extend(applied);
        }
        (all != seen.applied).then(|| {
            let missing: Vec<_> = all.difference(&seen.applied).collect();
            let strange: Vec<_> = seen.applied.difference(&all).collect();
            format!(
                "of what was poisonous, {missing:?} did not leave, and {strange:?} should not have"
            )
        })
    }
}

/// A message that may become a dead letter.
struct Letter<'a> {
    address: &'a str,
    message: PoisonMessage,
    key: String,
}

impl Letter<'_> {
    /// Calls once: whether it was applied or became a dead letter; none if neither, which is told.
    async fn attempt(&self, n: u64, outside: &Outside) -> Option<bool> {
        let reply = outside.call(self.address, &self.message, &self.key).await?;
        let body = super::json(&reply);
        if reply.status == 200 && body == json!(Applied { n }) {
            return Some(true);
        }
        if reply.status == 500 && body["error"]["code"] == "dead_letter" {
            return Some(false);
        }
        let what = format!(
            "{:?} to {} is answered {reply:?}",
            self.message, self.address
        );
        outside.violations.note(what);
        None
    }

    /// Retries until it is applied; `false` if it is not, which is told.
    async fn until_applied(&self, n: u64, outside: &Outside) -> bool {
        for _ in 0..RETRIES_MAX {
            match self.attempt(n, outside).await {
                Some(true) => return true,
                Some(false) => self.retry(outside).await,
                None => return false,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let what = format!("{:?} to {} is never applied", self.message, self.address);
        outside.violations.note(what);
        false
    }

    /// Gives its dead letter another chance. There is none if it was given one whose answer was lost.
    async fn retry(&self, outside: &Outside) {
        let letters = outside.dead_letters(Some("frail/poison")).await;
        let message = serde_json::to_value(&self.message).unwrap_or_default();
        let is_it =
            |letter: &&Value| letter["address"] == self.address && letter["message"] == message;
        let letters = letters.unwrap_or_default();
        let Some(letter) = letters.iter().find(is_it) else {
            return;
        };
        let id = letter["id"].as_str().unwrap_or_default();
        let path = format!("/api/dead-letters/{id}/retry");
        if let Some(reply) = outside.administer(Method::POST, &path).await
            && ![200, 404].contains(&reply.status)
        {
            let what = format!("to retry {letter} is answered {reply:?}");
            outside.violations.note(what);
        }
    }
}

fn address(number: u64) -> String {
    format!("frail/poison/{number}")
}
