//! Reading of one source for as long as the partition lives: a source that fails is stopped by name
//! and tried again, and nothing else stops.

use std::time::Duration;

use satchel_engine::input::Input;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Ingress;
use super::incarnations::Incarnations;
use super::reading::Reading;
use crate::clock::now_ms;
use crate::sources::{SourceState, SourceStopped};

/// Times of the supervision of a source.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Time after which a stopped source is tried again without a person, if the cause may pass.
    retry: Duration,
    /// Time for which a source that a person resumed must not fail until it counts as being read.
    settled_after_resume: Duration,
    /// The same without a person. It is longer than a reader takes to find that its source is still
    /// forbidden, so that what is shown does not change with each attempt.
    settled_after_retry: Duration,
}

const TIMES: Times = Times {
    retry: Duration::from_secs(60),
    settled_after_resume: Duration::from_secs(1),
    settled_after_retry: Duration::from_secs(15),
};

/// Interval at which the same problem of a source is logged again.
const LOG_INTERVAL: Duration = Duration::from_secs(600);

/// Reads a source until the partition is gone.
pub async fn supervise(
    source: Ingress,
    inputs: mpsc::Sender<Input>,
    reading: Reading,
    names: Incarnations,
    state: SourceState,
) {
    let read = || {
        let (source, inputs) = (source.clone(), inputs.clone());
        let (reading, names) = (reading.clone(), names.clone());
        // Boxed, because the future of a reader is large.
        Box::pin(async move { source.run(inputs, reading, names).await })
    };
    let closed = || inputs.closed();
    read_again_and_again(read, closed, &state, TIMES).await;
}

/// Runs `read` until it returns without a failure, or until the partition is `closed`.
async fn read_again_and_again<R, C>(
    read: impl Fn() -> R,
    closed: impl Fn() -> C,
    state: &SourceState,
    times: Times,
) where
    R: Future<Output = Result<(), SourceStopped>>,
    C: Future<Output = ()>,
{
    let mut log = StopLog::default();
    let mut outcome = read().await;
    while let Err(stopped) = outcome {
        let retries = stopped.problem.may_pass();
        log.stopped(state, &stopped, retries.then_some(times.retry));
        state.stopped(stopped, now_ms());
        let settled = tokio::select! {
            () = state.resumed() => {
                log = StopLog::default();
                times.settled_after_resume
            }
            () = tokio::time::sleep(times.retry), if retries => times.settled_after_retry,
            () = closed() => return,
        };
        let mut attempt = std::pin::pin!(read());
        outcome = tokio::select! {
            outcome = &mut attempt => outcome,
            () = tokio::time::sleep(settled) => {
                log = StopLog::default();
                state.reading();
                tracing::info!(
                    ingress = %state.id().ingress,
                    source = %state.id().name,
                    "ingress reads a source again"
                );
                attempt.await
            }
        };
    }
}

/// Log of the stops of one source, rate-limited while the problem stays the same.
#[derive(Debug, Default)]
struct StopLog {
    last: Option<(Instant, &'static str)>,
}

impl StopLog {
    fn stopped(&mut self, state: &SourceState, stopped: &SourceStopped, retry: Option<Duration>) {
        let problem = stopped.problem.as_str();
        let is_known = self
            .last
            .is_some_and(|(at, last)| last == problem && at.elapsed() < LOG_INTERVAL);
        if is_known {
            return;
        }
        self.last = Some((Instant::now(), problem));
        let id = state.id();
        tracing::error!(
            ingress = %id.ingress,
            source = %id.name,
            problem,
            error = stopped.reason,
            retry_s = retry.map(|retry| retry.as_secs()),
            "ingress stopped reading a source; `satchel ingress resume` tries it again"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::metrics::Metrics;
    use crate::sources::{SourceId, SourceProblem, Sources};

    /// Outcome of one attempt to read.
    #[derive(Clone, Copy)]
    enum Attempt {
        Fails(SourceProblem),
        Reads,
    }

    /// A source with scripted attempts, supervised until the test ends it.
    struct Scene {
        sources: Sources,
        attempts: Arc<Mutex<VecDeque<Attempt>>>,
        /// Dropped when the partition is gone.
        partition: tokio::sync::watch::Sender<()>,
        supervision: tokio::task::JoinHandle<()>,
    }

    impl Scene {
        fn start(attempts: impl IntoIterator<Item = Attempt>) -> Self {
            let sources = Sources::new(Metrics::new());
            let state = sources.add(SourceId {
                ingress: "example/in".into(),
                name: "stream names".into(),
            });
            let attempts = Arc::new(Mutex::new(VecDeque::from_iter(attempts)));
            let (sender, closed) = tokio::sync::watch::channel(());
            let script = Arc::clone(&attempts);
            let supervision = tokio::spawn(async move {
                let read = || {
                    let attempt = script.lock().unwrap().pop_front();
                    async move {
                        match attempt {
                            Some(Attempt::Fails(problem)) => Err(SourceStopped {
                                problem,
                                reason: "it failed".to_owned(),
                            }),
                            Some(Attempt::Reads) => std::future::pending().await,
                            None => panic!("an attempt that the test does not expect"),
                        }
                    }
                };
                let closed = || {
                    let mut closed = closed.clone();
                    async move { while closed.changed().await.is_ok() {} }
                };
                read_again_and_again(read, closed, &state, TIMES).await;
            });
            Self {
                sources,
                attempts,
                partition: sender,
                supervision,
            }
        }

        /// Lets this much time pass. Returns the number of attempts left, and whether the source is
        /// stopped.
        async fn after(&self, time: Duration) -> (usize, bool) {
            tokio::time::sleep(time).await;
            let left = self.attempts.lock().unwrap().len();
            (left, !self.sources.stopped().is_empty())
        }
    }

    /// Long enough for an attempt on any machine; shorter than every time of [`TIMES`].
    const MOMENT: Duration = Duration::from_millis(100);

    const TIMES: Times = Times {
        retry: Duration::from_millis(600),
        settled_after_resume: Duration::from_millis(200),
        settled_after_retry: Duration::from_millis(600),
    };

    #[tokio::test]
    async fn what_may_be_mended_outside_is_tried_again_by_itself_and_shown_until_it_is_read() {
        let forbidden = Attempt::Fails(SourceProblem::Forbidden);
        let scene = Scene::start([forbidden, forbidden, Attempt::Reads]);
        assert_eq!(scene.after(MOMENT).await, (2, true));
        assert_eq!(scene.after(TIMES.retry).await, (1, true));
        assert_eq!(scene.after(TIMES.retry).await, (0, true), "not settled yet");
        assert_eq!(scene.after(TIMES.settled_after_retry).await, (0, false));
    }

    #[tokio::test]
    async fn what_is_lost_is_tried_again_only_when_a_person_says_so() {
        let lost = Attempt::Fails(SourceProblem::Lost);
        let scene = Scene::start([lost, lost, Attempt::Reads]);
        assert_eq!(scene.after(3 * TIMES.retry).await, (2, true));
        assert_eq!(scene.sources.resume("example/in"), Some(1));
        assert_eq!(scene.after(2 * TIMES.retry).await, (1, true));
        assert_eq!(scene.sources.resume("example/in"), Some(1));
        assert_eq!(scene.after(2 * TIMES.retry).await, (0, false));
        assert!(!scene.supervision.is_finished());
    }

    #[tokio::test]
    async fn a_stopped_source_ends_with_the_partition() {
        let scene = Scene::start([Attempt::Fails(SourceProblem::Damaged)]);
        assert_eq!(scene.after(MOMENT).await, (0, true));
        drop(scene.partition);
        scene.supervision.await.unwrap();
    }
}
