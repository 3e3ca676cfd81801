//! The past of an address, read from the root of the running application.

use std::sync::{Arc, OnceLock};

use satchel_engine::address::Address;
use satchel_engine::output::StateView;
use satchel_log::{
    Application, At, Entry, Fold, HistoryError, Layout, LogError, RECORD_BYTES_MAX, Source,
};
use satchel_storage::placement::recorded;

use super::root::{RETRY, on_store_failure};
use super::savepoint::SavepointRoot;
use super::states::{States, Wanted};
use crate::clock::SystemClock;
use crate::store::StateStore;

/// Access to the root of this process, once it is open. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Past(Arc<OnceLock<Opened>>);

struct Opened {
    store: StateStore,
    /// Place of the root as `--restore` takes it; none for state in memory.
    place: Option<String>,
}

/// Reason why a moment cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PastProblem {
    /// The root is not open yet.
    #[error("the durable state is not open yet")]
    NotOpen,
    /// The history does not reach back to the moment.
    #[error("the history does not reach back to this moment")]
    Collected {
        /// The earliest moment that can be read, in ms since the epoch.
        reaches_back_to_ms: u64,
    },
    /// The root cannot be read.
    #[error("the durable state cannot be read: {0}")]
    Unreadable(String),
}

impl From<LogError> for PastProblem {
    fn from(error: LogError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl Past {
    /// Sets the root, and its place if it has one.
    pub(crate) fn open(&self, store: StateStore, place: Option<String>) {
        // A process opens one root.
        let _ = self.0.set(Opened { store, place });
    }

    /// Place of the root, if it has one.
    pub(crate) fn place(&self) -> Option<&str> {
        self.0.get()?.place.as_deref()
    }

    /// Returns the earliest moment that can be read of all partitions, in ms since the epoch; none
    /// for the beginning of the application, and [`u64::MAX`] if no moment can be read yet.
    pub(crate) async fn reaches_back_to(
        &self,
        partitions: u32,
    ) -> Result<Option<u64>, PastProblem> {
        let Opened { store, .. } = self.0.get().ok_or(PastProblem::NotOpen)?;
        let source = source(store);
        let application = application(store).await?;
        let mut from_ms = None;
        for partition in 0..partitions {
            // Nothing was committed by then, so that no state is read if the history has it all.
            let beginning = At::Moment(0);
            let mut nothing = Nothing;
            let read =
                satchel_log::read(&source, &application, partition, beginning, &mut nothing).await;
            match read {
                Ok(_) => {}
                Err(HistoryError::Collected {
                    reaches_back_to_ms, ..
                }) => from_ms = from_ms.max(Some(reaches_back_to_ms)),
                Err(error) => return Err(PastProblem::Unreadable(error.to_string())),
            }
        }
        Ok(from_ms)
    }

    /// Returns the root for work on its savepoints, and the application that owns it.
    pub(crate) async fn savepoints(&self) -> Result<(SavepointRoot, Application), PastProblem> {
        let Opened { store, place } = self.0.get().ok_or(PastProblem::NotOpen)?;
        let root = SavepointRoot {
            source: source(store),
            place: place
                .clone()
                .unwrap_or_else(|| "the state in memory".to_owned()),
        };
        Ok((root, application(store).await?))
    }

    /// Reads the states that an address had at a moment, in ms since the epoch. `partition` owns
    /// the address. Reads all images of the partition, and its log up to the moment.
    pub(crate) async fn states(
        &self,
        partition: u32,
        address: Address,
        at_ms: u64,
    ) -> Result<Vec<StateView>, PastProblem> {
        let Opened { store, .. } = self.0.get().ok_or(PastProblem::NotOpen)?;
        let source = source(store);
        let application = application(store).await?;
        let mut fold = States::new(recorded(&application), Wanted::Address(address, None));
        let moment = At::Moment(at_ms);
        let read = satchel_log::read(&source, &application, partition, moment, &mut fold).await;
        read.map_err(|error| match error {
            HistoryError::Collected {
                reaches_back_to_ms, ..
            } => PastProblem::Collected { reaches_back_to_ms },
            error => PastProblem::Unreadable(error.to_string()),
        })?;
        if let Some(problem) = fold.problem() {
            return Err(PastProblem::Unreadable(problem.to_string()));
        }
        let lines = fold.lines(at_ms);
        let states = lines.map(|line| StateView {
            name: line.name,
            typename: line.state.typename.clone(),
            value: line.state.value.clone(),
            expires_at_ms: line.state.expires_at_ms,
        });
        Ok(states.collect())
    }
}

/// Takes nothing of what is read.
struct Nothing;

impl Fold for Nothing {
    fn clear(&mut self) {}

    fn apply(&mut self, _: Entry<'_>) {}
}

impl std::fmt::Debug for Past {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Past")
    }
}

/// Source to read the root from.
fn source(store: &StateStore) -> Source {
    Source {
        store: Arc::clone(&store.store),
        root: store.prefix.clone(),
        clock: Arc::new(SystemClock),
        retry: RETRY,
        on_store_failure: on_store_failure(),
    }
}

/// Reads the record of the application.
async fn application(store: &StateStore) -> Result<Application, PastProblem> {
    let key = Layout::new(&store.prefix, 0).application().to_owned();
    let range = 0..RECORD_BYTES_MAX + 1;
    let object = store.store.get_range(&key, range).await;
    let object = object.map_err(|error| PastProblem::Unreadable(error.to_string()))?;
    // A new application has no record before its first takeover.
    let object = object.ok_or(PastProblem::NotOpen)?;
    Application::decode(&object).map_err(|defect| LogError::Damaged { key, defect }.into())
}
