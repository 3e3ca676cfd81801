//! Processes that take one log over from each other, over a store whose conditional creates may
//! land late.
//!
//! ```text
//! read epochs, manifest ─┬─► read log/<n>, … ──┬─► (look) ─► create log/<T> takeover ─► (look)
//!           ▲            └─► create epochs/<e> ─┘                                        │
//!           └──────────── (the log was collected meanwhile) ◄────────────────────────────┤
//!                                                                                        ▼
//!                                              create log/<n> delta, with a window of two
//! ```
//!
//! The first process owns the log at the start. Each other one takes it over at any time and is
//! never told to stop. A process that does nothing more has died. A create is on its way until it
//! lands; a process may find out late, or never. Only a process for which much time has passed
//! takes the steps in parentheses: it looks at the next epoch and at the manifest.
//!
//! A delta names all deltas that its owner saw before it. So a lost, doubled or overtaken one shows
//! in the fold of the log. Of time, one fact is modelled: when an object is deleted, no process
//! still trusts a look at the epochs from before its condemnation.

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Model, Property};

pub use mutants::Mutant;

mod mutants;

/// Number of commits in flight at most.
const DEPTH: u8 = 2;

/// Size of the world.
#[derive(Debug, Clone, Copy)]
pub struct Takeover {
    /// Number of processes, the first owner included.
    pub processes: usize,
    /// Number of deltas that each process makes at most.
    pub deltas: u8,
    /// Number of snapshots that are taken at most.
    pub snapshots: u8,
    /// Rule that is left out.
    pub mutant: Option<Mutant>,
}

/// Number of an object in the log.
type Number = u8;

/// A delta: its process and its place among the deltas of that process.
type Delta = (u8, u8);

/// Epoch and nonce; the process is its own nonce.
type Owner = (u8, u8);

/// An object of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    owner: Owner,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Content {
    Takeover,
    /// A delta, after the deltas that its owner had seen.
    Delta(Delta, Vec<Delta>),
}

/// Snapshot in effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Manifest {
    replay_from: Number,
    content: Vec<Delta>,
    force: Option<Owner>,
}

/// State of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    epochs: BTreeMap<u8, BTreeSet<u8>>,
    log: BTreeMap<Number, Record>,
    manifest: Manifest,
    snapshots: u8,
    /// Creates on their way.
    under_way: BTreeSet<(Number, Record)>,
    processes: Vec<Process>,
    /// Deltas that a process called durable, in that order.
    durable: Vec<Delta>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Process {
    phase: Phase,
    /// Content of the log, as far as the process knows it.
    view: Fold,
    /// It claimed its epoch.
    claimed: bool,
    /// The grace passed while it read the log.
    slow: bool,
    /// The grace passed since it read the end of the log.
    late: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    /// It has done nothing.
    Idle,
    /// It read the manifest and folds the log; this is the next number. It claims this epoch, or
    /// the first that is free, meanwhile.
    Folding(u8, Number),
    /// It found this number free, and looks at the epochs before it writes.
    AtEnd(u8, Number),
    /// Its takeover record is on its way to this number.
    TakingOver(u8, Number),
    /// Its takeover record is at this number; it reads the manifest again.
    Checking(u8, Number),
    /// It owns the log.
    Owning(Owning),
    /// Another process owns the log.
    Fenced,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Owning {
    epoch: u8,
    takeover: Number,
    /// Deltas on their way, by number; true: stored.
    sealed: BTreeMap<Number, (Delta, bool)>,
    /// Next number.
    next: Number,
    made: u8,
    /// A look at the epochs found no successor, not long ago.
    fresh: bool,
}

/// The fold of a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Fold {
    deltas: Vec<Delta>,
    force: Option<Owner>,
    /// A delta was made over other deltas than those before it.
    wrong: bool,
}

impl Fold {
    fn apply(&mut self, record: &Record) {
        match &record.content {
            Content::Takeover => {
                if self.force.is_none_or(|force| force.0 < record.owner.0) {
                    self.force = Some(record.owner);
                }
            }
            Content::Delta(delta, over) => {
                // Without a takeover before it, the first record decides, as in a mutant.
                if *self.force.get_or_insert(record.owner) == record.owner {
                    self.wrong |= *over != self.deltas;
                    self.deltas.push(*delta);
                }
            }
        }
    }
}

/// One step of a process, by its index, or of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Takes the next step of its takeover.
    Advance(usize),
    /// Claims an epoch, or learns that it is taken.
    Claim(usize),
    /// Seals a delta and sends it.
    Seal(usize),
    /// Asks for the object of a create: it is stored, or another one is.
    Ask(usize, u8),
    /// Looks whether a successor claimed an epoch.
    Look(usize),
    /// Calls its first delta durable.
    Confirm(usize),
    /// Takes a snapshot of what is durable, and waits until nothing before it is needed.
    Snapshot(usize),
    /// A create lands, or is refused.
    Land(u8, Record),
}

impl Takeover {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn fold(&self, world: &World) -> Fold {
        let mut fold = self.read_manifest(&world.manifest);
        let mut number = world.manifest.replay_from;
        while let Some(record) = world.log.get(&number) {
            fold.apply(record);
            number += 1;
        }
        fold
    }

    fn read_manifest(&self, manifest: &Manifest) -> Fold {
        Fold {
            deltas: manifest.content.clone(),
            force: if self.is(Mutant::ForgetForce) {
                None
            } else {
                manifest.force
            },
            wrong: false,
        }
    }

    /// Next step of a takeover.
    fn advance(&self, world: &mut World, index: usize) -> Option<()> {
        let me = index as u8;
        let newest = *world.epochs.keys().last()?;
        match world.processes[index].phase.clone() {
            Phase::Idle => {
                let process = &mut world.processes[index];
                process.view = self.read_manifest(&world.manifest);
                process.claimed = false;
                process.slow = false;
                process.late = false;
                process.phase = Phase::Folding(newest + 1, world.manifest.replay_from);
            }
            Phase::Folding(epoch, number) => {
                let process = &mut world.processes[index];
                let outrun = process.view.force.is_some_and(|(force, _)| force > epoch);
                if let Some(record) = world.log.get(&number) {
                    process.view.apply(record);
                    process.phase = Phase::Folding(epoch, number + 1);
                } else if !process.claimed {
                    return None;
                } else if outrun && !self.is(Mutant::IgnoreSuccessor) {
                    process.phase = Phase::Fenced;
                } else {
                    process.phase = Phase::AtEnd(epoch, number);
                }
            }
            Phase::AtEnd(epoch, number) => {
                let process = &world.processes[index];
                let looks = (process.slow || process.late) && !self.is(Mutant::TrustEnd);
                if looks && world.epochs.contains_key(&(epoch + 1)) {
                    world.processes[index].phase = Phase::Fenced;
                } else {
                    let record = Record {
                        owner: (epoch, if self.is(Mutant::ShareEpoch) { 0 } else { me }),
                        content: Content::Takeover,
                    };
                    world.under_way.insert((number, record));
                    world.processes[index].phase = Phase::TakingOver(epoch, number);
                }
            }
            Phase::TakingOver(epoch, number) => {
                let record = world.log.get(&number)?;
                let mine = (epoch, if self.is(Mutant::ShareEpoch) { 0 } else { me });
                let process = &mut world.processes[index];
                process.view.apply(record);
                process.phase = if record.owner == mine {
                    Phase::Checking(epoch, number)
                } else {
                    process.slow |= process.late;
                    Phase::Folding(epoch, number + 1)
                };
            }
            Phase::Checking(epoch, takeover) => {
                let process = &world.processes[index];
                let slow = process.slow && !self.is(Mutant::ReadForever);
                let looks = process.slow || process.late;
                let collected =
                    world.manifest.replay_from > takeover && !self.is(Mutant::TrustManifest);
                let successor = world.epochs.contains_key(&(epoch + 1));
                world.processes[index].phase = if slow || looks && collected {
                    Phase::Idle
                } else if looks && successor {
                    Phase::Fenced
                } else {
                    Phase::Owning(Owning {
                        epoch,
                        takeover,
                        sealed: BTreeMap::new(),
                        next: takeover + 1,
                        made: 0,
                        fresh: false,
                    })
                };
            }
            Phase::Owning(_) | Phase::Fenced => return None,
        }
        Some(())
    }

    /// Claims the epoch that a process chose. If it is taken, the process chooses again.
    fn claim(&self, world: &mut World, index: usize) -> Option<()> {
        let newest = *world.epochs.keys().last()?;
        let process = &mut world.processes[index];
        let Phase::Folding(epoch, number) = process.phase else {
            return None;
        };
        let holders = world.epochs.entry(epoch).or_default();
        if holders.is_empty() || self.is(Mutant::ShareEpoch) {
            holders.insert(index as u8);
            process.claimed = true;
        } else {
            process.phase = Phase::Folding(newest + 1, number);
        }
        Some(())
    }

    /// True if an owner may begin the next number (rule 3). Up to where a former owner can have
    /// left objects, each number waits for the one before it.
    fn may_seal(&self, owning: &Owning) -> bool {
        let first = owning.sealed.keys().next().unwrap_or(&owning.next);
        let alone = *first < owning.takeover + DEPTH && !self.is(Mutant::Renumber);
        let room = if alone { 1 } else { usize::from(DEPTH) };
        owning.made < self.deltas && owning.sealed.len() < room
    }

    fn record(&self, index: usize, epoch: u8, delta: Delta, over: Vec<Delta>) -> Record {
        let nonce = if self.is(Mutant::ShareEpoch) {
            0
        } else {
            index as u8
        };
        Record {
            owner: (epoch, nonce),
            content: Content::Delta(delta, over),
        }
    }

    fn seal(&self, world: &mut World, index: usize) -> Option<()> {
        let process = &mut world.processes[index];
        let Phase::Owning(owning) = &mut process.phase else {
            return None;
        };
        let delta = (index as u8, owning.made);
        let record = self.record(index, owning.epoch, delta, process.view.deltas.clone());
        owning.made += 1;
        owning.sealed.insert(owning.next, (delta, false));
        world.under_way.insert((owning.next, record));
        owning.next += 1;
        // It runs ahead: the next delta is made over this one.
        process.view.deltas.push(delta);
        Some(())
    }

    /// The object under `number` answers a create of the owner.
    fn ask(&self, world: &mut World, index: usize, number: Number) -> Option<()> {
        let found = world.log.get(&number).cloned();
        let newest = *world.epochs.keys().last()?;
        let process = &mut world.processes[index];
        let Phase::Owning(owning) = &mut process.phase else {
            return None;
        };
        let (delta, _) = *owning.sealed.get(&number)?;
        let found = found?;
        let mine = matches!(&found.content, Content::Delta(one, _) if *one == delta);
        if mine {
            owning.sealed.insert(number, (delta, true));
            return Some(());
        }
        let inherited = number < owning.takeover + DEPTH || self.is(Mutant::Renumber);
        let successor = newest > owning.epoch && !self.is(Mutant::TrustVoid);
        if found.owner.0 >= owning.epoch || !inherited || successor {
            process.phase = Phase::Fenced;
            return Some(());
        }
        // A void object: the same delta goes to the next number.
        let place = process.view.deltas.iter().position(|one| *one == delta)?;
        let over = process.view.deltas[..place].to_vec();
        let record = self.record(index, owning.epoch, delta, over);
        owning.sealed.remove(&number);
        owning.sealed.insert(owning.next, (delta, false));
        world.under_way.insert((owning.next, record));
        owning.next += 1;
        Some(())
    }

    fn confirm(&self, world: &mut World, index: usize) -> Option<()> {
        let number = self.confirmable(&world.processes[index])?;
        let Phase::Owning(owning) = &mut world.processes[index].phase else {
            return None;
        };
        let (delta, _) = owning.sealed.remove(&number)?;
        world.durable.push(delta);
        Some(())
    }

    /// Number of the commit that counts next.
    fn confirmable(&self, process: &Process) -> Option<Number> {
        let Phase::Owning(owning) = &process.phase else {
            return None;
        };
        if !owning.fresh && !self.is(Mutant::IgnoreFence) {
            return None;
        }
        if self.is(Mutant::SkipPrefix) {
            let mut stored = owning.sealed.iter().filter(|(_, (_, stored))| *stored);
            return stored.next().map(|(number, _)| *number);
        }
        let (number, (_, stored)) = owning.sealed.first_key_value()?;
        stored.then_some(*number)
    }

    /// The owner's state through its last durable delta becomes the snapshot. Everything before is
    /// condemned, and deleted after the grace.
    fn snapshot(world: &mut World, index: usize) -> Option<()> {
        let process = &world.processes[index];
        let Phase::Owning(owning) = &process.phase else {
            return None;
        };
        let replay_from = owning.next;
        let force = process.view.force;
        world.manifest = Manifest {
            replay_from,
            content: process.view.deltas.clone(),
            force,
        };
        world.snapshots += 1;
        world.log.retain(|number, _| *number >= replay_from);
        for process in &mut world.processes {
            match &mut process.phase {
                Phase::Owning(owning) => owning.fresh = false,
                Phase::Folding(..) => process.slow = true,
                Phase::AtEnd(..) | Phase::TakingOver(..) | Phase::Checking(..) => {
                    process.late = true;
                }
                Phase::Idle | Phase::Fenced => {}
            }
        }
        Some(())
    }
}

impl Model for Takeover {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let owner = Record {
            owner: (1, 0),
            content: Content::Takeover,
        };
        let mut view = Fold::default();
        view.apply(&owner);
        let mut processes = vec![
            Process {
                phase: Phase::Idle,
                view: Fold::default(),
                claimed: false,
                slow: false,
                late: false,
            };
            self.processes
        ];
        processes[0] = Process {
            // It is the first owner, so it is past the numbers that a former owner can reach.
            phase: Phase::Owning(Owning {
                epoch: 1,
                takeover: 0,
                sealed: BTreeMap::new(),
                next: 2,
                made: 0,
                fresh: false,
            }),
            view,
            claimed: true,
            slow: false,
            late: false,
        };
        vec![World {
            epochs: BTreeMap::from([(1, BTreeSet::from([0]))]),
            log: BTreeMap::from([(1, owner)]),
            manifest: Manifest {
                replay_from: 1,
                content: Vec::new(),
                force: None,
            },
            snapshots: 0,
            under_way: BTreeSet::new(),
            processes,
            durable: Vec::new(),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (index, process) in world.processes.iter().enumerate() {
            match &process.phase {
                Phase::Fenced => {}
                Phase::TakingOver(_, number) => {
                    if world.log.contains_key(number) {
                        actions.push(Action::Advance(index));
                    }
                }
                Phase::Owning(owning) => {
                    if self.may_seal(owning) {
                        actions.push(Action::Seal(index));
                    }
                    for (number, (_, stored)) in &owning.sealed {
                        if !stored && world.log.contains_key(number) {
                            actions.push(Action::Ask(index, *number));
                        }
                    }
                    if !owning.fresh {
                        actions.push(Action::Look(index));
                    }
                    if self.confirmable(process).is_some() {
                        actions.push(Action::Confirm(index));
                    }
                    let quiet = owning.sealed.is_empty();
                    if quiet && owning.fresh && world.snapshots < self.snapshots {
                        actions.push(Action::Snapshot(index));
                    }
                }
                Phase::Folding(_, number) => {
                    if !process.claimed {
                        actions.push(Action::Claim(index));
                    }
                    if process.claimed || world.log.contains_key(number) {
                        actions.push(Action::Advance(index));
                    }
                }
                _ => actions.push(Action::Advance(index)),
            }
        }
        let landings = world.under_way.iter().cloned();
        actions.extend(landings.map(|(number, record)| Action::Land(number, record)));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Advance(index) => self.advance(&mut world, index)?,
            Action::Claim(index) => self.claim(&mut world, index)?,
            Action::Seal(index) => self.seal(&mut world, index)?,
            Action::Ask(index, number) => self.ask(&mut world, index, number)?,
            Action::Look(index) => {
                let Phase::Owning(owning) = &mut world.processes[index].phase else {
                    return None;
                };
                if world.epochs.contains_key(&(owning.epoch + 1)) {
                    world.processes[index].phase = Phase::Fenced;
                } else {
                    owning.fresh = true;
                }
            }
            Action::Confirm(index) => self.confirm(&mut world, index)?,
            Action::Snapshot(index) => Self::snapshot(&mut world, index)?,
            Action::Land(number, record) => {
                let put = (number, record);
                world.under_way.remove(&put);
                world.log.entry(number).or_insert(put.1);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "what was called durable is in the log",
                |model: &Self, world: &World| {
                    let fold = model.fold(world);
                    world
                        .durable
                        .iter()
                        .all(|delta| fold.deltas.contains(delta))
                },
            ),
            Property::always(
                "each delta was made over those before it",
                |model: &Self, world: &World| !model.fold(world).wrong,
            ),
            Property::sometimes(
                "a second owner's delta becomes durable",
                |_, world: &World| world.durable.iter().any(|delta| delta.0 == 1),
            ),
            // With one delta, the first owner has none on its way beyond the takeover.
            Property::sometimes("a void object is passed", |model: &Self, world: &World| {
                let passed = |process: &Process| match &process.phase {
                    Phase::Owning(owning) => owning.next > owning.takeover + owning.made + 1,
                    _ => false,
                };
                model.deltas < 2 || world.processes[1..].iter().any(passed)
            }),
        ]
    }
}
