//! Functions of the application. Their results are known, and they check their inputs immediately:
//! no duplicates, no reordering, no early timers. The view of a function must be consistent in
//! itself, committed or not.

pub(crate) mod alarms;
pub(crate) mod asking;
pub(crate) mod bank;
pub(crate) mod counters;
pub(crate) mod gathering;
pub(crate) mod hot;
pub(crate) mod items;
pub(crate) mod judging;
pub(crate) mod poison;

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use satchel_sdk::egress::KinesisRecord;
use satchel_sdk::{Address, Context, EgressId, Functions};
use serde::{Deserialize, Serialize};

/// Environment variable with the file into which functions write violations. It lies outside the
/// system under test, so that no defect of that system can hide it.
pub(crate) const VIOLATIONS: &str = "SOAK_VIOLATIONS";

/// The same file for functions that run in the process of the soak, which has no such variable.
static VIOLATIONS_HERE: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Sets the file into which functions in this process write violations.
pub(crate) fn write_violations_to(file: &Path) {
    let mut here = VIOLATIONS_HERE
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    *here = Some(file.to_owned());
}

/// Egress stream.
pub(crate) const OUT: &str = "out";

const EGRESS: EgressId = EgressId::new("soak/out");

/// Functions of the application.
pub fn functions() -> Functions {
    let functions = Functions::new();
    let functions = alarms::bind(functions);
    let functions = asking::bind(functions);
    let functions = bank::bind(functions);
    let functions = counters::bind(functions);
    let functions = gathering::bind(functions);
    let functions = hot::bind(functions);
    let functions = items::bind(functions);
    let functions = judging::bind(functions);
    poison::bind(functions)
}

/// An egress record; each is emitted once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "left", rename_all = "kebab-case")]
pub(crate) enum EgressRecord {
    /// An item passed through all functions.
    Item(Item),
    /// An alarm ended.
    Alarm {
        /// Number.
        n: u64,
        /// End of the alarm.
        ended: AlarmEnd,
    },
    /// All parts of a job are done.
    Gathered {
        /// Number.
        n: u64,
    },
    /// A poison message was applied.
    Applied {
        /// Number.
        n: u64,
    },
}

/// An item of a sequence after its last function.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Item {
    /// Key of its sequence.
    pub(crate) sequence: String,
    /// Number in the sequence, from 1.
    pub(crate) k: u64,
    /// The item was put again because the result of the first attempt is unknown.
    pub(crate) again: bool,
}

/// End of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AlarmEnd {
    /// It rang.
    Rung,
    /// It was cancelled before it rang.
    Cancelled,
}

/// Latest operations of an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recent(VecDeque<u64>);

/// Maximum number of remembered operations. A crash or a repeated request can only duplicate recent
/// ones.
const RECENT_MAX: usize = 64;

impl Recent {
    /// Adds an operation; false if it is present already.
    pub(crate) fn note(&mut self, n: u64) -> bool {
        if self.0.contains(&n) {
            return false;
        }
        self.0.push_back(n);
        if self.0.len() > RECENT_MAX {
            self.0.pop_front();
        }
        true
    }

    /// Removes an operation; false if it is absent.
    pub(crate) fn forget(&mut self, n: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|known| *known != n);
        self.0.len() < before
    }
}

/// Emits a record under this key.
fn emit<S>(ctx: &mut Context<S>, key: impl Into<String>, record: &EgressRecord) {
    ctx.egress(EGRESS, &KinesisRecord::new(OUT, key).json(record));
}

/// Reports a violation.
fn violation(address: &Address, what: impl std::fmt::Display) {
    let line = format!("{address}: {what}\n");
    let here = VIOLATIONS_HERE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let path = here.or_else(|| std::env::var_os(VIOLATIONS).map(PathBuf::from));
    let path = path.ok_or_else(|| "the variable is not set".to_owned());
    let written = path.and_then(|path| {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(|error| error.to_string())
    });
    if let Err(error) = written {
        // A request that always fails is noticed, too.
        panic!("{line}: writing it to the file in {VIOLATIONS} failed: {error}");
    }
}
