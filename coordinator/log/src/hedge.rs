//! A second request for a commit that takes unusually long.
//!
//! A create that hangs would hold up every commit behind it until the store's client gives up.
//! After the time that almost all creates take, the same bytes are sent under the same key once
//! more. Whichever request is answered first counts. The other one can only be refused, as any
//! repeated create can, and what is refused is read.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::future::{Either, select};

use crate::io::Io;
use crate::store::{Created, StoreError};

/// Number of creates from which the usual time is taken.
const SAMPLES: usize = 128;

/// Number of samples below which a create is given the initial time.
const SAMPLES_MIN: usize = 32;

/// Time after which a create is sent again while its usual time is not known, in ms.
const INITIAL_MS: u64 = 1_000;

/// Minimum time after which a create is sent again, in ms. A directory that pauses for a moment
/// needs no second request.
const AFTER_MIN_MS: u64 = 100;

/// Times of the last creates.
#[derive(Debug, Default)]
pub(crate) struct CreateTimes {
    recent_ms: VecDeque<u64>,
}

impl CreateTimes {
    pub(crate) fn observe(&mut self, took_ms: u64) {
        if self.recent_ms.len() == SAMPLES {
            self.recent_ms.pop_front();
        }
        self.recent_ms.push_back(took_ms);
    }

    /// Time after which a create is sent again, in ms: what 99 of 100 creates take at most.
    pub(crate) fn second_after_ms(&self) -> u64 {
        if self.recent_ms.len() < SAMPLES_MIN {
            return INITIAL_MS;
        }
        let mut times: Vec<_> = self.recent_ms.iter().copied().collect();
        let rank = times.len() - 1 - times.len() / 100;
        let (_, p99, _) = times.select_nth_unstable(rank);
        (*p99).max(AFTER_MIN_MS)
    }
}

/// Creates an object, with a second request after `second_after_ms`. Returns the first answer and
/// the time until it came, in ms.
///
/// # Errors
/// Same as [`Io::create`].
pub(crate) async fn create(
    io: &Io,
    key: &str,
    bytes: &Bytes,
    second_after_ms: u64,
) -> Result<(Created, u64), StoreError> {
    let begun = io.clock.now();
    let first = Box::pin(io.create(key, bytes));
    let answer = match select(first, io.clock.sleep(second_after_ms)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(((), first)) => {
            let second = Box::pin(io.create(key, bytes));
            select(first, second).await.factor_first().0
        }
    };
    let took_ms = io.clock.now().elapsed_at_least_ms(&begun);
    Ok((answer?, took_ms))
}
