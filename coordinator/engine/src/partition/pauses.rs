//! Pauses by a person: of one ingress, or of one function type. They are durable, and end only when
//! a person resumes.
//!
//! - Nothing that a paused ingress reads is applied, so its positions stay. A reader stops when it
//!   learns of the pause. What it had read by then waits here, and is applied in order when the
//!   ingress resumes. If the process ends before that, the next owner reads it again.
//! - The messages of a paused function type wait in their mailboxes. Sends are accepted, timers
//!   fire, and calls are rejected at once.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::Arc;

use satchel_protocol::reqreply::TypedValue;

use super::Partition;
use super::commits::Release;
use crate::address::{Address, FunctionType};
use crate::durable::{Key, Pause};
use crate::input::{Input, Record, Unroutable};
use crate::message::header_bytes;
use crate::output::{Answer, Output, Stoppage};
use crate::queue::QueuedMessage;

/// Inputs and instructions that wait for paused ingresses.
#[derive(Default)]
pub(super) struct PausedIngresses {
    /// Inputs in the order of their arrival, by ingress.
    inputs: BTreeMap<Arc<str>, VecDeque<Input>>,
    /// Instructions to begin reading.
    reads: Vec<Release>,
}

/// Size of an input or a record besides its own bytes.
const OVERHEAD_BYTES: usize = 128;

impl PausedIngresses {
    /// Size of the inputs that wait, counted from the content.
    pub(super) fn bytes(&self) -> usize {
        self.inputs.values().flatten().map(input_bytes).sum()
    }
}

impl Partition {
    /// Keeps an input that a paused ingress has read. Returns any other input.
    pub(super) fn hold_paused(&mut self, input: Input) -> Option<Input> {
        if self.tables.ingress_pauses.is_empty() {
            return Some(input);
        }
        let ingress = match &input {
            Input::RecordsRead { shard, .. }
            | Input::ShardEnded { shard }
            | Input::ShardQuiet { shard, .. } => &shard.ingress,
            Input::MessagesReceived { ingress, .. } => ingress,
            _ => return Some(input),
        };
        if !self.tables.ingress_pauses.contains_key(ingress) {
            return Some(input);
        }
        let ingress = ingress.clone();
        self.pending_bytes += input_bytes(&input);
        let inputs = &mut self.paused_ingresses.inputs;
        inputs.entry(ingress).or_default().push_back(input);
        None
    }

    /// Keeps an instruction to read if its ingress is paused. Returns any other instruction.
    pub(super) fn hold_paused_read(&mut self, reading: Release) -> Option<Release> {
        let Some(ingress) = ingress_of(&reading) else {
            return Some(reading);
        };
        if self.tables.ingress_pauses.contains_key(ingress) {
            self.paused_ingresses.reads.push(reading);
            return None;
        }
        Some(reading)
    }

    /// Announces the durable pauses at the start of an owner.
    pub(super) fn announce_pauses(&mut self) {
        if !(self.tables.ingress_pauses.is_empty() && self.tables.function_pauses.is_empty()) {
            self.function_types.stoppages_changed();
        }
        for ingress in self.tables.ingress_pauses.keys().cloned() {
            let paused = true;
            self.outputs
                .push_back(Output::SetIngressPause { ingress, paused });
        }
    }

    pub(super) fn pause_ingress(&mut self, ingress: Arc<str>, reason: Arc<str>) -> Answer {
        if !self.config.ingresses.contains(&ingress) {
            return Answer::NotFound(format!("no ingress is named {ingress}"));
        }
        if self.tables.ingress_pauses.contains_key(&ingress) {
            return Answer::Done;
        }
        let pause = self.pause(reason);
        self.tables.ingress_pauses.insert(ingress.clone(), pause);
        self.mark_changed(Key::IngressPause {
            ingress: ingress.clone(),
        });
        self.function_types.stoppages_changed();
        let paused = true;
        self.outputs
            .push_back(Output::SetIngressPause { ingress, paused });
        Answer::Done
    }

    pub(super) fn resume_ingress(&mut self, ingress: &Arc<str>) -> Answer {
        if self.tables.ingress_pauses.remove(ingress).is_none() {
            return Answer::NotFound(format!("the ingress {ingress} is not paused"));
        }
        self.mark_changed(Key::IngressPause {
            ingress: ingress.clone(),
        });
        self.function_types.stoppages_changed();
        self.outputs.push_back(Output::SetIngressPause {
            ingress: ingress.clone(),
            paused: false,
        });
        // What was read before the pause comes before what is read from now on.
        let inputs = self.paused_ingresses.inputs.remove(ingress);
        for input in inputs.into_iter().flatten() {
            self.subtract_pending(input_bytes(&input));
            self.apply_read(input);
        }
        for reading in std::mem::take(&mut self.paused_ingresses.reads) {
            self.read_when_durable(reading);
        }
        Answer::Done
    }

    fn apply_read(&mut self, input: Input) {
        match input {
            Input::RecordsRead { shard, records } => self.records_read(&shard, records),
            Input::ShardEnded { shard } => self.shard_ended(shard),
            Input::ShardQuiet { shard, until_ms } => self.shard_quiet(&shard, until_ms),
            Input::MessagesReceived {
                ingress,
                messages,
                keep_ms,
            } => self.messages_received(ingress, messages, keep_ms),
            other => unreachable!("{other:?} is not read by an ingress"),
        }
    }

    pub(super) fn pause_function(&mut self, function: FunctionType, reason: Arc<str>) -> Answer {
        if self.config.endpoints.serving(&function).is_none() {
            return Answer::UnknownFunction(function);
        }
        if self.tables.function_pauses.contains_key(&function) {
            return Answer::Done;
        }
        let pause = self.pause(reason);
        self.tables.function_pauses.insert(function.clone(), pause);
        self.mark_changed(Key::FunctionPause { function });
        self.function_types.stoppages_changed();
        Answer::Done
    }

    /// Resumes a paused function type. A suspension for other reasons continues.
    pub(super) fn resume_paused_function(&mut self, function: FunctionType) -> Answer {
        if self.tables.function_pauses.remove(&function).is_none() {
            return Answer::NotFound(format!("the function {function} is not paused"));
        }
        self.function_types.stoppages_changed();
        self.release_waiting(&function);
        self.mark_changed(Key::FunctionPause { function });
        Answer::Done
    }

    fn pause(&self, reason: Arc<str>) -> Pause {
        Pause {
            reason,
            since_ms: self.now_ms,
        }
    }
}

/// Returns the ingress that an instruction is for.
fn ingress_of(reading: &Release) -> Option<&Arc<str>> {
    match reading {
        Release::Read(shard) => Some(&shard.ingress),
        Release::Plan { ingress, .. } | Release::Receive(ingress) => Some(ingress),
        _ => None,
    }
}

/// Describes the pause of a function.
pub(super) fn describe(function: &FunctionType, pause: &Pause) -> String {
    match &*pause.reason {
        "" => format!("the function {function} is paused"),
        reason => format!("the function {function} is paused: {reason}"),
    }
}

/// Lists pauses for [`Partition::stoppages`].
pub(super) fn stoppages<K: Display>(pauses: &BTreeMap<K, Pause>) -> Vec<Stoppage> {
    let stoppages = pauses.iter().map(|(name, pause)| Stoppage {
        name: name.to_string(),
        reason: pause.reason.as_ref().to_owned(),
        since_ms: pause.since_ms,
    });
    stoppages.collect()
}

fn input_bytes(input: &Input) -> usize {
    let bytes = match input {
        Input::RecordsRead { records, .. } => records.iter().map(record_bytes).sum(),
        Input::MessagesReceived { messages, .. } => messages.iter().map(queued_bytes).sum(),
        _ => 0,
    };
    OVERHEAD_BYTES + bytes
}

fn record_bytes(record: &Record) -> usize {
    let own = record.key.len() + header_bytes(&record.headers);
    OVERHEAD_BYTES + own + routed_bytes(&record.routed)
}

fn queued_bytes(message: &QueuedMessage) -> usize {
    OVERHEAD_BYTES + message.name.len() + routed_bytes(&message.routed)
}

fn routed_bytes(routed: &Result<Vec<(Address, TypedValue)>, Unroutable>) -> usize {
    match routed {
        Ok(messages) => {
            let messages = messages.iter();
            messages
                .map(|(address, value)| OVERHEAD_BYTES + address.id.len() + value.value.len())
                .sum()
        }
        Err(unroutable) => unroutable.value.value.len() + unroutable.reason.len(),
    }
}
