//! Metrics in the embedded metric format of CloudWatch: log lines from which CloudWatch Logs takes
//! metrics, without an agent.
//!
//! ```text
//!  observe_… ─► Interval ─┐ each interval, at the start and at the end
//!  gauges, Status ────────┴──► Figures ─► one line of JSON ─► standard output ─► CloudWatch Logs
//! ```
//!
//! All metrics are in the namespace `Satchel`, with the dimension `Application`. Each name is a
//! custom metric with a price, so there are ten. Processes of one application write the same names;
//! their sum, or their maximum, is that of the application.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Metrics;
use crate::clock::now_ms;
use crate::readiness::Readiness;

/// Interval between two lines: less than a minute, so that each minute of CloudWatch has one.
pub(crate) const INTERVAL: Duration = Duration::from_secs(55);

/// Maximum number of values of a metric in a line, as in the format's specification.
const VALUES_MAX: usize = 100;

/// Quotient of the bounds of two neighbouring classes of latencies.
const CLASS_GROWTH: f64 = 1.02;

/// Upper bound of the first class, in ms.
const CLASS_FIRST_MS: f64 = 0.01;

/// Number of classes: the last one begins at more than ten minutes.
const CLASSES: usize = 910;

/// Place to write lines to.
pub(crate) type Writer = Arc<dyn Fn(&str) + Send + Sync>;

/// Events since the last line.
#[derive(Debug, Default)]
pub(super) struct Interval {
    requests: AtomicU64,
    latencies: Mutex<Latencies>,
}

impl Interval {
    /// Counts a commit.
    pub(super) fn committed(&self, took: Duration) {
        let latencies = self.latencies.lock();
        let mut latencies = latencies.unwrap_or_else(PoisonError::into_inner);
        latencies.add(took.as_secs_f64() * 1_000.0);
    }

    /// Counts a request to the store.
    pub(super) fn requested(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn take_latencies(&self) -> Latencies {
        let latencies = self.latencies.lock();
        std::mem::take(&mut *latencies.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Latencies by classes of 2 % width.
#[derive(Debug, Default)]
struct Latencies {
    /// Number of latencies of each class. Empty without latencies.
    classes: Vec<u64>,
    count: u64,
    max_ms: f64,
}

impl Latencies {
    fn add(&mut self, ms: f64) {
        if self.classes.is_empty() {
            self.classes = vec![0; CLASSES];
        }
        let class = (ms / CLASS_FIRST_MS).max(1.0).ln() / CLASS_GROWTH.ln();
        self.classes[(class as usize).min(CLASSES - 1)] += 1;
        self.count += 1;
        self.max_ms = self.max_ms.max(ms);
    }

    /// Up to [`VALUES_MAX`] values with the same distribution, in ascending order. Of a full
    /// hundred, the last but one is the 99th percentile. The last one is always the maximum.
    fn values(&self) -> Vec<f64> {
        let values = self.count.min(VALUES_MAX as u64);
        let mut taken = Vec::new();
        let mut below = 0;
        for (class, count) in self.classes.iter().enumerate() {
            below += count;
            // Rank of the value that is due, of all latencies, from 1.
            let rank = |index: u64| ((index + 1) * self.count).div_ceil(values.max(1));
            while (taken.len() as u64) < values && rank(taken.len() as u64) <= below {
                let upper = CLASS_FIRST_MS * CLASS_GROWTH.powi(class as i32 + 1);
                let value = upper.min(self.max_ms);
                taken.push((value * 1_000.0).round() / 1_000.0);
            }
        }
        if let Some(last) = taken.last_mut() {
            *last = (self.max_ms * 1_000.0).round() / 1_000.0;
        }
        taken
    }
}

/// Figures of one line.
#[derive(Debug, Clone, PartialEq, Default)]
struct Figures {
    /// True in the first line of a process.
    starts: bool,
    /// True if the process owns the application's partition and serves it.
    owns: bool,
    dead_letters_made: u64,
    /// Largest lag of an ingress; none without an ingress whose lag is known.
    ingress_lag_ms: Option<u64>,
    endpoints_down: usize,
    /// In ascending order; at most [`VALUES_MAX`].
    commit_latencies_ms: Vec<f64>,
    commits_made: u64,
    requests_made: u64,
    messages_waiting_bytes: u64,
    /// Partitions without a live owner; none if they are not spread over processes.
    partitions_without_owner: Option<i64>,
    /// Share of the memory limit in percent; none without a limit.
    memory_used_percent: Option<f64>,
}

impl Figures {
    /// Name, unit and value of each metric that has a value.
    fn metrics(&self) -> Vec<(&'static str, &'static str, Value)> {
        let mut metrics = vec![
            ("Owners", "Count", json!(u8::from(self.owns))),
            ("DeadLettersMade", "Count", json!(self.dead_letters_made)),
            ("EndpointsDown", "Count", json!(self.endpoints_down)),
            ("CommitsMade", "Count", json!(self.commits_made)),
            ("RequestsMade", "Count", json!(self.requests_made)),
            (
                "MessagesWaiting",
                "Bytes",
                json!(self.messages_waiting_bytes),
            ),
        ];
        if self.starts {
            metrics.push(("Starts", "Count", json!(1)));
        }
        if let Some(lag_ms) = self.ingress_lag_ms {
            metrics.push(("IngressLag", "Milliseconds", json!(lag_ms)));
        }
        if !self.commit_latencies_ms.is_empty() {
            let latencies = json!(self.commit_latencies_ms);
            metrics.push(("CommitLatency", "Milliseconds", latencies));
        }
        if let Some(partitions) = self.partitions_without_owner {
            metrics.push(("PartitionsWithoutOwner", "Count", json!(partitions)));
        }
        if let Some(percent) = self.memory_used_percent {
            metrics.push(("MemoryUsed", "Percent", json!(percent)));
        }
        metrics
    }

    /// The line, without an end of line.
    fn line(&self, application: &str, at_ms: u64) -> String {
        let metrics = self.metrics();
        let definitions: Vec<Value> = metrics
            .iter()
            .map(|(name, unit, _)| json!({"Name": name, "Unit": unit}))
            .collect();
        let mut root = Map::new();
        let directive = json!({
            "Namespace": "Satchel",
            "Dimensions": [["Application"]],
            "Metrics": definitions,
        });
        let metadata = json!({"Timestamp": at_ms, "CloudWatchMetrics": [directive]});
        root.insert("_aws".to_owned(), metadata);
        root.insert("Application".to_owned(), json!(application));
        for (name, _, value) in metrics {
            root.insert(name.to_owned(), value);
        }
        Value::Object(root).to_string()
    }
}

/// Writes lines until it is dropped, the last one then.
#[derive(Debug)]
pub(crate) struct EmfReporter {
    lines: Arc<Lines>,
    task: JoinHandle<()>,
}

/// Settings of an [`EmfReporter`].
pub(crate) struct EmfOptions {
    /// Name of the application.
    pub(crate) application: String,
    /// Memory limit of the process, in bytes.
    pub(crate) memory_limit_bytes: Option<u64>,
    /// Readiness of the process.
    pub(crate) readiness: watch::Receiver<Readiness>,
    /// Interval between two lines.
    pub(crate) interval: Duration,
    /// Place to write the lines to.
    pub(crate) writer: Writer,
}

impl EmfReporter {
    /// Writes the first line, and another one after each interval.
    pub(crate) fn start(metrics: &Metrics, options: EmfOptions) -> Self {
        let lines = Arc::new(Lines {
            metrics: metrics.clone(),
            options,
            written: Mutex::default(),
        });
        lines.write();
        let writing = Arc::clone(&lines);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(writing.options.interval).await;
                writing.write();
            }
        });
        Self { lines, task }
    }
}

impl Drop for EmfReporter {
    fn drop(&mut self) {
        self.task.abort();
        self.lines.write();
    }
}

/// Source of the lines.
struct Lines {
    metrics: Metrics,
    options: EmfOptions,
    written: Mutex<Written>,
}

/// State at the last line.
#[derive(Debug, Default)]
struct Written {
    lines: u64,
    dead_letters_made: u64,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lines")
    }
}

impl Lines {
    fn write(&self) {
        let figures = self.figures();
        let line = figures.line(&self.options.application, now_ms());
        (self.options.writer)(&line);
    }

    fn figures(&self) -> Figures {
        let families = &self.metrics.0;
        let status = self.metrics.status();
        let latencies = families.emf.take_latencies();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let dead_letters = families.dead_letters_made.get();
        let lags = status.ingresses();
        let lags = lags.iter().filter_map(|ingress| ingress.lag_ms());
        let figures = Figures {
            starts: written.lines == 0,
            owns: matches!(
                *self.options.readiness.borrow(),
                Readiness::Serving | Readiness::Loading { .. } | Readiness::Held
            ),
            dead_letters_made: dead_letters - written.dead_letters_made,
            ingress_lag_ms: lags.max(),
            endpoints_down: status.unhealthy_endpoints().len(),
            commits_made: latencies.count,
            commit_latencies_ms: latencies.values(),
            requests_made: families.emf.requests.swap(0, Ordering::Relaxed),
            messages_waiting_bytes: u64::try_from(families.pending_bytes.get()).unwrap_or(0),
            partitions_without_owner: self.metrics.partitions_without_owner(),
            memory_used_percent: self.memory_used_percent(),
        };
        *written = Written {
            lines: written.lines + 1,
            dead_letters_made: dead_letters,
        };
        figures
    }

    fn memory_used_percent(&self) -> Option<f64> {
        let limit_bytes = self.options.memory_limit_bytes?;
        let resident_bytes = self.metrics.0.process.resident_bytes()?;
        let percent = resident_bytes as f64 * 100.0 / limit_bytes as f64;
        Some((percent * 10.0).round() / 10.0)
    }
}

/// Writes lines to standard output, each in one piece.
pub(crate) fn to_stdout() -> Writer {
    Arc::new(|line| {
        use std::io::Write;
        let mut stdout = std::io::stdout().lock();
        // The process continues if its output is closed.
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    })
}

#[cfg(test)]
mod tests;
