//! Small models of Satchel's protocols, checked exhaustively: every order in which a few processes,
//! messages and failures can meet.
//!
//! - [`link`]: messages between two partitions, with changes of owner on both sides. The state
//!   machines are the engine's own.
//! - [`takeover`]: owners of one log that take it over from each other, with writes that arrive
//!   late. An abstraction of `satchel-log`.
//!
//! Each model has mutants, which leave one rule out. The checker must find each of them. A
//! simulation draws long stories at random; a model has only short ones, and all of them.

pub mod link;
pub mod takeover;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Result of an exhaustive check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Number of different states.
    pub states: usize,
    /// Names of the properties that do not hold, in ascending order, each with the shortest story
    /// that shows it: one action a line.
    pub broken: Vec<(&'static str, String)>,
}

/// Visits every reachable state of a model. Stops at the first story that breaks a property.
pub fn check<M>(model: M) -> Checked
where
    M: Model + Send + Sync + 'static,
    M::State: std::hash::Hash + Clone + Send + Sync + std::fmt::Debug + PartialEq,
    M::Action: Send + Sync + std::fmt::Debug + Clone + PartialEq,
{
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.threads(2).spawn_bfs().join();
    let discoveries = checker.discoveries();
    let mut broken: Vec<_> = checker
        .model()
        .properties()
        .iter()
        .filter(|property| property.expectation != Expectation::Sometimes)
        .filter_map(|property| {
            let story = discoveries.get(property.name)?.clone().into_actions();
            let lines: String = story.iter().map(|action| format!("{action:?}\n")).collect();
            Some((property.name, lines))
        })
        .collect();
    if broken.is_empty() {
        let properties = checker.model().properties();
        let unseen = properties.iter().filter(|property| {
            property.expectation == Expectation::Sometimes
                && !discoveries.contains_key(property.name)
        });
        broken.extend(unseen.map(|property| (property.name, "never happens".to_owned())));
    }
    broken.sort();
    Checked {
        states: checker.unique_state_count(),
        broken,
    }
}
