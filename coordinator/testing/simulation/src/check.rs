//! Final checks: everything that was asked for has happened exactly once.

use std::collections::BTreeMap;

use satchel_engine::address::RESERVED_NAMESPACE;
use satchel_engine::input::Verb;
use satchel_engine::output::Answer;

use crate::clients::Operation;
use crate::functions::{STEADY, VERDICT_CODE, address, number, text_of, verdict_on};
use crate::world::World;

impl World {
    pub(crate) fn check_end(&mut self) {
        let mut wrong = Vec::new();
        self.check_records(&mut wrong);
        self.check_queue(&mut wrong);
        self.check_operations(&mut wrong);
        self.check_dead_letters(&mut wrong);
        self.check_corrections(&mut wrong);
        self.stage.violations.append(&mut wrong);
    }

    fn log_of(&self, namespace: &str, name: &str, id: &str) -> Vec<String> {
        let log = self.truth.facts.state(&address(namespace, name, id), "log");
        log.split_whitespace().map(str::to_owned).collect()
    }

    /// Checks the effects of stream records.
    fn check_records(&self, wrong: &mut Vec<String>) {
        let streams = self.streams.borrow();
        let (expected, _) = streams.expected(&self.truth.beginnings);
        let mut items: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut gathered = Vec::new();
        for (target, argument) in &expected {
            let name = target.function.name();
            let log = || self.log_of(target.function.namespace(), name, &target.id);
            let words: Vec<&str> = argument.split(' ').collect();
            match (name, &words[..]) {
                ("sequence", ["item", k]) => {
                    items
                        .entry(target.id.to_string())
                        .or_default()
                        .push(number(k));
                }
                ("alarm", ["set", n, _]) => {
                    let log = log();
                    let ended = [format!("ring{n}"), format!("cancel{n}")];
                    let set = log.contains(&format!("set{n}"));
                    if !set || !ended.iter().any(|end| log.contains(end)) {
                        wrong.push(format!(
                            "alarm {n} was set, and neither rang nor was cancelled: {log:?}"
                        ));
                    }
                }
                ("scatter", ["scatter", n, _]) => gathered.push(format!("gathered {n}")),
                ("poison" | "stubborn", [_, entry]) if !log().contains(&(*entry).to_owned()) => {
                    wrong.push(format!("{argument} never took effect at {target}"));
                }
                _ => {}
            }
        }
        let mut left: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut left_gathered = Vec::new();
        for (_, record) in &self.egress_sink.records {
            match record.split(' ').collect::<Vec<_>>()[..] {
                ["item", sender, k] => left.entry(sender.to_owned()).or_default().push(number(k)),
                _ => left_gathered.push(record.clone()),
            }
        }
        if items != left {
            wrong.push(format!("the egress received {left:?} instead of {items:?}"));
        }
        gathered.sort();
        left_gathered.sort();
        if gathered != left_gathered {
            wrong.push(format!(
                "the egress received {left_gathered:?} instead of {gathered:?}"
            ));
        }
    }

    /// Checks the effects of callers' operations.
    fn check_operations(&self, wrong: &mut Vec<String>) {
        let operations: Vec<&Operation> = self
            .callers
            .iter()
            .flat_map(|caller| &caller.finished)
            .collect();
        for operation in &operations {
            let (namespace, name, id) = &operation.target;
            if matches!(*name, "expiring" | "register") {
                continue;
            }
            if *name == "answerer" {
                self.check_stateless(operation, wrong);
                continue;
            }
            if operation.argument.starts_with("wrong ") {
                self.check_rejected(operation, wrong);
                continue;
            }
            let log = self.log_of(namespace, name, id);
            let place = log.iter().position(|entry| *entry == operation.entry);
            let promised = match (&operation.outcome, operation.verb) {
                (None, _) => operation.key.is_some(),
                (Some(Answer::Replied(_)), Verb::Call) | (Some(Answer::Accepted), Verb::Send) => {
                    true
                }
                (Some(Answer::Failed { .. }), Verb::Call) => true,
                (Some(answer), _) => {
                    wrong.push(format!("{} is answered {answer:?}", operation.argument));
                    false
                }
            };
            if promised && place.is_none() {
                wrong.push(format!("{operation:?} never took effect: {log:?}"));
            }
            if let (Some(Answer::Replied(reply)), Some(place)) = (&operation.outcome, place) {
                let reply = crate::functions::text_of(reply);
                let expected = match *name {
                    "asker" => format!("answered {}", operation.entry),
                    _ => (place + 1).to_string(),
                };
                if reply != expected {
                    wrong.push(format!(
                        "{} was answered {reply} instead of {expected}",
                        operation.argument
                    ));
                }
            }
        }
        self.check_nothing_else(&operations, wrong);
        // Answers to askers were in flight when the states were exported.
        let askers = if self.origin.imported { 0 } else { 3 };
        for asker in 0..askers {
            let open = self
                .truth
                .facts
                .state(&address(STEADY, "asker", asker.to_string()), "open");
            if !open.is_empty() {
                wrong.push(format!("asker {asker} still waits for {open}"));
            }
        }
    }

    /// Checks an operation of a function without state, which leaves only its reply.
    fn check_stateless(&self, operation: &Operation, wrong: &mut Vec<String>) {
        let well = match &operation.outcome {
            None => operation.key.is_none(),
            Some(Answer::Accepted) => operation.verb == Verb::Send,
            Some(Answer::Replied(reply)) => {
                crate::functions::text_of(reply) == format!("answer {}", operation.entry)
            }
            Some(_) => false,
        };
        if !well {
            wrong.push(format!("{operation:?} got the wrong answer"));
        }
    }

    /// Checks that a wrong message took no effect, and that either its caller got the verdict or a
    /// dead letter holds it.
    fn check_rejected(&self, operation: &Operation, wrong: &mut Vec<String>) {
        let letters = self.truth.dead_letters();
        let letters = letters
            .iter()
            .filter(|(_, letter)| text_of(&letter.argument) == operation.argument)
            .count();
        let verdict = verdict_on(&operation.argument);
        let well = match (&operation.outcome, operation.verb) {
            // The caller gave up before it knew. A retry of a dead letter has no caller either.
            (None, _) => letters <= 1,
            (Some(Answer::Failed { reason, .. }), Verb::Call) => letters <= 1 && *reason != verdict,
            (Some(Answer::Accepted), Verb::Send) => letters == 1,
            (Some(Answer::Rejected { code, message }), Verb::Call) => {
                letters == 0 && (*code, message) == (VERDICT_CODE, &verdict)
            }
            (Some(_), _) => false,
        };
        let (namespace, name, id) = &operation.target;
        let effect = self.log_of(namespace, name, id).contains(&operation.entry);
        if !well || effect {
            wrong.push(format!(
                "{operation:?} is wrong: {letters} dead letters hold it, took effect: {effect}"
            ));
        }
    }

    /// Checks that counters hold only operations that were asked for.
    fn check_nothing_else(&self, operations: &[&Operation], wrong: &mut Vec<String>) {
        for counter in 0..3 {
            for entry in self.log_of(STEADY, "counter", &counter.to_string()) {
                if number(&entry[1..]) < self.origin.operations {
                    // The origin of this fork was asked for it.
                    continue;
                }
                let requested = operations.iter().find(|operation| operation.entry == entry);
                if !requested.is_some_and(|operation| operation.may_have_happened) {
                    wrong.push(format!(
                        "counter {counter} counts {entry}, which no client requested"
                    ));
                }
            }
        }
    }

    /// Checks that every undeliverable message is kept as a dead letter, once.
    fn check_dead_letters(&self, wrong: &mut Vec<String>) {
        let streams = self.streams.borrow();
        let (expected, unroutable) = streams.expected(&self.truth.beginnings);
        let lost = expected.iter().filter(|(target, argument)| {
            let k = argument.strip_prefix("item ").map(number);
            target.function.name() == "sequence" && k.is_some_and(|k| k % 11 == 5)
        });
        let lost = lost.count() as u64;
        let mut letters = self.truth.dead_letters();
        letters.retain(|(address, letter)| {
            let is_judged = address
                .as_ref()
                .is_some_and(|address| address.function.name() == "judge");
            if is_judged && letter.reason != verdict_on(&text_of(&letter.argument)) {
                wrong.push(format!("a dead letter was not retried: {letter:?}"));
            }
            !is_judged
        });
        let strays = letters
            .iter()
            .filter(|(home, _)| {
                let namespace = home.as_ref().map(|home| home.function.namespace());
                namespace.is_none_or(|namespace| namespace == RESERVED_NAMESPACE)
            })
            .count() as u64;
        let void = letters.len() as u64 - strays;
        if (strays, void) != (unroutable, lost) {
            wrong.push(format!(
                "there are {strays} unroutable and {void} undeliverable dead letters \
                 instead of {unroutable} and {lost}: {letters:?}"
            ));
        }
    }

    /// Checks that the register holds the last confirmed correction, or a later one.
    fn check_corrections(&self, wrong: &mut Vec<String>) {
        let log = self.log_of(STEADY, "register", "0");
        let found = log
            .first()
            .and_then(|entry| entry.strip_prefix('c'))
            .map_or(0, number);
        let administrator = &self.administrator;
        // A correction that the administrator gave up on may be applied after later ones.
        let confirmed = &administrator.confirmed;
        let late = found > 0 && (!confirmed.contains(&found) || confirmed.last() == Some(&found));
        let lost = found < administrator.corrected && !late;
        if lost || found > administrator.corrections() {
            wrong.push(format!(
                "the register holds correction {found}; {} was confirmed last, {} were requested",
                administrator.corrected,
                administrator.corrections()
            ));
        }
    }
}
