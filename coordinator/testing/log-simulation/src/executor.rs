//! An executor that polls futures in an order drawn from the seed.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::random::Random;

/// Yields to other futures `times` times.
pub async fn yield_turns(mut times: u64) {
    poll_fn(|context| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        // Nothing else wakes this future. A set of futures that polls only what was woken would
        // forget it.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Futures that are polled one at a time.
#[derive(Default)]
pub struct Executor<'a> {
    tasks: Vec<Task<'a>>,
}

struct Task<'a> {
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
    /// First turn at which it may be polled again: a process that the machine does not schedule.
    asleep_until: u64,
}

impl<'a> Executor<'a> {
    /// Creates an executor without futures.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a future.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'a) {
        self.tasks.push(Task {
            future: Box::pin(future),
            asleep_until: 0,
        });
    }

    /// Number of futures that have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns true if all futures have ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Polls one future once: one that is awake, chosen by `random`.
    pub fn poll_one(&mut self, turn: u64, random: &Random) {
        let awake: Vec<usize> = (0..self.tasks.len())
            .filter(|at| self.tasks[*at].asleep_until <= turn)
            .collect();
        if awake.is_empty() {
            return;
        }
        let at = awake[random.below(awake.len() as u64) as usize];
        let mut context = Context::from_waker(Waker::noop());
        if self.tasks[at].future.as_mut().poll(&mut context) == Poll::Ready(()) {
            self.tasks.swap_remove(at);
        }
    }

    /// Crashes one future, chosen by `random`: it is dropped wherever it is.
    pub fn crash(&mut self, random: &Random) {
        if !self.tasks.is_empty() {
            let at = random.below(self.tasks.len() as u64) as usize;
            self.tasks.swap_remove(at);
        }
    }

    /// Pauses one future, chosen by `random`, until a later turn.
    pub fn pause(&mut self, until: u64, random: &Random) {
        if !self.tasks.is_empty() {
            let at = random.below(self.tasks.len() as u64) as usize;
            self.tasks[at].asleep_until = until;
        }
    }

    /// Ends all pauses.
    pub fn wake_all(&mut self) {
        for task in &mut self.tasks {
            task.asleep_until = 0;
        }
    }
}
