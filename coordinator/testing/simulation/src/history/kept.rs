//! Promises to the operator: a savepoint that was created and not deleted stays as it was, and a
//! deleted savepoint is gone.

use satchel_log::{HistoryError, LogError, Savepoint, SavepointName};

use super::{History, is_serious};

impl History {
    pub(crate) fn deletions_of(&self, name: SavepointName) -> u64 {
        self.deletions.get(&name).copied().unwrap_or(0)
    }

    /// Returns the savepoints that exist, and whose deletion has not begun.
    pub(crate) fn kept(&self) -> Vec<SavepointName> {
        let sure = |name: &&SavepointName| !self.may_be_deleted(**name);
        self.kept.keys().filter(sure).copied().collect()
    }

    /// Returns true if a request of an earlier command may still delete the savepoint.
    pub(super) fn may_be_deleted(&self, name: SavepointName) -> bool {
        self.uncertain.contains(&name) || self.deleting.values().any(|(one, _)| *one == name)
    }

    /// Checks that a list contains every savepoint that was created before the list was requested
    /// and not deleted since.
    pub(super) fn check_list(
        &self,
        listed: Result<Vec<Savepoint>, LogError>,
        begun: u64,
        nothing_deleted: bool,
    ) -> Option<String> {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                return is_serious(&error).then(|| format!("savepoints cannot be listed: {error}"));
            }
        };
        let mut sure = self.kept.iter().filter(|(name, kept)| {
            nothing_deleted && kept.since <= begun && !self.may_be_deleted(**name)
        });
        if let Some((name, _)) = sure.find(|(_, kept)| !listed.contains(&kept.savepoint)) {
            return Some(format!("{name} is not listed: {listed:?}"));
        }
        let mut gone = self.gone.iter().filter(|(order, savepoint)| {
            *order <= begun && !self.uncertain.contains(&savepoint.name)
        });
        let back = gone.find(|(_, savepoint)| listed.contains(savepoint));
        back.map(|(_, savepoint)| format!("{savepoint:?} was deleted, but is listed"))
    }

    /// Handles a create that takes effect after it was thought lost. Its savepoint may have been
    /// deleted meanwhile.
    pub(crate) fn lands_late(&mut self, key: &str) {
        if let Some((_, name)) = key.split_once("/savepoints/")
            && let Ok(name) = name.parse()
        {
            self.uncertain.insert(name);
        }
    }

    pub(super) fn check_read(
        &mut self,
        name: SavepointName,
        read: Result<u64, HistoryError>,
    ) -> Option<String> {
        if self.may_be_deleted(name) {
            return None;
        }
        let kept = self.kept.get_mut(&name)?;
        match read {
            Ok(hash) => {
                let known = *kept.hash.get_or_insert(hash);
                (known != hash).then(|| format!("{name} has changed"))
            }
            Err(HistoryError::Log(error)) if !is_serious(&error) => None,
            Err(error) => Some(format!("{name} cannot be read: {error}")),
        }
    }
}
