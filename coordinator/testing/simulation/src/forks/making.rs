//! What a maker does, and what an owner does who comes too early: the code of the product, over the simulated store.

use std::cell::RefCell;
use std::rc::Rc;

use satchel_engine::durable::{Change, Key, Value};
use satchel_log::{At, Place, Source};
use satchel_storage::fork::{
    Content, CreateError, NewRoot, ReadError, Refusal, RootWriter, refuse_filling, take_over,
};

use super::Kind;
use crate::durable::DurableFacts;
use crate::process::ProcessId;
use crate::truth::Facts;
use crate::visits::{application, nonce};

/// What a maker read, and makes a root of.
#[derive(Clone)]
pub(crate) struct Copy {
    /// Of everything that was read.
    pub(super) hash: u64,
    /// What the new root is to hold.
    pub(crate) facts: Facts,
    pub(crate) committed_at_ms: u64,
}

/// Why a maker did not make its root.
#[derive(Debug)]
pub(super) enum Unmade {
    Read(ReadError),
    Make(CreateError),
}

impl From<ReadError> for Unmade {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<CreateError> for Unmade {
    fn from(error: CreateError) -> Self {
        Self::Make(error)
    }
}

/// What a maker is to do.
pub(super) struct Order {
    pub(super) kind: Kind,
    pub(super) at: At,
    pub(super) root: String,
    pub(super) buckets: u16,
    pub(super) delta_bytes: usize,
    pub(super) contents: Rc<RefCell<Vec<Copy>>>,
    pub(super) shifts_time: bool,
}

/// Makes a root; returns which of `contents` it holds.
pub(super) async fn make(id: ProcessId, source: Source, order: Order) -> Result<usize, Unmade> {
    let found = application(&source).await;
    let application = found.map_err(|error| ReadError::History(error.into()))?;
    let content = Content::read(&source, &application, order.at, |_| {}).await?;
    let copy = Copy::of(&content, order.kind);
    let facts: Vec<Change> = copy.changes().collect();
    let index = order.contents.borrow().len();
    order.contents.borrow_mut().push(copy);
    let making = format!("root of maker {id}");
    let mut filling = RootWriter::begin(NewRoot {
        io: source.io(),
        root: order.root,
        application: "simulated".to_owned(),
        buckets: order.buckets,
        nonce: nonce(id),
        making: making.clone(),
        not_before_ms: if order.shifts_time {
            0
        } else {
            content.committed_at_ms
        },
        delta_bytes: order.delta_bytes,
    })
    .await?;
    match order.kind {
        Kind::Restore => {
            content.fork(filling, &making).await?;
        }
        Kind::Import => {
            for fact in &facts {
                filling.push(fact).await?;
            }
            filling.finish(None).await?;
        }
    }
    Ok(index)
}

impl Copy {
    fn of(content: &Content, kind: Kind) -> Self {
        let (mut all, mut kept) = (Facts::default(), Facts::default());
        for fact in content.facts() {
            all.apply(&fact);
            let wanted = match (kind, &fact.value) {
                (Kind::Restore, _) => true,
                (Kind::Import, Some(Value::State(state))) => {
                    // As an export does: what had expired is left out.
                    let end_ms = state.expires_at_ms;
                    end_ms.is_none_or(|end_ms| end_ms > content.committed_at_ms)
                }
                (Kind::Import, _) => false,
            };
            if wanted {
                kept.apply(&fact);
            }
        }
        Self {
            hash: all.hash(),
            facts: kept,
            committed_at_ms: content.committed_at_ms,
        }
    }

    fn changes(&self) -> impl Iterator<Item = Change> {
        self.facts.iter().map(|(key, value)| Change {
            key: key.clone(),
            value: Some(value.clone()),
        })
    }
}

/// What an owner would serve, or why it does not.
pub(super) async fn own(place: Place, careless: bool) -> Result<DurableFacts, Refusal> {
    let mut everything = DurableFacts::default();
    if careless {
        satchel_log::take_over(place, &mut everything).await?;
        return Ok(everything);
    }
    take_over(place, &mut everything).await?;
    let hold = match everything.facts.get(Key::Hold) {
        Some(Value::Hold(hold)) => Some(hold),
        _ => None,
    };
    refuse_filling(hold)?;
    Ok(everything)
}
