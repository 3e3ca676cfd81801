//! Marks of unfinished roots: `<root>/unfinished/<nonce>`. A mark says that the writer of a new
//! root (a restore, an import) is at work, or died before it finished.
//!
//! A root with a mark may be partial, and no owner may serve it. Each writer creates a mark of its
//! own, so that a writer that slept while another one began anew can remove only its own mark. An
//! owner checks for marks twice: before its takeover, to avoid fencing a writer; and after it,
//! because a writer may have begun in between. A writer creates its mark before it takes over.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join;
use satchel_engine::durable::Hold;
use satchel_engine::hex::Hex;
use satchel_log::{
    Contender, Created, Fold, Io, LogError, Nonce, Offload, Ownership, ReadAhead, Retry, StoreError,
};
use serde::{Deserialize, Serialize};

/// Format version of the marks that this software writes.
const FORMAT: u32 = 1;

/// Content of a mark, for people.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    format: u32,
    making: String,
    begun_at_ms: u64,
}

/// Reason why a root may not be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A writer is at work on the root, or died before it finished.
    #[error("{key}: {making} is unfinished")]
    Unfinished {
        /// Key of the writer's mark.
        key: String,
        /// Description of the root by its writer.
        making: String,
    },
    /// The content says that it is being filled.
    #[error("{making} is unfinished")]
    Filling {
        /// Description of the root by its writer.
        making: String,
    },
    /// As for a takeover.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Takes over a partition like [`satchel_log::take_over`], unless the root has a mark. The caller
/// must also check the recovered content with [`refuse_filling`].
///
/// # Errors
/// [`Refusal::Unfinished`] names a mark; else as for a takeover.
pub async fn take_over(place: Contender, fold: &mut impl Fold) -> Result<Ownership, Refusal> {
    take_over_with(place, fold, Arc::new(|work| work())).await
}

/// Like [`take_over`], but hands long computations to `offload`, as
/// [`satchel_log::take_over_with`] does.
///
/// # Errors
/// As for [`take_over`].
pub async fn take_over_with(
    place: Contender,
    fold: &mut impl Fold,
    offload: Offload,
) -> Result<Ownership, Refusal> {
    let io = io_of(&place);
    let root = place.root.clone();
    refuse_unfinished(&io, &root).await?;
    let ownership = satchel_log::take_over_with(place, fold, offload).await?;
    refuse_unfinished(&io, &root).await?;
    Ok(ownership)
}

/// Reads a partition ahead of a takeover like [`satchel_log::read_ahead`], unless the root has a
/// mark. The caller must also check the content with [`refuse_filling`].
///
/// # Errors
/// As for [`take_over`].
pub async fn read_ahead(
    place: &Contender,
    fold: &mut impl Fold,
    offload: Offload,
) -> Result<ReadAhead, Refusal> {
    let ahead = satchel_log::read_ahead(place, fold, offload).await?;
    refuse_unfinished(&io_of(place), &place.root).await?;
    Ok(ahead)
}

/// Takes over a partition like [`satchel_log::take_over_from`], unless the root has a mark. The
/// caller must also check the recovered content with [`refuse_filling`].
///
/// The marks are listed beside the takeover. The partition had an owner when it was read ahead, and
/// the root no mark. So no writer is at work on it: one that begins now finds that the root is
/// used, and writes nothing.
///
/// # Errors
/// As for [`take_over`].
pub async fn take_over_from(
    ahead: ReadAhead,
    place: Contender,
    fold: &mut impl Fold,
    offload: Offload,
) -> Result<Ownership, Refusal> {
    let (io, root) = (io_of(&place), place.root.clone());
    let takeover = satchel_log::take_over_from(ahead, place, fold, offload);
    let (ownership, marks) = join(takeover, refuse_unfinished(&io, &root)).await;
    let ownership = ownership?;
    marks?;
    Ok(ownership)
}

fn io_of(place: &Contender) -> Io {
    Io {
        store: place.store.clone(),
        clock: place.clock.clone(),
        retry: Retry {
            give_up_ms: place.options.takeover_give_up_ms,
            ..place.options.retry
        },
        on_store_failure: place.on_store_failure.clone(),
    }
}

/// Refuses a root that a writer is at work on, or did not finish.
///
/// # Errors
/// [`Refusal::Unfinished`] names the mark.
pub async fn refuse_unfinished(io: &Io, root: &str) -> Result<(), Refusal> {
    let marks = unfinished_marks(io, root).await?;
    let Some(key) = marks.into_iter().next() else {
        return Ok(());
    };
    let bytes = io.get(&key).await.map_err(LogError::from)?;
    // The content is for people only: the mark counts even if it cannot be decoded.
    let mark = bytes.and_then(|bytes| serde_json::from_slice::<Mark>(&bytes).ok());
    let making = mark.map_or_else(|| "something".to_owned(), |mark| mark.making);
    Err(Refusal::Unfinished { key, making })
}

/// Refuses recovered content if its hold says that the root is being filled.
///
/// # Errors
/// [`Refusal::Filling`].
pub fn refuse_filling(hold: Option<&Hold>) -> Result<(), Refusal> {
    match hold {
        Some(hold) if hold.filling => Err(Refusal::Filling {
            making: hold.origin.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Returns the keys of the marks, at most one page (1,000) of them. There is rarely more than one.
///
/// # Errors
/// [`LogError::Store`].
pub async fn unfinished_marks(io: &Io, root: &str) -> Result<Vec<String>, LogError> {
    let listed = io.list_page(&prefix(root), None).await?;
    Ok(listed.into_iter().map(|object| object.key).collect())
}

/// Creates a mark, before any other object of the root. Returns its key.
pub(super) async fn create_mark(
    io: &Io,
    root: &str,
    nonce: &Nonce,
    making: &str,
) -> Result<String, StoreError> {
    let key = format!("{}{}", prefix(root), Hex(nonce));
    let mark = Mark {
        format: FORMAT,
        making: making.to_owned(),
        begun_at_ms: io.clock.now().wall_ms,
    };
    let text = serde_json::to_vec(&mark).expect("texts and numbers are always JSON");
    // An object that exists is an earlier try of this writer: no other writer draws the same nonce.
    let (Created::Stored | Created::Exists) = io.create(&key, &Bytes::from(text)).await?;
    Ok(key)
}

fn prefix(root: &str) -> String {
    match root {
        "" => "unfinished/".to_owned(),
        root => format!("{root}/unfinished/"),
    }
}
