//! Questions that are answered by way of somebody else.

use std::collections::BTreeMap;

use satchel_sdk::{Address, Context, FunctionType, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

use super::violation;

const ANSWERER: FunctionType = FunctionType::new("soak/answerer");

/// How many answerers there are.
const ANSWERERS: u64 = 3;

/// What an asker takes.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/asker-message")]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum AskerMessage {
    /// From outside; the answer goes back there.
    Ask { n: u64 },
    /// From an answerer.
    Answer { n: u64 },
}

#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/question")]
struct Question {
    n: u64,
}

/// What the one who asked is told.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "soak/answered")]
pub(crate) struct Answered {
    pub(crate) answered: u64,
}

/// The questions that are not answered yet, with who asked.
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
    let caller = ctx.caller().ok_or("it comes from nobody")?.clone();
    let open = &mut ctx.state.questions.get_mut_or_default().open;
    match message {
        AskerMessage::Ask { n } => {
            if open.insert(n, caller).is_some() {
                violation(&me, format!("question {n} is asked twice"));
            }
            ctx.send(ANSWERER.id((n % ANSWERERS).to_string()), &Question { n });
        }
        AskerMessage::Answer { n } => match open.remove(&n) {
            Some(caller) => ctx.send(&caller, &Answered { answered: n }),
            None => violation(&me, format!("{n} is answered, and is not asked")),
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
