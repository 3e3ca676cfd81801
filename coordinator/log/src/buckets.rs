//! The receiver of durable content, bucket by bucket.

use std::ops::ControlFlow;

use crate::entries::Entry;
use crate::fold::Fold;
use crate::history::Reading;

/// Receives the content of a partition one bucket after the other, so that a reader need not hold
/// more than one bucket.
pub trait BucketFold {
    /// Forgets everything received so far, because the read restarts. `Break` ends the read, for a
    /// receiver that has passed on what it received.
    fn clear(&mut self) -> ControlFlow<()>;

    /// Receives what will be read, before anything of it. `Break` ends the read.
    fn begin(&mut self, reading: &Reading) -> ControlFlow<()> {
        let _ = reading;
        ControlFlow::Continue(())
    }

    /// Decides whether the content of `bucket` is read. `pending` is false if the bucket is known
    /// to hold no work that continues without any input. Asked once for each bucket with content,
    /// in ascending order, before anything is received.
    fn wants(&mut self, bucket: u16, pending: bool) -> bool {
        let _ = (bucket, pending);
        true
    }

    /// Receives one entry of the present bucket. It has a value. Each key comes once, in no
    /// particular order.
    fn apply(&mut self, entry: Entry<'_>);

    /// Receives the end of `bucket`. `Break` ends the read.
    fn end(&mut self, bucket: u16) -> ControlFlow<()>;
}

/// Receiver of the state.
pub(crate) enum Sink<'a, F, B> {
    /// Everything at once.
    Whole(F),
    /// Bucket by bucket.
    Buckets(&'a mut B),
}

impl<F: Fold, B: BucketFold> Sink<'_, F, B> {
    /// Forgets everything received so far. `Break` ends the read.
    pub(crate) fn clear(&mut self) -> ControlFlow<()> {
        match self {
            Self::Whole(fold) => fold.clear(),
            Self::Buckets(fold) => return fold.clear(),
        }
        ControlFlow::Continue(())
    }
}

/// Fold of a read bucket by bucket, which has none.
pub(crate) enum NoFold {}

impl Fold for NoFold {
    fn clear(&mut self) {
        match *self {}
    }

    fn apply(&mut self, _: Entry<'_>) {
        match *self {}
    }
}

/// Fold of a read of everything at once, which has none of buckets.
pub(crate) enum NoBuckets {}

impl BucketFold for NoBuckets {
    fn clear(&mut self) -> ControlFlow<()> {
        match *self {}
    }

    fn apply(&mut self, _: Entry<'_>) {
        match *self {}
    }

    fn end(&mut self, _: u16) -> ControlFlow<()> {
        match *self {}
    }
}
