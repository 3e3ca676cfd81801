//! Calls that are rejected for good, among calls that are not: each caller gets its own verdict,
//! and a rejected call leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::json;

use super::{Workload, lock};
use crate::clients::Clients;
use crate::egress::SeenEgress;
use crate::functions::judging::{Accepted, CODE, Claim, Judged, verdict};
use crate::random::Random;

/// Number of addresses. There are few, so that right and wrong calls meet in one batch.
const ADDRESSES: u64 = 2;

/// Number of accepted calls, by address.
#[derive(Debug, Default)]
pub(super) struct Judging {
    accepted: Mutex<BTreeMap<u64, u64>>,
}

impl Workload for Judging {
    const NAME: &'static str = "judging";
    const SHARE: u64 = 3;

    async fn operate(&self, n: u64, clients: &Clients) {
        let mut random = Random::of(clients.seed, n);
        let number = random.below(ADDRESSES);
        let address = address(number);
        let is_wrong = random.percent(40);
        let claim = Claim { n, is_wrong };
        let key = format!("claim-{n}");
        let Some(reply) = clients.call(&address, &claim, &key).await else {
            return;
        };
        let body = super::json(&reply);
        let (status, expected) = if is_wrong {
            let error = json!({"code": "rejected", "message": verdict(n)});
            (CODE, json!({"error": error}))
        } else {
            (200, json!(Accepted { n }))
        };
        if (reply.status, &body) != (status, &expected) {
            let what = format!("unexpected answer to {claim:?} to {address}: {reply:?}");
            return clients.violations.record(what);
        }
        if is_wrong {
            clients.metrics.count("rejections");
        } else {
            *lock(&self.accepted).entry(number).or_default() += 1;
        }
    }

    async fn mismatch(&self, clients: &Clients, _: &SeenEgress) -> Option<String> {
        for number in 0..ADDRESSES {
            let state: Judged = clients.state(&address(number)).await?;
            let accepted = lock(&self.accepted).get(&number).copied().unwrap_or(0);
            if (state.accepted, state.rejected) != (accepted, 0) {
                return Some(format!(
                    "{} accepted {} of {accepted} calls and kept {} rejections",
                    address(number),
                    state.accepted,
                    state.rejected
                ));
            }
        }
        None
    }
}

fn address(number: u64) -> String {
    format!("frail/judge/{number}")
}
