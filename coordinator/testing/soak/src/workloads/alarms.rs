//! Alarms, of which it is known how they end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::{Workload, lock};
use crate::functions::AlarmEnd;
use crate::functions::alarms::{AlarmMessage, AlarmsSet};
use crate::left::SeenToLeave;
use crate::outside::Outside;
use crate::random::Random;

/// At how many addresses alarms are set.
const ADDRESSES: u64 = 6;

/// A delay that no run lasts.
const LONG_MS: u64 = 10 * 24 * 3600 * 1000;

/// The alarms that are set, with how each must end; none if both is right.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    set: Mutex<BTreeMap<u64, Option<AlarmEnd>>>,
}

impl Workload for Alarms {
    const NAME: &'static str = "alarms";
    const SHARE: u64 = 9;

    async fn operate(&self, n: u64, outside: &Outside) {
        let mut random = Random::of(outside.seed, n);
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
        if !outside.send(&address, &set, &format!("set-{n}")).await {
            return;
        }
        lock(&self.set).insert(n, must);
        if let Some(after_ms) = cancel_after_ms {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            let cancel = AlarmMessage::Cancel { n };
            outside
                .send(&address, &cancel, &format!("cancel-{n}"))
                .await;
        }
    }

    async fn lacks(&self, outside: &Outside, seen: &SeenToLeave) -> Option<String> {
        for address in (0..ADDRESSES).map(address) {
            let alarms: AlarmsSet = outside.state(&address).await?;
            if let Some(n) = alarms.open.keys().next() {
                return Some(format!("alarm {n} at {address} has not ended"));
            }
        }
        let set = lock(&self.set);
        for (n, must) in set.iter() {
            let ended = seen.alarms.get(n);
            if ended.is_none() || (must.is_some() && must.as_ref() != ended) {
                return Some(format!(
                    "alarm {n} ended {ended:?}, and must have ended {must:?}"
                ));
            }
        }
        let strange = seen.alarms.keys().find(|n| !set.contains_key(n));
        strange.map(|n| format!("alarm {n} has ended, and was never set"))
    }
}

fn address(number: u64) -> String {
    format!("soak/alarm/{number}")
}
