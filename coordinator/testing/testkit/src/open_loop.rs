//! A load whose requests begin at times that do not depend on the answers.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

/// An open loop: requests begin at random times, independently of each other and of the answers
/// (a Poisson process). A latency counts from the time at which its request was due, so that a
/// slow answer does not hide what it delays.
#[derive(Debug, Clone, Copy)]
pub struct OpenLoop {
    /// Requests per second.
    pub rate: f64,
    /// Time in which requests begin.
    pub time: Duration,
    /// Seed of the times.
    pub seed: u64,
}

/// Latencies of requests.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    sorted: Vec<Duration>,
}

impl Latencies {
    /// Latencies in any order.
    pub fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self { sorted: latencies }
    }

    /// Number of requests.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// Latency that this share of the requests did not exceed, in ms.
    ///
    /// # Panics
    ///
    /// When there are no latencies.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let last = self.sorted.len().checked_sub(1).expect("some requests");
        let at = (last as f64 * share).round() as usize;
        self.sorted[at].as_secs_f64() * 1e3
    }
}

impl OpenLoop {
    /// Makes the requests and waits for all answers. `request` gets the number of the request, from
    /// 0.
    ///
    /// # Panics
    ///
    /// When a request panics.
    pub async fn run<F>(&self, mut request: impl FnMut(usize) -> F) -> Latencies
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let begun = Instant::now();
        let mut running = JoinSet::new();
        for (number, at) in self.times().enumerate() {
            let due = begun + at;
            tokio::time::sleep_until(due).await;
            let request = request(number);
            running.spawn(async move {
                request.await;
                due.elapsed()
            });
        }
        Latencies::of(running.join_all().await)
    }

    /// Times of the requests since the beginning.
    fn times(&self) -> impl Iterator<Item = Duration> {
        let random = crate::priced::Random::seeded(self.seed);
        let (rate, end) = (self.rate, self.time.as_secs_f64());
        let mut at = 0.0;
        std::iter::from_fn(move || {
            at += -random.unit().ln() / rate;
            (at < end).then(|| Duration::from_secs_f64(at))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_answer_delays_no_other_request() {
        let open = OpenLoop {
            rate: 200.0,
            time: Duration::from_millis(500),
            seed: 1,
        };
        let slow = Duration::from_millis(300);
        let begun = Instant::now();
        let latencies = open.run(|_| tokio::time::sleep(slow)).await;
        assert!((50..200).contains(&latencies.count()), "{latencies:?}");
        assert!(latencies.percentile_ms(0.0) >= 300.0, "{latencies:?}");
        let one_by_one = slow * latencies.count() as u32;
        assert!(begun.elapsed() < one_by_one / 3, "{:?}", begun.elapsed());
    }
}
