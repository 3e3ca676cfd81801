//! Sources of messages: the streams and queues of all ingresses, and which of them are stopped.
//!
//! ```text
//!             fails                       ┌─ resumed by a person
//!  reading ──────────► stopped, by name ──┼─ a minute passed, if the cause may be mended outside
//!     ▲                                   └─ the process starts again
//!     └──────────────────────────────────────┘ tried again
//! ```
//!
//! One source fails alone: the application and all other sources go on meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::metrics::Metrics;

/// Name of a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    /// Id of the ingress, `namespace/name`.
    pub ingress: Arc<str>,
    /// Stream or queue within the ingress, such as `stream names`.
    pub name: Arc<str>,
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.ingress, self.name)
    }
}

/// Kind of a reason why a source is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceProblem {
    /// The stream or queue does not exist.
    Missing,
    /// Access is denied, or there are no credentials.
    Forbidden,
    /// Records that were not read yet are lost, or may be.
    Lost,
    /// Stored data differs from what was written.
    Damaged,
    /// The source cannot be read for another reason.
    Unreadable,
}

impl SourceProblem {
    /// Name in logs, metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Forbidden => "forbidden",
            Self::Lost => "lost",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
        }
    }

    /// True if the source is tried again without a person. What is lost or damaged stays so, and a
    /// person decides.
    pub fn may_pass(self) -> bool {
        match self {
            Self::Missing | Self::Forbidden | Self::Unreadable => true,
            Self::Lost | Self::Damaged => false,
        }
    }
}

/// Reason why a source is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStopped {
    /// Kind of the reason.
    pub problem: SourceProblem,
    /// Text for people, which names the source. It may name accounts and roles.
    pub reason: String,
}

/// Stopped source, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedSource {
    /// Name of the source.
    pub id: SourceId,
    /// Reason of the stop.
    pub stopped: SourceStopped,
    /// Time of the stop, in ms since the epoch.
    pub since_ms: u64,
}

/// All sources that this process reads. Cheap to clone; clones share the state.
#[derive(Debug, Clone)]
pub struct Sources(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    entries: Mutex<BTreeMap<SourceId, Entry>>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Entry {
    /// Reason and time of the stop, if the source is stopped.
    stopped: Option<(SourceStopped, u64)>,
    resume: Arc<Notify>,
}

impl Sources {
    /// Creates the state of a process that reads no source yet.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            entries: Mutex::default(),
            metrics,
        }))
    }

    /// Adds a source, which is being read.
    pub fn add(&self, id: SourceId) -> SourceState {
        self.0.metrics.observe_source(&id.ingress, &id.name, false);
        let mut entries = self.entries();
        let resume = Arc::clone(&entries.entry(id.clone()).or_default().resume);
        drop(entries);
        SourceState {
            id,
            resume,
            sources: self.clone(),
        }
    }

    /// Removes a source that another process reads from now on.
    pub fn remove(&self, id: &SourceId) {
        self.0.metrics.observe_source(&id.ingress, &id.name, false);
        self.entries().remove(id);
    }

    /// Lets the stopped sources of an ingress be tried again at once. Returns their number, or none
    /// if this process reads no such ingress.
    pub fn resume(&self, ingress: &str) -> Option<usize> {
        let entries = self.entries();
        let mut own = entries
            .iter()
            .filter(|(id, _)| &*id.ingress == ingress)
            .peekable();
        own.peek()?;
        let stopped = own.filter(|(_, entry)| entry.stopped.is_some());
        Some(stopped.map(|(_, entry)| entry.resume.notify_one()).count())
    }

    /// Stopped sources, by name.
    pub fn stopped(&self) -> Vec<StoppedSource> {
        let entries = self.entries();
        let stopped = entries.iter().filter_map(|(id, entry)| {
            let (stopped, since_ms) = entry.stopped.clone()?;
            Some(StoppedSource {
                id: id.clone(),
                stopped,
                since_ms,
            })
        });
        stopped.collect()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<SourceId, Entry>> {
        let entries = self.0.entries.lock();
        entries.unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, id: &SourceId, stopped: Option<(SourceStopped, u64)>) {
        let metrics = &self.0.metrics;
        metrics.observe_source(&id.ingress, &id.name, stopped.is_some());
        if let Some(entry) = self.entries().get_mut(id) {
            entry.stopped = stopped;
        }
    }
}

/// State of one source, which its reader reports.
#[derive(Debug)]
pub struct SourceState {
    id: SourceId,
    resume: Arc<Notify>,
    sources: Sources,
}

impl SourceState {
    /// Name of the source.
    pub fn id(&self) -> &SourceId {
        &self.id
    }

    /// Reports that the source was stopped at `now_ms`.
    pub fn stopped(&self, stopped: SourceStopped, now_ms: u64) {
        self.sources.set(&self.id, Some((stopped, now_ms)));
    }

    /// Reports that the source is being read.
    pub fn reading(&self) {
        self.sources.set(&self.id, None);
    }

    /// Waits until a person resumes the source.
    pub async fn resumed(&self) {
        self.resume.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn id(ingress: &str, name: &str) -> SourceId {
        SourceId {
            ingress: ingress.into(),
            name: name.into(),
        }
    }

    fn forbidden() -> SourceStopped {
        SourceStopped {
            problem: SourceProblem::Forbidden,
            reason: "no permission".to_owned(),
        }
    }

    #[test]
    fn only_the_stopped_sources_of_the_named_ingress_are_resumed() {
        let sources = Sources::new(Metrics::new());
        let one = sources.add(id("example/in", "stream one"));
        let two = sources.add(id("example/in", "stream two"));
        let other = sources.add(id("example/other", "stream one"));
        assert_eq!(sources.resume("example/in"), Some(0));
        assert!(one.resumed().now_or_never().is_none(), "nothing is kept");
        for stopped in [&one, &other] {
            stopped.stopped(forbidden(), 7);
        }
        let names = |sources: &Sources| -> Vec<String> {
            let stopped = sources.stopped().into_iter();
            stopped.map(|source| source.id.to_string()).collect()
        };
        assert_eq!(
            names(&sources),
            ["example/in (stream one)", "example/other (stream one)"]
        );
        assert_eq!(sources.resume("example/in"), Some(1));
        assert!(one.resumed().now_or_never().is_some());
        assert!(two.resumed().now_or_never().is_none());
        assert!(other.resumed().now_or_never().is_none());
        one.reading();
        assert_eq!(names(&sources), ["example/other (stream one)"]);
        assert_eq!(sources.resume("example/unknown"), None);
    }
}
