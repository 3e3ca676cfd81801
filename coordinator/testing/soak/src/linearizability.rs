//! Linearizability of a history of concurrent operations on one object.
//!
//! A history is linearizable if every operation can be given one moment between its invocation and
//! its return such that a sequential object answers the same at these moments. The search is that
//! of Wing and Gong with the memoization of Lowe, as in Porcupine: a set of operations that led to
//! a state is tried once.
//!
//! An operation of unknown outcome has no return. It may take effect at any moment after its
//! invocation, or never. Such operations with equal inputs are interchangeable once they are
//! invoked, so only the one that was invoked first is tried. Without this, their number would be an
//! exponent.
//!
//! The module knows nothing of the soak. The time of a search is about linear in the length of a
//! history whose outputs name their order, as those of a counter do.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// A sequential object.
pub(crate) trait Model {
    /// State of the object. The default is its state before the first operation.
    type State: Clone + Debug + Default + Eq + Hash;
    /// Operation with its arguments.
    type Input: Clone + Debug + Eq;
    /// Result of an operation.
    type Output: Clone + Debug;

    /// Returns the state after an operation, or `None` if the operation cannot have this output in
    /// this state. An unknown output fits every state.
    fn step(
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;

    /// True if no state that can follow this one fits the operation, so that the search need not
    /// follow it.
    fn is_missed(_: &Self::State, _: &Self::Input, _: &Self::Output) -> bool {
        false
    }
}

/// An operation of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation<I, O> {
    pub(crate) input: I,
    /// Time of the invocation, in any unit.
    pub(crate) invoked: u64,
    /// Output and time of the return; `None` if the outcome is unknown.
    pub(crate) returned: Option<(O, u64)>,
}

/// The search ended without an order of all operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotLinearizable<S> {
    /// Number of answered operations in the longest order that was found.
    pub(crate) ordered: usize,
    /// State after them.
    pub(crate) state: S,
    /// Indexes of the answered operations of which one had to follow.
    pub(crate) next: Vec<usize>,
}

/// An answered operation in the order of invocations.
struct Answered<'h, O, I> {
    /// Index in the history.
    index: usize,
    input: &'h I,
    output: &'h O,
    invoked: u64,
    returned: u64,
}

/// Operations of unknown outcome with one input.
struct Unknown<'h, I> {
    input: &'h I,
    /// Times of their invocations, in order.
    invoked: Vec<u64>,
    /// Number of those that have taken effect.
    taken: usize,
}

/// Operation that may come next.
#[derive(Debug, Clone, Copy)]
enum Candidate {
    /// Index among the answered operations.
    Answered(usize),
    /// Index of a class of unknown operations.
    Unknown(usize),
}

/// A step of the search.
struct Step<S> {
    /// State before the next operation.
    state: S,
    /// Operations that may be next and were not tried yet, the best one last.
    candidates: Vec<Candidate>,
    /// Operation that led to this step.
    by: Option<Candidate>,
}

/// Operations that have taken effect, and the state: a situation from which everything that may
/// follow is the same.
#[derive(PartialEq, Eq, Hash)]
struct Situation<S> {
    /// Number of answered operations before the first one that has not taken effect.
    prefix: usize,
    /// Answered operations after it that have taken effect.
    beyond: Vec<usize>,
    /// Number of unknown operations of each class that have taken effect.
    taken: Vec<usize>,
    state: S,
}

/// Checks a history.
///
/// # Errors
///
/// Returns the longest order that was found if there is no order of all answered operations.
pub(crate) fn check<M: Model>(
    history: &[Operation<M::Input, M::Output>],
) -> Result<(), NotLinearizable<M::State>> {
    Search::<M>::over(history).run()
}

struct Search<'h, M: Model> {
    answered: Vec<Answered<'h, M::Output, M::Input>>,
    unknown: Vec<Unknown<'h, M::Input>>,
    /// Answered operations that have taken effect.
    done: Vec<bool>,
    done_count: usize,
    /// Number of answered operations before the first one that has not taken effect.
    prefix: usize,
}

impl<'h, M: Model> Search<'h, M> {
    fn over(history: &'h [Operation<M::Input, M::Output>]) -> Self {
        let mut answered = Vec::new();
        let mut unknown: Vec<Unknown<'h, M::Input>> = Vec::new();
        for (index, operation) in history.iter().enumerate() {
            let Operation { input, invoked, .. } = operation;
            let invoked = *invoked;
            if let Some((output, returned)) = &operation.returned {
                answered.push(Answered {
                    index,
                    input,
                    output,
                    invoked,
                    returned: *returned,
                });
                continue;
            }
            match unknown.iter_mut().find(|class| class.input == input) {
                Some(class) => class.invoked.push(invoked),
                None => unknown.push(Unknown {
                    input,
                    invoked: vec![invoked],
                    taken: 0,
                }),
            }
        }
        answered.sort_by_key(|operation| (operation.invoked, operation.returned));
        for class in &mut unknown {
            class.invoked.sort_unstable();
        }
        Self {
            done: vec![false; answered.len()],
            done_count: 0,
            prefix: 0,
            answered,
            unknown,
        }
    }

    fn run(mut self) -> Result<(), NotLinearizable<M::State>> {
        let mut tried = HashSet::new();
        let state = M::State::default();
        let mut longest = NotLinearizable {
            ordered: 0,
            next: self.next(),
            state: state.clone(),
        };
        let mut steps = vec![self.step(state, None)];
        while self.done_count < self.answered.len() {
            let Some(step) = steps.last_mut() else {
                return Err(longest);
            };
            let Some(candidate) = step.candidates.pop() else {
                if let Some(by) = step.by {
                    self.undo(by);
                }
                steps.pop();
                continue;
            };
            let Some(state) = self.state_after(&step.state, candidate) else {
                continue;
            };
            self.take(candidate);
            if self.done_count > longest.ordered {
                longest = NotLinearizable {
                    ordered: self.done_count,
                    next: self.next(),
                    state: state.clone(),
                };
            }
            if self.is_dead(&state) || !tried.insert(self.situation(state.clone())) {
                self.undo(candidate);
                continue;
            }
            steps.push(self.step(state, Some(candidate)));
        }
        Ok(())
    }

    /// Time before which the next operation must have taken effect: the first return of an answered
    /// operation that has not.
    fn bound(&self) -> u64 {
        let mut bound = u64::MAX;
        for (at, operation) in self.answered.iter().enumerate().skip(self.prefix) {
            if operation.invoked > bound {
                break;
            }
            if !self.done[at] {
                bound = bound.min(operation.returned);
            }
        }
        bound
    }

    /// Answered operations that may be next.
    fn open(&self) -> impl Iterator<Item = usize> {
        let bound = self.bound();
        let all = self.answered.iter().enumerate().skip(self.prefix);
        let invoked = all.take_while(move |(_, operation)| operation.invoked <= bound);
        invoked.map(|(at, _)| at).filter(|at| !self.done[*at])
    }

    /// True if an operation that has not taken effect no longer can.
    fn is_dead(&self, state: &M::State) -> bool {
        let mut open = self.open().map(|at| &self.answered[at]);
        open.any(|operation| M::is_missed(state, operation.input, operation.output))
    }

    fn next(&self) -> Vec<usize> {
        self.open().map(|at| self.answered[at].index).collect()
    }

    fn step(&self, state: M::State, by: Option<Candidate>) -> Step<M::State> {
        let bound = self.bound();
        let classes = self.unknown.iter().enumerate();
        let classes = classes.filter(|(_, class)| {
            let first = class.invoked.get(class.taken);
            let changes = || M::step(&state, class.input, None).is_some_and(|next| next != state);
            first.is_some_and(|invoked| *invoked <= bound) && changes()
        });
        // Unknown operations are tried last: most of them never took effect.
        let mut candidates: Vec<Candidate> =
            classes.map(|(at, _)| Candidate::Unknown(at)).collect();
        let open: Vec<usize> = self.open().collect();
        candidates.extend(open.into_iter().rev().map(Candidate::Answered));
        Step {
            state,
            candidates,
            by,
        }
    }

    fn state_after(&self, state: &M::State, candidate: Candidate) -> Option<M::State> {
        match candidate {
            Candidate::Answered(at) => {
                let operation = &self.answered[at];
                M::step(state, operation.input, Some(operation.output))
            }
            Candidate::Unknown(at) => M::step(state, self.unknown[at].input, None),
        }
    }

    fn take(&mut self, candidate: Candidate) {
        match candidate {
            Candidate::Answered(at) => {
                self.done[at] = true;
                self.done_count += 1;
                while self.done.get(self.prefix) == Some(&true) {
                    self.prefix += 1;
                }
            }
            Candidate::Unknown(at) => self.unknown[at].taken += 1,
        }
    }

    fn undo(&mut self, candidate: Candidate) {
        match candidate {
            Candidate::Answered(at) => {
                self.done[at] = false;
                self.done_count -= 1;
                self.prefix = self.prefix.min(at);
            }
            Candidate::Unknown(at) => self.unknown[at].taken -= 1,
        }
    }

    fn situation(&self, state: M::State) -> Situation<M::State> {
        // Operations beyond the prefix that have taken effect were invoked before the bound.
        let bound = self.bound();
        let all = self.answered.iter().enumerate().skip(self.prefix);
        let beyond = all.take_while(|(_, operation)| operation.invoked <= bound);
        Situation {
            prefix: self.prefix,
            beyond: beyond
                .map(|(at, _)| at)
                .filter(|at| self.done[*at])
                .collect(),
            taken: self.unknown.iter().map(|class| class.taken).collect(),
            state,
        }
    }
}

/// A counter that starts at 0.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counter {}

/// Operation of a [`Counter`]. Its output is the value after the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CounterInput {
    /// Increment.
    Add,
    /// Read.
    Read,
}

impl Model for Counter {
    type State = u64;
    type Input = CounterInput;
    type Output = u64;

    fn step(state: &u64, input: &CounterInput, output: Option<&u64>) -> Option<u64> {
        let next = match input {
            CounterInput::Add => state + 1,
            CounterInput::Read => *state,
        };
        output.is_none_or(|output| *output == next).then_some(next)
    }

    fn is_missed(state: &u64, input: &CounterInput, output: &u64) -> bool {
        match input {
            CounterInput::Add => output <= state,
            CounterInput::Read => output < state,
        }
    }
}
