//! Faults of connections: proxies that lose, delay, truncate and reject a small share of the
//! requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use satchel_testkit::{Proxy, Service, ServiceFault};

use crate::random::Random;

/// Share of requests that meet a fault, in percent.
const PERCENT: u64 = 3;

/// The proxies of an application.
pub(crate) struct FaultPlan {
    active: Arc<AtomicBool>,
    proxies: Vec<(Service, Proxy)>,
    /// Number of faults by service, in the order of the kinds.
    faults: BTreeMap<&'static str, Arc<[AtomicU64; ServiceFault::ALL.len()]>>,
}

impl FaultPlan {
    /// Starts a proxy in front of each service. No faults are injected until
    /// [`FaultPlan::set_active`].
    pub(crate) async fn over(services: &[(Service, &str)], seed: u64) -> Self {
        let active = Arc::new(AtomicBool::new(false));
        let mut proxies = Vec::new();
        let mut faults = BTreeMap::new();
        for (number, (service, upstream)) in (1..).zip(services) {
            let proxy = Proxy::start(upstream).await;
            let counts: Arc<[AtomicU64; ServiceFault::ALL.len()]> = Arc::default();
            faults.insert(service.name, Arc::clone(&counts));
            let (service, active) = (*service, Arc::clone(&active));
            let mut random = Random::of(seed, number);
            proxy.decide_with(move |_| {
                let strikes = random.percent(PERCENT) && active.load(Ordering::Relaxed);
                strikes.then(|| {
                    let kind = random.below(ServiceFault::ALL.len() as u64) as usize;
                    counts[kind].fetch_add(1, Ordering::Relaxed);
                    service.fault(ServiceFault::ALL[kind])
                })
            });
            proxies.push((service, proxy));
        }
        Self {
            active,
            proxies,
            faults,
        }
    }

    /// Endpoint of each proxy, by the environment variable that sets it.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (&'static str, String)> {
        let proxies = self.proxies.iter();
        proxies.map(|(service, proxy)| (service.variable, proxy.endpoint()))
    }

    /// Starts or stops injecting faults.
    pub(crate) fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Relaxed);
        for (_, proxy) in &self.proxies {
            // The recorded requests are not needed here and must not accumulate.
            proxy.seen();
        }
    }

    /// Number of faults by service and kind.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let mut by_kind = BTreeMap::new();
        for (service, counts) in &self.faults {
            for (kind, count) in ServiceFault::ALL.iter().zip(counts.iter()) {
                let name = format!("{service} {kind:?}").to_lowercase();
                by_kind.insert(name, count.load(Ordering::Relaxed));
            }
        }
        by_kind
    }
}
