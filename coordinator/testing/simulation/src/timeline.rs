//! Virtual time: scheduled events, and futures that wait for them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Scheduled events in order of time. Events of equal times keep the order of their scheduling.
#[derive(Debug)]
pub(crate) struct Timeline<E> {
    now_ms: u64,
    next: u64,
    /// Boxed, because events are large and move within the map.
    events: BTreeMap<(u64, u64), Box<E>>,
}

impl<E> Timeline<E> {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            now_ms,
            next: 0,
            events: BTreeMap::new(),
        }
    }

    /// Returns the true time in ms.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn after(&mut self, delay_ms: u64, event: E) {
        self.at(self.now_ms.saturating_add(delay_ms), event);
    }

    pub(crate) fn at(&mut self, at_ms: u64, event: E) {
        let at_ms = at_ms.max(self.now_ms);
        self.events.insert((at_ms, self.next), Box::new(event));
        self.next += 1;
    }

    /// Removes the next event and advances time to it.
    pub(crate) fn pop(&mut self) -> Option<E> {
        let ((at_ms, _), event) = self.events.pop_first()?;
        self.now_ms = at_ms;
        Some(*event)
    }
}

/// Slot for one value that a future waits for. Clones share the slot.
#[derive(Debug)]
pub(crate) struct Slot<T>(Arc<Mutex<Content<T>>>);

#[derive(Debug)]
struct Content<T> {
    value: Option<T>,
    waiter: Option<Waker>,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Content {
            value: None,
            waiter: None,
        })))
    }

    /// Sets the value and wakes the waiting future.
    pub(crate) fn fill(&self, value: T) {
        let waiter = {
            let mut content = self.content();
            content.value = Some(value);
            content.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    fn content(&self) -> MutexGuard<'_, Content<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Future for Slot<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut content = self.content();
        match content.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                content.waiter = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
