//! A handler whose functions misbehave on demand, for the tests of this crate.

use std::process::ExitCode;
use std::time::Duration;

use satchel_sdk::prelude::*;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

#[derive(State)]
struct Counter {
    count: Value<i64>,
}

/// Adds the message to the count and replies with the sum.
async fn counter(ctx: &mut Context<Counter>, message: i64) -> Result<i64> {
    let count = ctx.state.count.get_or_default() + message;
    ctx.state.count.set(count);
    Ok(count)
}

/// Runs the command in the message.
async fn misbehave(ctx: &mut Context, message: String) -> Result {
    match message.split_once(' ').unwrap_or((&message, "")) {
        ("panic", text) => panic!("{text}"),
        ("fail", text) => return Err(text.into()),
        ("reject", text) => return Err(TerminalError::new(404, text).into()),
        ("hang", _) => std::future::pending().await,
        ("connect", address) => {
            // Returns when the other side closes the connection.
            let mut peer = TcpStream::connect(address).await?;
            peer.read_to_end(&mut Vec::new()).await?;
        }
        ("block", ms) => std::thread::sleep(Duration::from_millis(ms.parse()?)),
        ("sleep", ms) => tokio::time::sleep(Duration::from_millis(ms.parse()?)).await,
        ("answer", bytes) => ctx.reply(&Json("x".repeat(bytes.parse()?)))?,
        _ => return Err(format!("what is {message:?}?").into()),
    }
    Ok(())
}

#[derive(State)]
struct VectorCounter {
    count: Value<i32>,
}

/// Function of the vectors (`vectors/README.md`).
async fn vectors(ctx: &mut Context<VectorCounter>, message: String) -> Result {
    match message.split_once(' ').unwrap_or((&message, "")) {
        ("add", amount) => {
            let count = ctx.state.count.get_or_default() + amount.parse::<i32>()?;
            ctx.state.count.set(count);
            ctx.reply(&count)?;
        }
        ("answer", bytes) => ctx.reply(&"x".repeat(bytes.parse()?))?,
        ("fail", text) => return Err(text.into()),
        ("reject", rejection) => {
            let (code, text) = rejection.split_once(' ').unwrap_or((rejection, ""));
            return Err(TerminalError::new(code.parse()?, text).into());
        }
        _ => return Err(format!("what is {message:?}?").into()),
    }
    Ok(())
}

fn main() -> ExitCode {
    let functions = Functions::new()
        .bind("test/counter", counter)
        .bind("test/misbehave", misbehave)
        .bind("vectors/counter", vectors);
    satchel_function_handler::run(functions)
}
