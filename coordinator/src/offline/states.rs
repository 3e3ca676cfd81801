//! Reading the states of an application from its root, now or at a moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::{Change, Key, StoredState, Value};
use satchel_engine::partition::BucketProblem;
use satchel_engine::placement::{CachedPlacement, Placement};
use satchel_log::{At, Clock, Entry, Fold, HistoryError, Reading};
use satchel_storage::encode::decode_entry;
use satchel_storage::placement::recorded;

use super::line::StateLine;
use super::root::{Root, failure};
use crate::clock::SystemClock;
use crate::error::{Exit, Failure};
use crate::module::format_rfc3339;

/// Selection of states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All states.
    All,
    /// The states of one function.
    Function(FunctionType),
    /// The states of one address, or one of these states.
    Address(Address, Option<Arc<str>>),
}

/// States that were found.
#[derive(Debug)]
pub struct FoundStates {
    /// The states, in the order of their addresses.
    pub lines: Vec<StateLine>,
    /// Partition time of the newest commit, whatever was asked for, in ms since the epoch; `None`
    /// if it is not known.
    pub newest_ms: Option<u64>,
}

/// Reads the selected states in the order of their addresses. The root must belong to the
/// application `expected`, if one is given. States that had expired at that time are left out.
///
/// # Errors
/// [`Exit::Environment`] if this is no root, or the store does not answer; [`Exit::Damaged`] if an
/// object that must be read is damaged or missing, or if the history no longer reaches back to the
/// moment.
pub async fn states(
    root: &Root,
    expected: Option<&str>,
    at: At,
    wanted: Wanted,
) -> Result<FoundStates, Failure> {
    let application = root.application(expected).await?;
    let source = root.source();
    let now_ms = SystemClock.now().wall_ms;
    let mut lines = Vec::new();
    let mut newest_ms = None;
    for partition in 0..application.partitions {
        let mut fold = States::new(recorded(&application), wanted.clone());
        let reading = satchel_log::read(&source, &application, partition, at, &mut fold).await;
        let reading = reading.map_err(read_failure)?;
        if let Some(problem) = fold.problem {
            let message = format!("the durable state: partition {partition}: {problem}");
            return Err(Failure::new(Exit::Damaged, message));
        }
        newest_ms = newest_ms.max(reading.newest_ms);
        lines.extend(fold.lines(at_ms_of(at, &reading, now_ms)));
    }
    lines.sort_unstable_by(|one, other| {
        (&one.address, &one.name).cmp(&(&other.address, &other.name))
    });
    Ok(FoundStates { lines, newest_ms })
}

/// Returns the moment of a partition that was read, in ms since the epoch.
pub(super) fn at_ms_of(at: At, reading: &Reading, now_ms: u64) -> u64 {
    match at {
        At::Moment(moment_ms) => moment_ms,
        At::Savepoint(_) => reading.committed_at_ms.unwrap_or(now_ms),
        // The time of a partition never goes back, whatever the clock says.
        At::Latest => now_ms.max(reading.committed_at_ms.unwrap_or_default()),
    }
}

/// Fold that keeps the selected states.
pub(super) struct States {
    placement: CachedPlacement,
    wanted: Wanted,
    found: BTreeMap<(Address, Arc<str>), StoredState>,
    problem: Option<BucketProblem>,
}

impl States {
    pub(super) fn new(placement: Placement, wanted: Wanted) -> Self {
        Self {
            placement: CachedPlacement::new(placement),
            wanted,
            found: BTreeMap::new(),
            problem: None,
        }
    }

    fn wants(&self, address: &Address, name: &str) -> bool {
        match &self.wanted {
            Wanted::All => true,
            Wanted::Function(function) => address.function == *function,
            Wanted::Address(wanted, state) => {
                address == wanted && state.as_deref().is_none_or(|state| state == name)
            }
        }
    }

    fn take(&mut self, change: Change) {
        let Key::State { address, name } = change.key else {
            return;
        };
        if !self.wants(&address, &name) {
            return;
        }
        match change.value {
            Some(Value::State(state)) => {
                self.found.insert((address, name), state);
            }
            _ => {
                self.found.remove(&(address, name));
            }
        }
    }

    /// Returns the first problem of an entry, if there is one.
    pub(super) fn problem(&self) -> Option<&BucketProblem> {
        self.problem.as_ref()
    }

    /// Returns the states that had not expired at `at_ms`.
    pub(super) fn lines(self, at_ms: u64) -> impl Iterator<Item = StateLine> {
        let lives = move |state: &StoredState| state.expires_at_ms.is_none_or(|end| end > at_ms);
        let found = self
            .found
            .into_iter()
            .filter(move |(_, state)| lives(state));
        found.map(|((address, name), state)| StateLine {
            address,
            name,
            state,
        })
    }
}

impl Fold for States {
    fn clear(&mut self) {
        self.found.clear();
        self.problem = None;
    }

    fn apply(&mut self, entry: Entry<'_>) {
        match decode_entry(&mut self.placement, entry) {
            Ok(change) => self.take(change),
            Err(problem) => {
                self.problem.get_or_insert(problem);
            }
        }
    }
}

/// Returns how a command ends that could not read the durable state.
#[allow(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
pub(super) fn read_failure(error: HistoryError) -> Failure {
    match error {
        HistoryError::Log(error) => failure(error),
        HistoryError::NoSavepoint { .. } => Failure::new(Exit::Usage, error.to_string()),
        HistoryError::Collected {
            partition,
            asked_ms,
            reaches_back_to_ms,
        } => Failure::new(
            Exit::Damaged,
            format!(
                "the history of partition {partition} reaches back to {}: {} can no longer be read",
                format_rfc3339(reaches_back_to_ms),
                format_rfc3339(asked_ms)
            ),
        ),
    }
}
