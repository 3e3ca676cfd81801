//! Cost of a message in the state machine alone: `cargo bench -p satchel-engine --bench messages`
//! reads records, invokes functions that change a state, and makes each delta durable.
//!
//! The instructions are counted by Valgrind, which makes them comparable between commits on a noisy
//! machine: `valgrind --tool=callgrind --callgrind-out-file=/dev/null BINARY`, with the binary that
//! `cargo bench --no-run` names.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark looks at the clock"
)]

use std::collections::VecDeque;
use std::time::Instant;

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::endpoint::{Endpoint, Endpoints, FunctionPattern, Linger, OnPoison, Retries};
use satchel_engine::input::{Input, Record};
use satchel_engine::output::Output;
use satchel_engine::partition::{Config, Ownership, Partition, Recovery};
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{
    IncompleteInvocationContext, InvocationResponse, PersistedValueMutation, PersistedValueSpec,
    Response,
};
use satchel_protocol::types::typed_value;

const MESSAGES: u64 = 100_000;
const MESSAGES_PER_READ: u64 = 100;
const KEYS: u64 = 1_000;
const STATE: &str = "seen";
const TYPE: &str = "example/seen";

fn main() {
    let mut bench = Bench {
        partition: partition(),
        facts: VecDeque::new(),
        now_ms: 1_700_000_000_000,
        completed: 0,
    };
    let shard = ShardId {
        ingress: "example/in".into(),
        stream: "in".into(),
        shard: "shardId-0".into(),
    };
    bench.handle(Input::ShardFound {
        shard: shard.clone(),
        start: ShardPosition::Beginning,
    });
    let begun = Instant::now();
    for first in (1..=MESSAGES).step_by(MESSAGES_PER_READ as usize) {
        let records = (first..first + MESSAGES_PER_READ).map(record).collect();
        let shard = shard.clone();
        bench.handle(Input::RecordsRead { shard, records });
    }
    let each = begun.elapsed().as_secs_f64() / MESSAGES as f64;
    assert_eq!(bench.completed, MESSAGES);
    println!(
        "{MESSAGES} messages of {KEYS} keys: {:.2} µs a message",
        each * 1e6
    );
}

fn partition() -> Partition {
    let endpoint = Endpoint {
        functions: vec![FunctionPattern::Namespace("example".into())],
        batch_messages_max: 1_000,
        bundle_batches_max: 500,
        bundle_bytes_max: 1 << 20,
        concurrency_max: 10,
        linger: Linger::Measured,
        retries: Retries {
            attempts_max: 3,
            backoff_initial_ms: 100,
            backoff_max_ms: 1_000,
        },
        on_poison: OnPoison::DeadLetter,
    };
    let recovery = Recovery::new(Config {
        endpoints: Endpoints::new(vec![endpoint]),
        commit_interval_ms: 0,
        ..Config::default()
    });
    let ownership = Ownership {
        epoch: 1,
        committed_at_ms: 0,
        clean: true,
    };
    recovery.start(ownership, 1_700_000_000_000)
}

fn record(number: u64) -> Record {
    let id = format!("customer-{:031}", number % KEYS);
    let function = FunctionType::new("example", "counter");
    let value = typed_value("example/name", vec![b'x'; 200]);
    Record {
        sequence: number.into(),
        sub_sequence: 0,
        trace: None,
        headers: None,
        key: id.as_str().into(),
        routed: Ok(vec![(Address::new(function, id), value)]),
    }
}

struct Bench {
    partition: Partition,
    facts: VecDeque<Input>,
    now_ms: u64,
    completed: u64,
}

impl Bench {
    /// Handles an input, and everything that follows from it.
    fn handle(&mut self, input: Input) {
        self.now_ms += 1;
        self.facts.push_back(input);
        while let Some(fact) = self.facts.pop_front() {
            self.partition.handle_input(self.now_ms, fact);
            while let Some(output) = self.partition.poll_output() {
                self.perform(output);
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Commit(delta) => self.facts.push_back(Input::CommitDurable {
                number: delta.number,
            }),
            Output::Invoke { batch, .. } => {
                let declared = batch.state.iter().any(|state| &*state.name == STATE);
                if declared {
                    self.completed += batch.messages.len() as u64;
                }
                self.facts.push_back(Input::InvocationCompleted {
                    attempt: batch.attempt,
                    answer: FromFunction {
                        response: Some(if declared { counted() } else { declaration() }),
                    },
                });
            }
            _ => {}
        }
    }
}

fn counted() -> Response {
    Response::InvocationResult(InvocationResponse {
        state_mutations: vec![PersistedValueMutation {
            mutation_type: 1,
            state_name: STATE.to_owned(),
            state_value: Some(typed_value(TYPE, vec![b'y'; 200])),
        }],
        ..InvocationResponse::default()
    })
}

fn declaration() -> Response {
    Response::IncompleteInvocationContext(IncompleteInvocationContext {
        missing_values: vec![PersistedValueSpec {
            state_name: STATE.to_owned(),
            type_typename: TYPE.to_owned(),
            ..PersistedValueSpec::default()
        }],
        ..IncompleteInvocationContext::default()
    })
}
