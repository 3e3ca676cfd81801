//! Questions that are answered through a second function.

use std::collections::BTreeMap;

use satchel_sdk::{Address, Context, FunctionType, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

use super::violation;

const ANSWERER: FunctionType = FunctionType::new("soak/answerer");

/// Number of answerers.
const ANSWERERS: u64 = 3;

/// Message to an asker.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/asker-message")]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum AskerMessage {
    /// Sent by a client; the answer is its reply.
    Ask { n: u64 },
    /// Sent by an answerer.
    Answer { n: u64 },
}

#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/question")]
struct Question {
    n: u64,
}

/// Reply to the caller.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "soak/answered")]
pub(crate) struct Answered {
    pub(crate) answered: u64,
}

/// Unanswered questions with their callers.
#[derive(Debug, Default, Serialize, Deserialize, Message)]
#[message(typename = "soak/open-questions")]
pub(crate) struct Questions {
    pub(crate) open: BTreeMap<u64, Address>,
}

#[derive(State)]
struct Asker {
    questions: Value<Questions>,
}

pub(super) fn bind(functions: Functions) -> Functions {
    functions
        .bind("soak/asker", ask)
        .bind_type(ANSWERER, Answerer)
}

async fn ask(ctx: &mut Context<Asker>, message: AskerMessage) -> Result {
    let me = ctx.self_address().clone();
    let caller = ctx.caller().ok_or("the message has no caller")?.clone();
    let open = &mut ctx.state.questions.get_mut_or_default().open;
    match message {
        AskerMessage::Ask { n } => {
            if open.insert(n, caller).is_some() {
                violation(&me, format!("question {n} was asked twice"));
            }
            ctx.send(ANSWERER.id((n % ANSWERERS).to_string()), &Question { n });
        }
        AskerMessage::Answer { n } => match open.remove(&n) {
            Some(caller) => ctx.send(&caller, &Answered { answered: n }),
            None => violation(&me, format!("{n} was answered but not asked")),
        },
    }
    Ok(())
}

struct Answerer;

impl satchel_sdk::Function for Answerer {
    type Message = Question;
    type State = ();

    async fn invoke(&self, ctx: &mut Context, question: Question) -> Result {
        ctx.reply(&AskerMessage::Answer { n: question.n })?;
        Ok(())
    }
}
