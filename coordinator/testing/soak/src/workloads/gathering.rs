//! Jobs in parts, each of which is done when all its parts are.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::{Workload, lock};
use crate::functions::gathering::Job;
use crate::left::SeenToLeave;
use crate::outside::Outside;
use crate::random::Random;

/// How many addresses spread jobs.
const SCATTERS: u64 = 3;

/// The jobs that were asked for.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    jobs: Mutex<BTreeSet<u64>>,
}

impl Workload for Gathering {
    const NAME: &'static str = "gathering";
    const SHARE: u64 = 4;

    async fn operate(&self, n: u64, outside: &Outside) {
        let mut random = Random::of(outside.seed, n);
        let address = format!("soak/scatter/{}", random.below(SCATTERS));
        let job = Job {
            n,
            parts: 1 + random.below(8),
        };
        if outside.send(&address, &job, &format!("job-{n}")).await {
            lock(&self.jobs).insert(n);
        }
    }

    async fn lacks(&self, _: &Outside, seen: &SeenToLeave) -> Option<String> {
        let jobs = lock(&self.jobs);
        if let Some(n) = jobs.difference(&seen.gathered).next() {
            return Some(format!("job {n} is not done"));
        }
        let strange = seen.gathered.difference(&jobs).next();
        strange.map(|n| format!("job {n} is done, for which nobody asked"))
    }
}
