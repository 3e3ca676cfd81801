//! `<root>/unfinished/<nonce>`: whoever makes a root of something else (a restore, an import) is at work on it, or died over it.
//!
//! ```text
//! maker: create unfinished/<nonce> ─► take over ─► fill ─► last delta durable ─► delete the marks
//! owner: any mark? ─► take over ─► any mark? ─► serve
//! ```
//!
//! A root with a mark may hold a part of what it should, and nobody may take that for the whole. Each maker has a mark of its own, so that one that
//! slept while another began anew can remove only its own. An owner looks twice: before, so as not to fence a maker; after, because
//! a maker may have begun in between, and it makes its mark before it takes over.

use std::time::Duration;

use bytes::Bytes;
use satchel_log::{Created, StoreError};
use serde::{Deserialize, Serialize};

use super::place::Opened;
use crate::cli::{Exit, Failure};

/// How often a request is repeated when the store does not answer well, waiting twice as long each time.
const TRIES: u32 = 7;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// How many marks are looked at; there are rarely more than one.
const MARKS_MAX: usize = 100;

/// The content of a mark, for people.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    format: u32,
    making: String,
    begun_at_ms: u64,
}

impl Opened {
    /// Refuses a root that is not whole.
    ///
    /// # Errors
    /// [`Exit::Damaged`] names what did not come to its end; [`Exit::Environment`] if the store does not answer.
    pub async fn refuse_unfinished(&self) -> Result<(), Failure> {
        let marks = self.unfinished().await?;
        let Some(key) = marks.first() else {
            return Ok(());
        };
        let bytes = repeated(|| self.store.get(key)).await?;
        let mark = bytes.and_then(|bytes| serde_json::from_slice::<Mark>(&bytes).ok());
        let making = mark.map_or_else(|| "something".to_owned(), |mark| mark.making);
        Err(not_whole(&format!(
            "{key}: {making} has not come to its end"
        )))
    }

    /// The keys of all marks.
    pub(crate) async fn unfinished(&self) -> Result<Vec<String>, Failure> {
        let prefix = self.marks_prefix();
        let listed = repeated(|| self.store.list(&prefix, None, MARKS_MAX)).await?;
        Ok(listed.into_iter().map(|object| object.key).collect())
    }

    /// Makes a mark, before anything else of the root is made. Returns its key.
    pub(crate) async fn mark_unfinished(
        &self,
        making: &str,
        begun_at_ms: u64,
    ) -> Result<String, Failure> {
        let nonce = u128::from_le_bytes(crate::runtime::node::random());
        let key = format!("{}{nonce:032x}", self.marks_prefix());
        let mark = Mark {
            format: 1,
            making: making.to_owned(),
            begun_at_ms,
        };
        let text = serde_json::to_vec(&mark).expect("texts and numbers are always JSON");
        let text = Bytes::from(text);
        // An earlier try that landed after all shows as an object that exists; nobody else draws the same name.
        let (Created::Stored | Created::Exists) =
            repeated(|| self.store.create(&key, text.clone())).await?;
        Ok(key)
    }

    /// Removes marks.
    pub(crate) async fn unmark(&self, marks: &[String]) -> Result<(), Failure> {
        repeated(|| self.store.delete(marks)).await
    }

    fn marks_prefix(&self) -> String {
        match self.prefix.as_str() {
            "" => "unfinished/".to_owned(),
            prefix => format!("{prefix}/unfinished/"),
        }
    }
}

/// How a process ends that finds a root which is not whole.
pub(crate) fn not_whole(why: &str) -> Failure {
    let advice = "run the restore or import once more, which goes on with it, or remove the root";
    Failure::new(
        Exit::Damaged,
        format!("the durable state is not whole: {why}; {advice}"),
    )
}

async fn repeated<T, R>(request: impl Fn() -> R) -> Result<T, Failure>
where
    R: Future<Output = Result<T, StoreError>>,
{
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match request().await {
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "the store did not answer well; the request is repeated");
            }
            answer => return answer.map_err(failed),
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    request().await.map_err(failed)
}

#[allow(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
fn failed(error: StoreError) -> Failure {
    crate::runtime::node::log_failure(error.into())
}
