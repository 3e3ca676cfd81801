//! Runs batches so that one that panics or hangs fails alone.
//!
//! A batch that came alone runs in its own task. The batches of a bundle are begun one after the
//! other by one task: most of them never wait, so a task for each would cost more than the
//! function. A batch that waits continues in its own task. While a batch keeps the thread busy,
//! another task begins the next ones. Computations therefore use all threads, and one that hangs
//! stops no other.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use satchel_protocol::bundle::BatchError;
use satchel_protocol::reqreply::{FromFunction, ToFunction, to_function::Request};
use satchel_sdk::Functions;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;
use tracing::Instrument as _;

/// Maximum number of batches that run at once.
///
/// Batches mostly wait for other services, so this is well above the number of cores. A bundle
/// holds at most 500 batches by default.
pub(crate) const CONCURRENT_BATCHES_MAX: usize = 128;

/// The functions, and the permits to run them.
#[derive(Clone)]
pub(crate) struct Batches {
    functions: Arc<Functions>,
    permits: Arc<Semaphore>,
}

/// Maximum length of an error text, so that it cannot displace the results beside it.
const ERROR_BYTES_MAX: usize = 8 << 10;

/// Interval at which a bundle gets another task while batches of it are not begun.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(2);

/// Answer of a batch.
pub(crate) type Answer = Result<FromFunction, BatchError>;

/// A started batch. Dropping it aborts the batch.
pub(crate) struct Running {
    address: String,
    task: JoinHandle<Answer>,
}

/// A batch that was begun.
enum Begun {
    /// It did not wait.
    Done(Answer),
    /// It waits for something, in its own task.
    Running(Running),
}

impl Batches {
    pub(crate) fn new(functions: Functions) -> Self {
        Self {
            functions: Arc::new(functions),
            permits: Arc::new(Semaphore::new(CONCURRENT_BATCHES_MAX)),
        }
    }

    /// Starts a batch as soon as a permit is free.
    pub(crate) fn start(&self, request: ToFunction) -> Running {
        let address = address(&request);
        let batches = self.clone();
        let span = tracing::info_span!("batch", address);
        let batch = async move {
            let _permit = batches.permit().await;
            batches.functions.handle(request).await
        };
        Running {
            address,
            task: tokio::spawn(batch.instrument(span)),
        }
    }

    /// Answers all batches of a bundle, in their order. A batch that is not done at `cutoff` has
    /// the error of [`Running::answer`].
    pub(crate) async fn answer_all(
        &self,
        requests: Vec<ToFunction>,
        cutoff: Option<Instant>,
    ) -> Vec<Answer> {
        if requests.len() <= 1 {
            let mut answers = Vec::new();
            for request in requests {
                answers.push(self.start(request).answer(cutoff).await);
            }
            return answers;
        }
        let work = Arc::new(Work::of(requests));
        let begun = self.begin_all(&work);
        match cutoff {
            // What was not begun until then has no answer.
            Some(cutoff) => drop(tokio::time::timeout_at(cutoff, begun).await),
            None => begun.await,
        }
        let begun = std::mem::take(&mut *work.begun());
        let mut answers = Vec::with_capacity(begun.len());
        for (index, begun) in begun.into_iter().enumerate() {
            let answer = match begun {
                Some(Begun::Done(answer)) => answer,
                Some(Begun::Running(running)) => {
                    answers.push(running.answer(cutoff).await);
                    continue;
                }
                None => Err(timeout()),
            };
            answers.push(answer.map_err(|error| reported(&work.addresses[index], error)));
        }
        answers
    }

    /// Returns when every batch was begun. Dropping the future aborts those that keep a thread
    /// busy, as far as a task can be aborted.
    async fn begin_all(&self, work: &Arc<Work>) {
        let mut runners = JoinSet::new();
        let mut run = || {
            let (batches, work) = (self.clone(), Arc::clone(work));
            runners.spawn(async move { batches.begin_next(&work).await });
        };
        run();
        while !work.is_begun() {
            let waited = tokio::time::timeout(PROGRESS_INTERVAL, work.progress.notified()).await;
            let taken = work.next.load(Ordering::Relaxed);
            let late = waited.is_err() && taken < work.addresses.len();
            // Each task that a batch keeps busy holds a permit.
            if late && self.permits.available_permits() > 0 {
                run();
            }
        }
    }

    /// Begins batches until there are no more.
    async fn begin_next(&self, work: &Work) {
        loop {
            let permit = self.permit().await;
            let index = work.next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = work.take(index) else {
                break;
            };
            let begun = self.begin(&work.addresses[index], request, permit);
            work.set(index, begun);
        }
    }

    /// Polls a batch once, and gives it a task of its own if it waits.
    fn begin(&self, address: &str, request: ToFunction, permit: OwnedSemaphorePermit) -> Begun {
        let span = tracing::info_span!("batch", address);
        let functions = Arc::clone(&self.functions);
        let batch = async move { functions.handle(request).await };
        let mut batch: Pin<Box<dyn Future<Output = Answer> + Send>> =
            Box::pin(batch.instrument(span));
        // The task that continues polls again with its own waker, so this one wakes nothing.
        let mut context = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| batch.as_mut().poll(&mut context)));
        match polled {
            Ok(Poll::Ready(answer)) => Begun::Done(answer),
            Ok(Poll::Pending) => Begun::Running(Running {
                address: address.to_owned(),
                task: tokio::spawn(async move {
                    let _permit = permit;
                    batch.await
                }),
            }),
            Err(payload) => {
                Begun::Done(Err(BatchError::new("panic", panic_text(payload.as_ref()))))
            }
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }
}

/// Batches of a bundle.
struct Work {
    addresses: Vec<String>,
    requests: Vec<Mutex<Option<ToFunction>>>,
    /// Index of the batch that is begun next.
    next: AtomicUsize,
    begun: Mutex<Vec<Option<Begun>>>,
    /// Number of batches that were begun.
    count: AtomicUsize,
    /// Notified when all were begun.
    progress: Notify,
}

impl Work {
    fn of(requests: Vec<ToFunction>) -> Self {
        Self {
            addresses: requests.iter().map(address).collect(),
            begun: Mutex::new(requests.iter().map(|_| None).collect()),
            requests: requests
                .into_iter()
                .map(|request| Mutex::new(Some(request)))
                .collect(),
            next: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            progress: Notify::new(),
        }
    }

    fn take(&self, index: usize) -> Option<ToFunction> {
        let request = self.requests.get(index)?.lock();
        request.unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, index: usize, begun: Begun) {
        // After the cutoff the list is gone. A task that waits is then aborted.
        if let Some(slot) = self.begun().get_mut(index) {
            *slot = Some(begun);
        }
        if self.count.fetch_add(1, Ordering::Release) + 1 == self.addresses.len() {
            self.progress.notify_one();
        }
    }

    fn is_begun(&self) -> bool {
        self.count.load(Ordering::Acquire) == self.addresses.len()
    }

    fn begun(&self) -> MutexGuard<'_, Vec<Option<Begun>>> {
        // No code panics while it holds the lock.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Waits for the answer of the batch.
    ///
    /// The error has kind `panic` if the function panicked, and `timeout` if the batch is not done
    /// at `cutoff`.
    pub(crate) async fn answer(
        mut self,
        cutoff: Option<Instant>,
    ) -> Result<FromFunction, BatchError> {
        let joined = match cutoff {
            Some(cutoff) => tokio::time::timeout_at(cutoff, &mut self.task).await,
            None => Ok((&mut self.task).await),
        };
        let answer = match joined {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(panicked(error)),
            Err(_) => Err(timeout()),
        };
        answer.map_err(|error| reported(&self.address, error))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn timeout() -> BatchError {
    BatchError::new(
        "timeout",
        "the batch was not done before the deadline of the Lambda request",
    )
}

/// Logs an error, and returns it with texts of bounded length.
fn reported(address: &str, error: BatchError) -> BatchError {
    let error = shortened(error);
    tracing::warn!(
        address,
        kind = error.kind,
        reason = error.message,
        "batch failed"
    );
    error
}

fn panicked(error: JoinError) -> BatchError {
    let text = match error.try_into_panic() {
        Ok(payload) => panic_text(payload.as_ref()),
        Err(error) => error.to_string(),
    };
    BatchError::new("panic", text)
}

fn shortened(mut error: BatchError) -> BatchError {
    shorten(&mut error.message);
    if let Some(terminal) = &mut error.terminal {
        shorten(&mut terminal.message);
    }
    error
}

fn shorten(text: &mut String) {
    if text.len() > ERROR_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
        text.push('…');
    }
}

fn address(request: &ToFunction) -> String {
    match &request.request {
        Some(Request::Invocation(batch)) => batch
            .target
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        None => String::new(),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "the function panicked with a value that is not text".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use satchel_protocol::bundle::Terminal;

    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let long = "€".repeat(ERROR_BYTES_MAX);
        let error = shortened(BatchError {
            terminal: Some(Terminal {
                index: Some(0),
                code: 400,
                message: long.clone(),
            }),
            ..BatchError::new("panic", long)
        });
        let cut = format!("{}…", "€".repeat(ERROR_BYTES_MAX / 3));
        assert_eq!(error.message, cut);
        assert_eq!(error.terminal.unwrap().message, cut);
    }
}
