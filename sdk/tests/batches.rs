//! A batch as the runtime sees it: the handshake, the state, the effects, the errors.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use satchel_sdk::egress::{KafkaRecord, KinesisRecord};
use satchel_sdk::protocol::bundle::Terminal;
use satchel_sdk::protocol::reqreply::from_function::{self, Response};
use satchel_sdk::protocol::reqreply::to_function::{
    Invocation, InvocationBatchRequest, PersistedValue, Request,
};
use satchel_sdk::protocol::reqreply::{self, FromFunction, ToFunction, TypedValue};
use satchel_sdk::protocol::types::typed_value;
use satchel_sdk::{
    BatchError, Context, Error, Function, FunctionType, Functions, Message, Result, State, Value,
};

const LEDGER: FunctionType = FunctionType::new("test/ledger");

#[derive(State)]
struct Ledger {
    balance: Value<i64>,
    #[state(name = "last-note", expire_after_write = "30d")]
    note: Value<String>,
    #[state(expire_after_invoke = "1h")]
    open: Value<bool>,
}

/// Runs the command that a message holds.
async fn ledger(ctx: &mut Context<Ledger>, message: String) -> Result {
    let me = ctx.self_address().clone();
    match message.split(' ').collect::<Vec<_>>()[..] {
        ["add", amount] => *ctx.state.balance.get_mut_or_default() += amount.parse::<i64>()?,
        ["read"] => ctx.reply(&ctx.state.balance.get_or_default())?,
        ["note", note] => ctx.state.note.set(note.to_owned()),
        ["open"] => ctx.state.open.set(true),
        ["close"] => ctx.state.open.clear(),
        ["clear"] => ctx.state.balance.clear(),
        ["send", id] => ctx.send(LEDGER.id(id), &message),
        ["later"] => drop(ctx.send_after(Duration::from_micros(1500), me, &1_i32)),
        ["later", token] => ctx.send_after(Duration::MAX, me, &1_i32).with_token(token),
        ["cancel", token] => ctx.cancel(token),
        ["kinesis"] => ctx.egress("test/out", &KinesisRecord::new("s", "k").bytes("v")),
        ["kafka"] => ctx.egress("test/out", &KafkaRecord::new("t").key("k").bytes("v")),
        ["no-key"] => ctx.egress("test/out", &KinesisRecord::new("s", "").bytes("v")),
        ["fail"] => return Err("on request".into()),
        _ => return Err(format!("what is {message:?}?").into()),
    }
    Ok(())
}

fn functions() -> Functions {
    Functions::new().bind(LEDGER, ledger)
}

fn text(text: &str) -> TypedValue {
    text.to_owned().to_typed_value().unwrap()
}

fn caller() -> reqreply::Address {
    reqreply::Address {
        namespace: "test".into(),
        r#type: "caller".into(),
        id: "1".into(),
    }
}

fn me() -> reqreply::Address {
    reqreply::Address {
        namespace: "test".into(),
        r#type: "ledger".into(),
        id: "a".into(),
    }
}

fn request(state: &[(&str, Option<TypedValue>)], messages: &[&str]) -> ToFunction {
    ToFunction {
        request: Some(Request::Invocation(InvocationBatchRequest {
            target: Some(me()),
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
                    caller: Some(caller()),
                    argument: Some(text(message)),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })),
    }
}

fn no_state() -> Vec<(&'static str, Option<TypedValue>)> {
    vec![("balance", None), ("last-note", None), ("open", None)]
}

fn balance(balance: i64) -> Vec<(&'static str, Option<TypedValue>)> {
    vec![
        ("balance", Some(balance.to_typed_value().unwrap())),
        ("last-note", Some(text("hello"))),
        ("open", Some(true.to_typed_value().unwrap())),
    ]
}

async fn run(
    state: &[(&str, Option<TypedValue>)],
    messages: &[&str],
) -> Result<from_function::InvocationResponse, BatchError> {
    match functions().handle(request(state, messages)).await?.response {
        Some(Response::InvocationResult(result)) => Ok(result),
        other => panic!("no result: {other:?}"),
    }
}

fn modified(name: &str, value: TypedValue) -> from_function::PersistedValueMutation {
    from_function::PersistedValueMutation {
        mutation_type: 1,
        state_name: name.to_owned(),
        state_value: Some(value),
    }
}

fn deleted(name: &str) -> from_function::PersistedValueMutation {
    from_function::PersistedValueMutation {
        mutation_type: 0,
        state_name: name.to_owned(),
        state_value: None,
    }
}

#[tokio::test]
async fn missing_state_is_asked_for_and_the_function_does_not_run() {
    let answer = functions()
        .handle(request(&[("balance", None)], &["fail"]))
        .await
        .unwrap();
    let spec = |name: &str, typename: &str, mode: i32, expire_after_millis: i64| {
        from_function::PersistedValueSpec {
            state_name: name.to_owned(),
            expiration_spec: Some(from_function::ExpirationSpec {
                mode,
                expire_after_millis,
            }),
            type_typename: typename.to_owned(),
        }
    };
    assert_eq!(
        answer,
        FromFunction {
            response: Some(Response::IncompleteInvocationContext(
                from_function::IncompleteInvocationContext {
                    missing_values: vec![
                        spec("last-note", "io.statefun.types/string", 1, 2_592_000_000),
                        spec("open", "io.statefun.types/bool", 2, 3_600_000),
                    ],
                    ..Default::default()
                },
            )),
        }
    );
}

/// A request by a runtime that knows these fingerprints.
fn asking(
    declarations: &[u64],
    state: &[(&str, Option<TypedValue>)],
    messages: &[&str],
) -> ToFunction {
    let mut request = request(state, messages);
    if let Some(Request::Invocation(batch)) = &mut request.request {
        batch.declarations = declarations.to_vec();
    }
    request
}

#[tokio::test]
async fn a_runtime_that_does_not_know_the_declarations_gets_them_before_any_code_runs() {
    let first = asking(&[7], &[("balance", None)], &["fail"]);
    let Some(Response::IncompleteInvocationContext(first)) =
        functions().handle(first).await.unwrap().response
    else {
        panic!("the declarations come first");
    };
    assert_eq!(first.missing_values.len(), 2);
    assert_eq!(first.declared_values.len(), 3);
    let own = satchel_protocol::declaration::fingerprint(&first.declared_values);
    assert_eq!(first.declaration, own);

    // The request holds every state, and the runtime knows another declaration.
    let changed = asking(&[7, 8], &no_state(), &["fail"]);
    let Some(Response::IncompleteInvocationContext(changed)) =
        functions().handle(changed).await.unwrap().response
    else {
        panic!("the declarations come first");
    };
    assert_eq!(changed.missing_values, []);
    assert_eq!(changed.declared_values, first.declared_values);

    let known = asking(&[7, own], &no_state(), &["add 1"]);
    let Some(Response::InvocationResult(result)) =
        functions().handle(known).await.unwrap().response
    else {
        panic!("a result");
    };
    assert_eq!(result.declaration, own);
    assert_eq!(result.state_mutations.len(), 1);
}

#[tokio::test]
async fn the_invocations_of_a_batch_share_the_state_and_only_the_end_goes_back() {
    let result = run(&balance(5), &["add 1", "read", "add 2", "read"])
        .await
        .unwrap();
    let reply = |cause: u32, value: i64| from_function::Invocation {
        target: Some(caller()),
        argument: Some(value.to_typed_value().unwrap()),
        cause,
    };
    assert_eq!(
        result,
        from_function::InvocationResponse {
            state_mutations: vec![modified("balance", 8_i64.to_typed_value().unwrap())],
            outgoing_messages: vec![reply(2, 6), reply(4, 8)],
            ..Default::default()
        }
    );
}

#[tokio::test]
async fn unchanged_values_do_not_go_back() {
    for (state, messages) in [
        (no_state(), &["open", "close"][..]),
        (no_state(), &["add 1", "clear"]),
        (no_state(), &["clear"]),
        (balance(5), &["add 1", "add -1"]),
        (balance(5), &["open"]),
        (balance(5), &[]),
    ] {
        let result = run(&state, messages).await.unwrap();
        assert_eq!(result, Default::default(), "{messages:?}");
    }
}

#[tokio::test]
async fn a_zero_is_a_value_and_a_cleared_value_is_deleted() {
    let zero = run(&no_state(), &["add 0"]).await.unwrap();
    assert_eq!(
        zero.state_mutations,
        [modified(
            "balance",
            typed_value("io.statefun.types/long", "")
        )]
    );
    let cleared = run(&balance(5), &["add 1", "clear"]).await.unwrap();
    assert_eq!(cleared.state_mutations, [deleted("balance")]);
}

#[tokio::test]
async fn writing_the_same_again_goes_back_where_it_defers_the_expiration() {
    let result = run(&balance(5), &["note hello"]).await.unwrap();
    assert_eq!(
        result.state_mutations,
        [modified("last-note", text("hello"))]
    );
}

#[tokio::test]
async fn messages_timers_and_egress_name_the_invocation_that_caused_them() {
    let messages = ["send b", "later", "later t", "cancel t", "kinesis", "kafka"];
    let result = run(&no_state(), &messages).await.unwrap();
    let one = 1_i32.to_typed_value().unwrap();
    assert_eq!(
        result.outgoing_messages,
        [from_function::Invocation {
            target: Some(reqreply::Address {
                id: "b".into(),
                ..me()
            }),
            argument: Some(text("send b")),
            cause: 1,
        }]
    );
    let delayed = |delay_in_ms: i64, token: &str, cause: u32| from_function::DelayedInvocation {
        delay_in_ms,
        target: Some(me()),
        argument: Some(one.clone()),
        is_cancellation_request: false,
        cancellation_token: token.to_owned(),
        cause,
    };
    assert_eq!(
        result.delayed_invocations,
        [
            delayed(2, "", 2),
            delayed(i64::MAX, "t", 3),
            from_function::DelayedInvocation {
                is_cancellation_request: true,
                cancellation_token: "t".into(),
                cause: 4,
                ..Default::default()
            },
        ]
    );
    let egressed: Vec<_> = result
        .outgoing_egresses
        .iter()
        .map(|egress| {
            let typename = &egress.argument.as_ref().unwrap().typename;
            (
                egress.egress_namespace.as_str(),
                egress.egress_type.as_str(),
                typename.rsplit('.').next().unwrap(),
                egress.cause,
            )
        })
        .collect();
    assert_eq!(
        egressed,
        [
            ("test", "out", "KinesisEgressRecord", 5),
            ("test", "out", "KafkaProducerRecord", 6),
        ]
    );
}

#[tokio::test]
async fn one_error_fails_the_batch_and_says_which_message() {
    for (messages, kind, text) in [
        (&["fail"][..], "function", "on request"),
        (
            &["add 1", "fail", "add 1"],
            "function",
            "message 2 of 3: on request",
        ),
        (&["add x"], "function", "invalid digit found in string"),
        (
            &["add 1", "cancel "],
            "function",
            "message 2 of 2: a cancellation token must not be empty",
        ),
        (
            &["later "],
            "function",
            "a cancellation token must not be empty",
        ),
        (
            &["no-key"],
            "function",
            "a type.googleapis.com/io.statefun.sdk.egress.KinesisEgressRecord cannot be written: \
             the record for stream s has no partition key",
        ),
    ] {
        assert_eq!(
            run(&balance(5), messages).await,
            Err(BatchError::new(kind, text))
        );
    }
}

#[tokio::test]
async fn a_record_without_a_caller_cannot_be_answered() {
    for no_caller in [None, Some(reqreply::Address::default())] {
        let mut request = request(&no_state(), &["read"]);
        let Some(Request::Invocation(batch)) = &mut request.request else {
            unreachable!()
        };
        batch.invocations[0].caller = no_caller;
        assert_eq!(
            functions().handle(request).await.unwrap_err().message,
            "test/ledger/a cannot reply: this message came from an ingress and has no caller"
        );
    }
}

#[tokio::test]
async fn state_of_another_type_is_rejected_by_name() {
    let mut state = no_state();
    state[0].1 = Some(text("five"));
    assert_eq!(
        run(&state, &["add 1"]).await,
        Err(BatchError::new(
            "invalid_state",
            "state \"balance\" holds a io.statefun.types/string, \
             but is declared as a io.statefun.types/long",
        ))
    );
    state[0].1 = Some(typed_value("io.statefun.types/long", vec![9, 1]));
    let error = run(&state, &["add 1"]).await.unwrap_err();
    assert_eq!(error.kind, "invalid_state");
    assert!(
        error
            .message
            .starts_with("state \"balance\" is not a readable io.statefun.types/long: "),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn a_request_without_batch_target_or_known_function_is_rejected() {
    let error = |kind: &str, message: &str| Err(BatchError::new(kind, message));
    assert_eq!(
        functions().handle(ToFunction::default()).await,
        error("invalid_request", "the request holds no batch")
    );
    let mut request = request(&no_state(), &["read"]);
    let Some(Request::Invocation(batch)) = &mut request.request else {
        unreachable!()
    };
    batch.target = None;
    assert_eq!(
        functions().handle(request.clone()).await,
        error("invalid_request", "the batch has no target")
    );
    let Some(Request::Invocation(batch)) = &mut request.request else {
        unreachable!()
    };
    batch.target = Some(caller());
    assert_eq!(
        functions().handle(request).await,
        Err(BatchError {
            terminal: Some(Terminal {
                index: Some(0),
                code: 404,
                message: "there is no function test/caller".into(),
            }),
            ..BatchError::new(
                "unknown_function",
                "this handler has no function test/caller; it has test/ledger"
            )
        })
    );
}

#[tokio::test]
async fn the_facts_of_a_message_belong_to_its_invocation_alone() {
    async fn identify(ctx: &mut Context, _: bool) -> Result {
        let seen = format!(
            "{:?} {} {:?}",
            ctx.idempotency_key(),
            ctx.failed_attempts(),
            ctx.traceparent()
        );
        ctx.reply(&seen)?;
        Ok(())
    }
    let functions = Functions::new().bind("test/ledger", identify);
    let mut request = request(&[], &["a", "b"]);
    let Some(Request::Invocation(batch)) = &mut request.request else {
        unreachable!()
    };
    for invocation in &mut batch.invocations {
        invocation.argument = Some(true.to_typed_value().unwrap());
    }
    batch.invocations[0].message_id = "00ff".into();
    batch.invocations[0].failed_attempts = 2;
    batch.invocations[0].traceparent = "00-1-2-01".into();
    let Some(Response::InvocationResult(result)) =
        functions.handle(request).await.unwrap().response
    else {
        panic!("no result")
    };
    let replies: Vec<_> = result
        .outgoing_messages
        .into_iter()
        .map(|reply| String::from_typed_value(reply.argument.unwrap()).unwrap())
        .collect();
    assert_eq!(
        replies,
        [r#"Some("00ff") 2 Some("00-1-2-01")"#, "None 0 None"]
    );
}

#[tokio::test]
async fn an_error_is_reported_with_its_sources_each_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("the charge failed")]
    struct ChargeFailed(#[source] std::num::ParseIntError);

    struct Charge;
    impl Function for Charge {
        type Message = String;
        type State = ();

        async fn invoke(&self, _: &mut Context, message: String) -> Result<(), Error> {
            message.parse::<i32>().map_err(ChargeFailed)?;
            Ok(())
        }
    }
    let functions = Functions::new().bind_type("test/ledger", Charge);
    assert_eq!(
        functions
            .handle(request(&[], &["x"]))
            .await
            .unwrap_err()
            .message,
        "the charge failed: invalid digit found in string"
    );
}

#[test]
#[should_panic(expected = "test/ledger is bound to two functions")]
fn a_function_type_has_one_function() {
    let _ = functions().bind(LEDGER, ledger);
}

#[test]
fn functions_can_be_shared_and_their_batches_run_on_any_thread() {
    fn assert_shared<T: Send + Sync + 'static>(_: &T) {}
    fn assert_sent<T: Send>(_: T) {}
    let functions = functions();
    assert_shared(&functions);
    assert_sent(functions.handle(ToFunction::default()));
}
