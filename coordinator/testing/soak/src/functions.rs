//! The application: functions whose result is known, and which check on the spot what they can see: nothing twice, nothing out of order, no
//! timer early. What a function sees must be consistent in itself, committed or not.

pub(crate) mod alarms;
pub(crate) mod asking;
pub(crate) mod bank;
pub(crate) mod counters;
pub(crate) mod gathering;
pub(crate) mod items;
pub(crate) mod poison;

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write as _;

use satchel_sdk::egress::KinesisRecord;
use satchel_sdk::{Address, Context, EgressId, Functions};
use serde::{Deserialize, Serialize};

/// The variable that names the file into which functions write what must not be. It lies beside what is tested, so that no defect of that
/// can hide it.
pub(crate) const VIOLATIONS: &str = "SOAK_VIOLATIONS";

/// The stream of what leaves.
pub(crate) const OUT: &str = "out";

const EGRESS: EgressId = EgressId::new("soak/out");

/// The functions of the application.
pub fn functions() -> Functions {
    let functions = Functions::new();
    let functions = alarms::bind(functions);
    let functions = asking::bind(functions);
    let functions = bank::bind(functions);
    let functions = counters::bind(functions);
    let functions = gathering::bind(functions);
    let functions = items::bind(functions);
    poison::bind(functions)
}

/// A record that leaves, each of them once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "left", rename_all = "kebab-case")]
pub(crate) enum Left {
    /// An item went all the way.
    Item(Item),
    /// An alarm has ended.
    Alarm {
        /// Which.
        n: u64,
        /// How.
        ended: AlarmEnd,
    },
    /// All parts of a job are done.
    Gathered {
        /// Which.
        n: u64,
    },
    /// What was poisonous has been applied.
    Applied {
        /// Which.
        n: u64,
    },
}

/// An item of a sequence, at the end of its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Item {
    /// The key of its sequence.
    pub(crate) sequence: String,
    /// Its number in it, from 1.
    pub(crate) k: u64,
    /// Whether it was put again because nobody knew whether it had been taken.
    pub(crate) again: bool,
}

/// How an alarm ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AlarmEnd {
    /// It rang.
    Rung,
    /// It was cancelled before.
    Cancelled,
}

/// The operations that an address did last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recent(VecDeque<u64>);

/// How many operations an address remembers: those that a crash or a repeated request could bring once more are the last ones.
const RECENT_MAX: usize = 64;

impl Recent {
    /// Notes one; `false` if it is there already.
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

    /// Forgets one; `false` if it is not there.
    pub(crate) fn forget(&mut self, n: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|known| *known != n);
        self.0.len() < before
    }
}

/// Lets a record leave under this key.
fn leave<S>(ctx: &mut Context<S>, key: impl Into<String>, left: &Left) {
    ctx.egress(EGRESS, &KinesisRecord::new(OUT, key).json(left));
}

/// Tells what must not be.
fn violation(address: &Address, what: impl std::fmt::Display) {
    let line = format!("{address}: {what}\n");
    let told = std::env::var_os(VIOLATIONS).ok_or_else(|| "no variable names it".to_owned());
    let told = told.and_then(|path| {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(|error| error.to_string())
    });
    if let Err(error) = told {
        // A request that fails for ever is noticed, too.
        panic!("{line}, which the file of violations ({VIOLATIONS}) did not take: {error}");
    }
}
