//! Polling futures in an order that the seed chooses.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::random::Random;

/// Lets others be polled `times` times before this future goes on.
pub async fn give_way(mut times: u64) {
    poll_fn(|context| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        // Nobody else would: without this, a set of futures that polls only what was woken would forget this one.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Futures that are polled one at a time.
#[derive(Default)]
pub struct Crew<'a> {
    members: Vec<Member<'a>>,
}

struct Member<'a> {
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
    /// It is not polled before this turn: a process that the machine does not let run.
    asleep_until: u64,
}

impl<'a> Crew<'a> {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub fn join(&mut self, future: impl Future<Output = ()> + 'a) {
        self.members.push(Member {
            future: Box::pin(future),
            asleep_until: 0,
        });
    }

    /// How many have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether all have ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Polls one that is awake, as `random` chooses, once.
    pub fn turn(&mut self, turn: u64, random: &Random) {
        let awake: Vec<usize> = (0..self.members.len())
            .filter(|at| self.members[*at].asleep_until <= turn)
            .collect();
        if awake.is_empty() {
            return;
        }
        let at = awake[random.below(awake.len() as u64) as usize];
        let mut context = Context::from_waker(Waker::noop());
        if self.members[at].future.as_mut().poll(&mut context) == Poll::Ready(()) {
            self.members.swap_remove(at);
        }
    }

    /// Crashes one, as `random` chooses: its future is dropped wherever it is.
    pub fn crash(&mut self, random: &Random) {
        if !self.members.is_empty() {
            let at = random.below(self.members.len() as u64) as usize;
            self.members.swap_remove(at);
        }
    }

    /// Stops one, as `random` chooses, until a later turn.
    pub fn pause(&mut self, until: u64, random: &Random) {
        if !self.members.is_empty() {
            let at = random.below(self.members.len() as u64) as usize;
            self.members[at].asleep_until = until;
        }
    }

    /// Lets all run again.
    pub fn wake_all(&mut self) {
        for member in &mut self.members {
            member.asleep_until = 0;
        }
    }
}
