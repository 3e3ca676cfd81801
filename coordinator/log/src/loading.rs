//! Reading the image of one bucket while the log is at work.
//!
//! ```text
//! Log::load ─► place of the image in the manifest in effect ─► ranged read ─┬─ there ─► checked and unpacked, off the driver ─► Notice::Loaded
//!                            ▲                                               └─ gone ─┬─ the image has moved meanwhile
//!                            └─────────────────────────────────────────────────────────┘  else: fenced, or lost
//! ```
//!
//! A snapshot that takes effect during the read may move the image. The old one equals the log at its own number for ever, and the grace keeps
//! it; only a read that takes longer than that finds it gone, and reads the newer one.

use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;

use crate::entries::Entries;
use crate::error::{Defect, LogError};
use crate::io::Io;
use crate::keys::Layout;
use crate::manifest::Placed;

/// Something that takes a while and needs nothing but a processor.
pub type Work = Box<dyn FnOnce() + Send>;

/// Runs [`Work`] where it keeps nobody waiting: on a thread of its own.
pub type Offload = Arc<dyn Fn(Work) + Send + Sync>;

/// An image to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) bucket: u16,
    /// The log number that the image equals.
    pub(crate) number: u64,
    pub(crate) placed: Placed,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// As it was packed.
    Image(Load, Entries),
    /// The segment is not there.
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
    let Some(stored) = io.get_range(&key, placed.at.range()).await? else {
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
    let (done, unpacked) = oneshot::channel();
    offload(Box::new(move || {
        // The driver may have ended meanwhile; then nobody wants it any more.
        let _ = done.send(load.placed.at.open(&stored, load.bucket));
    }));
    unpacked
        .await
        .map_err(|_| LogError::Misuse("the work of unpacking an image was dropped".to_owned()))
}

/// What it means that the segment of an image is not there: a later owner has collected it, or it is lost.
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
