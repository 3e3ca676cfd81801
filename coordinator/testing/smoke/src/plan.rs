//! Random commands, and the state in which they leave the functions.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::Command;
use crate::random::Random;

/// Number of instances of the function.
pub const INSTANCES: u64 = 128;

/// Maximum nesting of commands.
const DEPTH_MAX: u32 = 3;

/// Tokens of each instance. They are few, so that each is used again and again.
const TOKENS: [&str; 2] = ["one", "two"];

/// Delay of messages that are cancelled: longer than any test.
const NEVER_MS: u64 = 3_600_000;

/// Amount that only cancelled messages add, so that one that arrives is recognized.
const CANCELLED: i32 = 1_000_003;

/// Commands for an instance, from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Id of the instance.
    pub target: String,
    /// The commands.
    pub commands: Vec<Command>,
}

/// Final state of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expected {
    /// Sum of what was added.
    pub total: i32,
    /// Number of messages.
    pub seen: i32,
}

/// Commands and their result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The commands, in order.
    pub sources: Vec<Source>,
    /// Final state of each instance.
    pub expected: BTreeMap<String, Expected>,
    /// Ids of all records.
    pub records: BTreeSet<String>,
    /// Number of messages that are delayed and arrive.
    pub delayed: usize,
    /// Number of messages that are delayed and cancelled.
    pub cancelled: usize,
}

impl Plan {
    /// Makes commands: `messages` from outside, and what these send.
    pub fn new(seed: u64, messages: usize) -> Self {
        let mut generator = Generator::new(seed);
        for _ in 0..messages {
            let target = generator.instance();
            generator.source(target);
        }
        for instance in 0..INSTANCES {
            generator.last(instance.to_string());
        }
        generator.plan
    }

    /// Number of messages, from outside and between instances.
    pub fn messages(&self) -> u64 {
        let seen = self.expected.values().map(|expected| expected.seen);
        seen.map(i64::from).sum::<i64>().unsigned_abs()
    }
}

struct Generator {
    random: Random,
    plan: Plan,
    /// Tokens of each instance that are pending when its next message from outside arrives.
    pending: BTreeMap<String, BTreeSet<&'static str>>,
}

impl Generator {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::of(seed),
            plan: Plan {
                sources: Vec::new(),
                expected: BTreeMap::new(),
                records: BTreeSet::new(),
                delayed: 0,
                cancelled: 0,
            },
            pending: BTreeMap::new(),
        }
    }

    fn instance(&mut self) -> String {
        self.random.below(INSTANCES).to_string()
    }

    /// A message from outside. Only these set and cancel tokens, because only they have an order.
    fn source(&mut self, target: String) {
        let mut commands = self.commands(&target, 0);
        for token in TOKENS {
            match self.random.below(12) {
                0 | 1 => self.set_or_cancel(&target, token, &mut commands),
                2 => {
                    // Set, cancelled and perhaps set again by one message.
                    for _ in 0..=self.random.below(2) {
                        self.set_or_cancel(&target, token, &mut commands);
                    }
                }
                _ => {}
            }
        }
        if self.random.below(20) == 0 {
            let cancel = "unknown".to_owned();
            commands.push(Command::Cancel { cancel });
        }
        self.plan.sources.push(Source { target, commands });
    }

    fn set_or_cancel(&mut self, target: &str, token: &'static str, commands: &mut Vec<Command>) {
        let pending = self.pending.entry(target.to_owned()).or_default();
        if pending.remove(token) {
            let cancel = token.to_owned();
            commands.push(Command::Cancel { cancel });
            return;
        }
        pending.insert(token);
        self.plan.cancelled += 1;
        commands.push(Command::Send {
            send: self.random.below(INSTANCES).to_string(),
            then: vec![Command::Add { add: CANCELLED }],
            after: Some(NEVER_MS),
            token: Some(token.to_owned()),
        });
    }

    /// The last message from outside for an instance: cancels what is pending, and emits.
    fn last(&mut self, target: String) {
        let pending = self.pending.remove(&target).unwrap_or_default();
        let cancel = pending.into_iter().map(|token| Command::Cancel {
            cancel: token.to_owned(),
        });
        let mut commands: Vec<_> = cancel.collect();
        self.expect(&target).seen += 1;
        commands.push(self.emit());
        self.plan.sources.push(Source { target, commands });
    }

    /// Random commands of one message for `target`. Their effects are expected.
    fn commands(&mut self, target: &str, depth: u32) -> Vec<Command> {
        self.expect(target).seen += 1;
        let count = 1 + self.random.below(4);
        (0..count).map(|_| self.command(target, depth)).collect()
    }

    fn command(&mut self, target: &str, depth: u32) -> Command {
        match self.random.below(100) {
            0..25 if depth < DEPTH_MAX => {
                let send = self.instance();
                let after = match self.random.below(3) {
                    0 => Some(1 + self.random.below(1_000)),
                    _ => None,
                };
                self.plan.delayed += usize::from(after.is_some());
                let then = self.commands(&send, depth + 1);
                Command::Send {
                    send,
                    then,
                    after,
                    token: None,
                }
            }
            25..40 => self.emit(),
            40..50 => Command::Noop { noop: true },
            _ => {
                // Sums stay small, and are zero now and then.
                let add = i32::try_from(self.random.below(21)).expect("small") - 10;
                self.expect(target).total += add;
                Command::Add { add }
            }
        }
    }

    fn emit(&mut self) -> Command {
        let emit = format!("record-{}", self.plan.records.len());
        self.plan.records.insert(emit.clone());
        Command::Emit { emit }
    }

    fn expect(&mut self, target: &str) -> &mut Expected {
        self.plan.expected.entry(target.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A second opinion: runs all commands, in order, with a queue.
    fn interpret(plan: &Plan) -> (BTreeMap<String, Expected>, BTreeSet<String>) {
        let mut states: BTreeMap<String, Expected> = BTreeMap::new();
        let mut records = BTreeSet::new();
        let mut timers: BTreeMap<(String, String), ()> = BTreeMap::new();
        for source in &plan.sources {
            let mut queue = vec![(source.target.clone(), source.commands.clone())];
            while let Some((instance, commands)) = queue.pop() {
                states.entry(instance.clone()).or_default().seen += 1;
                for command in commands {
                    match command {
                        Command::Add { add } => {
                            states.entry(instance.clone()).or_default().total += add;
                        }
                        Command::Send {
                            token: Some(token), ..
                        } => {
                            let before = timers.insert((instance.clone(), token), ());
                            assert_eq!(before, None, "a token that is pending is not reused");
                        }
                        Command::Send { send, then, .. } => queue.push((send, then)),
                        Command::Cancel { cancel } => {
                            let known = timers.remove(&(instance.clone(), cancel.clone()));
                            assert_eq!(known.is_some(), cancel != "unknown");
                        }
                        Command::Emit { emit } => assert!(records.insert(emit), "used twice"),
                        Command::Noop { .. } => {}
                    }
                }
            }
        }
        assert!(timers.is_empty(), "{timers:?}");
        (states, records)
    }

    #[test]
    fn the_expected_result_is_that_of_the_commands() {
        let plan = Plan::new(7, 5_000);
        let (states, records) = interpret(&plan);
        assert_eq!(states, plan.expected);
        assert_eq!(records, plan.records);
        assert_eq!(states.len() as u64, INSTANCES);
        // Enough of everything.
        assert!(plan.messages() > 7_000, "{}", plan.messages());
        assert!(plan.delayed > 500, "{}", plan.delayed);
        assert!(plan.cancelled > 500, "{}", plan.cancelled);
        assert!(plan.records.len() > 1_000, "{}", plan.records.len());
    }

    #[test]
    fn a_seed_always_makes_the_same_plan() {
        assert_eq!(Plan::new(3, 100), Plan::new(3, 100));
        assert_ne!(Plan::new(3, 100), Plan::new(4, 100));
    }
}
