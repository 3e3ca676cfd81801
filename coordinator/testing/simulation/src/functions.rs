//! The simulated application: functions with known results. They are stateless, as handlers are:
//! they know only their batch.
//!
//! A function must see a consistent state, committed or not. It checks that at once: nothing twice,
//! nothing out of order, one content for each id.

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_engine::address::{Address, FunctionType, RESERVED_NAMESPACE};
use satchel_engine::invocation::{
    Batch, BatchMessage, BatchOutcome, Failure, FailureKind, Rejection,
};
use satchel_engine::trace::TraceParent;
use satchel_protocol::declaration::fingerprint;
use satchel_protocol::reqreply::from_function::{
    self, DelayedInvocation, EgressMessage, ExpirationSpec, IncompleteInvocationContext,
    InvocationResponse, PersistedValueMutation, PersistedValueSpec, expiration_spec::ExpireMode,
};
use satchel_protocol::reqreply::{FromFunction, TypedValue};
use satchel_protocol::types::typed_value;
use xxhash_rust::xxh3::xxh3_128;

/// Namespace whose messages are retried without limit.
pub(crate) const STEADY: &str = "steady";
/// Namespace whose messages become dead letters after a few attempts.
pub(crate) const FRAIL: &str = "frail";
/// Namespace in which a failing message suspends its address.
pub(crate) const STIFF: &str = "stiff";
/// Typename of all messages and states.
pub(crate) const TEXT: &str = "simulated/text";
/// Functions of which a version may declare its states with another type.
const MISFITS: [&str; 3] = ["counter", "ordered", "poison"];
/// Typename of the states of that version.
const OTHER: &str = "simulated/other";
/// Lifetime of a value of the first version of `steady/expiring`, in ms.
const EXPIRY_MS: u64 = 4_000;
/// Time by which the values of a version live shorter than those of the one before, in ms.
const SHORTER_MS: u64 = 1_000;

/// Status with which `frail/judge` rejects a wrong message.
pub(crate) const VERDICT_CODE: u16 = 404;

/// Last word of a message sent under an idempotency key that was used for another body.
pub(crate) const MISUSED: &str = "misused";

/// State that functions share with their world. Real handlers have no such state.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// True once no message is poisonous any more.
    pub(crate) healed: bool,
    /// True if the SDK of this application reports which message caused which effect.
    pub(crate) names_cause: bool,
    /// Version of the functions that is deployed.
    pub(crate) version: u64,
    /// True if each version declares the expirations of the first one, for a mutant.
    pub(crate) keeps_expirations: bool,
    /// True if the deployed version declares the states of [`MISFITS`] with another type.
    pub(crate) misfits: bool,
    /// Target and content that each message id was seen with.
    pub(crate) ids: BTreeMap<Arc<str>, (String, TypedValue)>,
    /// Broken laws.
    pub(crate) violations: Vec<String>,
}

pub(crate) fn address(namespace: &str, name: &str, id: impl Into<Arc<str>>) -> Address {
    Address::new(FunctionType::new(namespace, name), id)
}

/// Lifetime of a value of `steady/expiring`, in ms, by the version that wrote it, which the value
/// ends with: `<text>v<version>`.
pub(crate) fn lifetime_ms(value: &str) -> Option<u64> {
    let (_, version) = value.rsplit_once('v')?;
    Some(lifetime_of_version_ms(version.parse().ok()?))
}

fn lifetime_of_version_ms(version: u64) -> u64 {
    EXPIRY_MS - version * SHORTER_MS
}

/// Trace context of a call with this argument.
pub(crate) fn trace_of(argument: &str) -> TraceParent {
    let hash = xxh3_128(argument.as_bytes()).to_le_bytes();
    TraceParent {
        trace_id: hash,
        parent_id: *b"a caller",
        flags: 1,
    }
}

pub(crate) fn text(text: impl Into<String>) -> TypedValue {
    typed_value(TEXT, text.into().into_bytes())
}

pub(crate) fn text_of(value: &TypedValue) -> String {
    String::from_utf8_lossy(&value.value).into_owned()
}

/// Runs a function over a batch.
pub(crate) fn run(batch: &Batch, stage: &mut Stage) -> BatchOutcome {
    let name = batch.target.function.name();
    let expiring = if stage.keeps_expirations {
        0
    } else {
        stage.version
    };
    let declared = states_of(name, stage.version, expiring);
    let missing = declared.iter().filter(|(declared, ..)| {
        let mut given = batch.state.iter();
        !given.any(|state| *state.name == **declared)
    });
    let missing: Vec<_> = missing.copied().collect();
    // The first version that runs decides on the type, so it is always the same one.
    let first = !batch.messages.is_empty() && !missing.is_empty();
    let misfits = stage.misfits && !first && MISFITS.contains(&name);
    let typename = if misfits { OTHER } else { TEXT };
    let all = specs(&declared, typename);
    // The SDK that names causes also names the fingerprint of its declarations.
    let own = stage.names_cause.then(|| fingerprint(&all));
    let is_unknown = own.is_some_and(|own| !batch.declarations.contains(&own));
    if !missing.is_empty() || is_unknown {
        return Ok(handshake(
            specs(&missing, typename),
            own.map(|own| (own, all)),
        ));
    }
    let has_value = |state: &satchel_engine::invocation::BatchState| state.value.is_some();
    if misfits && batch.state.iter().any(has_value) {
        // As the SDKs of StateFun do.
        let reason = "a value has another type than declared";
        return Err(Failure::new(FailureKind::Function, reason));
    }
    let mut run = Run {
        batch,
        stage,
        state: read_state(batch),
        cause: 0,
        response: InvocationResponse::default(),
    };
    for (index, message) in (1..).zip(&batch.messages) {
        run.cause = if run.stage.names_cause { index } else { 0 };
        run.check_id(message);
        let argument = text_of(&message.argument);
        run.check_trace(message, &argument);
        let words: Vec<&str> = argument.split(' ').collect();
        if let ("judge", ["wrong", _]) = (name, &words[..]) {
            // An SDK that does not report causes does not report positions either.
            let position = run.cause.checked_sub(1);
            let verdict = verdict_on(&argument);
            let rejection = Rejection::new(position, VERDICT_CODE, verdict.clone());
            return Err(Failure::terminal(verdict, rejection));
        }
        run.message(name, message, &words)
            .map_err(|reason| Failure::new(FailureKind::Function, reason))?;
    }
    run.keep_own(&declared);
    let mut response = run.finish(typename);
    response.declaration = own.unwrap_or(0);
    Ok(FromFunction {
        response: Some(from_function::Response::InvocationResult(response)),
    })
}

/// Text with which `frail/judge` rejects a message for good.
pub(crate) fn verdict_on(argument: &str) -> String {
    format!("the verdict on {argument}")
}

/// Returns the states that a version of a function declares. Later versions declare more, and
/// shorter lifetimes, which are those of version `expiring`.
fn states_of(name: &str, version: u64, expiring: u64) -> Vec<(&'static str, ExpireMode, i64)> {
    let mut states = states_of_the_first(name).to_vec();
    for (_, mode, ms) in &mut states {
        if *mode != ExpireMode::None {
            *ms = lifetime_of_version_ms(expiring) as i64;
        }
    }
    if !states.is_empty() && name != "expiring" {
        let more = OWN.iter().take(version as usize);
        states.extend(more.map(|name| (*name, ExpireMode::None, 0)));
    }
    states
}

/// States of later versions only. Each holds the id of its address.
pub(crate) const OWN: [&str; 2] = ["own", "own-too"];

fn states_of_the_first(name: &str) -> &'static [(&'static str, ExpireMode, i64)] {
    const NEVER: ExpireMode = ExpireMode::None;
    match name {
        "account" => &[("balance", NEVER, 0)],
        "sequence" => &[("last", NEVER, 0)],
        "collector" => &[("lasts", NEVER, 0)],
        "asker" => &[("open", NEVER, 0), ("log", NEVER, 0)],
        "counter" | "ordered" | "alarm" | "gather" | "poison" | "killer" | "stubborn" | "judge"
        | "register" => &[("log", NEVER, 0)],
        "expiring" => &[
            ("written", ExpireMode::AfterWrite, EXPIRY_MS as i64),
            ("touched", ExpireMode::AfterInvoke, EXPIRY_MS as i64),
        ],
        _ => &[],
    }
}

fn specs(declared: &[(&str, ExpireMode, i64)], typename: &str) -> Vec<PersistedValueSpec> {
    declared
        .iter()
        .map(|(name, mode, ms)| PersistedValueSpec {
            state_name: (*name).to_owned(),
            expiration_spec: Some(ExpirationSpec {
                mode: (*mode).into(),
                expire_after_millis: *ms,
            }),
            type_typename: typename.to_owned(),
        })
        .collect()
}

/// Asks for the states that a request lacks. `all` are the fingerprint and all declarations, if the
/// SDK sends them.
fn handshake(
    missing_values: Vec<PersistedValueSpec>,
    all: Option<(u64, Vec<PersistedValueSpec>)>,
) -> FromFunction {
    let (declaration, declared_values) = all.unwrap_or_default();
    FromFunction {
        response: Some(from_function::Response::IncompleteInvocationContext(
            IncompleteInvocationContext {
                missing_values,
                declaration,
                declared_values,
            },
        )),
    }
}

fn read_state(batch: &Batch) -> BTreeMap<String, (String, bool)> {
    let read = batch.state.iter().map(|state| {
        let value = state.value.as_ref().map_or(String::new(), |(_, value)| {
            String::from_utf8_lossy(value).into_owned()
        });
        (state.name.to_string(), (value, false))
    });
    read.collect()
}

struct Run<'a> {
    batch: &'a Batch,
    stage: &'a mut Stage,
    /// Value of each state, and true if it changed. An empty text is no value.
    state: BTreeMap<String, (String, bool)>,
    cause: u32,
    response: InvocationResponse,
}

impl Run<'_> {
    fn message(&mut self, name: &str, from: &BatchMessage, words: &[&str]) -> Result<(), String> {
        if words.last() == Some(&MISUSED) {
            // A zombie may run the message without knowing the key. The message must never become
            // durable, which the truth checks.
            return Ok(());
        }
        match (name, words) {
            ("account", words) => self.account(words),
            ("sequence", ["item", k]) => self.item(k),
            ("collector", ["from", sender, k]) => self.collect(sender, k),
            ("counter", ["add", op]) => {
                let place = self.log_once(op);
                self.reply(from, format!("{place}"));
            }
            ("asker", words) => self.asker(from, words),
            ("answerer", ["question", n]) => self.reply(from, format!("answer {n}")),
            ("alarm", words) => self.alarm(words),
            ("scatter", ["scatter", n, width]) => {
                for part in 0..number(width) {
                    let target = address(STEADY, "worker", format!("{}", part % 3));
                    self.send(&target, format!("work {n} {part} {width}"));
                }
            }
            ("worker", ["work", n, part, width]) => {
                let target = address(STEADY, "gather", "all");
                self.send(&target, format!("done {n} {part} {width}"));
            }
            ("gather", ["done", n, part, width]) => self.gather(n, part, width),
            ("poison" | "stubborn", ["bad", _]) if !self.stage.healed => {
                return Err("it is poisonous".to_owned());
            }
            ("poison" | "stubborn" | "killer" | "judge", [_, op]) => {
                let place = self.log_once(op);
                self.reply(from, format!("{place}"));
            }
            ("expiring", ["write", n]) => {
                let value = format!("{n}v{}", self.stage.version);
                self.set("written", value.clone());
                self.set("touched", value);
            }
            ("expiring", ["look"]) => {}
            // A former owner may deliver a message whose predecessors its successor processed, so
            // the truth checks the order of durable messages instead.
            ("ordered", ["item", k]) => {
                self.log_once(k);
            }
            ("register", ["note", op]) => {
                self.log_once(op);
            }
            _ => self.violation(format!("an unexpected message: {words:?}")),
        }
        Ok(())
    }

    /// Checks that states of later versions survive earlier versions and belong to this address.
    fn keep_own(&mut self, declared: &[(&str, ExpireMode, i64)]) {
        let id = self.batch.target.id.to_string();
        for name in OWN {
            let found = self.get(name);
            if !found.is_empty() && found != id {
                self.violation(format!("its state {name:?} is {found:?}"));
            }
            if declared.iter().any(|(declared, ..)| *declared == name) {
                self.set(name, id.clone());
            }
        }
    }

    fn account(&mut self, words: &[&str]) {
        let balance: i64 = self.get("balance").parse().unwrap_or(0);
        match words {
            ["mint", amount] | ["deposit", amount] => {
                self.set("balance", (balance + signed(amount)).to_string());
            }
            ["transfer", amount, to, delay_ms] => {
                self.set("balance", (balance - signed(amount)).to_string());
                let target = address(STEADY, "account", *to);
                let deposit = format!("deposit {amount}");
                match number(delay_ms) {
                    0 => self.send(&target, deposit),
                    delay_ms => self.send_after(delay_ms, &target, deposit, ""),
                }
            }
            _ => self.violation(format!("an unexpected message: {words:?}")),
        }
    }

    /// Checks that records of one key come in order, without gaps. Each is forwarded to a
    /// collector.
    fn item(&mut self, k: &str) {
        let last = self.get("last");
        if !last.is_empty() && number(k) != number(&last) + 1 {
            self.violation(format!("item {k} comes after item {last}"));
        }
        self.set("last", k.to_owned());
        let id = self.batch.target.id.clone();
        let collector = address(STEADY, "collector", format!("{}", id.len() % 2));
        self.send(&collector, format!("from {id} {k}"));
        if number(k) % 11 == 5 {
            self.send(
                &address("nowhere", "void", id.clone()),
                format!("lost {id}-{k}"),
            );
        }
    }

    /// Checks that messages of one sender come in order, without gaps. Each leaves as an egress
    /// record.
    fn collect(&mut self, sender: &str, k: &str) {
        let lasts = self.get("lasts");
        let mut lasts: BTreeMap<&str, u64> = lasts
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(sender, last)| (sender, number(last)))
            .collect();
        if let Some(last) = lasts.insert(sender, number(k))
            && number(k) != last + 1
        {
            self.violation(format!("{sender}'s message {k} comes after {last}"));
        }
        let lasts: Vec<String> = lasts
            .iter()
            .map(|(sender, last)| format!("{sender}={last}"))
            .collect();
        self.set("lasts", lasts.join(" "));
        self.emit(format!("item {sender} {k}"));
    }

    fn asker(&mut self, from: &BatchMessage, words: &[&str]) {
        let open = self.get("open");
        match words {
            ["ask", n] => {
                self.log_once(n);
                let caller = from.caller.as_ref().map_or("", |caller| &caller.id);
                self.set("open", format!("{open}{n}={caller} "));
                let target = address(STEADY, "answerer", format!("{}", number(n) % 3));
                self.send(&target, format!("question {n}"));
            }
            ["answer", n] => {
                let asked = open
                    .split_whitespace()
                    .find_map(|pair| pair.split_once('=').filter(|(asked, _)| asked == n));
                let Some((_, caller)) = asked else {
                    return self.violation(format!("{n} is answered, but was not asked"));
                };
                let rest = open
                    .split_whitespace()
                    .filter(|pair| !pair.starts_with(&format!("{n}=")))
                    .map(|pair| format!("{pair} "));
                self.set("open", rest.collect());
                let caller = Address::new(FunctionType::new("satchel", "call"), caller);
                self.send(&caller, format!("answered {n}"));
            }
            _ => self.violation(format!("an unexpected message: {words:?}")),
        }
    }

    fn alarm(&mut self, words: &[&str]) {
        match words {
            ["set", n, delay_ms] => {
                self.log_once(&format!("set{n}"));
                let own = self.batch.target.clone();
                self.send_after(
                    number(delay_ms),
                    &own,
                    format!("ring {n}"),
                    &format!("t{n}"),
                );
            }
            ["ring", n] => {
                let set = self
                    .get("log")
                    .split(' ')
                    .any(|entry| entry == format!("set{n}"));
                if !set {
                    self.violation(format!("alarm {n} rings, but was not set"));
                }
                self.log_once(&format!("ring{n}"));
            }
            ["cancel", n] => {
                self.log_once(&format!("cancel{n}"));
                self.response.delayed_invocations.push(DelayedInvocation {
                    is_cancellation_request: true,
                    cancellation_token: format!("t{n}"),
                    cause: self.cause,
                    ..Default::default()
                });
            }
            _ => self.violation(format!("an unexpected message: {words:?}")),
        }
    }

    fn gather(&mut self, n: &str, part: &str, width: &str) {
        self.log_once(&format!("{n}.{part}"));
        let log = self.get("log");
        let prefix = format!("{n}.");
        let done = log.split(' ').filter(|entry| entry.starts_with(&prefix));
        if done.count() as u64 == number(width) {
            self.emit(format!("gathered {n}"));
        }
    }

    /// Adds an entry to the log, which must not contain it. Returns its place in the log, from 1.
    fn log_once(&mut self, entry: &str) -> usize {
        let log = self.get("log");
        if log.split(' ').any(|known| known == entry) {
            self.violation(format!("{entry} takes effect twice"));
        }
        let log = if log.is_empty() {
            entry.to_owned()
        } else {
            format!("{log} {entry}")
        };
        let place = log.split(' ').count();
        self.set("log", log);
        place
    }

    fn reply(&mut self, from: &BatchMessage, reply: String) {
        if let Some(caller) = &from.caller {
            self.send(&caller.clone(), reply);
        }
    }

    fn send(&mut self, target: &Address, argument: String) {
        self.response
            .outgoing_messages
            .push(from_function::Invocation {
                target: Some(target.to_wire()),
                argument: Some(text(argument)),
                cause: self.cause,
            });
    }

    fn send_after(&mut self, delay_ms: u64, target: &Address, argument: String, token: &str) {
        self.response.delayed_invocations.push(DelayedInvocation {
            delay_in_ms: delay_ms as i64,
            target: Some(target.to_wire()),
            argument: Some(text(argument)),
            cancellation_token: token.to_owned(),
            cause: self.cause,
            ..Default::default()
        });
    }

    fn emit(&mut self, record: String) {
        self.response.outgoing_egresses.push(EgressMessage {
            egress_namespace: STEADY.to_owned(),
            egress_type: "out".to_owned(),
            argument: Some(text(record)),
            cause: self.cause,
        });
    }

    fn get(&self, name: &str) -> String {
        self.state
            .get(name)
            .map_or(String::new(), |state| state.0.clone())
    }

    fn set(&mut self, name: &str, value: String) {
        self.state.insert(name.to_owned(), (value, true));
    }

    fn check_id(&mut self, message: &BatchMessage) {
        let seen = (self.batch.target.to_string(), message.argument.clone());
        let known = self
            .stage
            .ids
            .entry(message.id.clone())
            .or_insert_with(|| seen.clone());
        if *known != seen {
            let known = known.clone();
            self.violation(format!(
                "the id {} names {known:?} and {seen:?}",
                message.id
            ));
        }
    }

    /// Checks that a call has the trace context of its caller.
    fn check_trace(&mut self, message: &BatchMessage, argument: &str) {
        let caller = message.caller.as_ref();
        let is_call = caller.is_some_and(|it| it.function.namespace() == RESERVED_NAMESPACE);
        if is_call && message.trace != Some(trace_of(argument)) {
            self.violation(format!("{argument} has the trace {:?}", message.trace));
        }
    }

    fn violation(&mut self, what: impl std::fmt::Display) {
        let target = &self.batch.target;
        let attempt = self.batch.attempt;
        self.stage
            .violations
            .push(format!("{target}, attempt {attempt}: {what}"));
    }

    fn finish(mut self, typename: &str) -> InvocationResponse {
        let changed = self.state.into_iter().filter(|(_, (_, changed))| *changed);
        self.response.state_mutations = changed
            .map(|(state_name, (value, _))| PersistedValueMutation {
                mutation_type: i32::from(!value.is_empty()),
                state_name,
                state_value: (!value.is_empty()).then(|| typed_value(typename, value.into_bytes())),
            })
            .collect();
        self.response
    }
}

pub(crate) fn number(text: &str) -> u64 {
    text.parse().unwrap_or(u64::MAX)
}

fn signed(text: &str) -> i64 {
    text.parse().unwrap_or(i64::MAX / 4)
}
