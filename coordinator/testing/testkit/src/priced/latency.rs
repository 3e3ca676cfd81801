//! Latency distributions and throttling, drawn from one seeded source of random numbers.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Distance of the 99th percentile of a normal distribution from its median, in standard
/// deviations.
const P99_DEVIATIONS: f64 = 2.326_348;

/// Log-normal distribution of latencies, given by its median and its 99th percentile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    median_ms: f64,
    /// Standard deviation of the logarithm.
    sigma: f64,
}

impl Latency {
    /// No latency besides that of the machine.
    pub const NONE: Self = Self {
        median_ms: 0.0,
        sigma: 0.0,
    };

    /// Distribution with this median and this 99th percentile, in ms.
    ///
    /// # Panics
    ///
    /// When the median is not positive, or larger than the 99th percentile.
    pub fn of(median_ms: f64, p99_ms: f64) -> Self {
        assert!(
            0.0 < median_ms && median_ms <= p99_ms,
            "no latency has the median {median_ms} ms and the 99th percentile {p99_ms} ms"
        );
        Self {
            median_ms,
            sigma: (p99_ms / median_ms).ln() / P99_DEVIATIONS,
        }
    }

    /// The same latency every time, in ms.
    pub fn fixed(ms: f64) -> Self {
        Self {
            median_ms: ms,
            sigma: 0.0,
        }
    }

    /// Mean, in ms.
    pub fn mean_ms(&self) -> f64 {
        self.median_ms * (self.sigma * self.sigma / 2.0).exp()
    }

    fn at(&self, deviations: f64) -> Duration {
        Duration::from_secs_f64(self.median_ms * (self.sigma * deviations).exp() / 1e3)
    }
}

/// Requests that a service rejects because there are too many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throttle {
    /// Share of requests that are rejected at random, from 0 to 1.
    pub share: f64,
    /// Maximum requests per second, with bursts of one second. `None` for no limit.
    pub per_second: Option<f64>,
}

impl Throttle {
    /// No request is rejected.
    pub const NONE: Self = Self {
        share: 0.0,
        per_second: None,
    };

    /// This share of requests is rejected at random.
    pub fn share(share: f64) -> Self {
        Self {
            share,
            per_second: None,
        }
    }

    /// Requests above this rate are rejected.
    pub fn per_second(rate: f64) -> Self {
        Self {
            share: 0.0,
            per_second: Some(rate),
        }
    }
}

/// Tokens for requests: one second's worth at most.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new() -> Self {
        Self {
            tokens: f64::INFINITY,
            at: Instant::now(),
        }
    }

    /// Takes a token. Returns false if there is none.
    pub(super) fn take(&mut self, per_second: f64) -> bool {
        let earned = self.at.elapsed().as_secs_f64() * per_second;
        self.at = Instant::now();
        self.tokens = (self.tokens + earned).min(per_second.max(1.0));
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

/// Seeded random numbers. The sequence is fixed by the seed; which request draws which number
/// depends on the order of their arrival.
#[derive(Debug)]
pub(crate) struct Random(Mutex<u64>);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    /// A number from 0 (excluded) to 1.
    pub(crate) fn unit(&self) -> f64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // SplitMix64.
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((mixed >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A latency drawn from the distribution.
    pub(super) fn latency(&self, of: Latency) -> Duration {
        // Box-Muller.
        let (radius, angle) = (self.unit(), self.unit());
        let deviations = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        of.at(deviations)
    }

    /// True in this share of the calls.
    pub(super) fn chance(&self, share: f64) -> bool {
        share > 0.0 && self.unit() <= share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_the_given_median_and_99th_percentile() {
        let random = Random::seeded(1);
        let of = Latency::of(25.0, 80.0);
        let mut drawn: Vec<f64> = (0..20_000)
            .map(|_| random.latency(of).as_secs_f64() * 1e3)
            .collect();
        drawn.sort_by(f64::total_cmp);
        let (median, p99) = (drawn[10_000], drawn[19_800]);
        assert!((24.0..26.0).contains(&median), "{median}");
        assert!((74.0..86.0).contains(&p99), "{p99}");
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        assert!((mean - of.mean_ms()).abs() < 0.5, "{mean}");
    }

    #[test]
    fn the_seed_determines_the_sequence() {
        let draws = |seed| {
            let random = Random::seeded(seed);
            [random.unit(), random.unit(), random.unit()].map(f64::to_bits)
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn requests_above_the_rate_find_no_token() {
        let mut bucket = Bucket::new();
        let granted = (0..1_000).filter(|_| bucket.take(10.0)).count();
        assert!((10..100).contains(&granted), "{granted}");
    }
}
