//! Those who make one root of another: forks and imports, made beside the owner at work by makers that die, sleep and are repeated; and owners that
//! come too early.

mod making;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use futures::FutureExt;
use satchel_engine::durable::{Change, Key, Value};
use satchel_log::{At, ErrorKind, HistoryError, Identity, LogError, Place, Reading, Source, read};
use satchel_log_simulation::Random;
use satchel_storage::fork::{CreateError, ReadError, Refusal, refuse_filling};

pub(crate) use self::making::Copy;
use self::making::{Order, Unmade, make, own};
use crate::durable::DurableFacts;
use crate::mutants::Mutant;
use crate::past::is_serious;
use crate::process::ProcessId;
use crate::store::{MachineClock, Mailbox, Objects, Still};
use crate::truth::Facts;
use crate::visits::{Done, application, nonce};
use crate::weather::Weather;
use crate::world::{Event, World};

/// How often the truth is asked whether it knows yet what a maker read.
const LOOKS_MAX: u32 = 300;

/// Roots that are made of this one.
#[derive(Default)]
pub(crate) struct Forks(Vec<Fork>);

struct Fork {
    root: String,
    kind: Kind,
    at: At,
    stage: Stage,
    buckets: u16,
    delta_bytes: usize,
    /// How often deletions of the savepoint had begun when this was wanted.
    deletions: u64,
    /// So many deltas were durable when the savepoint was begun, or this was wanted.
    from: usize,
    /// What makers have read, one after the other.
    contents: Rc<RefCell<Vec<Copy>>>,
    /// Makers that were begun.
    attempts: u64,
    /// Owners that came early.
    owners: u64,
    makers: BTreeSet<ProcessId>,
    looks: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Restore,
    Import,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Making,
    /// It holds this of what makers have read.
    Whole(usize),
    Over,
}

/// A maker, or an owner, came to its end.
pub(crate) struct Made {
    fork: usize,
    how: How,
}

enum How {
    Made(Result<usize, Unmade>),
    /// An owner came, and would serve this.
    Owned(Result<DurableFacts, Refusal>),
}

impl Forks {
    pub(crate) fn is_done(&self) -> bool {
        self.0.iter().all(|fork| fork.stage == Stage::Over)
    }

    pub(crate) fn pending(&self) -> usize {
        let open = self.0.iter().filter(|fork| fork.stage != Stage::Over);
        open.count()
    }
}

/// How many roots are made of this one.
pub(crate) fn draw(random: &Random, weather: &mut Weather) {
    weather.forks = if random.chance(140) { 1 } else { 0 };
}

impl World {
    pub(crate) fn wants_forks(&mut self) {
        for _ in 0..self.weather.forks {
            let delay_ms = 1_000 + self.random.below(self.weather.storm_ms);
            self.timeline.after(delay_ms, Event::ForkIsWanted);
        }
    }

    /// Somebody wants a root of what this one holds, or held.
    pub(crate) fn fork_is_wanted(&mut self) {
        if self.truth.history.is_empty() {
            self.timeline.after(1_000, Event::ForkIsWanted);
            return;
        }
        let (at, from) = self.draw_origin();
        let deletions = match at {
            At::Savepoint(name) => self.past.deletions_of(name),
            At::Latest | At::Moment(_) => 0,
        };
        let fork = self.forks.0.len();
        self.forks.0.push(Fork {
            root: format!("fork{fork}"),
            kind: if self.random.chance(250) {
                Kind::Import
            } else {
                Kind::Restore
            },
            at,
            stage: Stage::Making,
            buckets: 1 + self.random.below(12) as u16,
            delta_bytes: 200 + self.random.below(20_000) as usize,
            deletions,
            from,
            contents: Rc::default(),
            attempts: 0,
            owners: 0,
            makers: BTreeSet::new(),
            looks: 0,
        });
        self.say(|| format!("fork{fork} of {at:?} is wanted"));
        self.timeline.after(0, Event::MakerStarts(fork));
        if self.random.chance(600) {
            self.timeline.after(1, Event::OwnerComes(fork));
        }
    }

    fn draw_origin(&mut self) -> (At, usize) {
        let from = self.truth.history.len();
        let savepoints = self.past.kept();
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

    /// Somebody makes it, or makes it once more.
    pub(crate) fn maker_starts(&mut self, number: usize) {
        let fork = &mut self.forks.0[number];
        if fork.stage == Stage::Over {
            return;
        }
        fork.attempts += 1;
        let attempts = fork.attempts;
        let order = Order {
            kind: fork.kind,
            at: match fork.at {
                At::Moment(moment_ms) if self.mutant == Some(Mutant::WrongMoment) => {
                    At::Moment(self.truth.moment_before(moment_ms))
                }
                at => at,
            },
            root: fork.root.clone(),
            buckets: fork.buckets,
            delta_bytes: fork.delta_bytes,
            contents: fork.contents.clone(),
            shifts_time: self.mutant == Some(Mutant::ForkShiftsTime),
        };
        let writes = vec![format!("{}/", fork.root)];
        let id = self.visit(writes, |id, source| async move {
            Done::Made(Made {
                fork: number,
                how: How::Made(make(id, source, order).await),
            })
        });
        self.forks.0[number].makers.insert(id);
        self.say(|| format!("visitor {id} makes fork{number}, attempt {attempts}"));
        let risk = 700 / attempts;
        self.trouble_visitor(id, risk, risk / 2);
        // Somebody takes it for dead.
        if !self.calm && self.random.chance(risk / 3) {
            let delay_ms = self.random.below(2_000);
            self.timeline.after(delay_ms, Event::MakerStarts(number));
        }
    }

    pub(crate) fn maker_died(&mut self, id: ProcessId) {
        let found = self.forks.0.iter_mut().enumerate();
        let mut found =
            found.filter_map(|(number, fork)| fork.makers.remove(&id).then_some(number));
        if let Some(number) = found.next() {
            self.made_again(number);
        }
    }

    /// Unless somebody is at it.
    fn made_again(&mut self, number: usize) {
        let fork = &self.forks.0[number];
        if fork.stage == Stage::Making && fork.makers.is_empty() {
            let delay_ms = 10 + self.random.below(1_000);
            self.timeline.after(delay_ms, Event::MakerStarts(number));
        }
    }

    /// An owner comes, whether the root is whole or not.
    pub(crate) fn owner_comes(&mut self, number: usize) {
        let fork = &mut self.forks.0[number];
        if fork.stage != Stage::Making {
            return;
        }
        let marked = is_marked(&self.objects, &fork.root);
        // Who sleeps long is not asked for ever.
        let delay_ms = 1 + self.random.below(200 * (1 + fork.owners));
        self.timeline.after(delay_ms, Event::OwnerComes(number));
        if !marked {
            // Where nothing was begun yet, an owner begins an application of its own.
            return;
        }
        fork.owners += 1;
        let careless = self.mutant == Some(Mutant::PartialFork);
        let options = self.weather.log;
        let (root, buckets) = (fork.root.clone(), fork.buckets);
        let writes = vec![format!("{root}/")];
        self.visit(writes, |id, source| async move {
            let place = Place {
                store: source.store,
                root,
                identity: Identity {
                    application: "simulated".to_owned(),
                    partition: 0,
                    partitions: 1,
                    buckets,
                },
                nonce: nonce(id),
                clock: source.clock,
                options,
                on_trouble: source.on_trouble,
            };
            Done::Made(Made {
                fork: number,
                how: How::Owned(own(place, careless).await),
            })
        });
    }

    /// A maker or an early owner has come to its end.
    pub(crate) fn made(&mut self, id: ProcessId, made: Made) {
        let number = made.fork;
        self.forks.0[number].makers.remove(&id);
        match made.how {
            How::Made(Ok(index)) => {
                self.say(|| format!("visitor {id} has made fork{number}"));
                self.whole(number, Some(index));
            }
            How::Made(Err(error)) => {
                self.say(|| format!("visitor {id} does not make fork{number}: {error:?}"));
                self.unmade(number, &error);
                self.made_again(number);
            }
            How::Owned(owned) => {
                self.say(|| format!("visitor {id} comes to own fork{number}"));
                self.owned_early(number, owned);
            }
        }
    }

    fn unmade(&mut self, number: usize, error: &Unmade) {
        let fork = &self.forks.0[number];
        let (at, alone) = (fork.at, fork.attempts + fork.owners == 1);
        let deleted = match at {
            At::Savepoint(name) => self.past.deletions_of(name) != fork.deletions,
            At::Latest | At::Moment(_) => false,
        };
        let serious = match error {
            Unmade::Make(CreateError::Occupied) if !alone => {
                self.whole(number, None);
                false
            }
            Unmade::Make(CreateError::Log(error)) => match error.kind() {
                ErrorKind::Fenced => alone,
                ErrorKind::Environment => false,
                ErrorKind::Refused | ErrorKind::Bug => true,
            },
            Unmade::Read(ReadError::History(_)) if deleted => {
                self.forks.0[number].stage = Stage::Over;
                false
            }
            Unmade::Read(ReadError::History(HistoryError::Log(error))) => is_serious(error),
            Unmade::Read(ReadError::History(error @ HistoryError::Collected { .. })) => match at {
                At::Moment(moment_ms) => {
                    let problem = self.check_moment(moment_ms, Err(error.clone()));
                    self.stage.violations.extend(problem);
                    self.forks.0[number].stage = Stage::Over;
                    false
                }
                At::Latest | At::Savepoint(_) => true,
            },
            Unmade::Make(_) | Unmade::Read(_) => true,
        };
        if serious {
            let violation = format!("fork{number} of {at:?} can not be made: {error:?}");
            self.stage.violations.push(violation);
        }
    }

    /// What an owner would serve is never a part.
    fn owned_early(&mut self, number: usize, owned: Result<DurableFacts, Refusal>) {
        let fork = &self.forks.0[number];
        let problem = match owned {
            Ok(everything) => {
                let found = without_hold(&everything.facts);
                let contents = fork.contents.borrow();
                let known = contents
                    .iter()
                    .any(|copy| copy.facts.hash() == found.hash());
                let held = everything.facts.get(Key::Hold).is_some();
                let well = known && held == (fork.kind == Kind::Restore);
                (!well).then(|| format!("an owner would serve a part of fork{number}"))
            }
            Err(Refusal::Unfinished { .. } | Refusal::Filling { .. }) => {
                self.report.forks_refused += 1;
                None
            }
            Err(Refusal::Log(error)) => match error.kind() {
                ErrorKind::Fenced | ErrorKind::Environment => None,
                ErrorKind::Refused | ErrorKind::Bug => {
                    Some(format!("fork{number} can not be owned: {error}"))
                }
            },
        };
        self.stage.violations.extend(problem);
    }

    /// Its maker says that it is whole, or that somebody else made it.
    fn whole(&mut self, number: usize, index: Option<usize>) {
        let fork = &self.forks.0[number];
        if fork.stage != Stage::Making {
            return;
        }
        let (root, kind, buckets) = (fork.root.clone(), fork.kind, fork.buckets);
        let contents = fork.contents.clone();
        let problem = match self.look_at(&root, buckets) {
            Err(problem) => Some(problem),
            Ok((everything, reading)) => {
                let marked = is_marked(&self.objects, &root);
                let hold = match everything.facts.get(Key::Hold) {
                    Some(Value::Hold(hold)) => Some(hold),
                    _ => None,
                };
                let filling = refuse_filling(hold).is_err();
                if index.is_none() && (marked || filling) {
                    // Whoever was faster is not done.
                    return;
                }
                let found = without_hold(&everything.facts).hash();
                let contents = contents.borrow();
                let mut known = contents.iter().enumerate().filter(|(place, copy)| {
                    index.is_none_or(|index| index == *place) && copy.facts.hash() == found
                });
                match known.next() {
                    None => Some(format!("fork{number} does not hold what its maker read")),
                    Some(_) if hold.is_some() != (kind == Kind::Restore) || filling => {
                        Some(format!("fork{number} begins with the hold {hold:?}"))
                    }
                    Some((_, copy))
                        if kind == Kind::Restore
                            && reading.committed_at_ms.unwrap_or(0) < copy.committed_at_ms =>
                    {
                        Some(format!(
                            "fork{number} was committed at {:?}, before {}, when its origin was",
                            reading.committed_at_ms, copy.committed_at_ms
                        ))
                    }
                    Some((place, _)) => {
                        self.forks.0[number].stage = Stage::Whole(place);
                        None
                    }
                }
            }
        };
        match problem {
            Some(problem) => self.stage.violations.push(problem),
            None => self.timeline.after(1, Event::ForkIsServed(number)),
        }
    }

    /// Reads a root from outside of all processes.
    fn look_at(&self, root: &str, buckets: u16) -> Result<(DurableFacts, Reading), String> {
        let source = Source {
            store: Arc::new(Still::new(&self.objects)),
            root: root.to_owned(),
            clock: Arc::new(MachineClock::new(0, Mailbox::default())),
            retry: self.weather.log.retry,
            on_trouble: Arc::new(|_| {}),
        };
        let looking = async {
            let application = application(&source).await?;
            if application.buckets != buckets {
                return Err(HistoryError::Log(LogError::Misuse("buckets".to_owned())));
            }
            let mut everything = DurableFacts::default();
            let reading = read(&source, &application, 0, At::Latest, &mut everything).await?;
            Ok((everything, reading))
        };
        match looking.now_or_never() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => Err(format!("{root} can not be read: {error}")),
            None => Err(format!("reading {root} waits for something")),
        }
    }

    /// It goes on as a world of its own, once the truth knows of what it was made.
    pub(crate) fn fork_is_served(&mut self, number: usize) {
        let fork = &mut self.forks.0[number];
        let Stage::Whole(index) = fork.stage else {
            return;
        };
        if is_marked(&self.objects, &fork.root) {
            // A maker came late, and is at it or died: it is refused, or the next one is, and takes all marks away.
            if fork.makers.is_empty() {
                self.timeline.after(0, Event::MakerStarts(number));
            }
            self.timeline.after(200, Event::ForkIsServed(number));
            return;
        }
        fork.looks += 1;
        let copy = fork.contents.borrow()[index].clone();
        let known = match fork.at {
            At::Moment(moment_ms) => self.truth.hash_at(moment_ms) == copy.hash,
            At::Latest | At::Savepoint(_) => self.truth.was(copy.hash, fork.from),
        };
        let exact = matches!(fork.at, At::Moment(_));
        if !known && !exact && fork.looks < LOOKS_MAX {
            // It holds more than was reported durable so far.
            self.timeline.after(200, Event::ForkIsServed(number));
            return;
        }
        let (root, kind, buckets, at) = (fork.root.clone(), fork.kind, fork.buckets, fork.at);
        fork.stage = Stage::Over;
        if !known {
            let violation = format!("{root} of {at:?} is {}", self.truth.place_of(copy.hash));
            self.stage.violations.push(violation);
            return;
        }
        match self.look_at(&root, buckets) {
            Ok((everything, _)) => {
                self.serve_fork((&root, buckets), kind, &copy, &everything.facts);
            }
            Err(problem) => self.stage.violations.push(problem),
        }
    }
}

/// Whether somebody is making this root, or was.
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
