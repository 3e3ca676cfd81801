//! Jobs in parts. A job is done when all its parts are.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::{Workload, lock};
use crate::clients::Clients;
use crate::egress::SeenEgress;
use crate::functions::gathering::Job;
use crate::random::Random;

/// Number of addresses that distribute jobs.
const SCATTERS: u64 = 3;

/// Requested jobs.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    jobs: Mutex<BTreeSet<u64>>,
}

impl Workload for Gathering {
    const NAME: &'static str = "gathering";
    const SHARE: u64 = 4;

    async fn operate(&self, n: u64, clients: &Clients) {
        let mut random = Random::of(clients.seed, n);
        let address = format!("soak/scatter/{}", random.below(SCATTERS));
        let job = Job {
            n,
            parts: 1 + random.below(8),
        };
        if clients.send(&address, &job, &format!("job-{n}")).await {
            lock(&self.jobs).insert(n);
        }
    }

    async fn mismatch(&self, _: &Clients, seen: &SeenEgress) -> Option<String> {
        let jobs = lock(&self.jobs);
        if let Some(n) = jobs.difference(&seen.gathered).next() {
            return Some(format!("job {n} is not done"));
        }
        let unknown = seen.gathered.difference(&jobs).next();
        unknown.map(|n| format!("job {n} is done but was never requested"))
    }
}
