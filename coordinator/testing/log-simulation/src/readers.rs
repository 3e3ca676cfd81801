//! Processes that own nothing: they create savepoints, delete them, and read the history.

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_log::savepoints::{NewSavepoint, SavepointError, create, delete};
use satchel_log::{
    Application, At, ErrorKind, HistoryError, Layout, LogError, ObjectStore, Savepoint,
    SavepointName, Source, read,
};

use crate::model::State;
use crate::owner::Shared;

/// The savepoints of a run, as their creators know them.
#[derive(Debug, Default)]
pub(crate) struct Savepoints {
    kept: BTreeMap<SavepointName, State>,
    /// Number of deletions begun per name.
    deletions: BTreeMap<SavepointName, u64>,
    pub(crate) created: u64,
    pub(crate) read: u64,
}

impl Savepoints {
    fn deletions(&self, name: &SavepointName) -> u64 {
        self.deletions.get(name).copied().unwrap_or(0)
    }

    /// Returns true unless the finding is about a savepoint whose creation was never reported.
    pub(crate) fn is_relevant(&self, finding: &str) -> bool {
        match finding.split_once(": savepoint ") {
            None => true,
            Some((_, rest)) => {
                let mut kept = self.kept.keys();
                kept.any(|name| rest == format!("{name} needs it"))
            }
        }
    }

    fn forget(&mut self, name: SavepointName) {
        self.kept.remove(&name);
        *self.deletions.entry(name).or_default() += 1;
    }
}

/// One visit of a reader to the root.
pub(crate) struct Session<'a> {
    pub(crate) shared: &'a Shared,
    /// The creator of a savepoint sees the root through this.
    pub(crate) creator: Source,
    pub(crate) source: Source,
    pub(crate) nonce: u64,
}

impl Session<'_> {
    /// Creates a savepoint, or deletes the one of that name, or reads one.
    pub(crate) async fn run(self) {
        let random = &self.shared.random;
        let name: SavepointName = format!("savepoint-{}", random.below(3))
            .parse()
            .expect("a name");
        let Some(application) = self.application().await else {
            return;
        };
        match random.below(4) {
            0 => self.delete(name).await,
            1 => self.read(&application, name).await,
            _ => self.create(&application, name).await,
        }
    }

    /// Reads every existing savepoint, and moments of the history.
    pub(crate) async fn read_history(self, retention_ms: u64) {
        let Some(application) = self.application().await else {
            return self.report("there is no application".to_owned());
        };
        let names: Vec<SavepointName> = {
            let savepoints = self.shared.savepoints.borrow();
            savepoints.kept.keys().copied().collect()
        };
        for name in names {
            self.read(&application, name).await;
        }
        let newest_ms = self.shared.model.borrow().newest_ms();
        for _ in 0..5 {
            let ago_ms = self.shared.random.below(2 * retention_ms + 2_000);
            let at_ms = newest_ms.saturating_sub(ago_ms);
            let expected = self.shared.model.borrow().at(at_ms);
            match self.state(&application, At::Moment(at_ms)).await {
                Ok(state) if state == expected => {}
                Ok(state) => {
                    self.report(format!(
                        "{at_ms} was {expected:?}, and is read as {state:?}"
                    ));
                }
                Err(HistoryError::Collected { .. }) if ago_ms > retention_ms => {}
                // Without retention even the newest snapshot may be younger than the newest record
                // before it.
                Err(HistoryError::Collected { .. }) if retention_ms == 0 => {}
                Err(error) => self.report(format!("{ago_ms} ms ago: {error}")),
            }
        }
    }

    async fn application(&self) -> Option<Application> {
        let key = Layout::new(&self.source.root, 0).application().to_owned();
        let object = self.source.store.get(&key).await.ok().flatten()?;
        Application::decode(&object).ok()
    }

    async fn state(&self, application: &Application, at: At) -> Result<State, HistoryError> {
        let mut state = State::default();
        read(&self.source, application, 0, at, &mut state).await?;
        Ok(state)
    }

    async fn create(&self, application: &Application, name: SavepointName) {
        let acknowledged = self.shared.model.borrow().acknowledged_by_epoch();
        let deletions = self.shared.savepoints.borrow().deletions(&name);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.to_le_bytes());
        let new = NewSavepoint {
            name,
            nonce,
            software: "simulation".to_owned(),
            comment: String::new(),
        };
        let created = create(&self.creator, application, 0, &new).await;
        match created {
            Ok(savepoint) => {
                self.check_created(application, &savepoint, deletions, &acknowledged)
                    .await;
            }
            Err(SavepointError::Exists { .. } | SavepointError::Empty { .. }) => {}
            Err(SavepointError::Log(error)) => self.check(&error),
            Err(error) => self.report(error.to_string()),
        }
    }

    async fn check_created(
        &self,
        application: &Application,
        savepoint: &Savepoint,
        deletions: u64,
        acknowledged: &BTreeMap<u64, u64>,
    ) {
        let name = savepoint.name;
        let state = self.state(application, At::Savepoint(name)).await;
        if self.shared.savepoints.borrow().deletions(&name) != deletions {
            return;
        }
        match state {
            Ok(state) => {
                let wrong = self
                    .shared
                    .model
                    .borrow()
                    .is_no_prefix(&state, acknowledged);
                if let Some(wrong) = wrong {
                    self.report(format!("{savepoint:?}: {wrong}"));
                }
                let mut savepoints = self.shared.savepoints.borrow_mut();
                savepoints.created += 1;
                savepoints.kept.insert(name, state);
            }
            Err(HistoryError::Log(error)) => self.check(&error),
            Err(error) => self.report(error.to_string()),
        }
    }

    async fn read(&self, application: &Application, name: SavepointName) {
        let (expected, deletions) = {
            let savepoints = self.shared.savepoints.borrow();
            (
                savepoints.kept.get(&name).cloned(),
                savepoints.deletions(&name),
            )
        };
        let Some(expected) = expected else {
            return;
        };
        let state = self.state(application, At::Savepoint(name)).await;
        if self.shared.savepoints.borrow().deletions(&name) != deletions {
            return;
        }
        self.shared.savepoints.borrow_mut().read += 1;
        match state {
            Ok(state) if state == expected => {}
            Ok(state) => self.report(format!("{name} was {expected:?}, and is {state:?}")),
            Err(HistoryError::Log(error)) => self.check(&error),
            Err(error) => self.report(error.to_string()),
        }
    }

    async fn delete(&self, name: SavepointName) {
        self.shared.savepoints.borrow_mut().forget(name);
        match delete(&self.source, 0, &name).await {
            Ok(()) | Err(SavepointError::Unknown { .. }) => {}
            Err(SavepointError::Log(error)) => self.check(&error),
            Err(error) => self.report(error.to_string()),
        }
    }

    fn check(&self, error: &LogError) {
        if error.kind() != ErrorKind::Environment {
            self.report(error.to_string());
        }
    }

    fn report(&self, violation: String) {
        self.shared.model.borrow_mut().violations.push(violation);
    }
}

/// A source that gives up after `give_up_ms` if the store does not answer.
pub(crate) fn source(
    store: Arc<dyn ObjectStore>,
    clock: crate::clock::SimulatedClock,
    give_up_ms: Option<u64>,
) -> Source {
    Source {
        store,
        root: "root".to_owned(),
        clock: Arc::new(clock),
        retry: satchel_log::Retry {
            initial_ms: 1,
            max_ms: 10,
            give_up_ms,
        },
        on_store_failure: Arc::new(|_| {}),
    }
}
