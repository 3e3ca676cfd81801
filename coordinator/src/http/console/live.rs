//! Live figures of the process, as server-sent events.
//!
//! One sampler serves all listeners. It runs while there are any, so that nothing is measured when
//! no console is open. A new listener first gets the samples of the last minutes, as far as
//! another one listened then.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock::now_ms;
use crate::metrics::{Metrics, total};
use crate::readiness::Readiness;

/// Interval between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time to wait for the partitions' figures.
const PARTITIONS_TIME_MAX: Duration = Duration::from_millis(900);

/// Number of samples that a new listener gets.
const RECENT_MAX: usize = 300;

/// Number of samples that a listener may be behind before it misses some.
const BEHIND_MAX: usize = 16;

/// Sampler of a process, and its listeners.
pub(super) struct Live {
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
    interval: Duration,
    inner: Mutex<Inner>,
}

struct Inner {
    listeners: broadcast::Sender<Bytes>,
    recent: VecDeque<Bytes>,
    /// True while the sampler runs.
    runs: bool,
}

/// One sample. Counters grow while the process owns the same partitions; the page shows their
/// differences.
#[derive(Debug, Serialize)]
struct Sample {
    at_ms: u64,
    state: &'static str,
    /// Calls and sends that the traffic port answered, and requests to endpoints that returned.
    calls: u64,
    sends: u64,
    requests: u64,
    dead_letters_made: u64,
    /// Largest lag of an ingress, if any is known.
    lag_seconds: Option<f64>,
    /// Endpoints that are down.
    endpoints_down: usize,
    /// Figures of the partitions of this process; none if they did not answer in time.
    #[serde(flatten)]
    partitions: Option<PartitionSample>,
}

#[derive(Debug, Serialize)]
struct PartitionSample {
    partitions: usize,
    processed: u64,
    timers_fired: u64,
    commits: u64,
    in_flight: usize,
    pending_bytes: usize,
    outbox: usize,
    timers: usize,
    dead_letters: usize,
    state_bytes: usize,
    paused: bool,
}

impl Live {
    pub(super) fn new(metrics: Metrics, readiness: watch::Receiver<Readiness>) -> Arc<Self> {
        Self::with_interval(metrics, readiness, INTERVAL)
    }

    fn with_interval(
        metrics: Metrics,
        readiness: watch::Receiver<Readiness>,
        interval: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            readiness,
            interval,
            inner: Mutex::new(Inner {
                listeners: broadcast::Sender::new(BEHIND_MAX),
                recent: VecDeque::new(),
                runs: false,
            }),
        })
    }

    /// Returns an endless body of events, which ends when the process stops.
    pub(super) fn body(self: Arc<Self>) -> Body {
        let stopping = self.readiness.clone();
        let (recent, samples) = self.listen();
        let beginning = recent.into_iter().collect();
        let listening = (beginning, samples, stopping);
        Body::from_stream(stream::unfold(listening, next_event))
    }

    /// Adds a listener. Starts the sampler unless it runs.
    fn listen(self: &Arc<Self>) -> (VecDeque<Bytes>, broadcast::Receiver<Bytes>) {
        let mut inner = self.inner();
        let samples = inner.listeners.subscribe();
        if !inner.runs {
            inner.runs = true;
            tokio::spawn(Arc::clone(self).sample());
        }
        (inner.recent.clone(), samples)
    }

    /// Takes samples while anybody listens.
    async fn sample(self: Arc<Self>) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let sample = event(&self.take().await);
            let mut inner = self.inner();
            if inner.listeners.receiver_count() == 0 {
                inner.runs = false;
                inner.recent.clear();
                return;
            }
            inner.recent.push_back(sample.clone());
            if inner.recent.len() > RECENT_MAX {
                inner.recent.pop_front();
            }
            // There was a listener a moment ago, under the same lock.
            let _ = inner.listeners.send(sample);
        }
    }

    async fn take(&self) -> Sample {
        let status = self.metrics.status();
        let observed = status.observe(|it| (it.gauges(), it.counts().clone()));
        let observed = timeout(PARTITIONS_TIME_MAX, observed).await;
        let partitions = observed.ok().map(|observed| {
            let gauges = total(observed.iter().map(|(_, (gauges, _))| gauges));
            let counts = observed.iter().map(|(_, (_, counts))| counts);
            PartitionSample {
                partitions: observed.len(),
                processed: counts.clone().map(|it| it.processed).sum(),
                timers_fired: counts.map(|it| it.timers_fired).sum(),
                commits: gauges.durable,
                in_flight: gauges.in_flight,
                pending_bytes: gauges.pending_bytes,
                outbox: gauges.outbox,
                timers: gauges.timers,
                dead_letters: gauges.dead_letters,
                state_bytes: gauges.state_bytes,
                paused: gauges.ingress_paused,
            }
        });
        let ingresses = status.ingresses();
        let lag_ms = ingresses.iter().filter_map(|it| it.lag_ms()).max();
        let totals = self.metrics.totals();
        Sample {
            at_ms: now_ms(),
            state: self.readiness.borrow().name(),
            calls: totals.calls,
            sends: totals.sends,
            requests: totals.requests,
            dead_letters_made: totals.dead_letters_made,
            lag_seconds: lag_ms.map(|lag_ms| lag_ms as f64 / 1_000.0),
            endpoints_down: status.unhealthy_endpoints().len(),
            partitions,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No code panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listener: recent samples that it has not got yet, later ones, and the readiness of the process.
type Listening = (
    VecDeque<Bytes>,
    broadcast::Receiver<Bytes>,
    watch::Receiver<Readiness>,
);

async fn next_event(
    (mut beginning, mut samples, mut stopping): Listening,
) -> Option<(Result<Bytes, Infallible>, Listening)> {
    let event = match beginning.pop_front() {
        Some(event) => event,
        None => loop {
            tokio::select! {
                sample = samples.recv() => match sample {
                    Ok(event) => break event,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                // A dropped sender means the same.
                _ = stopping.wait_for(|it| matches!(it, Readiness::Stopping)) => return None,
            }
        },
    };
    Some((Ok(event), (beginning, samples, stopping)))
}

fn event(sample: &Sample) -> Bytes {
    let json = serde_json::to_string(sample).expect("a sample has text keys only");
    format!("event: sample\ndata: {json}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> (Arc<Live>, watch::Sender<Readiness>) {
        let (readiness, watching) = watch::channel(Readiness::Serving);
        let interval = Duration::from_millis(2);
        (
            Live::with_interval(Metrics::new(), watching, interval),
            readiness,
        )
    }

    fn runs(live: &Live) -> bool {
        live.inner().runs
    }

    #[tokio::test]
    async fn samples_are_taken_only_while_there_is_a_listener() {
        let (live, _readiness) = live();
        assert!(!runs(&live));
        let (recent, mut one) = live.listen();
        assert!(recent.is_empty());
        let first = one.recv().await.unwrap();
        assert!(first.starts_with(b"event: sample\ndata: {\"at_ms\":"));
        let (recent, mut other) = live.listen();
        assert_eq!(recent.front(), Some(&first));
        other.recv().await.unwrap();
        drop((one, other));
        while runs(&live) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (recent, mut again) = live.listen();
        assert!(recent.is_empty(), "there was no listener meanwhile");
        again.recv().await.unwrap();
    }

    #[tokio::test]
    async fn listeners_are_released_when_the_process_stops() {
        let (live, readiness) = live();
        let body = Arc::clone(&live).body();
        let reading = tokio::spawn(axum::body::to_bytes(body, usize::MAX));
        while live.inner().recent.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        readiness.send_replace(Readiness::Stopping);
        let read = reading.await.unwrap().unwrap();
        assert!(read.starts_with(b"event: sample\n"));
        assert!(read.ends_with(b"\n\n"));
    }
}
