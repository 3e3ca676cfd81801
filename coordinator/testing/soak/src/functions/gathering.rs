//! Jobs whose parts are spread over workers and gathered.

use std::collections::BTreeSet;

use satchel_sdk::{Context, FunctionType, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

use super::{Left, leave, violation};

const WORKER: FunctionType = FunctionType::new("soak/worker");
const GATHER: FunctionType = FunctionType::new("soak/gather");

/// How many workers there are.
const WORKERS: u64 = 5;

/// Spreads a job of so many parts.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/job")]
pub(crate) struct Job {
    pub(crate) n: u64,
    pub(crate) parts: u64,
}

/// One part of a job, to be done, and done.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/part")]
struct Part {
    n: u64,
    part: u64,
    parts: u64,
}

/// The parts of a job that are done.
#[derive(Debug, Default, Serialize, Deserialize, Message)]
#[message(typename = "soak/parts-done")]
struct PartsDone {
    done: BTreeSet<u64>,
}

#[derive(State)]
struct Gathered {
    parts: Value<PartsDone>,
}

pub(super) fn bind(functions: Functions) -> Functions {
    functions
        .bind("soak/scatter", scatter)
        .bind_type(WORKER, Worker)
        .bind_type(GATHER, Gather)
}

async fn scatter(ctx: &mut Context, job: Job) -> Result {
    let Job { n, parts } = job;
    for part in 0..parts {
        let worker = WORKER.id(((n + part) % WORKERS).to_string());
        ctx.send(worker, &Part { n, part, parts });
    }
    Ok(())
}

struct Worker;

impl satchel_sdk::Function for Worker {
    type Message = Part;
    type State = ();

    async fn invoke(&self, ctx: &mut Context, part: Part) -> Result {
        ctx.send(GATHER.id(part.n.to_string()), &part);
        Ok(())
    }
}

struct Gather;

impl satchel_sdk::Function for Gather {
    type Message = Part;
    type State = Gathered;

    async fn invoke(&self, ctx: &mut Context<Gathered>, part: Part) -> Result {
        let me = ctx.self_address().clone();
        let done = &mut ctx.state.parts.get_mut_or_default().done;
        if !done.insert(part.part) {
            violation(&me, format!("{part:?} is done twice"));
        }
        if done.len() as u64 == part.parts {
            leave(ctx, me.id(), &Left::Gathered { n: part.n });
        }
        Ok(())
    }
}
