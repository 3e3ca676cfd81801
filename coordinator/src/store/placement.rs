//! Placement of the addresses of a root, and its division into partitions.

use satchel_engine::partition::Generation;
use satchel_engine::placement::{DEFAULT_KEY_GROUPS, PartitionMap, Placement};
use satchel_log::{Application, Layout, LogError, Retry};
use satchel_storage::placement::recorded;

use super::location::StateStore;
use crate::error::{Exit, Failure};

/// Retries of the read of the record.
const RETRY: Retry = Retry {
    initial_ms: 250,
    max_ms: 4_000,
    give_up_ms: Some(15_000),
};

/// Placement that the user asks for. A new root gets it. An existing root knows its own, and
/// another one is rejected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AskedPlacement {
    /// Number of key groups; `None` for [`DEFAULT_KEY_GROUPS`], or those of an existing root.
    pub key_groups: Option<u16>,
    /// True if the hash tags of ids are used; false for no use of them, or that of an existing
    /// root.
    pub hash_tags: bool,
    /// Number of partitions; `None` for one, or those of an existing root.
    pub partitions: Option<u16>,
}

/// Division of an application, fixed when its root is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// Choice of the key group of an address.
    pub placement: Placement,
    /// Number of partitions, which have even ranges of the key groups.
    pub partitions: u16,
}

/// Number of the generation that a root of several partitions begins with. A root of one partition
/// names no generation, as before there were several.
const FIRST_GENERATION: u64 = 1;

impl Division {
    /// Generation of the application, if it has several partitions.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        (self.partitions > 1).then(|| Generation {
            number: FIRST_GENERATION,
            partitions: PartitionMap::even(self.placement.key_groups, self.partitions),
        })
    }
}

impl AskedPlacement {
    /// Checks that the root of this record has the placement that was asked for; `key` is the key
    /// of the record.
    ///
    /// # Errors
    /// [`LogError::Foreign`] says what the root has.
    pub fn check(&self, key: &str, record: &Application) -> Result<(), LogError> {
        let differs = |field, found: String, expected: String| {
            Err(LogError::Foreign {
                key: key.to_owned(),
                field,
                found,
                expected,
            })
        };
        let recorded = recorded(record);
        match self.key_groups {
            Some(asked) if asked != recorded.key_groups => differs(
                "the number of key groups",
                recorded.key_groups.to_string(),
                format!("{asked} (--key-groups)"),
            ),
            _ if self.asks_for_other_partitions(record) => differs(
                "the number of partitions",
                record.partitions.to_string(),
                format!("{} (--partitions)", self.partitions.unwrap_or(1)),
            ),
            _ if self.hash_tags && !recorded.has_hash_tags() => differs(
                "the placement",
                format!("{}, without hash tags", record.placement),
                "one with hash tags (--hash-tags)".to_owned(),
            ),
            _ => Ok(()),
        }
    }

    fn asks_for_other_partitions(&self, record: &Application) -> bool {
        self.partitions
            .is_some_and(|asked| u32::from(asked) != record.partitions)
    }

    fn of_new_root(self) -> Division {
        let key_groups = self.key_groups.unwrap_or(DEFAULT_KEY_GROUPS);
        Division {
            placement: Placement::id_md5(key_groups, self.hash_tags),
            partitions: self.partitions.unwrap_or(1),
        }
    }
}

impl StateStore {
    /// Returns the division of the root, or the one that a new root gets.
    ///
    /// A record that cannot be decoded is left to the takeover, which reports it.
    ///
    /// # Errors
    /// [`Exit::Damaged`](crate::error::Exit::Damaged) if the root has another division than
    /// `asked`; [`Exit::Environment`](crate::error::Exit::Environment) if the store fails.
    pub(crate) async fn division(&self, asked: AskedPlacement) -> Result<Division, Failure> {
        let layout = Layout::new(&self.prefix, 0);
        let key = layout.application();
        let record = self.io(RETRY).get_record(key).await;
        let record = record.map_err(|error| Failure::from(LogError::from(error)))?;
        let Some(record) = record.and_then(|record| Application::decode(&record).ok()) else {
            return Ok(asked.of_new_root());
        };
        asked.check(key, &record)?;
        let partitions = u16::try_from(record.partitions).map_err(|_| {
            let message = format!("{key} names {} partitions", record.partitions);
            Failure::new(Exit::Damaged, message)
        })?;
        Ok(Division {
            placement: recorded(&record),
            partitions,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::executor::block_on;
    use satchel_log::{MemoryStore, ObjectStore};

    use super::*;

    const OLD: &str = "{\"format\":1,\"application\":\"satchel\",\"partitions\":1,\
                       \"buckets\":256,\"checksum\":\"773c8fb6937e5472\"}\n";
    const NEW: &str = "{\"format\":3,\"application\":\"satchel\",\"partitions\":1,\
                       \"key_groups\":1024,\"placement\":\"id-md5\",\"hash_tags\":false,\
                       \"generations\":\"generations\",\"checksum\":\"e0863a3d06b58ffd\"}\n";

    fn placement(
        record: Option<&'static str>,
        key_groups: Option<u16>,
        hash_tags: bool,
    ) -> Result<Placement, String> {
        let asked = AskedPlacement {
            key_groups,
            hash_tags,
            partitions: None,
        };
        division(record, asked).map(|division| {
            assert_eq!(division.partitions, 1);
            division.placement
        })
    }

    fn division(record: Option<&'static str>, asked: AskedPlacement) -> Result<Division, String> {
        let memory = MemoryStore::new();
        if let Some(record) = record {
            block_on(memory.create("application", record.into())).unwrap();
        }
        let division = block_on(StateStore::of(Arc::new(memory)).division(asked));
        division.map_err(|failure| {
            let text = failure.to_string();
            text.trim_start_matches("the durable state: ").to_owned()
        })
    }

    #[test]
    fn a_new_root_gets_what_is_asked_for_and_an_existing_one_keeps_its_own() {
        assert_eq!(placement(None, None, false), Ok(Placement::default()));
        let asked = Placement::id_md5(64, true);
        assert_eq!(placement(None, Some(64), true), Ok(asked));
        for key_groups in [None, Some(256)] {
            let found = placement(Some(OLD), key_groups, false);
            assert_eq!(found, Ok(Placement::xxh3(256)));
        }
        assert_eq!(placement(Some(NEW), None, false), Ok(Placement::default()));
    }

    #[test]
    fn a_contradiction_is_rejected_with_what_the_root_has() {
        assert_eq!(
            placement(Some(OLD), Some(1_024), false).unwrap_err(),
            "application: this root has the number of key groups 256, not 1024 (--key-groups)"
        );
        assert_eq!(
            placement(Some(OLD), None, true).unwrap_err(),
            "application: this root has the placement xxh3, without hash tags, not one with hash \
             tags (--hash-tags)"
        );
        assert_eq!(
            placement(Some(NEW), None, true).unwrap_err(),
            "application: this root has the placement id-md5, without hash tags, not one with \
             hash tags (--hash-tags)"
        );
    }

    #[test]
    fn the_number_of_partitions_is_that_of_the_root() {
        let asked = |partitions| AskedPlacement {
            partitions,
            ..AskedPlacement::default()
        };
        let new = division(None, asked(Some(4))).unwrap();
        assert_eq!(new.partitions, 4);
        let generation = new.generation().unwrap();
        assert_eq!(generation.number, 1);
        assert_eq!(generation.partitions, PartitionMap::even(1_024, 4));
        assert_eq!(division(None, asked(Some(1))).unwrap().generation(), None);
        assert_eq!(
            division(Some(NEW), asked(Some(4))).unwrap_err(),
            "application: this root has the number of partitions 1, not 4 (--partitions)"
        );
        assert_eq!(division(Some(NEW), asked(Some(1))).unwrap().partitions, 1);
    }
}
