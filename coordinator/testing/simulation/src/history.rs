//! An operator that creates, lists, reads and deletes savepoints and reads moments in history,
//! while owners work, take over and collect.
//!
//! A read must equal the truth of that moment: the fold of the durable deltas up to it, which the
//! truth remembers as hashes.

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
use crate::fault_plan::FaultPlan;
use crate::mutants::Mutant;
use crate::operators::{Done, application, nonce};
use crate::process::ProcessId;
use crate::store::{MachineClock, Mailbox};
use crate::world::{Event, World};

/// Maximum number of commands under way.
const COMMANDS_MAX: usize = 2;

/// Knowledge of the operator.
#[derive(Default)]
pub(crate) struct History {
    kept: BTreeMap<SavepointName, Kept>,
    /// Number of deletions of each name that have begun.
    deletions: BTreeMap<SavepointName, u64>,
    /// Names that commands are deleting, each with the savepoint known when its deletion began.
    deleting: BTreeMap<ProcessId, (SavepointName, Option<Savepoint>)>,
    /// Names that commands are creating. A creation under way may end before or after a deletion.
    creating: BTreeMap<ProcessId, SavepointName>,
    /// Savepoints that were reported deleted, and when.
    gone: Vec<(u64, Savepoint)>,
    /// Clock of the operator: counts the commands and results.
    order: u64,
    /// Names that a request under way may still delete or create again.
    uncertain: BTreeSet<SavepointName>,
    claims: Vec<Claim>,
}

/// A savepoint that was reported created, and whose deletion has not begun.
struct Kept {
    savepoint: Savepoint,
    /// Order of the report.
    since: u64,
    /// Number of durable deltas when the creation began.
    from: usize,
    /// Hash of the state, once a command has read it.
    hash: Option<u64>,
}

/// A state that was read. It must be the fold of a durable prefix.
struct Claim {
    what: String,
    hash: u64,
    from: usize,
}

/// A command that ended.
pub(crate) struct EndedCommand {
    command: Command,
    /// Number of durable deltas when the command began.
    from: usize,
    /// Number of deletions of the name, or of any name, that had begun by then.
    deletions: u64,
    /// Order of the beginning.
    begun: u64,
}

enum Command {
    Created(SavepointName, Result<Savepoint, SavepointError>),
    Deleted(SavepointName, Result<(), SavepointError>),
    Listed(Result<Vec<Savepoint>, LogError>),
    Read(SavepointName, Result<u64, HistoryError>),
    Moment(u64, Result<u64, HistoryError>),
}

/// Draws the settings of a run with an operator: retention is longer, and objects beyond it are
/// collected sooner.
pub(crate) fn draw(random: &Random, faults: &mut FaultPlan) {
    if !random.chance(450) {
        return;
    }
    faults.has_operator = true;
    if random.chance(600) {
        faults.log.retention_ms = 500 + random.below(20_000);
        faults.retention_min_ms = faults.log.retention_ms;
    }
    if !faults.long_pauses && random.chance(700) {
        faults.log.grace_ms = 2_000 + random.below(6_000);
        faults.log.window_ms = 100 + random.below(faults.log.grace_ms / 6 - 100);
    }
}

fn name(number: u64) -> SavepointName {
    format!("sp{number}").parse().expect("a valid name")
}

/// Reads a state. Returns its hash.
pub(crate) async fn hash_of(
    source: &Source,
    application: &Application,
    at: At,
) -> Result<u64, HistoryError> {
    let mut durable = DurableFacts::default();
    read(source, application, 0, at, &mut durable).await?;
    Ok(durable.facts.hash())
}

/// Returns true if the error says more than that the store did not answer.
pub(crate) fn is_serious(error: &LogError) -> bool {
    error.kind() != ErrorKind::Environment
}

impl World {
    pub(crate) fn schedule_command(&mut self) {
        if self.faults.has_operator {
            let delay_ms = 200 + self.random.below(4_000);
            self.timeline.after(delay_ms, Event::OperatorActs);
        }
    }

    /// Starts a random command.
    pub(crate) fn give_command(&mut self) {
        if self.ending {
            return;
        }
        self.schedule_command();
        let made = self.objects.objects.contains_key("root/application");
        if !made || self.operators.count() >= COMMANDS_MAX {
            return;
        }
        let name = name(self.random.below(4));
        match self.random.below(20) {
            0..9 => self.create_savepoint(name),
            9..12 => self.delete_savepoint(name),
            12..14 => self.list_savepoints(),
            14..17 => self.read_savepoint(name),
            _ => self.read_moment(),
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
        self.history.order += 1;
        let begun = self.history.order;
        let writes = vec![format!("{}/partitions/0/savepoints/", self.root)];
        self.start_operator(writes, |id, source| {
            let command = command(id, source);
            async move {
                Done::Command(EndedCommand {
                    command: command.await,
                    from,
                    deletions,
                    begun,
                })
            }
        })
    }

    fn create_savepoint(&mut self, name: SavepointName) {
        let deletions = self.history.deletions_of(name);
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
        self.history.creating.insert(id, name);
        self.record(|| format!("operator {id} creates {name}"));
        self.disturb_operator(id, 100, 150);
    }

    fn delete_savepoint(&mut self, name: SavepointName) {
        *self.history.deletions.entry(name).or_default() += 1;
        let kept = self.history.kept.remove(&name);
        if self.history.creating.values().any(|one| *one == name) {
            self.history.uncertain.insert(name);
        }
        let deletions = self.history.deletions_of(name);
        let id = self.command(deletions, |_, source| async move {
            Command::Deleted(name, savepoints::delete(&source, 0, &name).await)
        });
        let kept = kept.map(|kept| kept.savepoint);
        self.history.deleting.insert(id, (name, kept));
        self.record(|| format!("operator {id} deletes {name}"));
        self.disturb_operator(id, 50, 50);
    }

    fn list_savepoints(&mut self) {
        let all = self.history.deletions.values().sum();
        let id = self.command(all, |_, source| async move {
            Command::Listed(savepoints::list(&source, 0).await)
        });
        self.record(|| format!("operator {id} lists savepoints"));
    }

    fn read_savepoint(&mut self, name: SavepointName) {
        if !self.history.kept.contains_key(&name) {
            return;
        }
        let deletions = self.history.deletions_of(name);
        let id = self.command(deletions, |_, source| async move {
            Command::Read(name, read_at(&source, At::Savepoint(name)).await)
        });
        self.record(|| format!("operator {id} reads {name}"));
    }

    /// Reads a moment that is final.
    fn read_moment(&mut self) {
        let Some(moment_ms) = self.draw_moment() else {
            return;
        };
        let asked_ms = match self.mutant {
            Some(Mutant::WrongMoment) => self.truth.moment_before(moment_ms),
            _ => moment_ms,
        };
        let id = self.command(0, |_, source| async move {
            Command::Moment(moment_ms, read_at(&source, At::Moment(asked_ms)).await)
        });
        self.record(|| format!("operator {id} reads the state at {moment_ms}"));
        self.disturb_operator(id, 0, 50);
    }

    /// Draws a moment before the newest durable delta, to which no delta is added any more.
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

    /// Handles the result of a command.
    pub(crate) fn command_ended(&mut self, id: ProcessId, ended: EndedCommand) {
        let EndedCommand {
            command,
            from,
            deletions,
            begun,
        } = ended;
        self.history.order += 1;
        if self.trace.is_some() {
            let line = command.brief();
            self.record(|| format!("operator {id}: {line}"));
        }
        self.history.creating.remove(&id);
        let problem = match command {
            Command::Created(name, created) => self.created(name, created, from, deletions),
            Command::Deleted(name, deleted) => {
                let was = self.history.deleting.remove(&id);
                let again = self.history.deletions_of(name) != deletions;
                match deleted {
                    Err(SavepointError::Log(error)) if !is_serious(&error) => {
                        self.history.uncertain.insert(name);
                        None
                    }
                    Ok(()) => {
                        let order = self.history.order;
                        let gone = was.and_then(|(_, kept)| kept);
                        self.history.gone.extend(gone.map(|kept| (order, kept)));
                        None
                    }
                    // A former command may have died while it created or deleted the savepoint.
                    Err(SavepointError::Unknown { .. }) => None,
                    Err(error) => (!again).then(|| format!("deleting {name}: {error}")),
                }
            }
            Command::Listed(listed) => {
                self.report.savepoint_lists += 1;
                let all: u64 = self.history.deletions.values().sum();
                self.history.check_list(listed, begun, all == deletions)
            }
            Command::Read(name, read) if self.history.deletions_of(name) == deletions => {
                self.report.savepoints_read += u64::from(read.is_ok());
                self.history.check_read(name, read)
            }
            Command::Read(..) => None,
            Command::Moment(moment_ms, read) => self.check_moment(moment_ms, read),
        };
        self.stage.violations.extend(problem);
    }

    pub(crate) fn command_died(&mut self, id: ProcessId) {
        if let Some((name, _)) = self.history.deleting.remove(&id) {
            self.history.uncertain.insert(name);
        }
    }

    fn created(
        &mut self,
        name: SavepointName,
        created: Result<Savepoint, SavepointError>,
        from: usize,
        deletions: u64,
    ) -> Option<String> {
        let history = &mut self.history;
        let deleted = history.deletions_of(name) != deletions || history.may_be_deleted(name);
        match created {
            Ok(savepoint) => {
                self.report.savepoints_made += 1;
                if deleted {
                    return None;
                }
                let kept = Kept {
                    savepoint,
                    since: history.order,
                    from,
                    hash: None,
                };
                let before = history.kept.insert(name, kept);
                before.map(|before| format!("{name} was created twice: {:?}", before.savepoint))
            }
            Err(SavepointError::Log(error)) => {
                is_serious(&error).then(|| format!("creating {name}: {error}"))
            }
            Err(SavepointError::Exists { .. }) => None,
            Err(SavepointError::Empty { .. }) if from == 0 => None,
            Err(error) => Some(format!("creating {name}: {error}")),
        }
    }

    /// Checks the state read at a moment, which is known exactly.
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
                        "the state at {moment_ms} is read as another one: {}",
                        self.truth.describe(hash)
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
                        "{moment_ms} is refused, though history begins at {reaches_back_to_ms}"
                    ));
                }
                (moment_ms >= needed_ms).then(|| {
                    format!("{moment_ms} is refused, though history must begin at {needed_ms}")
                })
            }
            Err(HistoryError::Log(error)) => is_serious(&error)
                .then(|| format!("the state at {moment_ms} cannot be read: {error}")),
            Err(error) => Some(format!("the state at {moment_ms} cannot be read: {error}")),
        }
    }

    /// Returns the earliest moment that must be readable.
    fn kept_from_ms(&self) -> u64 {
        let retention_ms = self.faults.retention_min_ms;
        if retention_ms == 0 {
            return u64::MAX;
        }
        let prefix = format!("{}/partitions/0/manifests/", self.root);
        let range = self.objects.objects.range(prefix.clone()..);
        let manifests = range.take_while(|(key, _)| key.starts_with(&prefix));
        let times = manifests.filter_map(|(key, object)| {
            let number = key.strip_prefix(&prefix)?.parse().ok()?;
            let buckets = self.faults.config.placement.buckets();
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

    /// Remembers a read, to check later that it was ever durable.
    pub(crate) fn claim(&mut self, what: String, hash: u64, from: usize) {
        self.history.claims.push(Claim { what, hash, from });
    }

    /// Reads every savepoint once more at the end, and checks every read.
    pub(crate) fn check_history(&mut self) {
        let mailbox = Mailbox::default();
        let source = Source {
            store: self.still(),
            root: self.root.clone(),
            clock: Arc::new(MachineClock::new(0, mailbox)),
            retry: self.faults.log.retry,
            on_store_failure: Arc::new(|_| {}),
        };
        let names: Vec<SavepointName> = self.history.kept.keys().copied().collect();
        for name in names {
            if self.history.may_be_deleted(name) {
                continue;
            }
            let read = read_at(&source, At::Savepoint(name)).now_or_never();
            self.report.savepoints_read += 1;
            let problem = match read {
                Some(read) => self.history.check_read(name, read),
                None => Some(format!("reading {name} waits for something")),
            };
            self.stage.violations.extend(problem);
        }
        if self.faults.has_operator {
            for _ in 0..3 {
                if let Some(moment_ms) = self.draw_moment()
                    && let Some(read) = read_at(&source, At::Moment(moment_ms)).now_or_never()
                {
                    let problem = self.check_moment(moment_ms, read);
                    self.stage.violations.extend(problem);
                }
            }
        }
        for (name, kept) in std::mem::take(&mut self.history.kept) {
            if let Some(hash) = kept.hash {
                self.claim(format!("savepoint {name}"), hash, kept.from);
            }
        }
        for claim in std::mem::take(&mut self.history.claims) {
            if !self.truth.was_durable(claim.hash, claim.from) {
                let violation = format!(
                    "{} was not durable at delta {} or later: it is {}",
                    claim.what,
                    claim.from,
                    self.truth.describe(claim.hash)
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
                format!("{name} is created, through {}", savepoint.through)
            }
            Self::Created(name, Err(error)) => format!("{name} is not created: {error}"),
            Self::Deleted(name, deleted) => format!("{name} is deleted: {deleted:?}"),
            Self::Listed(Ok(listed)) => format!("there are {} savepoints", listed.len()),
            Self::Listed(Err(error)) => format!("savepoints are not listed: {error}"),
            Self::Read(name, read) => format!("{name} is read: {read:?}"),
            Self::Moment(moment_ms, read) => format!("{moment_ms} is read: {read:?}"),
        }
    }
}
