//! Bad connections: proxies that lose, delay, cut and refuse a small share of the requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use satchel_testkit::{Fault, Proxy};

use crate::random::Random;

/// How many of a hundred requests meet a fault.
const PERCENT: u64 = 3;

/// How late an answer may be; longer than clients wait for most services.
const LATE: Duration = Duration::from_secs(3);

/// A service, with what it says when it is asked too often and when it is broken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// Its name in figures.
    pub(crate) name: &'static str,
    /// The variable that says where it is.
    pub(crate) variable: &'static str,
    throttled: (u16, &'static str),
    broken: (u16, &'static str),
}

pub(crate) const S3: Service = Service {
    name: "S3",
    variable: "AWS_ENDPOINT_URL_S3",
    throttled: (503, "SlowDown"),
    broken: (500, "InternalError"),
};

pub(crate) const DYNAMODB: Service = Service {
    name: "DynamoDB",
    variable: "AWS_ENDPOINT_URL_DYNAMODB",
    throttled: (400, "ThrottlingException"),
    broken: (500, "InternalServerError"),
};

pub(crate) const KINESIS: Service = Service {
    name: "Kinesis",
    variable: "AWS_ENDPOINT_URL_KINESIS",
    throttled: (400, "ProvisionedThroughputExceededException"),
    broken: (500, "InternalFailure"),
};

pub(crate) const LAMBDA: Service = Service {
    name: "Lambda",
    variable: "AWS_ENDPOINT_URL_LAMBDA",
    throttled: (429, "TooManyRequestsException"),
    broken: (500, "ServiceException"),
};

const KINDS: [&str; 6] = ["throttled", "broken", "lost", "unanswered", "late", "cut"];

impl Service {
    fn fault(&self, kind: &str) -> Fault {
        let said = |(status, code): (u16, &str)| match self.name {
            "S3" => Fault::error(status, code),
            _ => Fault::Answer(
                status,
                format!(r#"{{"__type":"{code}","message":"bad weather"}}"#),
            ),
        };
        match kind {
            "throttled" => said(self.throttled),
            "broken" => said(self.broken),
            "lost" => Fault::LoseRequest,
            "unanswered" => Fault::LoseAnswer,
            "late" => Fault::DelayAnswer(LATE),
            _ => Fault::CutAnswer,
        }
    }
}

/// The proxies of an application.
pub(crate) struct Weather {
    bad: Arc<AtomicBool>,
    proxies: Vec<(Service, Proxy)>,
    /// How often each service met a fault, in the order of the kinds.
    faults: BTreeMap<&'static str, Arc<[AtomicU64; KINDS.len()]>>,
}

impl Weather {
    /// Fair weather, until it is told otherwise, over services that are served there.
    pub(crate) async fn over(services: &[(Service, &str)], seed: u64) -> Self {
        let bad = Arc::new(AtomicBool::new(false));
        let mut proxies = Vec::new();
        let mut faults = BTreeMap::new();
        for (number, (service, upstream)) in (1..).zip(services) {
            let proxy = Proxy::start(upstream).await;
            let counts: Arc<[AtomicU64; KINDS.len()]> = Arc::default();
            faults.insert(service.name, Arc::clone(&counts));
            let (service, bad) = (*service, Arc::clone(&bad));
            let mut random = Random::of(seed, number);
            proxy.obey(move |_| {
                let strikes = random.percent(PERCENT) && bad.load(Ordering::Relaxed);
                strikes.then(|| {
                    let kind = random.below(KINDS.len() as u64) as usize;
                    counts[kind].fetch_add(1, Ordering::Relaxed);
                    service.fault(KINDS[kind])
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
            for (kind, count) in KINDS.iter().zip(counts.iter()) {
                figures.insert(format!("{service} {kind}"), count.load(Ordering::Relaxed));
            }
        }
        figures
    }
}
