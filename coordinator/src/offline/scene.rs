//! One address at a moment, with everything that decides about its next request, and dead letters.

use std::ops::ControlFlow;

use satchel_engine::address::{Address, RESERVED_NAMESPACE};
use satchel_engine::durable::{Change, DeadLetter, Key, Value};
use satchel_engine::message::MessageId;
use satchel_engine::partition::BucketProblem;
use satchel_engine::placement::CachedPlacement;
use satchel_log::{Application, At, BucketFold, Entry, Reading};
use satchel_storage::encode::decode_entry;
use satchel_storage::placement::recorded;

use super::root::Root;
use super::states::{at_ms_of, read_failure};
use crate::clock::now_ms;
use crate::error::{Exit, Failure};
use crate::store::Division;

/// Number of ids of dead letters that an error names.
const IDS_SHOWN: usize = 5;

/// Facts about an address at a moment.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    /// Placement and number of partitions of the application.
    pub(crate) division: Division,
    /// Partition that owns the address.
    pub(crate) partition: u32,
    /// The moment, in ms since the epoch.
    pub(crate) at_ms: u64,
    /// Facts of the address, the declarations of its function and the counter of the partition.
    pub(crate) facts: Vec<Change>,
    /// Ids of the dead letters of the address, oldest first.
    pub(crate) letters: Vec<MessageId>,
}

/// Reads the facts about `address`. Only its bucket is read, and the log of its partition. The root
/// must belong to the application `expected`, if one is given.
///
/// # Errors
/// [`Exit::Environment`] if this is no root, or the store does not answer; [`Exit::Damaged`] if an
/// object that must be read is damaged or missing, or if the history no longer reaches back to the
/// moment, with the earliest one; [`Exit::Usage`] if there is no such savepoint.
pub(crate) async fn scene(
    root: &Root,
    expected: Option<&str>,
    at: At,
    address: &Address,
) -> Result<Scene, Failure> {
    let application = root.application(expected).await?;
    let division = division_of(&application)?;
    let key_group = division.placement.key_group(address);
    let generation = division.generation();
    let partition = generation.map_or(0, |it| it.partitions.partition_of(key_group));
    let mut facts = Facts {
        placement: CachedPlacement::new(division.placement),
        address,
        now_ms: now_ms(),
        at,
        at_ms: 0,
        facts: Vec::new(),
        letters: Vec::new(),
        problem: None,
    };
    let source = root.source();
    let read = satchel_log::read_buckets(&source, &application, partition, at, &mut facts);
    read.await.map_err(read_failure)?;
    if let Some(problem) = facts.problem {
        return Err(malformed(partition, &problem));
    }
    facts.letters.sort_unstable();
    let letters = facts.letters.into_iter().map(|(_, id)| id);
    Ok(Scene {
        division,
        partition,
        at_ms: facts.at_ms,
        facts: facts.facts,
        letters: letters.collect(),
    })
}

/// Finds a dead letter and the address that its message was for.
///
/// # Errors
/// [`Exit::Refused`] if there is none with this id, or it is of no address; else as of [`scene`].
pub(crate) async fn dead_letter(
    root: &Root,
    expected: Option<&str>,
    at: At,
    id: MessageId,
) -> Result<(Address, DeadLetter), Failure> {
    let application = root.application(expected).await?;
    let mut letters = Letters {
        placement: CachedPlacement::new(recorded(&application)),
        id,
        found: None,
        others: Vec::new(),
        count: 0,
        problem: None,
    };
    let source = root.source();
    for partition in 0..application.partitions {
        let read = satchel_log::read_buckets(&source, &application, partition, at, &mut letters);
        read.await.map_err(read_failure)?;
        if let Some(problem) = &letters.problem {
            return Err(malformed(partition, problem));
        }
        let Some((address, letter)) = letters.found.take() else {
            continue;
        };
        if let Some(egress) = letter.egress {
            let message = format!("the dead letter {id} is a record for the egress {egress}");
            return Err(Failure::new(Exit::Refused, message));
        }
        let address = address.filter(|it| it.function.namespace() != RESERVED_NAMESPACE);
        return match address {
            Some(address) => Ok((address, letter)),
            None => {
                let source = &letter.source;
                let message = format!("the dead letter {id}, from {source}, is for no address");
                Err(Failure::new(Exit::Refused, message))
            }
        };
    }
    let message = match letters.count {
        0 => format!("there is no dead letter {id}, nor any other"),
        count => {
            let others: Vec<String> = letters.others.iter().map(ToString::to_string).collect();
            let more = if count > others.len() { ", …" } else { "" };
            let others = others.join(", ");
            format!("there is no dead letter {id}; {count} are kept: {others}{more}")
        }
    };
    Err(Failure::new(Exit::Refused, message))
}

fn division_of(application: &Application) -> Result<Division, Failure> {
    let partitions = u16::try_from(application.partitions).map_err(|_| {
        let count = application.partitions;
        Failure::new(Exit::Damaged, format!("the root has {count} partitions"))
    })?;
    Ok(Division {
        placement: recorded(application),
        partitions,
    })
}

fn malformed(partition: u32, problem: &BucketProblem) -> Failure {
    let message = format!("the durable state: partition {partition}: {problem}");
    Failure::new(Exit::Damaged, message)
}

/// Fold that keeps the facts about one address.
struct Facts<'a> {
    placement: CachedPlacement,
    address: &'a Address,
    now_ms: u64,
    at: At,
    at_ms: u64,
    facts: Vec<Change>,
    /// Numbers and ids of the dead letters of the address.
    letters: Vec<(u64, MessageId)>,
    problem: Option<BucketProblem>,
}

impl BucketFold for Facts<'_> {
    fn clear(&mut self) -> ControlFlow<()> {
        self.facts.clear();
        self.letters.clear();
        self.problem = None;
        ControlFlow::Continue(())
    }

    fn begin(&mut self, reading: &Reading) -> ControlFlow<()> {
        self.at_ms = at_ms_of(self.at, reading, self.now_ms);
        ControlFlow::Continue(())
    }

    fn wants(&mut self, bucket: u16, _: bool) -> bool {
        let own = self.placement.key_group(self.address).0;
        bucket == own || bucket == self.placement.placement().buckets()
    }

    fn apply(&mut self, entry: Entry<'_>) {
        let change = match decode_entry(&mut self.placement, entry) {
            Ok(change) => change,
            Err(problem) => {
                self.problem.get_or_insert(problem);
                return;
            }
        };
        let of_address = change.key.address() == Some(self.address);
        match (&change.key, &change.value) {
            (Key::DeadLetter { number, .. }, Some(Value::DeadLetter(letter))) if of_address => {
                self.letters.push((*number, letter.id));
            }
            (Key::Registration { function }, _) if *function == self.address.function => {
                self.facts.push(change);
            }
            (Key::FunctionPause { function }, _) if *function == self.address.function => {
                self.facts.push(change);
            }
            (Key::Counter, _) => self.facts.push(change),
            _ if of_address => self.facts.push(change),
            _ => {}
        }
    }

    fn end(&mut self, _: u16) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Fold that looks for a dead letter.
struct Letters {
    placement: CachedPlacement,
    id: MessageId,
    found: Option<(Option<Address>, DeadLetter)>,
    /// Ids of the first other dead letters.
    others: Vec<MessageId>,
    /// Number of dead letters that were seen.
    count: usize,
    problem: Option<BucketProblem>,
}

impl BucketFold for Letters {
    fn clear(&mut self) -> ControlFlow<()> {
        self.found = None;
        self.problem = None;
        ControlFlow::Continue(())
    }

    fn wants(&mut self, bucket: u16, pending: bool) -> bool {
        pending && bucket < self.placement.placement().buckets()
    }

    fn apply(&mut self, entry: Entry<'_>) {
        match decode_entry(&mut self.placement, entry) {
            Ok(Change {
                key: Key::DeadLetter { address, .. },
                value: Some(Value::DeadLetter(letter)),
            }) => {
                self.count += 1;
                if letter.id == self.id {
                    self.found = Some((address, letter));
                } else if self.others.len() < IDS_SHOWN {
                    self.others.push(letter.id);
                }
            }
            Ok(_) => {}
            Err(problem) => {
                self.problem.get_or_insert(problem);
            }
        }
    }

    fn end(&mut self, _: u16) -> ControlFlow<()> {
        match self.found.is_some() || self.problem.is_some() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
