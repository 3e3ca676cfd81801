//! Metrics of functions. Their number is bounded, because a pattern `namespace/*` lets any name be
//! a function.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::{Latencies, Metrics, Names};

/// Maximum number of functions with metrics of their own. More share one label.
pub(super) const FUNCTIONS_MAX: usize = 200;

/// Label of the functions beyond [`FUNCTIONS_MAX`].
pub(super) const OTHERS: &str = "(others)";

impl Metrics {
    /// Gives these functions metrics of their own, whatever others there are.
    pub(crate) fn declare_functions(&self, functions: impl IntoIterator<Item = String>) {
        let known = self.0.functions.known.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        known.extend(functions);
    }

    /// Counts messages that a function answered, and the time of the request that held them.
    pub fn observe_function(&self, function: &str, messages: usize, took: Duration) {
        let functions = &self.0.functions;
        let label = functions.label(function);
        let messages = messages as u64;
        functions.messages.get_or_create(&label).inc_by(messages);
        functions
            .seconds
            .get_or_create(&label)
            .observe(took.as_secs_f64());
    }

    /// Counts a batch of a function that failed, by the kind of failure.
    pub fn observe_function_failure(&self, function: &str, kind: &'static str) {
        let functions = &self.0.functions;
        let FunctionLabel { function } = functions.label(function);
        let failure = FunctionFailure { function, kind };
        functions.failures.get_or_create(&failure).inc();
    }

    /// Counts a message of a function that became a dead letter.
    pub fn observe_function_dead_letter(&self, function: &str) {
        let functions = &self.0.functions;
        let label = functions.label(function);
        functions.dead_letters.get_or_create(&label).inc();
    }

    /// Counts dead letters whose functions are unknown.
    pub fn observe_other_dead_letters(&self, letters: u64) {
        let label = FunctionLabel {
            function: OTHERS.to_owned(),
        };
        let functions = &self.0.functions;
        functions.dead_letters.get_or_create(&label).inc_by(letters);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FunctionLabel {
    function: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FunctionFailure {
    function: String,
    kind: &'static str,
}

pub(super) struct FunctionFamilies {
    known: Mutex<HashSet<String>>,
    messages: Family<FunctionLabel, Counter>,
    failures: Family<FunctionFailure, Counter>,
    dead_letters: Family<FunctionLabel, Counter>,
    seconds: Latencies<FunctionLabel>,
}

impl FunctionFamilies {
    pub(super) fn register(names: &mut Names) -> Self {
        Self {
            known: Mutex::default(),
            messages: names.add(
                "function_messages",
                "Messages that a function answered, by function",
            ),
            failures: names.add(
                "function_failures",
                "Failed batches and answers of a function, by function and kind",
            ),
            dead_letters: names.add(
                "function_dead_letters",
                "Messages of a function that became dead letters, by function",
            ),
            seconds: names.add_latencies(
                "function_seconds",
                "Time that a request with answered batches of the function took",
            ),
        }
    }

    /// Returns the label of a function: its name, or that of the others if there are too many.
    fn label(&self, function: &str) -> FunctionLabel {
        let known = self.known.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        let own = known.contains(function) || known.len() < FUNCTIONS_MAX;
        if own && !known.contains(function) {
            known.insert(function.to_owned());
        }
        FunctionLabel {
            function: if own { function } else { OTHERS }.to_owned(),
        }
    }
}
