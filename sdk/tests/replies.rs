//! Handlers that return their reply, and handlers that reject a message for good.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use satchel_sdk::prelude::*;
use satchel_sdk::protocol::bundle::Terminal;
use satchel_sdk::protocol::reqreply::from_function::Response;
use satchel_sdk::protocol::reqreply::to_function::{Invocation, InvocationBatchRequest, Request};
use satchel_sdk::protocol::reqreply::{self, ToFunction, TypedValue};
use satchel_sdk::testing::BatchScenario;
use satchel_sdk::{AsyncFunction, BatchError};

const CALLER: &str = "test/caller/1";

async fn outcome<F>(handler: F, message: &str, caller: bool) -> Result<Vec<String>, BatchError>
where
    F: for<'a> AsyncFunction<'a, (), String>,
{
    let functions = Functions::new().bind("test/function", handler);
    let scenario = BatchScenario::new(&functions, "test/function/a");
    let message = message.to_owned();
    let scenario = if caller {
        scenario.message_from(&CALLER.into(), &message)
    } else {
        scenario.message(&message)
    };
    let outcome = scenario.run().await?;
    assert_eq!(
        outcome.sent().len(),
        outcome.messages_to::<String>(&CALLER.into()).len()
    );
    Ok(outcome.messages_to(&CALLER.into()))
}

async fn echo(_: &mut Context, message: String) -> Result<String> {
    Ok(message)
}

async fn echo_some(_: &mut Context, message: String) -> Result<Option<String>> {
    Ok(Some(message).filter(|message| !message.is_empty()))
}

async fn nothing(_: &mut Context, _: String) -> Result {
    Ok(())
}

async fn explicit(ctx: &mut Context, message: String) -> Result<()> {
    ctx.reply(&message)?;
    ctx.reply(&message)?;
    Ok(())
}

async fn both(ctx: &mut Context, message: String) -> Result<String> {
    if ctx.caller().is_some() {
        ctx.reply(&message)?;
    }
    Ok(message)
}

async fn maybe_both(ctx: &mut Context, message: String) -> Result<Option<String>> {
    ctx.reply(&message)?;
    Ok(None)
}

async fn with_an_error_of_its_own(
    _: &mut Context,
    message: String,
) -> Result<i64, std::num::ParseIntError> {
    message.parse()
}

/// Has no wire form: JSON allows no such key.
async fn unwritable(_: &mut Context, _: String) -> Result<Json<BTreeMap<Vec<u8>, u8>>> {
    Ok(Json([(vec![1], 1)].into()))
}

#[tokio::test]
async fn a_returned_value_is_the_reply_to_the_caller() {
    assert_eq!(outcome(echo, "hi", true).await.unwrap(), ["hi"]);
    assert_eq!(outcome(echo_some, "hi", true).await.unwrap(), ["hi"]);
    let functions = Functions::new().bind("test/parse", with_an_error_of_its_own);
    let parsed = BatchScenario::new(&functions, "test/parse/a")
        .message_from(&CALLER.into(), &"7".to_owned())
        .run()
        .await
        .unwrap();
    assert_eq!(parsed.messages_to::<i64>(&CALLER.into()), [7]);
    assert_eq!(parsed.sent()[0].cause, 0);
}

#[tokio::test]
async fn without_a_caller_or_a_value_nothing_is_sent() {
    assert_eq!(outcome(echo, "hi", false).await.unwrap(), [""; 0]);
    assert_eq!(outcome(both, "hi", false).await.unwrap(), [""; 0]);
    assert_eq!(outcome(unwritable, "hi", false).await.unwrap(), [""; 0]);
    assert_eq!(outcome(echo_some, "", true).await.unwrap(), [""; 0]);
    assert_eq!(outcome(nothing, "hi", true).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_handler_may_still_reply_by_itself_as_often_as_it_likes() {
    assert_eq!(outcome(explicit, "hi", true).await.unwrap(), ["hi", "hi"]);
    assert_eq!(outcome(maybe_both, "hi", true).await.unwrap(), ["hi"]);
}

#[tokio::test]
async fn replying_and_returning_a_reply_is_an_error() {
    assert_eq!(
        outcome(both, "hi", true).await.unwrap_err(),
        BatchError::new(
            "function",
            "test/function/a replied twice: with `ctx.reply` and with the value it returned; \
             return `Result<()>` or leave out `ctx.reply`",
        )
    );
}

#[tokio::test]
async fn each_message_of_a_batch_has_its_own_reply() {
    let functions = Functions::new().bind("test/function", both_or_one);
    async fn both_or_one(ctx: &mut Context, message: String) -> Result<Option<String>> {
        if message == "explicit" {
            ctx.reply(&message)?;
            return Ok(None);
        }
        Ok(Some(message))
    }
    let outcome = BatchScenario::new(&functions, "test/function/a")
        .message_from(&CALLER.into(), &"explicit".to_owned())
        .message_from(&CALLER.into(), &"returned".to_owned())
        .run()
        .await
        .unwrap();
    assert_eq!(
        outcome.messages_to::<String>(&CALLER.into()),
        ["explicit", "returned"]
    );
    assert_eq!(outcome.sent()[1].cause, 1);
}

#[tokio::test]
async fn a_reply_that_cannot_be_encoded_fails_the_invocation() {
    let error = outcome(unwritable, "hi", true).await.unwrap_err();
    assert_eq!(
        (error.kind.as_str(), error.message.as_str()),
        (
            "function",
            "a satchel/json cannot be written: key must be a string"
        )
    );
}

#[derive(State)]
struct Account {
    balance: Value<i64>,
}

async fn account(ctx: &mut Context<Account>, message: String) -> Result<i64> {
    #[derive(Debug, thiserror::Error)]
    #[error("the bank said no")]
    struct Refused(#[source] TerminalError);

    ctx.send("test/audit/1", &message);
    let balance = ctx.state.balance.get_mut_or_default();
    *balance += 1;
    match message.as_str() {
        "count" => Ok(*balance),
        "fail" => Err("not today".into()),
        "terminal" => Err(TerminalError::new(404, "no such account").into()),
        "wrapped" => Err(Refused(TerminalError::new(409, "frozen")).into()),
        other => panic!("unexpected {other}"),
    }
}

fn batch(messages: &[TypedValue]) -> ToFunction {
    ToFunction {
        request: Some(Request::Invocation(InvocationBatchRequest {
            target: Some(reqreply::Address {
                namespace: "test".into(),
                r#type: "account".into(),
                id: "1".into(),
            }),
            state: vec![reqreply::to_function::PersistedValue {
                state_name: "balance".into(),
                state_value: None,
            }],
            invocations: messages
                .iter()
                .map(|message| Invocation {
                    argument: Some(message.clone()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })),
    }
}

fn text(text: &str) -> TypedValue {
    text.to_owned().to_typed_value().unwrap()
}

fn terminal(index: u32, code: u16, message: &str) -> Option<Terminal> {
    Some(Terminal {
        index: Some(index),
        code,
        message: message.to_owned(),
    })
}

#[tokio::test]
async fn a_terminal_error_names_its_message_and_applies_nothing_of_the_batch() {
    let functions = Functions::new().bind("test/account", account);
    for (messages, kind, message, expected) in [
        (
            vec![text("terminal")],
            "terminal",
            "no such account",
            terminal(0, 404, "no such account"),
        ),
        (
            vec![text("count"), text("terminal"), text("count")],
            "terminal",
            "message 2 of 3: no such account",
            terminal(1, 404, "no such account"),
        ),
        (
            vec![text("count"), text("wrapped")],
            "terminal",
            "message 2 of 2: the bank said no: frozen",
            terminal(1, 409, "frozen"),
        ),
        (vec![text("fail")], "function", "not today", None),
    ] {
        assert_eq!(
            functions.handle(batch(&messages)).await,
            Err(BatchError {
                terminal: expected,
                ..BatchError::new(kind, message)
            })
        );
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_decoded_is_rejected_for_good() {
    let functions = Functions::new().bind("test/account", account);
    let other = 7_i32.to_typed_value().unwrap();
    let garbage = TypedValue {
        value: vec![0xff].into(),
        ..text("")
    };
    for (message, kind) in [(other, "unknown_typename"), (garbage, "invalid_message")] {
        let error = functions
            .handle(batch(&[text("count"), message]))
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind);
        let terminal = error.terminal.unwrap();
        assert_eq!((terminal.index, terminal.code), (Some(1), 400));
        assert_eq!(
            error.message,
            format!("message 2 of 2: {}", terminal.message)
        );
    }
}

/// The coordinator's side of the rule in `protocol::bundle`, as far as it needs a function: the
/// messages before the rejected one run again without it.
#[tokio::test]
async fn the_messages_before_a_rejected_one_succeed_without_it() {
    let functions = Functions::new().bind("test/account", account);
    let messages = [
        text("count"),
        text("count"),
        text("terminal"),
        text("count"),
    ];
    let error = functions.handle(batch(&messages)).await.unwrap_err();
    let index = error.terminal.unwrap().index.unwrap() as usize;
    let answer = functions.handle(batch(&messages[..index])).await.unwrap();
    let Some(Response::InvocationResult(result)) = answer.response else {
        panic!("no result: {answer:?}")
    };
    assert_eq!(result.outgoing_messages.len(), index);
    assert_eq!(
        result.state_mutations[0].state_value,
        Some(2_i64.to_typed_value().unwrap())
    );
    let error = functions
        .handle(batch(&messages[index..]))
        .await
        .unwrap_err();
    assert_eq!(error.terminal.unwrap().index, Some(0));
}
