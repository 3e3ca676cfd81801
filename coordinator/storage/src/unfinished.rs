//! `<root>/unfinished/<nonce>`: whoever makes a root of something else (a restore, an import) is at work on it, or died over it.
//!
//! A root with a mark may hold a part of what it should, and nobody may take that for the whole. Each maker has a mark of its own, so that one that
//! slept while another began anew can remove only its own. An owner looks twice: before, so as not to fence a maker; after, because
//! a maker may have begun in between, and it makes its mark before it takes over.

use std::fmt::Write as _;

use bytes::Bytes;
use satchel_engine::durable::Hold;
use satchel_log::{Created, Fold, Io, LogError, Nonce, Ownership, Place, Retry, StoreError};
use serde::{Deserialize, Serialize};

/// The version of a mark, written now.
const FORMAT: u32 = 1;

/// The content of a mark, for people.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    format: u32,
    making: String,
    begun_at_ms: u64,
}

/// Why nobody may serve a root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A maker is at work on it, or died over it.
    #[error("{key}: {making} has not come to its end")]
    Unfinished {
        /// The maker's mark.
        key: String,
        /// What is made, as the maker calls it.
        making: String,
    },
    /// Its content says that it is being filled.
    #[error("{making} has not come to its end")]
    Filling {
        /// What is made, as the maker calls it.
        making: String,
    },
    /// As for a takeover.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Takes a partition over as [`satchel_log::take_over`] does, unless the root is not whole. What the content itself says of that is for
/// [`refuse_filling`].
///
/// # Errors
/// [`Refusal::Unfinished`] names a mark; else as for a takeover.
pub async fn take_over(place: Place, fold: &mut impl Fold) -> Result<Ownership, Refusal> {
    let io = Io {
        store: place.store.clone(),
        clock: place.clock.clone(),
        retry: Retry {
            give_up_ms: place.options.takeover_give_up_ms,
            ..place.options.retry
        },
        on_trouble: place.on_trouble.clone(),
    };
    let root = place.root.clone();
    refuse_unfinished(&io, &root).await?;
    let ownership = satchel_log::take_over(place, fold).await?;
    refuse_unfinished(&io, &root).await?;
    Ok(ownership)
}

/// Refuses a root that a maker is at work on, or died over.
///
/// # Errors
/// [`Refusal::Unfinished`] names the mark.
pub async fn refuse_unfinished(io: &Io, root: &str) -> Result<(), Refusal> {
    let marks = unfinished(io, root).await?;
    let Some(key) = marks.into_iter().next() else {
        return Ok(());
    };
    let bytes = io.get(&key).await.map_err(LogError::from)?;
    // What it says is for people: whatever it says, it is there.
    let mark = bytes.and_then(|bytes| serde_json::from_slice::<Mark>(&bytes).ok());
    let making = mark.map_or_else(|| "something".to_owned(), |mark| mark.making);
    Err(Refusal::Unfinished { key, making })
}

/// Refuses what was recovered if it says that it is a part.
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

/// The keys of all marks. There are rarely more than one, and never more than a thousand are looked at.
///
/// # Errors
/// [`LogError::Store`].
pub async fn unfinished(io: &Io, root: &str) -> Result<Vec<String>, LogError> {
    let listed = io.list_page(&prefix(root), None).await?;
    Ok(listed.into_iter().map(|object| object.key).collect())
}

/// Makes a mark, before anything else of the root is made. Returns its key.
pub(crate) async fn mark(
    io: &Io,
    root: &str,
    nonce: &Nonce,
    making: &str,
) -> Result<String, StoreError> {
    let mut key = prefix(root);
    for byte in nonce {
        let _ = write!(key, "{byte:02x}");
    }
    let mark = Mark {
        format: FORMAT,
        making: making.to_owned(),
        begun_at_ms: io.clock.now().wall_ms,
    };
    let text = serde_json::to_vec(&mark).expect("texts and numbers are always JSON");
    // An earlier try that landed after all shows as an object that exists; nobody else draws the same name.
    let (Created::Stored | Created::Exists) = io.create(&key, &Bytes::from(text)).await?;
    Ok(key)
}

fn prefix(root: &str) -> String {
    match root {
        "" => "unfinished/".to_owned(),
        root => format!("{root}/unfinished/"),
    }
}
