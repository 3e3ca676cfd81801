//! Clients of an application of several partitions. Each makes one operation after the other, under
//! a key of its own, and repeats it until it is answered.

use std::collections::BTreeMap;

use satchel_engine::address::Address;
use satchel_engine::input::{Call, CallId, Input, RequestId, Verb};
use satchel_engine::output::Answer;
use satchel_log_simulation::Random;

use super::faults::PeersPlan;
use super::functions::{IDS, address, burst_total, number, pairs};
use super::owners::{Owner, record_target};
use super::truth::{PartitionTruth, states};
use super::{Event, PeersWorld};
use crate::functions::{text, text_of};
use crate::process::{ProcessId, Waiting};

/// Time after which a client repeats an operation, in ms.
const PATIENCE_MS: u64 = 4_000;

/// All clients, and what their operations should have done.
#[derive(Debug)]
pub(super) struct Clients {
    clients: Vec<Client>,
    next_request: u64,
    /// Expected balance of each account.
    balances: BTreeMap<String, i64>,
    /// Expected last number of each sender at each instance of `ordered`.
    sent: BTreeMap<(String, String), u64>,
    bursts: u64,
}

#[derive(Debug)]
struct Client {
    /// Number of operations still to be made.
    left: u64,
    operation: Option<Operation>,
    /// Number of the operation, counted over all clients.
    number: u64,
    /// Counts requests, so that an old timeout is ignored.
    turn: u64,
}

#[derive(Debug, Clone)]
struct Operation {
    target: Address,
    verb: Verb,
    content: String,
}

impl Clients {
    pub(super) fn new(plan: &PeersPlan, random: &Random) -> Self {
        let clients = (0..plan.clients).map(|number| Client {
            left: 1 + random.below(plan.operations),
            operation: None,
            number,
            turn: 0,
        });
        let mut sent = BTreeMap::new();
        for partition in 0..plan.partitions {
            for number in 1..=plan.records {
                let target = record_target(partition, number).to_string();
                let of = (target, format!("shard/{partition}"));
                *sent.entry(of).or_insert(0) += 1;
            }
        }
        Self {
            clients: clients.collect(),
            next_request: 1,
            balances: BTreeMap::new(),
            sent,
            bursts: 0,
        }
    }

    pub(super) fn number(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn are_done(&self) -> bool {
        let done = |client: &Client| client.left == 0 && client.operation.is_none();
        self.clients.iter().all(done)
    }

    /// Draws an operation, and records what it should do.
    fn draw(&mut self, random: &Random, bursts: bool) -> Operation {
        let id = || random.below(IDS).to_string();
        let (from, to) = (id(), id());
        let kinds = if bursts { 6 } else { 5 };
        let (name, content) = match random.below(kinds) {
            0 | 1 => {
                let amount = 1 + random.below(100);
                let given = amount as i64;
                *self.balances.entry(from.clone()).or_default() -= given;
                *self.balances.entry(to.clone()).or_default() += given;
                if random.chance(300) {
                    let ms = random.below(6_000);
                    ("account", format!("lend {to} {amount} {ms}"))
                } else {
                    ("account", format!("give {to} {amount}"))
                }
            }
            2 | 3 => {
                let count = 1 + random.below(6);
                let of = (to.clone(), format!("source/{from}"));
                *self.sent.entry(of).or_default() += count;
                ("source", format!("emit {to} {count}"))
            }
            4 => {
                let path: Vec<String> = (0..1 + random.below(5)).map(|_| id()).collect();
                ("hop", format!("hop {} -", path.join(",")))
            }
            _ => {
                let (depth, width) = (1 + random.below(2), 4 + random.below(9));
                self.bursts += burst_total(depth, width);
                ("burst", format!("burst {depth} {width}"))
            }
        };
        Operation {
            target: address(name, from),
            verb: if name == "hop" {
                Verb::Call
            } else {
                Verb::Send
            },
            content,
        }
    }

    /// Expects one more message of a sender at an instance of `ordered`.
    pub(super) fn expect_one(&mut self, target: u64, sender: String) {
        *self.sent.entry((target.to_string(), sender)).or_default() += 1;
    }

    /// Returns whether every sequence has arrived.
    pub(super) fn all_have_arrived(&self, truth: &[PartitionTruth]) -> bool {
        self.missing(truth).is_empty()
    }

    /// Describes the sequences of which messages are missing, or too many.
    fn missing(&self, truth: &[PartitionTruth]) -> Vec<String> {
        let ordered: BTreeMap<String, String> = states(truth, "ordered").into_iter().collect();
        let mut missing = Vec::new();
        for ((target, sender), expected) in &self.sent {
            let state = ordered.get(target).map(|state| pairs(state));
            let last = state
                .and_then(|last| last.get(sender).copied())
                .unwrap_or(0);
            if last != *expected {
                missing.push(format!(
                    "ordered/{target} has {last} messages of {sender}, expected {expected}"
                ));
            }
        }
        missing
    }

    /// Compares the final states with what the operations should have done.
    pub(super) fn check(&self, truth: &[PartitionTruth]) -> Vec<String> {
        let mut problems = Vec::new();
        let of = |function| -> BTreeMap<String, String> {
            states(truth, function).into_iter().collect()
        };
        let accounts = of("account");
        for (account, expected) in &self.balances {
            let balance = accounts.get(account).map_or(0, |state| number(state));
            if balance != *expected {
                problems.push(format!(
                    "account {account} has {balance}, expected {expected}"
                ));
            }
        }
        problems.extend(self.missing(truth));
        let bursts = of("burst");
        let ended: i64 = bursts.values().map(|state| number(state)).sum();
        if ended != self.bursts as i64 {
            problems.push(format!(
                "{ended} messages of bursts arrived, expected {}",
                self.bursts
            ));
        }
        problems
    }
}

impl PeersWorld {
    /// Makes the next operation of a client, or repeats the present one.
    pub(super) fn client_acts(&mut self, client: usize) {
        let clients = &mut self.clients;
        if clients.clients[client].operation.is_none() {
            if clients.clients[client].left == 0 {
                return;
            }
            let operation = clients.draw(&self.random, self.plan.bursts);
            let number = clients.clients.len() as u64;
            let client = &mut clients.clients[client];
            client.left -= 1;
            client.number += number;
            client.operation = Some(operation);
        }
        let found = &mut clients.clients[client];
        found.turn += 1;
        let (turn, number) = (found.turn, found.number);
        let Some(operation) = found.operation.clone() else {
            return;
        };
        self.timeline
            .after(PATIENCE_MS, Event::ClientGivesUp(client, turn));
        let Some(id) = self.owner_for(&operation.target) else {
            return;
        };
        let request = RequestId(self.clients.next_request);
        self.clients.next_request += 1;
        let mut call = [0; 16];
        call[..8].copy_from_slice(&self.random.next().to_le_bytes());
        call[8..].copy_from_slice(&self.random.next().to_le_bytes());
        self.record(|| {
            let Operation {
                target, content, ..
            } = &operation;
            format!("operation {number}: {target} {content:?}, at owner {id}")
        });
        if let Some(serving) = self.owners.get_mut(&id).and_then(Owner::serving) {
            let waiting = Waiting::Caller(number as usize);
            serving.waiting.insert(request, waiting);
        }
        let received = Input::CallReceived(Call {
            request,
            id: CallId(call),
            verb: operation.verb,
            target: operation.target,
            argument: text(operation.content),
            idempotency_key: Some(format!("operation-{number}").into()),
            trace: None,
        });
        self.timeline.after(1, Event::Notify(id, received));
    }

    /// Returns an owner of the partition of an address: the newest one, or at times a former one.
    fn owner_for(&self, target: &Address) -> Option<ProcessId> {
        let partition = self.plan.config.partition_of(target)?;
        let serving = self.owners.iter();
        let mut serving = serving
            .filter(|(_, owner)| owner.partition == partition && owner.is_serving())
            .map(|(id, _)| *id);
        match self.random.chance(self.plan.astray) {
            true => serving.next(),
            false => self.newest_owner(partition),
        }
    }

    pub(super) fn client_answered(&mut self, waiting: Waiting, answer: &Answer) {
        let Waiting::Caller(number) = waiting else {
            return;
        };
        let clients = self.clients.clients.iter();
        let mut clients = clients.enumerate();
        let Some((index, client)) = clients.find(|(_, client)| client.number == number as u64)
        else {
            return;
        };
        let Some(operation) = &client.operation else {
            return;
        };
        let done = match (answer, operation.verb) {
            (Answer::Accepted, Verb::Send) => true,
            (Answer::Replied(value), Verb::Call) if text_of(value) == "done" => true,
            (Answer::Overloaded | Answer::NotTaken | Answer::Stopping, _) => false,
            _ => {
                self.violations.push(format!(
                    "operation {number}, {operation:?}, is answered {answer:?}"
                ));
                return;
            }
        };
        self.record(|| format!("operation {number} is answered {answer:?}"));
        if done {
            self.report.operations += 1;
            self.clients.clients[index].operation = None;
        }
        self.clients.clients[index].turn += 1;
        let delay_ms = 1 + self.random.below(400);
        self.timeline.after(delay_ms, Event::ClientActs(index));
    }

    /// The owner that a client waits for has ended.
    pub(super) fn client_unanswered(&mut self, waiting: Waiting) {
        let Waiting::Caller(number) = waiting else {
            return;
        };
        let mut clients = self.clients.clients.iter();
        let found = clients.position(|client| client.number == number as u64);
        if let Some(index) = found.filter(|index| self.clients.clients[*index].operation.is_some())
        {
            let delay_ms = 1 + self.random.below(400);
            self.timeline.after(delay_ms, Event::ClientActs(index));
        }
    }

    pub(super) fn client_gives_up(&mut self, client: usize, turn: u64) {
        let found = &self.clients.clients[client];
        if found.turn == turn && found.operation.is_some() {
            self.client_acts(client);
        }
    }
}
