//! Work of a maker and of an early owner: production's code over the simulated store.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use satchel_engine::durable::{Change, Key, Value};
use satchel_engine::placement::Placement;
use satchel_log::{At, Contender, Io, ObjectStore, Source};
use satchel_storage::fork::{
    Content, CreateError, NewRoot, ReadError, Refusal, RootWriter, refuse_filling, take_over,
};

use super::Kind;
use crate::durable::DurableFacts;
use crate::operators::{application, nonce};
use crate::process::ProcessId;
use crate::truth::Facts;

/// Content that a maker read, and from which it makes a root.
#[derive(Clone)]
pub(crate) struct ForkContent {
    /// Hash of all facts that were read.
    pub(super) hash: u64,
    /// Facts that the new root must hold.
    pub(crate) facts: Facts,
    pub(crate) committed_at_ms: u64,
}

/// Reason why a maker did not make its root.
#[derive(Debug)]
pub(super) enum MakeFailure {
    Read(ReadError),
    Make(CreateError),
}

impl From<ReadError> for MakeFailure {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<CreateError> for MakeFailure {
    fn from(error: CreateError) -> Self {
        Self::Make(error)
    }
}

/// Order to a maker.
pub(super) struct MakeOrder {
    pub(super) kind: Kind,
    pub(super) at: At,
    pub(super) root: String,
    pub(super) placement: Placement,
    pub(super) delta_bytes: usize,
    pub(super) contents: Rc<RefCell<Vec<ForkContent>>>,
    pub(super) shifts_time: bool,
}

/// Makes a root in `store`. Returns the index of its content in `contents`.
pub(super) async fn make(
    id: ProcessId,
    source: Source,
    store: Arc<dyn ObjectStore>,
    order: MakeOrder,
) -> Result<usize, MakeFailure> {
    let found = application(&source).await;
    let application = found.map_err(|error| ReadError::History(error.into()))?;
    let content = Content::read(&source, &application, order.at, |_| {}).await?;
    let copy = ForkContent::of(&content, order.kind);
    let facts: Vec<Change> = copy.changes().collect();
    let index = order.contents.borrow().len();
    order.contents.borrow_mut().push(copy);
    let making = format!("root of maker {id}");
    let mut filling = RootWriter::begin(NewRoot {
        io: Io {
            store,
            ..source.io()
        },
        root: order.root,
        application: "simulated".to_owned(),
        placement: order.placement,
        partitions: 1,
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
                filling.push(0, fact).await?;
            }
            filling.finish(None).await?;
        }
    }
    Ok(index)
}

impl ForkContent {
    fn of(content: &Content, kind: Kind) -> Self {
        let (mut all, mut kept) = (Facts::default(), Facts::default());
        for (_, fact) in content.facts() {
            all.apply(&fact);
            let wanted = match (kind, &fact.value) {
                (Kind::Restore, _) => true,
                (Kind::Import, Some(Value::State(state))) => {
                    // An export leaves out expired states.
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

/// Takes over like an owner. Returns what it would serve, or its refusal.
pub(super) async fn own(place: Contender, careless: bool) -> Result<DurableFacts, Refusal> {
    let mut durable = DurableFacts::default();
    if careless {
        satchel_log::take_over(place, &mut durable).await?;
        return Ok(durable);
    }
    take_over(place, &mut durable).await?;
    let hold = match durable.facts.get(Key::Hold) {
        Some(Value::Hold(hold)) => Some(hold),
        _ => None,
    };
    refuse_filling(hold)?;
    Ok(durable)
}
