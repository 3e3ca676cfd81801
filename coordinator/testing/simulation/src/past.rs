//! An operator who makes, lists, reads and deletes savepoints and reads moments of the past, while owners work, take over and collect.
//!
//! What he reads must be the truth of that moment: the fold of the durable deltas up to it, which the truth remembers as hashes.

mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use satchel_log::savepoints::{self, NewSavepoint, SavepointError};
use satchel_log::{
    Application, At, ErrorKind, HistoryError, LogError, Manifest, Savepoint, SavepointName, Source,
    read,
};
use satchel_log_simulation::Random;

use crate::durable::DurableFacts;
use crate::mutants::Mutant;
use crate::process::ProcessId;
use crate::store::{MachineClock, Mailbox, Still};
use crate::visits::{Done, application, nonce};
use crate::weather::Weather;
use crate::world::{Event, World};

/// How many commands he has under way at once.
const COMMANDS_MAX: usize = 2;

/// What the operator knows.
#[derive(Default)]
pub(crate) struct Past {
    kept: BTreeMap<SavepointName, Kept>,
    /// How often somebody began to delete the name.
    deletions: BTreeMap<SavepointName, u64>,
    /// Who is deleting which, and may be long about it; with what it was when that began, if that was known.
    deleting: BTreeMap<ProcessId, (SavepointName, Option<Savepoint>)>,
    /// Who is making which. A store has no conditional delete: one who sleeps just before it takes back what it made may take away what was made since.
    creating: BTreeMap<ProcessId, SavepointName>,
    /// What was reported deleted, and when.
    gone: Vec<(u64, Savepoint)>,
    /// Counts what the operator does and hears.
    order: u64,
    /// Names that may be deleted, or made once more, by a request that is still on its way.
    uncertain: BTreeSet<SavepointName>,
    claims: Vec<Claim>,
}

/// A savepoint that was reported made, and that nobody has begun to delete.
struct Kept {
    savepoint: Savepoint,
    /// When that was reported.
    since: u64,
    /// So many deltas were durable when its creation began.
    from: usize,
    /// Of the state that was read of it, once somebody did.
    hash: Option<u64>,
}

/// Somebody read this state: it must be the fold of a durable prefix.
struct Claim {
    what: String,
    hash: u64,
    from: usize,
}

/// A command that ended.
pub(crate) struct Operated {
    command: Command,
    /// So many deltas were durable when it began.
    from: usize,
    /// How often deletions of the name, or of any, had begun.
    deletions: u64,
    /// When it began.
    begun: u64,
}

enum Command {
    Created(SavepointName, Result<Savepoint, SavepointError>),
    Deleted(SavepointName, Result<(), SavepointError>),
    Listed(Result<Vec<Savepoint>, LogError>),
    Read(SavepointName, Result<u64, HistoryError>),
    Looked(u64, Result<u64, HistoryError>),
}

/// How the weather of a run with an operator differs: more of the past is kept, and what is not kept goes sooner.
pub(crate) fn draw(random: &Random, weather: &mut Weather) {
    if !random.chance(450) {
        return;
    }
    weather.operates = true;
    if random.chance(600) {
        weather.log.retention_ms = 500 + random.below(20_000);
        weather.retention_min_ms = weather.log.retention_ms;
    }
    if !weather.sleepy && random.chance(700) {
        weather.log.grace_ms = 2_000 + random.below(6_000);
        weather.log.window_ms = 100 + random.below(weather.log.grace_ms / 6 - 100);
    }
}

fn name(number: u64) -> SavepointName {
    format!("sp{number}").parse().expect("it is a name")
}

/// Reads a state; returns its hash.
pub(crate) async fn hash_of(
    source: &Source,
    application: &Application,
    at: At,
) -> Result<u64, HistoryError> {
    let mut everything = DurableFacts::default();
    read(source, application, 0, at, &mut everything).await?;
    Ok(everything.facts.hash())
}

/// Whether it says more than that the store did not answer.
pub(crate) fn is_serious(error: &LogError) -> bool {
    error.kind() != ErrorKind::Environment
}

impl World {
    pub(crate) fn operates_later(&mut self) {
        if self.weather.operates {
            let delay_ms = 200 + self.random.below(4_000);
            self.timeline.after(delay_ms, Event::Operates);
        }
    }

    /// The operator gives a command.
    pub(crate) fn operates(&mut self) {
        if self.ending {
            return;
        }
        self.operates_later();
        let made = self.objects.objects.contains_key("root/application");
        if !made || self.visits.count() >= COMMANDS_MAX {
            return;
        }
        let name = name(self.random.below(4));
        match self.random.below(20) {
            0..9 => self.create_savepoint(name),
            9..12 => self.delete_savepoint(name),
            12..14 => self.list_savepoints(),
            14..17 => self.read_savepoint(name),
            _ => self.look_back(),
        }
    }

    fn command<F>(
        &mut self,
        deletions: u64,
        command: impl FnOnce(ProcessId, Source) -> F,
    ) -> ProcessId
    where
        F: Future<Output = Command> + 'static,
    {
        let from = self.truth.history.len();
        self.past.order += 1;
        let begun = self.past.order;
        let writes = vec![format!("{}/partitions/0/savepoints/", self.root)];
        self.visit(writes, |id, source| {
            let command = command(id, source);
            async move {
                Done::Operated(Operated {
                    command: command.await,
                    from,
                    deletions,
                    begun,
                })
            }
        })
    }

    fn create_savepoint(&mut self, name: SavepointName) {
        let deletions = self.past.deletions_of(name);
        let id = self.command(deletions, |id, source| async move {
            let new = NewSavepoint {
                name,
                nonce: nonce(id),
                software: "simulation".to_owned(),
                comment: String::new(),
            };
            let created = match application(&source).await {
                Ok(application) => savepoints::create(&source, &application, 0, &new).await,
                Err(error) => Err(error.into()),
            };
            Command::Created(name, created)
        });
        self.past.creating.insert(id, name);
        self.say(|| format!("visitor {id} creates {name}"));
        self.trouble_visitor(id, 100, 150);
    }

    fn delete_savepoint(&mut self, name: SavepointName) {
        *self.past.deletions.entry(name).or_default() += 1;
        let kept = self.past.kept.remove(&name);
        if self.past.creating.values().any(|one| *one == name) {
            self.past.uncertain.insert(name);
        }
        let deletions = self.past.deletions_of(name);
        let id = self.command(deletions, |_, source| async move {
            Command::Deleted(name, savepoints::delete(&source, 0, &name).await)
        });
        let kept = kept.map(|kept| kept.savepoint);
        self.past.deleting.insert(id, (name, kept));
        self.say(|| format!("visitor {id} deletes {name}"));
        self.trouble_visitor(id, 50, 50);
    }

    fn list_savepoints(&mut self) {
        let all = self.past.deletions.values().sum();
        let id = self.command(all, |_, source| async move {
            Command::Listed(savepoints::list(&source, 0).await)
        });
        self.say(|| format!("visitor {id} lists savepoints"));
    }

    fn read_savepoint(&mut self, name: SavepointName) {
        if !self.past.kept.contains_key(&name) {
            return;
        }
        let deletions = self.past.deletions_of(name);
        let id = self.command(deletions, |_, source| async move {
            Command::Read(name, read_at(&source, At::Savepoint(name)).await)
        });
        self.say(|| format!("visitor {id} reads {name}"));
    }

    /// Reads a moment that is over.
    fn look_back(&mut self) {
        let Some(moment_ms) = self.draw_moment() else {
            return;
        };
        let asked_ms = match self.mutant {
            Some(Mutant::WrongMoment) => self.truth.moment_before(moment_ms),
            _ => moment_ms,
        };
        let id = self.command(0, |_, source| async move {
            Command::Looked(moment_ms, read_at(&source, At::Moment(asked_ms)).await)
        });
        self.say(|| format!("visitor {id} reads what was at {moment_ms}"));
        self.trouble_visitor(id, 0, 50);
    }

    /// A moment before the newest durable delta: nothing is added to it any more.
    pub(crate) fn draw_moment(&mut self) -> Option<u64> {
        let history = &self.truth.history;
        let newest_ms = history.last()?.committed_at_ms;
        let ago = self
            .random
            .below(if self.random.chance(700) { 60 } else { 3_000 });
        let at = history.len().saturating_sub(1 + ago as usize);
        let moment_ms = history[at].committed_at_ms + self.random.below(3) * self.random.below(20);
        (moment_ms < newest_ms).then_some(moment_ms)
    }

    /// A command has ended.
    pub(crate) fn operated(&mut self, id: ProcessId, operated: Operated) {
        let Operated {
            command,
            from,
            deletions,
            begun,
        } = operated;
        self.past.order += 1;
        if self.trace.is_some() {
            let said = command.brief();
            self.say(|| format!("visitor {id}: {said}"));
        }
        self.past.creating.remove(&id);
        let problem = match command {
            Command::Created(name, created) => self.created(name, created, from, deletions),
            Command::Deleted(name, deleted) => {
                let was = self.past.deleting.remove(&id);
                let again = self.past.deletions_of(name) != deletions;
                match deleted {
                    Err(SavepointError::Log(error)) if !is_serious(&error) => {
                        self.past.uncertain.insert(name);
                        None
                    }
                    Ok(()) => {
                        let order = self.past.order;
                        let gone = was.and_then(|(_, kept)| kept);
                        self.past.gone.extend(gone.map(|kept| (order, kept)));
                        None
                    }
                    // Whoever died over creating or deleting it may have left it or not.
                    Err(SavepointError::Unknown { .. }) => None,
                    Err(error) => (!again).then(|| format!("deleting {name}: {error}")),
                }
            }
            Command::Listed(listed) => {
                self.report.savepoint_lists += 1;
                let all: u64 = self.past.deletions.values().sum();
                self.past.check_list(listed, begun, all == deletions)
            }
            Command::Read(name, read) if self.past.deletions_of(name) == deletions => {
                self.report.savepoints_read += u64::from(read.is_ok());
                self.past.check_read(name, read)
            }
            Command::Read(..) => None,
            Command::Looked(moment_ms, read) => self.check_moment(moment_ms, read),
        };
        self.stage.violations.extend(problem);
    }

    pub(crate) fn operator_died(&mut self, id: ProcessId) {
        if let Some((name, _)) = self.past.deleting.remove(&id) {
            self.past.uncertain.insert(name);
        }
    }

    fn created(
        &mut self,
        name: SavepointName,
        created: Result<Savepoint, SavepointError>,
        from: usize,
        deletions: u64,
    ) -> Option<String> {
        let past = &mut self.past;
        let deleted = past.deletions_of(name) != deletions || past.may_be_deleted(name);
        match created {
            Ok(savepoint) => {
                self.report.savepoints_made += 1;
                if deleted {
                    return None;
                }
                let kept = Kept {
                    savepoint,
                    since: past.order,
                    from,
                    hash: None,
                };
                let before = past.kept.insert(name, kept);
                before.map(|before| format!("{name} was made twice: {:?}", before.savepoint))
            }
            Err(SavepointError::Log(error)) => {
                is_serious(&error).then(|| format!("creating {name}: {error}"))
            }
            Err(SavepointError::Exists { .. }) => None,
            Err(SavepointError::Empty { .. }) if from == 0 => None,
            Err(error) => Some(format!("creating {name}: {error}")),
        }
    }

    /// What was at a moment is known exactly.
    pub(crate) fn check_moment(
        &mut self,
        moment_ms: u64,
        read: Result<u64, HistoryError>,
    ) -> Option<String> {
        match read {
            Ok(hash) => {
                self.report.moments_read += 1;
                let expected = self.truth.hash_at(moment_ms);
                (hash != expected).then(|| {
                    format!(
                        "what was at {moment_ms} is read as something else: {}",
                        self.truth.place_of(hash)
                    )
                })
            }
            Err(HistoryError::Collected {
                reaches_back_to_ms, ..
            }) => {
                self.report.moments_refused += 1;
                let needed_ms = self.kept_from_ms();
                if reaches_back_to_ms <= moment_ms {
                    return Some(format!(
                        "{moment_ms} is refused, and the log is said to reach back to {reaches_back_to_ms}"
                    ));
                }
                (moment_ms >= needed_ms)
                    .then(|| format!("{moment_ms} is refused, and {needed_ms} is to be kept"))
            }
            Err(HistoryError::Log(error)) => is_serious(&error)
                .then(|| format!("what was at {moment_ms} can not be read: {error}")),
            Err(error) => Some(format!("what was at {moment_ms} can not be read: {error}")),
        }
    }

    /// Every moment from here on is to be readable.
    fn kept_from_ms(&self) -> u64 {
        let retention_ms = self.weather.retention_min_ms;
        if retention_ms == 0 {
            return u64::MAX;
        }
        let prefix = format!("{}/partitions/0/manifests/", self.root);
        let range = self.objects.objects.range(prefix.clone()..);
        let manifests = range.take_while(|(key, _)| key.starts_with(&prefix));
        let times = manifests.filter_map(|(key, object)| {
            let number = key.strip_prefix(&prefix)?.parse().ok()?;
            let buckets = self.weather.config.buckets;
            let manifest = Manifest::decode(object, 0, number, buckets).ok()?;
            Some(manifest.written_at_ms)
        });
        let newest_ms = self
            .truth
            .history
            .last()
            .map_or(0, |last| last.committed_at_ms);
        times.max().unwrap_or(0).max(newest_ms) - retention_ms
    }

    /// Somebody read this, and it will be seen whether it ever was durable.
    pub(crate) fn claim(&mut self, what: String, hash: u64, from: usize) {
        self.past.claims.push(Claim { what, hash, from });
    }

    /// In the end every savepoint is read once more, and everything that was read is judged.
    pub(crate) fn check_past(&mut self) {
        let mailbox = Mailbox::default();
        let source = Source {
            store: Arc::new(Still::new(&self.objects)),
            root: self.root.clone(),
            clock: Arc::new(MachineClock::new(0, mailbox)),
            retry: self.weather.log.retry,
            on_trouble: Arc::new(|_| {}),
        };
        let names: Vec<SavepointName> = self.past.kept.keys().copied().collect();
        for name in names {
            if self.past.may_be_deleted(name) {
                continue;
            }
            let read = read_at(&source, At::Savepoint(name)).now_or_never();
            self.report.savepoints_read += 1;
            let problem = match read {
                Some(read) => self.past.check_read(name, read),
                None => Some(format!("reading {name} waits for something")),
            };
            self.stage.violations.extend(problem);
        }
        if self.weather.operates {
            for _ in 0..3 {
                if let Some(moment_ms) = self.draw_moment()
                    && let Some(read) = read_at(&source, At::Moment(moment_ms)).now_or_never()
                {
                    let problem = self.check_moment(moment_ms, read);
                    self.stage.violations.extend(problem);
                }
            }
        }
        for (name, kept) in std::mem::take(&mut self.past.kept) {
            if let Some(hash) = kept.hash {
                self.claim(format!("savepoint {name}"), hash, kept.from);
            }
        }
        for claim in std::mem::take(&mut self.past.claims) {
            if !self.truth.was(claim.hash, claim.from) {
                let violation = format!(
                    "{} is no state that was durable from delta {} on: it is {}",
                    claim.what,
                    claim.from,
                    self.truth.place_of(claim.hash)
                );
                self.stage.violations.push(violation);
            }
        }
    }
}

async fn read_at(source: &Source, at: At) -> Result<u64, HistoryError> {
    let application = application(source).await?;
    hash_of(source, &application, at).await
}

impl Command {
    fn brief(&self) -> String {
        match self {
            Self::Created(name, Ok(savepoint)) => {
                format!("{name} is made, through {}", savepoint.through)
            }
            Self::Created(name, Err(error)) => format!("{name} is not made: {error}"),
            Self::Deleted(name, deleted) => format!("{name} is deleted: {deleted:?}"),
            Self::Listed(Ok(listed)) => format!("there are {} savepoints", listed.len()),
            Self::Listed(Err(error)) => format!("savepoints are not listed: {error}"),
            Self::Read(name, read) => format!("{name} is read: {read:?}"),
            Self::Looked(moment_ms, read) => format!("{moment_ms} is read: {read:?}"),
        }
    }
}
