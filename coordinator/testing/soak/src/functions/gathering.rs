//! Jobs whose parts are distributed over workers and gathered.

use std::collections::BTreeSet;

use satchel_sdk::{Context, FunctionType, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

use super::{EgressRecord, emit, violation};

const WORKER: FunctionType = FunctionType::new("soak/worker");
const GATHER: FunctionType = FunctionType::new("soak/gather");

/// Number of workers.
const WORKERS: u64 = 5;

/// Distributes a job with this number of parts.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/job")]
pub(crate) struct Job {
    pub(crate) n: u64,
    pub(crate) parts: u64,
}

/// One part of a job, as a request and as a result.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/part")]
struct Part {
    n: u64,
    part: u64,
    parts: u64,
}

/// Completed parts of a job.
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
            violation(&me, format!("{part:?} was done twice"));
        }
        if done.len() as u64 == part.parts {
            emit(ctx, me.id(), &EgressRecord::Gathered { n: part.n });
        }
        Ok(())
    }
}
