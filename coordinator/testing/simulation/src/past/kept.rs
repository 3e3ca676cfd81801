//! What the operator may rely on: what was made and not deleted is there as it was, and what was deleted is gone.

use satchel_log::{HistoryError, LogError, Savepoint, SavepointName};

use super::{Past, is_serious};

impl Past {
    pub(crate) fn deletions_of(&self, name: SavepointName) -> u64 {
        self.deletions.get(&name).copied().unwrap_or(0)
    }

    /// Savepoints that were made, and that nobody has begun to delete.
    pub(crate) fn kept(&self) -> Vec<SavepointName> {
        let sure = |name: &&SavepointName| !self.may_be_deleted(**name);
        self.kept.keys().filter(sure).copied().collect()
    }

    /// A request of a former life may still be under way.
    pub(super) fn may_be_deleted(&self, name: SavepointName) -> bool {
        self.uncertain.contains(&name) || self.deleting.values().any(|(one, _)| *one == name)
    }

    /// What was made before the list was asked for, and not deleted since, is in it.
    pub(super) fn check_list(
        &self,
        listed: Result<Vec<Savepoint>, LogError>,
        begun: u64,
        nothing_deleted: bool,
    ) -> Option<String> {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                return is_serious(&error)
                    .then(|| format!("savepoints can not be listed: {error}"));
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
        back.map(|(_, savepoint)| format!("{savepoint:?} was deleted, and is listed"))
    }

    /// A create that was thought lost lands, perhaps of a savepoint that was deleted meanwhile.
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
                (known != hash).then(|| format!("{name} is not what it was"))
            }
            Err(HistoryError::Log(error)) if !is_serious(&error) => None,
            Err(error) => Some(format!("{name} can not be read: {error}")),
        }
    }
}
