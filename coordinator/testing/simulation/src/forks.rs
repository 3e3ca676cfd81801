//! Forks and imports of this root, written beside the owner at work by makers that die, sleep and
//! are repeated; and owners that come before the root is whole.

mod making;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use futures::FutureExt;
use satchel_engine::durable::{Change, Key, Value};
use satchel_engine::placement::Placement;
use satchel_log::{At, Contender, ErrorKind, HistoryError, LogError, Reading, Source, read};
use satchel_log_simulation::Random;
use satchel_storage::fork::{CreateError, ReadError, Refusal, refuse_filling};
use satchel_storage::placement::{identity, recorded};

pub(crate) use self::making::ForkContent;
use self::making::{MakeFailure, MakeOrder, make, own};
use crate::durable::DurableFacts;
use crate::fault_plan::{FaultPlan, draw_placement};
use crate::history::is_serious;
use crate::mutants::Mutant;
use crate::operators::{Done, application, nonce};
use crate::process::ProcessId;
use crate::store::{MachineClock, Mailbox, Objects, Still};
use crate::truth::Facts;
use crate::world::{Event, World};

/// Maximum number of attempts to find the content of a fork in the truth.
const FINDS_MAX: u32 = 300;

/// Roots that are made from this one.
#[derive(Default)]
pub(crate) struct Forks(Vec<Fork>);

struct Fork {
    root: String,
    kind: Kind,
    at: At,
    phase: Phase,
    placement: Placement,
    delta_bytes: usize,
    /// Number of deletions of the savepoint that had begun when the fork was requested.
    deletions: u64,
    /// Number of durable deltas when the savepoint was begun, or when the fork was requested.
    from: usize,
    /// Contents that makers have read, in order.
    contents: Rc<RefCell<Vec<ForkContent>>>,
    /// Number of makers started.
    attempts: u64,
    /// Number of early owners started.
    owners: u64,
    makers: BTreeSet<ProcessId>,
    finds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Restore,
    Import,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Making,
    /// The root holds the content with this index.
    Whole(usize),
    Over,
}

/// Result of a maker, or of an early owner.
pub(crate) struct ForkEnded {
    fork: usize,
    outcome: ForkOutcome,
}

enum ForkOutcome {
    Made(Result<usize, MakeFailure>),
    /// An early owner came, and would serve this.
    Owned(Result<DurableFacts, Refusal>),
}

impl Forks {
    pub(crate) fn is_done(&self) -> bool {
        self.0.iter().all(|fork| fork.phase == Phase::Over)
    }

    pub(crate) fn pending(&self) -> usize {
        let open = self.0.iter().filter(|fork| fork.phase != Phase::Over);
        open.count()
    }
}

/// Draws the number of forks.
pub(crate) fn draw(random: &Random, faults: &mut FaultPlan) {
    faults.forks = if random.chance(140) { 1 } else { 0 };
}

impl World {
    pub(crate) fn schedule_forks(&mut self) {
        for _ in 0..self.faults.forks {
            let delay_ms = 1_000 + self.random.below(self.faults.faulty_ms);
            self.timeline.after(delay_ms, Event::ForkWanted);
        }
    }

    /// Begins a fork of the present root, a moment or a savepoint.
    pub(crate) fn fork_wanted(&mut self) {
        if self.truth.history.is_empty() {
            self.timeline.after(1_000, Event::ForkWanted);
            return;
        }
        let (at, from) = self.draw_origin();
        let deletions = match at {
            At::Savepoint(name) => self.history.deletions_of(name),
            At::Latest | At::Moment(_) => 0,
        };
        let fork = self.forks.0.len();
        // A restore keeps the placement of its origin. An import chooses one.
        let (kind, placement) = if self.random.chance(250) {
            (Kind::Import, draw_placement(&self.random))
        } else {
            (Kind::Restore, self.faults.config.placement)
        };
        self.forks.0.push(Fork {
            root: format!("fork{fork}"),
            kind,
            at,
            phase: Phase::Making,
            placement,
            delta_bytes: 200 + self.random.below(20_000) as usize,
            deletions,
            from,
            contents: Rc::default(),
            attempts: 0,
            owners: 0,
            makers: BTreeSet::new(),
            finds: 0,
        });
        self.record(|| format!("fork{fork} of {at:?} is requested"));
        self.timeline.after(0, Event::MakerStarts(fork));
        if self.random.chance(600) {
            self.timeline.after(1, Event::EarlyOwnerStarts(fork));
        }
    }

    fn draw_origin(&mut self) -> (At, usize) {
        let from = self.truth.history.len();
        let savepoints = self.history.kept();
        match self.random.below(3) {
            0 if !savepoints.is_empty() => {
                let at = self.random.below(savepoints.len() as u64) as usize;
                (At::Savepoint(savepoints[at]), 0)
            }
            1 => match self.draw_moment() {
                Some(moment_ms) => (At::Moment(moment_ms), 0),
                None => (At::Latest, from),
            },
            _ => (At::Latest, from),
        }
    }

    /// Starts a maker of the fork.
    pub(crate) fn maker_starts(&mut self, number: usize) {
        let fork = &mut self.forks.0[number];
        if fork.phase == Phase::Over {
            return;
        }
        fork.attempts += 1;
        let attempts = fork.attempts;
        let order = MakeOrder {
            kind: fork.kind,
            at: match fork.at {
                At::Moment(moment_ms) if self.mutant == Some(Mutant::WrongMoment) => {
                    At::Moment(self.truth.moment_before(moment_ms))
                }
                at => at,
            },
            root: fork.root.clone(),
            placement: fork.placement,
            delta_bytes: fork.delta_bytes,
            contents: fork.contents.clone(),
            shifts_time: self.mutant == Some(Mutant::ForkShiftsTime),
        };
        let writes = vec![format!("{}/", fork.root)];
        let id = self.start_maker(writes, |id, source, store| async move {
            Done::Fork(ForkEnded {
                fork: number,
                outcome: ForkOutcome::Made(make(id, source, store, order).await),
            })
        });
        self.forks.0[number].makers.insert(id);
        self.record(|| format!("operator {id} writes fork{number}, attempt {attempts}"));
        let risk = 700 / attempts;
        self.disturb_operator(id, risk, risk / 2);
        // An operator takes the maker for dead and starts another one.
        if !self.faults_ended && self.random.chance(risk / 3) {
            let delay_ms = self.random.below(2_000);
            self.timeline.after(delay_ms, Event::MakerStarts(number));
        }
    }

    pub(crate) fn maker_died(&mut self, id: ProcessId) {
        let found = self.forks.0.iter_mut().enumerate();
        let mut found =
            found.filter_map(|(number, fork)| fork.makers.remove(&id).then_some(number));
        if let Some(number) = found.next() {
            self.restart_maker(number);
        }
    }

    /// Starts another maker unless one is at work.
    fn restart_maker(&mut self, number: usize) {
        let fork = &self.forks.0[number];
        if fork.phase == Phase::Making && fork.makers.is_empty() {
            let delay_ms = 10 + self.random.below(1_000);
            self.timeline.after(delay_ms, Event::MakerStarts(number));
        }
    }

    /// Starts an owner, whether the root is whole or not.
    pub(crate) fn early_owner_starts(&mut self, number: usize) {
        let fork = &mut self.forks.0[number];
        if fork.phase != Phase::Making {
            return;
        }
        let marked = is_marked(&self.objects, &fork.root);
        // The interval grows, so that a maker that sleeps long does not cause endless owners.
        let delay_ms = 1 + self.random.below(200 * (1 + fork.owners));
        self.timeline
            .after(delay_ms, Event::EarlyOwnerStarts(number));
        if !marked {
            // Before the first mark, an owner would create an application of its own.
            return;
        }
        fork.owners += 1;
        let careless = self.mutant == Some(Mutant::PartialFork);
        let options = self.faults.log;
        let (root, placement) = (fork.root.clone(), fork.placement);
        let writes = vec![format!("{root}/")];
        self.start_maker(writes, |id, source, store| async move {
            let place = Contender {
                store,
                root,
                identity: identity("simulated", placement),
                nonce: nonce(id),
                clock: source.clock,
                options,
                on_store_failure: source.on_store_failure,
            };
            Done::Fork(ForkEnded {
                fork: number,
                outcome: ForkOutcome::Owned(own(place, careless).await),
            })
        });
    }

    /// Handles the end of a maker or of an early owner.
    pub(crate) fn fork_ended(&mut self, id: ProcessId, ended: ForkEnded) {
        let number = ended.fork;
        self.forks.0[number].makers.remove(&id);
        match ended.outcome {
            ForkOutcome::Made(Ok(index)) => {
                self.record(|| format!("operator {id} has written fork{number}"));
                self.check_whole(number, Some(index));
            }
            ForkOutcome::Made(Err(error)) => {
                self.record(|| format!("operator {id} fails to write fork{number}: {error:?}"));
                self.make_failed(number, &error);
                self.restart_maker(number);
            }
            ForkOutcome::Owned(owned) => {
                self.record(|| format!("operator {id} takes over fork{number} early"));
                self.check_early_owner(number, owned);
            }
        }
    }

    fn make_failed(&mut self, number: usize, error: &MakeFailure) {
        let fork = &self.forks.0[number];
        let (at, alone) = (fork.at, fork.attempts + fork.owners == 1);
        let deleted = match at {
            At::Savepoint(name) => self.history.deletions_of(name) != fork.deletions,
            At::Latest | At::Moment(_) => false,
        };
        let serious = match error {
            MakeFailure::Make(CreateError::Occupied) if !alone => {
                self.check_whole(number, None);
                false
            }
            MakeFailure::Make(CreateError::Log(error)) => match error.kind() {
                ErrorKind::Fenced => alone,
                ErrorKind::Environment => false,
                ErrorKind::Refused | ErrorKind::Bug => true,
            },
            MakeFailure::Read(ReadError::History(_)) if deleted => {
                self.forks.0[number].phase = Phase::Over;
                false
            }
            MakeFailure::Read(ReadError::History(HistoryError::Log(error))) => is_serious(error),
            MakeFailure::Read(ReadError::History(error @ HistoryError::Collected { .. })) => {
                match at {
                    At::Moment(moment_ms) => {
                        let problem = self.check_moment(moment_ms, Err(error.clone()));
                        self.stage.violations.extend(problem);
                        self.forks.0[number].phase = Phase::Over;
                        false
                    }
                    At::Latest | At::Savepoint(_) => true,
                }
            }
            MakeFailure::Make(_) | MakeFailure::Read(_) => true,
        };
        if serious {
            let violation = format!("fork{number} of {at:?} cannot be written: {error:?}");
            self.stage.violations.push(violation);
        }
    }

    /// Checks that an early owner would not serve a partial root.
    fn check_early_owner(&mut self, number: usize, owned: Result<DurableFacts, Refusal>) {
        let fork = &self.forks.0[number];
        let problem = match owned {
            Ok(durable) => {
                let found = without_hold(&durable.facts);
                let contents = fork.contents.borrow();
                let known = contents
                    .iter()
                    .any(|copy| copy.facts.hash() == found.hash());
                let held = durable.facts.get(Key::Hold).is_some();
                let well = known && held == (fork.kind == Kind::Restore);
                (!well).then(|| format!("an owner would serve fork{number} before it is whole"))
            }
            Err(Refusal::Unfinished { .. } | Refusal::Filling { .. }) => {
                self.report.forks_refused += 1;
                None
            }
            Err(Refusal::Log(error)) => match error.kind() {
                ErrorKind::Fenced | ErrorKind::Environment => None,
                ErrorKind::Refused | ErrorKind::Bug => {
                    Some(format!("fork{number} cannot be taken over: {error}"))
                }
            },
        };
        self.stage.violations.extend(problem);
    }

    /// Checks a root that its maker reports whole, or reports occupied.
    fn check_whole(&mut self, number: usize, index: Option<usize>) {
        let fork = &self.forks.0[number];
        if fork.phase != Phase::Making {
            return;
        }
        let (root, kind, placement) = (fork.root.clone(), fork.kind, fork.placement);
        let contents = fork.contents.clone();
        let problem = match self.read_root(&root, placement) {
            Err(problem) => Some(problem),
            Ok((durable, reading)) => {
                let marked = is_marked(&self.objects, &root);
                let hold = match durable.facts.get(Key::Hold) {
                    Some(Value::Hold(hold)) => Some(hold),
                    _ => None,
                };
                let filling = refuse_filling(hold).is_err();
                if index.is_none() && (marked || filling) {
                    // The other maker is still at work.
                    return;
                }
                let found = without_hold(&durable.facts).hash();
                let contents = contents.borrow();
                let mut known = contents.iter().enumerate().filter(|(place, copy)| {
                    index.is_none_or(|index| index == *place) && copy.facts.hash() == found
                });
                match known.next() {
                    None => Some(format!("fork{number} does not hold what its maker read")),
                    Some(_) if hold.is_some() != (kind == Kind::Restore) || filling => {
                        Some(format!("fork{number} begins with the wrong hold {hold:?}"))
                    }
                    Some((_, copy))
                        if kind == Kind::Restore
                            && reading.committed_at_ms.unwrap_or(0) < copy.committed_at_ms =>
                    {
                        Some(format!(
                            "fork{number} was committed at {:?}, before its origin at {}",
                            reading.committed_at_ms, copy.committed_at_ms
                        ))
                    }
                    Some((place, _)) => {
                        self.forks.0[number].phase = Phase::Whole(place);
                        None
                    }
                }
            }
        };
        match problem {
            Some(problem) => self.stage.violations.push(problem),
            None => self.timeline.after(1, Event::ForkServed(number)),
        }
    }

    /// Reads a root directly from the store, without faults.
    fn read_root(
        &self,
        root: &str,
        placement: Placement,
    ) -> Result<(DurableFacts, Reading), String> {
        let source = Source {
            store: Arc::new(Still::new(&self.objects)),
            root: root.to_owned(),
            clock: Arc::new(MachineClock::new(0, Mailbox::default())),
            retry: self.faults.log.retry,
            on_store_failure: Arc::new(|_| {}),
        };
        let looking = async {
            let application = application(&source).await?;
            if recorded(&application) != placement {
                return Err(HistoryError::Log(LogError::Misuse("placement".to_owned())));
            }
            let mut durable = DurableFacts::default();
            let reading = read(&source, &application, 0, At::Latest, &mut durable).await?;
            Ok((durable, reading))
        };
        match looking.now_or_never() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => Err(format!("{root} cannot be read: {error}")),
            None => Err(format!("reading {root} waits for something")),
        }
    }

    /// Runs the fork as a world of its own, once the truth knows its content.
    pub(crate) fn fork_served(&mut self, number: usize) {
        let fork = &mut self.forks.0[number];
        let Phase::Whole(index) = fork.phase else {
            return;
        };
        if is_marked(&self.objects, &fork.root) {
            // A late maker is at work or died. It is refused, or the next one is, and then all
            // marks are removed.
            if fork.makers.is_empty() {
                self.timeline.after(0, Event::MakerStarts(number));
            }
            self.timeline.after(200, Event::ForkServed(number));
            return;
        }
        fork.finds += 1;
        let copy = fork.contents.borrow()[index].clone();
        let known = match fork.at {
            At::Moment(moment_ms) => self.truth.hash_at(moment_ms) == copy.hash,
            At::Latest | At::Savepoint(_) => self.truth.was_durable(copy.hash, fork.from),
        };
        let exact = matches!(fork.at, At::Moment(_));
        if !known && !exact && fork.finds < FINDS_MAX {
            // The fork contains deltas that are not reported durable yet.
            self.timeline.after(200, Event::ForkServed(number));
            return;
        }
        let (root, kind, placement) = (fork.root.clone(), fork.kind, fork.placement);
        let at = fork.at;
        fork.phase = Phase::Over;
        if !known {
            let violation = format!("{root} of {at:?} is {}", self.truth.describe(copy.hash));
            self.stage.violations.push(violation);
            return;
        }
        match self.read_root(&root, placement) {
            Ok((durable, _)) => {
                self.serve_fork((&root, placement), kind, &copy, &durable.facts);
            }
            Err(problem) => self.stage.violations.push(problem),
        }
    }
}

/// Returns true if a maker is at work on this root, or died.
fn is_marked(objects: &Objects, root: &str) -> bool {
    let prefix = format!("{root}/unfinished/");
    let next = objects.objects.range(prefix.clone()..).next();
    next.is_some_and(|(key, _)| key.starts_with(&prefix))
}

fn without_hold(facts: &Facts) -> Facts {
    let mut facts = facts.clone();
    facts.apply(&Change {
        key: Key::Hold,
        value: None,
    });
    facts
}
