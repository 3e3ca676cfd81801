//! Questions whose answers are known.

use super::{Workload, json};
use crate::clients::Clients;
use crate::egress::SeenEgress;
use crate::functions::asking::{Answered, AskerMessage, Questions};
use crate::random::Random;

/// Number of askers.
const ASKERS: u64 = 4;

/// No state is needed: an answer names its question.
#[derive(Debug, Default)]
pub(super) struct Asking;

impl Workload for Asking {
    const NAME: &'static str = "asking";
    const SHARE: u64 = 10;

    async fn operate(&self, n: u64, clients: &Clients) {
        let asker = Random::of(clients.seed, n).below(ASKERS);
        let ask = AskerMessage::Ask { n };
        let key = format!("ask-{n}");
        let Some(reply) = clients.call(&address(asker), &ask, &key).await else {
            return;
        };
        let expected = serde_json::to_value(Answered { answered: n });
        if reply.status != 200 || Some(json(&reply)) != expected.ok() {
            clients.violations.record(format!(
                "unexpected answer to question {n} of asker {asker}: {reply:?}"
            ));
        }
    }

    async fn mismatch(&self, clients: &Clients, _: &SeenEgress) -> Option<String> {
        for asker in 0..ASKERS {
            let questions: Questions = clients.state(&address(asker)).await?;
            if let Some((n, from)) = questions.open.first_key_value() {
                return Some(format!(
                    "question {n} of asker {asker}, asked by {from}, is unanswered"
                ));
            }
        }
        None
    }
}

fn address(asker: u64) -> String {
    format!("soak/asker/{asker}")
}
