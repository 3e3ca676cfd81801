//! Real handler processes, and requests for them.

#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part")]
#![allow(unreachable_pub, reason = "a module of tests")]

pub mod runtime_api;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use satchel_protocol::reqreply::to_function::{
    Invocation, InvocationBatchRequest, PersistedValue, Request,
};
use satchel_protocol::reqreply::{Address, FromFunction, ToFunction, from_function};
use satchel_sdk::{Message, TypedValue};

/// Long enough for a process to start on a busy machine. A test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A handler process, killed when dropped.
pub struct Handler {
    child: Child,
}

impl Handler {
    /// Starts a handler on a Runtime API.
    pub fn on_lambda(runtime_api: &str) -> Self {
        Self::start(
            Command::new(env!("CARGO_BIN_EXE_satchel-test-handler"))
                .env("AWS_LAMBDA_RUNTIME_API", runtime_api)
                .env("AWS_LAMBDA_FUNCTION_NAME", "test")
                .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
                .env("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        )
    }

    /// Starts a handler that serves HTTP. Returns it with its address.
    pub fn on_http() -> (Self, String) {
        let mut handler = Self::start(
            Command::new(env!("CARGO_BIN_EXE_satchel-test-handler"))
                .args(["--http", "127.0.0.1:0"])
                .env_remove("AWS_LAMBDA_RUNTIME_API")
                .stderr(Stdio::piped()),
        );
        let mut lines = BufReader::new(handler.child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the handler logs its address").unwrap();
            if let Some((_, rest)) = line.split_once("address=") {
                break rest.split(' ').next().unwrap().to_owned();
            }
        };
        // The rest is read too, so that a full pipe does not block the handler.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        (handler, address)
    }

    fn start(command: &mut Command) -> Self {
        Self {
            child: command.stdin(Stdio::null()).spawn().unwrap(),
        }
    }

    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits until the process ends by itself.
    pub fn exit_status(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the handler does not exit");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn address(name: &str, id: &str) -> Address {
    Address {
        namespace: "test".into(),
        r#type: name.into(),
        id: id.into(),
    }
}

/// A batch of messages for one address, from one caller.
pub fn batch(
    to: Address,
    state: &[(&str, Option<TypedValue>)],
    messages: &[TypedValue],
) -> ToFunction {
    ToFunction {
        request: Some(Request::Invocation(InvocationBatchRequest {
            target: Some(to),
            state: state
                .iter()
                .map(|(name, value)| PersistedValue {
                    state_name: (*name).to_owned(),
                    state_value: value.clone(),
                })
                .collect(),
            invocations: messages
                .iter()
                .map(|message| Invocation {
                    caller: Some(address("caller", "1")),
                    argument: Some(message.clone()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })),
    }
}

/// A batch with one command for the misbehaving function.
pub fn misbehave(command: &str) -> ToFunction {
    let command = typed(&command.to_owned());
    batch(address("misbehave", "1"), &[], &[command])
}

/// A batch that adds `messages` to a counter of value `count`.
pub fn count(count: Option<i64>, messages: &[i64]) -> ToFunction {
    let messages: Vec<_> = messages.iter().map(typed).collect();
    let count = count.map(|count| typed(&count));
    batch(address("counter", "1"), &[("count", count)], &messages)
}

/// Answer of the counter: the replies, and the new count.
pub fn counted(replies: &[i64], count: i64) -> FromFunction {
    FromFunction {
        response: Some(from_function::Response::InvocationResult(
            from_function::InvocationResponse {
                state_mutations: vec![from_function::PersistedValueMutation {
                    mutation_type: 1,
                    state_name: "count".into(),
                    state_value: Some(typed(&count)),
                }],
                outgoing_messages: replies
                    .iter()
                    .zip(1..)
                    .map(|(reply, cause)| from_function::Invocation {
                        target: Some(address("caller", "1")),
                        argument: Some(typed(reply)),
                        cause,
                    })
                    .collect(),
                ..Default::default()
            },
        )),
    }
}

pub fn typed(message: &impl Message) -> TypedValue {
    message.to_typed_value().unwrap()
}
