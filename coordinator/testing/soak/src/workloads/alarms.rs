//! Alarms whose end is known.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::{Workload, lock};
use crate::clients::Clients;
use crate::egress::SeenEgress;
use crate::functions::AlarmEnd;
use crate::functions::alarms::{AlarmMessage, AlarmsSet};
use crate::random::Random;

/// Number of addresses that have alarms.
const ADDRESSES: u64 = 6;

/// A delay longer than any run.
const LONG_MS: u64 = 10 * 24 * 3600 * 1000;

/// Alarms with their expected end; `None` if either end is correct.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    set: Mutex<BTreeMap<u64, Option<AlarmEnd>>>,
}

impl Workload for Alarms {
    const NAME: &'static str = "alarms";
    const SHARE: u64 = 9;

    async fn operate(&self, n: u64, clients: &Clients) {
        let mut random = Random::of(clients.seed, n);
        let address = address(random.below(ADDRESSES));
        let (delay_ms, must, cancel_after_ms) = match random.below(3) {
            0 => (100 + random.below(3_000), Some(AlarmEnd::Rung), None),
            1 => (LONG_MS, Some(AlarmEnd::Cancelled), Some(0)),
            _ => {
                let delay_ms = 100 + random.below(1_000);
                (delay_ms, None, Some(delay_ms))
            }
        };
        let set = AlarmMessage::Set { n, delay_ms };
        if !clients.send(&address, &set, &format!("set-{n}")).await {
            return;
        }
        lock(&self.set).insert(n, must);
        if let Some(after_ms) = cancel_after_ms {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            let cancel = AlarmMessage::Cancel { n };
            clients
                .send(&address, &cancel, &format!("cancel-{n}"))
                .await;
        }
    }

    async fn mismatch(&self, clients: &Clients, seen: &SeenEgress) -> Option<String> {
        for address in (0..ADDRESSES).map(address) {
            let alarms: AlarmsSet = clients.state(&address).await?;
            if let Some(n) = alarms.open.keys().next() {
                return Some(format!("alarm {n} at {address} has not ended"));
            }
        }
        let set = lock(&self.set);
        for (n, must) in set.iter() {
            let ended = seen.alarms.get(n);
            if ended.is_none() || (must.is_some() && must.as_ref() != ended) {
                return Some(format!("alarm {n} ended {ended:?}, expected {must:?}"));
            }
        }
        let unknown = seen.alarms.keys().find(|n| !set.contains_key(n));
        unknown.map(|n| format!("alarm {n} ended but was never set"))
    }
}

fn address(number: u64) -> String {
    format!("soak/alarm/{number}")
}
