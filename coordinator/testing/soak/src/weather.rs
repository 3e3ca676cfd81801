//! Bad connections: proxies that lose, delay, cut and refuse a small share of the requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use satchel_testkit::{Proxy, Service, Trouble};

use crate::random::Random;

/// How many of a hundred requests meet a fault.
const PERCENT: u64 = 3;

/// The proxies of an application.
pub(crate) struct Weather {
    bad: Arc<AtomicBool>,
    proxies: Vec<(Service, Proxy)>,
    /// How often each service met a fault, in the order of the kinds.
    faults: BTreeMap<&'static str, Arc<[AtomicU64; Trouble::ALL.len()]>>,
}

impl Weather {
    /// Fair weather, until it is told otherwise, over services that are served there.
    pub(crate) async fn over(services: &[(Service, &str)], seed: u64) -> Self {
        let bad = Arc::new(AtomicBool::new(false));
        let mut proxies = Vec::new();
        let mut faults = BTreeMap::new();
        for (number, (service, upstream)) in (1..).zip(services) {
            let proxy = Proxy::start(upstream).await;
            let counts: Arc<[AtomicU64; Trouble::ALL.len()]> = Arc::default();
            faults.insert(service.name, Arc::clone(&counts));
            let (service, bad) = (*service, Arc::clone(&bad));
            let mut random = Random::of(seed, number);
            proxy.obey(move |_| {
                let strikes = random.percent(PERCENT) && bad.load(Ordering::Relaxed);
                strikes.then(|| {
                    let kind = random.below(Trouble::ALL.len() as u64) as usize;
                    counts[kind].fetch_add(1, Ordering::Relaxed);
                    service.fault(Trouble::ALL[kind])
                })
            });
            proxies.push((service, proxy));
        }
        Self {
            bad,
            proxies,
            faults,
        }
    }

    /// Where each service is served now, by the variable that says so.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (&'static str, String)> {
        let proxies = self.proxies.iter();
        proxies.map(|(service, proxy)| (service.variable, proxy.endpoint()))
    }

    /// From now on it is bad, or fair.
    pub(crate) fn is_bad(&self, bad: bool) {
        self.bad.store(bad, Ordering::Relaxed);
        for (_, proxy) in &self.proxies {
            // What they note of each request is of no use here, and must not pile up.
            proxy.seen();
        }
    }

    /// How often each service met which fault.
    pub(crate) fn figures(&self) -> BTreeMap<String, u64> {
        let mut figures = BTreeMap::new();
        for (service, counts) in &self.faults {
            for (kind, count) in Trouble::ALL.iter().zip(counts.iter()) {
                let figure = format!("{service} {kind:?}").to_lowercase();
                figures.insert(figure, count.load(Ordering::Relaxed));
            }
        }
        figures
    }
}
