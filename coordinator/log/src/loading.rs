//! Reading the image of one bucket while the log is at work.
//!
//! ```text
//! Log::load ─► location in the manifest in effect ─► ranged read
//!                         ▲                            │      │
//!                         │   the image has moved ◄─ missing  └─ found ─► checked and unpacked,
//!                         └────────────┘               │                  off the driver
//!                                                      ▼                       │
//!                                        else: fenced, or lost                 ▼
//!                                                                        Notice::Loaded
//! ```
//!
//! A snapshot that takes effect during the read may move the image. The old image still equals the
//! log at its own number, and the grace period keeps it. Only a read that takes longer than the
//! grace period finds it gone, and reads the newer one.

use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;

use crate::entries::Entries;
use crate::error::{Defect, LogError};
use crate::io::Io;
use crate::keys::Layout;
use crate::manifest::ImageLocation;

/// A long computation without I/O.
pub type Work = Box<dyn FnOnce() + Send>;

/// Runs [`Work`] where it blocks nothing else: on a thread of its own.
pub type Offload = Arc<dyn Fn(Work) + Send + Sync>;

/// Returns an [`Offload`] that runs the work at once, where it is handed over.
pub(crate) fn inline() -> Offload {
    Arc::new(|work| work())
}

/// Begins a computation elsewhere. The receiver ends without a result if the work was dropped.
pub(crate) fn begin<T: Send + 'static>(
    offload: &Offload,
    compute: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (done, result) = oneshot::channel();
    offload(Box::new(move || {
        // The caller may have ended meanwhile, and then the result is not needed.
        let _ = done.send(compute());
    }));
    result
}

/// An image to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) bucket: u16,
    /// Log number that the image equals.
    pub(crate) number: u64,
    pub(crate) placed: ImageLocation,
}

/// Result of a load.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// The unpacked entries.
    Image(Load, Entries),
    /// The segment does not exist.
    Gone(Load),
}

/// Reads, checks and unpacks an image.
pub(crate) async fn load(
    io: &Io,
    layout: &Layout,
    offload: &Offload,
    load: Load,
) -> Result<Loaded, LogError> {
    let Load { bucket, placed, .. } = load;
    let key = layout.segment(&placed.segment);
    let Some(stored) = io.get_range(&key, placed.block.range()).await? else {
        return Ok(Loaded::Gone(load));
    };
    match unpack(offload, load, stored).await? {
        Ok(entries) => Ok(Loaded::Image(load, entries)),
        Err(defect) => Err(LogError::DamagedImage {
            key,
            bucket,
            defect,
        }),
    }
}

async fn unpack(
    offload: &Offload,
    load: Load,
    stored: Bytes,
) -> Result<Result<Entries, Defect>, LogError> {
    begin(offload, move || {
        load.placed.block.open(&stored, load.bucket)
    })
    .await
    .map_err(|_| LogError::Misuse("the unpacking of an image was dropped".to_owned()))
}

/// Explains a missing segment of an image: a later owner has collected it, or it is lost.
pub(crate) async fn explain_gone(io: &Io, layout: &Layout, epoch: u64, load: Load) -> LogError {
    let key = layout.segment(&load.placed.segment);
    let next = layout.epoch(epoch + 1);
    match io.get(&next).await {
        Ok(Some(_)) => LogError::Fenced {
            epoch,
            reason: format!("{next} is claimed, and {key} collected"),
        },
        Ok(None) => LogError::Missing {
            key,
            reason: format!("the image of bucket {} lies in it", load.bucket),
        },
        Err(error) => error.into(),
    }
}
