//! `<root>/application`: the application that a root belongs to. It is text, so that people can
//! read it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::checksum;
use crate::error::{Defect, LogError};

/// Format version of a root whose objects all lie in one store.
const FORMAT: u32 = 1;

/// Format version of a root whose logs lie in a table.
const FORMAT_WITH_TABLE: u32 = 2;

/// Maximum size of the record in bytes. Of a larger object only so much is read, and rejected.
pub const RECORD_BYTES_MAX: u64 = 64 << 10;

/// Properties on which a root, a partition of it and the owner must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the application.
    pub application: String,
    /// The partition, from 0.
    pub partition: u32,
    /// Number of partitions; fixed when the root is created.
    pub partitions: u32,
    /// Number of buckets of each partition; fixed when the root is created. At most 65,534. Bucket
    /// `buckets` (one past the last) is partition-wide: it holds the content that belongs to no
    /// other bucket.
    pub buckets: u16,
}

/// Default number of buckets of a new root.
pub const DEFAULT_BUCKETS: u16 = 256;

impl Identity {
    pub(crate) fn validate(&self) -> Result<(), LogError> {
        let wrong = |what: &str| Err(LogError::Misuse(what.to_owned()));
        if self.application.is_empty() {
            wrong("the application's name is empty")
        } else if self.partitions == 0 || self.partition >= self.partitions {
            wrong("the partition is not one of the application's partitions")
        } else if self.buckets == 0 || self.buckets == u16::MAX {
            wrong("the number of buckets must be from 1 to 65534")
        } else {
            Ok(())
        }
    }
}

/// Location of the logs of a root, if they lie in a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableLocation {
    /// Kind of the table: `dynamodb`.
    pub kind: String,
    /// Name of the table.
    pub table: String,
    /// Beginning of the names of the logs in the table: the location of the root. A copy of the
    /// root elsewhere does not continue the logs of the original.
    pub key: String,
}

impl std::fmt::Display for TableLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} ({})", self.kind, self.table, self.key)
    }
}

/// Content of `<root>/application`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    format: u32,
    /// Name of the application.
    pub application: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Number of buckets of each partition.
    pub buckets: u16,
    /// Location of the logs, unless they lie in the root itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<TableLocation>,
    checksum: String,
}

impl Application {
    pub(crate) fn new(identity: &Identity, log: Option<&TableLocation>) -> Self {
        let mut record = Self {
            format: log.map_or(FORMAT, |_| FORMAT_WITH_TABLE),
            application: identity.application.clone(),
            partitions: identity.partitions,
            buckets: identity.buckets,
            log: log.cloned(),
            checksum: String::new(),
        };
        record.checksum = record.sum();
        record
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut text = serde_json::to_string(self).expect("names and numbers are always JSON");
        text.push('\n');
        Bytes::from(text)
    }

    /// Decodes the record. Anything but the exact bytes that this program would write is damage.
    ///
    /// # Errors
    /// [`Defect`] says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Defect> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let versioned: Versioned = serde_json::from_slice(bytes)
            .map_err(|_| Defect::Malformed("it is not a JSON object with a format version"))?;
        if !(FORMAT..=FORMAT_WITH_TABLE).contains(&versioned.format) {
            return Err(Defect::Version {
                found: versioned.format,
                known: FORMAT_WITH_TABLE,
            });
        }
        let record: Self = serde_json::from_slice(bytes)
            .map_err(|_| Defect::Malformed("it does not have the fields of an application"))?;
        if record.log.is_some() != (record.format == FORMAT_WITH_TABLE) {
            return Err(Defect::Malformed("its format and its fields disagree"));
        }
        if record.checksum != record.sum() || record.encode() != bytes {
            return Err(Defect::Checksum { part: "content" });
        }
        Ok(record)
    }

    /// Checks that the logs lie where `log` says; `key` is the key of the record.
    ///
    /// # Errors
    /// [`LogError::Foreign`] if they lie elsewhere.
    pub fn check_log(&self, key: &str, log: Option<&TableLocation>) -> Result<(), LogError> {
        let say = |log: Option<&TableLocation>| {
            log.map_or_else(|| "in the root itself".to_owned(), ToString::to_string)
        };
        if self.log.as_ref() == log {
            return Ok(());
        }
        Err(LogError::Foreign {
            key: key.to_owned(),
            field: "its log",
            found: say(self.log.as_ref()),
            expected: say(log),
        })
    }

    /// Checks that `identity` may use this root, and that its logs lie where `log` says; `key` is
    /// the key of the record.
    pub(crate) fn admit(
        &self,
        key: &str,
        identity: &Identity,
        log: Option<&TableLocation>,
    ) -> Result<(), LogError> {
        let differs = |field, found: String, expected: String| LogError::Foreign {
            key: key.to_owned(),
            field,
            found,
            expected,
        };
        if self.application != identity.application {
            let quoted = |name: &str| format!("{name:?}");
            return Err(differs(
                "application",
                quoted(&self.application),
                quoted(&identity.application),
            ));
        }
        for (field, found, expected) in [
            ("partitions", self.partitions, identity.partitions),
            (
                "buckets",
                u32::from(self.buckets),
                u32::from(identity.buckets),
            ),
        ] {
            if found != expected {
                return Err(differs(field, found.to_string(), expected.to_string()));
            }
        }
        self.check_log(key, log)
    }

    fn sum(&self) -> String {
        let mut fields = format!(
            "{}\n{}\n{}\n{}",
            self.format, self.application, self.partitions, self.buckets
        );
        if let Some(TableLocation { kind, table, key }) = &self.log {
            fields = format!("{fields}\n{kind}\n{table}\n{key}");
        }
        format!("{:016x}", checksum(fields.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::assert_every_flipped_bit_is_found;

    fn identity() -> Identity {
        Identity {
            application: "bank \"one\"".to_owned(),
            partition: 0,
            partitions: 4,
            buckets: 256,
        }
    }

    fn table() -> TableLocation {
        TableLocation {
            kind: "dynamodb".to_owned(),
            table: "logs".to_owned(),
            key: "bucket/root".to_owned(),
        }
    }

    #[test]
    fn the_record_reads_back_and_every_flipped_bit_in_it_is_found() {
        for log in [None, Some(&table())] {
            let record = Application::new(&identity(), log);
            let bytes = record.encode();
            assert_eq!(Application::decode(&bytes), Ok(record));
            assert_every_flipped_bit_is_found(&bytes, |bytes| Application::decode(bytes).is_err());
        }
    }

    #[test]
    fn a_root_without_a_table_is_written_as_before_there_were_any() {
        let before = "{\"format\":1,\"application\":\"satchel\",\"partitions\":1,\"buckets\":256,\
                      \"checksum\":\"773c8fb6937e5472\"}\n";
        let identity = Identity {
            application: "satchel".to_owned(),
            partition: 0,
            partitions: 1,
            buckets: 256,
        };
        let record = Application::new(&identity, None);
        assert_eq!(record.encode(), before);
        assert_eq!(Application::decode(before.as_bytes()), Ok(record));
    }

    #[test]
    fn a_log_in_another_place_is_refused_by_name() {
        let table = table();
        let with = Application::new(&identity(), Some(&table));
        let without = Application::new(&identity(), None);
        assert_eq!(with.check_log("application", Some(&table)), Ok(()));
        assert_eq!(
            with.check_log("application", None).unwrap_err().to_string(),
            "application: this root has its log dynamodb:logs (bucket/root), \
             not in the root itself"
        );
        assert_eq!(
            without
                .admit("application", &identity(), Some(&table))
                .unwrap_err()
                .to_string(),
            "application: this root has its log in the root itself, \
             not dynamodb:logs (bucket/root)"
        );
    }

    #[test]
    fn a_record_whose_format_and_fields_disagree_is_refused() {
        for (log, format) in [(Some(table()), 1), (None, 2)] {
            let mut record = Application::new(&identity(), log.as_ref());
            record.format = format;
            record.checksum = record.sum();
            assert_eq!(
                Application::decode(&record.encode()),
                Err(Defect::Malformed("its format and its fields disagree"))
            );
        }
    }

    #[test]
    fn another_application_or_number_is_refused_by_name() {
        let record = Application::new(&identity(), None);
        let refusal =
            |identity: Identity| record.admit("application", &identity, None).unwrap_err();
        assert_eq!(
            refusal(Identity {
                application: "shop".to_owned(),
                ..identity()
            })
            .to_string(),
            r#"application: this root has application "bank \"one\"", not "shop""#
        );
        assert_eq!(
            refusal(Identity {
                partitions: 1,
                ..identity()
            })
            .to_string(),
            "application: this root has partitions 4, not 1"
        );
        assert_eq!(
            refusal(Identity {
                buckets: 64,
                ..identity()
            })
            .to_string(),
            "application: this root has buckets 256, not 64"
        );
        assert_eq!(record.admit("application", &identity(), None), Ok(()));
    }

    #[test]
    fn a_newer_root_is_refused_by_its_version() {
        assert_eq!(
            Application::decode(br#"{"format":3,"novelty":true}"#),
            Err(Defect::Version { found: 3, known: 2 })
        );
    }
}
