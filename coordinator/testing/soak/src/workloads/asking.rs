//! Questions whose answers are known.

use super::{Workload, json};
use crate::functions::asking::{Answered, AskerMessage, Questions};
use crate::left::SeenToLeave;
use crate::outside::Outside;
use crate::random::Random;

/// How many askers there are.
const ASKERS: u64 = 4;

/// Nothing is remembered: the answer says which question it answers.
#[derive(Debug, Default)]
pub(super) struct Asking;

impl Workload for Asking {
    const NAME: &'static str = "asking";
    const SHARE: u64 = 10;

    async fn operate(&self, n: u64, outside: &Outside) {
        let asker = Random::of(outside.seed, n).below(ASKERS);
        let ask = AskerMessage::Ask { n };
        let key = format!("ask-{n}");
        let Some(reply) = outside.call(&address(asker), &ask, &key).await else {
            return;
        };
        let expected = serde_json::to_value(Answered { answered: n });
        if reply.status != 200 || Some(json(&reply)) != expected.ok() {
            outside.violations.note(format!(
                "question {n} of asker {asker} is answered {reply:?}"
            ));
        }
    }

    async fn lacks(&self, outside: &Outside, _: &SeenToLeave) -> Option<String> {
        for asker in 0..ASKERS {
            let questions: Questions = outside.state(&address(asker)).await?;
            if let Some((n, from)) = questions.open.first_key_value() {
                return Some(format!(
                    "question {n} of asker {asker}, asked by {from}, is open"
                ));
            }
        }
        None
    }
}

fn address(asker: u64) -> String {
    format!("soak/asker/{asker}")
}
