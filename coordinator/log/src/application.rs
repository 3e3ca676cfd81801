//! `<root>/application`: the application that a root belongs to. It is text, so that people can
//! read it.
//!
//! | format | says |
//! |---|---|
//! | 1 | application, partitions, buckets of each partition; addresses are placed by XXH3 |
//! | 2 | the same, and a table that holds the logs |
//! | 3 | application, partitions, key groups, placement, place of generations; a table, if any |

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::checksum;
use crate::error::{Defect, LogError};

/// Format version of a root whose addresses are placed by XXH3, and whose objects all lie in one
/// store.
const FORMAT: u32 = 1;

/// Format version of a root whose addresses are placed by XXH3, and whose logs lie in a table.
const FORMAT_WITH_TABLE: u32 = 2;

/// Format version of a root that names its placement.
const FORMAT_WITH_PLACEMENT: u32 = 3;

/// Prefix of the generations in a root. No generation exists yet. A root with another place would
/// be of a later kind.
const GENERATIONS: &str = "generations";

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
    /// Number of buckets; fixed when the root is created. At most 65,534. Bucket `buckets` (one
    /// past the last) is partition-wide: it holds the content that belongs to no other bucket.
    ///
    /// Buckets are numbered in each partition with [`Placement::Xxh3`], and over the whole
    /// application with any other placement, where they are called key groups.
    pub buckets: u16,
    /// Choice of the bucket of an address; fixed when the root is created.
    pub placement: Placement,
}

/// Choice of the bucket of an address. The log records it and computes no bucket itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// XXH3 of the whole address: roots of formats 1 and 2.
    Xxh3,
    /// Top bits of the MD5 of the id.
    IdMd5 {
        /// True if only the hash tag of an id is hashed, where it has one.
        hash_tags: bool,
    },
}

impl Placement {
    /// Name in the record.
    const fn name(self) -> &'static str {
        match self {
            Self::Xxh3 => "xxh3",
            Self::IdMd5 { .. } => "id-md5",
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::IdMd5 { hash_tags: true } => f.write_str(" with hash tags"),
            _ => Ok(()),
        }
    }
}

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

impl fmt::Display for TableLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({})", self.kind, self.table, self.key)
    }
}

/// Content of `<root>/application`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Name of the application.
    pub application: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Number of buckets, as [`Identity::buckets`].
    pub buckets: u16,
    /// Choice of the bucket of an address.
    pub placement: Placement,
    /// Location of the logs, unless they lie in the root itself.
    pub log: Option<TableLocation>,
}

/// Text of the record, of any format.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: u32,
    application: String,
    partitions: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    buckets: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_groups: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    placement: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash_tags: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generations: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<TableLocation>,
    checksum: String,
}

impl Text {
    fn sum(&self) -> String {
        let mut fields = match (self.buckets, self.key_groups) {
            (Some(buckets), _) => format!(
                "{}\n{}\n{}\n{buckets}",
                self.format, self.application, self.partitions
            ),
            (None, key_groups) => format!(
                "{}\n{}\n{}\n{}\n{}\n{}\n{}",
                self.format,
                self.application,
                self.partitions,
                key_groups.unwrap_or_default(),
                self.placement.as_deref().unwrap_or_default(),
                self.hash_tags.unwrap_or_default(),
                self.generations.as_deref().unwrap_or_default(),
            ),
        };
        if let Some(TableLocation { kind, table, key }) = &self.log {
            fields = format!("{fields}\n{kind}\n{table}\n{key}");
        }
        format!("{:016x}", checksum(fields.as_bytes()))
    }

    /// Placement that the fields name.
    fn placement(&self) -> Result<Placement, Defect> {
        match (self.placement.as_deref(), self.hash_tags) {
            (None, None) => Ok(Placement::Xxh3),
            (Some("id-md5"), Some(hash_tags)) => Ok(Placement::IdMd5 { hash_tags }),
            (Some("id-md5"), None) | (None, Some(_)) => Err(DISAGREE),
            (Some(found), _) => Err(Defect::Unknown {
                field: "placement",
                found: found.to_owned(),
            }),
        }
    }
}

const DISAGREE: Defect = Defect::Malformed("its format and its fields disagree");

impl Application {
    pub(crate) fn new(identity: &Identity, log: Option<&TableLocation>) -> Self {
        Self {
            application: identity.application.clone(),
            partitions: identity.partitions,
            buckets: identity.buckets,
            placement: identity.placement,
            log: log.cloned(),
        }
    }

    /// Format version of the record: the oldest that can say everything.
    #[must_use]
    pub fn format(&self) -> u32 {
        match (self.placement, &self.log) {
            (Placement::Xxh3, None) => FORMAT,
            (Placement::Xxh3, Some(_)) => FORMAT_WITH_TABLE,
            (Placement::IdMd5 { .. }, _) => FORMAT_WITH_PLACEMENT,
        }
    }

    /// Returns what an owner of partition `partition` must agree with.
    #[must_use]
    pub fn identity(&self, partition: u32) -> Identity {
        Identity {
            application: self.application.clone(),
            partition,
            partitions: self.partitions,
            buckets: self.buckets,
            placement: self.placement,
        }
    }

    fn text(&self) -> Text {
        let mut text = Text {
            format: self.format(),
            application: self.application.clone(),
            partitions: self.partitions,
            buckets: None,
            key_groups: None,
            placement: None,
            hash_tags: None,
            generations: None,
            log: self.log.clone(),
            checksum: String::new(),
        };
        match self.placement {
            Placement::Xxh3 => text.buckets = Some(self.buckets),
            Placement::IdMd5 { hash_tags } => {
                text.key_groups = Some(self.buckets);
                text.placement = Some(self.placement.name().to_owned());
                text.hash_tags = Some(hash_tags);
                text.generations = Some(GENERATIONS.to_owned());
            }
        }
        text.checksum = text.sum();
        text
    }

    pub(crate) fn encode(&self) -> Bytes {
        let text = serde_json::to_string(&self.text());
        let mut text = text.expect("names and numbers are always JSON");
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
        if !(FORMAT..=FORMAT_WITH_PLACEMENT).contains(&versioned.format) {
            return Err(Defect::Version {
                found: versioned.format,
                known: FORMAT_WITH_PLACEMENT,
            });
        }
        let text: Text = serde_json::from_slice(bytes)
            .map_err(|_| Defect::Malformed("it does not have the fields of an application"))?;
        let placement = text.placement()?;
        let buckets = match placement {
            Placement::Xxh3 => text.buckets,
            Placement::IdMd5 { .. } => text.key_groups,
        };
        let record = Self {
            application: text.application.clone(),
            partitions: text.partitions,
            buckets: buckets.ok_or(DISAGREE)?,
            placement,
            log: text.log.clone(),
        };
        if record.format() != text.format {
            return Err(DISAGREE);
        }
        if let Some(generations) = text.generations.as_deref().filter(|it| *it != GENERATIONS) {
            return Err(Defect::Unknown {
                field: "place of generations",
                found: generations.to_owned(),
            });
        }
        if text.checksum != text.sum() || record.encode() != bytes {
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
        let quoted = |name: &str| format!("{name:?}");
        let fields = [
            (
                "application",
                quoted(&self.application),
                quoted(&identity.application),
            ),
            (
                "partitions",
                self.partitions.to_string(),
                identity.partitions.to_string(),
            ),
            (
                "the placement",
                self.placement.to_string(),
                identity.placement.to_string(),
            ),
            (
                match self.placement {
                    Placement::Xxh3 => "buckets",
                    Placement::IdMd5 { .. } => "key groups",
                },
                self.buckets.to_string(),
                identity.buckets.to_string(),
            ),
        ];
        for (field, found, expected) in fields {
            if found != expected {
                return Err(LogError::Foreign {
                    key: key.to_owned(),
                    field,
                    found,
                    expected,
                });
            }
        }
        self.check_log(key, log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::assert_every_flipped_bit_is_found;

    const HASH_TAGS: Placement = Placement::IdMd5 { hash_tags: true };
    const NO_HASH_TAGS: Placement = Placement::IdMd5 { hash_tags: false };

    fn identity() -> Identity {
        Identity {
            application: "bank \"one\"".to_owned(),
            partition: 0,
            partitions: 4,
            buckets: 256,
            placement: Placement::Xxh3,
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
        for placement in [Placement::Xxh3, HASH_TAGS, NO_HASH_TAGS] {
            for log in [None, Some(&table())] {
                let identity = Identity {
                    placement,
                    ..identity()
                };
                let record = Application::new(&identity, log);
                let bytes = record.encode();
                assert_eq!(Application::decode(&bytes), Ok(record.clone()));
                assert_eq!(record.identity(0), identity);
                assert_every_flipped_bit_is_found(&bytes, |bytes| {
                    Application::decode(bytes).is_err()
                });
            }
        }
    }

    #[test]
    fn each_format_keeps_its_bytes() {
        let log = TableLocation {
            kind: "dynamodb".to_owned(),
            table: "logs".to_owned(),
            key: "s3://bucket/root".to_owned(),
        };
        let earlier = (256, Placement::Xxh3);
        let present = (1_024, NO_HASH_TAGS);
        for ((buckets, placement), log, bytes) in [
            (earlier, None, GOLDEN[0]),
            (earlier, Some(&log), GOLDEN[1]),
            (present, None, GOLDEN[2]),
            ((1_024, HASH_TAGS), Some(&log), GOLDEN[3]),
        ] {
            let identity = Identity {
                application: "satchel".to_owned(),
                partition: 0,
                partitions: 1,
                buckets,
                placement,
            };
            let record = Application::new(&identity, log);
            assert_eq!(record.encode(), bytes);
            assert_eq!(Application::decode(bytes.as_bytes()), Ok(record));
        }
    }

    /// Records of formats 1 and 2 as software before format 3 wrote them, then of format 3.
    const GOLDEN: [&str; 4] = [
        "{\"format\":1,\"application\":\"satchel\",\"partitions\":1,\"buckets\":256,\
         \"checksum\":\"773c8fb6937e5472\"}\n",
        "{\"format\":2,\"application\":\"satchel\",\"partitions\":1,\"buckets\":256,\
         \"log\":{\"kind\":\"dynamodb\",\"table\":\"logs\",\"key\":\"s3://bucket/root\"},\
         \"checksum\":\"a2da979fb4e1a573\"}\n",
        "{\"format\":3,\"application\":\"satchel\",\"partitions\":1,\"key_groups\":1024,\
         \"placement\":\"id-md5\",\"hash_tags\":false,\"generations\":\"generations\",\
         \"checksum\":\"e0863a3d06b58ffd\"}\n",
        "{\"format\":3,\"application\":\"satchel\",\"partitions\":1,\"key_groups\":1024,\
         \"placement\":\"id-md5\",\"hash_tags\":true,\"generations\":\"generations\",\
         \"log\":{\"kind\":\"dynamodb\",\"table\":\"logs\",\"key\":\"s3://bucket/root\"},\
         \"checksum\":\"eb6d4a5182e6500f\"}\n",
    ];

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
        for (placement, log, formats) in [
            (Placement::Xxh3, Some(table()), [1, 3]),
            (Placement::Xxh3, None, [2, 3]),
            (NO_HASH_TAGS, Some(table()), [1, 2]),
            (NO_HASH_TAGS, None, [1, 2]),
        ] {
            let identity = Identity {
                placement,
                ..identity()
            };
            for format in formats {
                let mut text = Application::new(&identity, log.as_ref()).text();
                text.format = format;
                assert_eq!(decode(text), Err(DISAGREE));
            }
        }
        for field in ["buckets", "key groups", "hash tags", "generations"] {
            let mut text = Application::new(&present(), None).text();
            match field {
                "buckets" => text.buckets = Some(256),
                "key groups" => text.key_groups = None,
                "hash tags" => text.hash_tags = None,
                _ => text.generations = None,
            }
            assert!(decode(text).is_err(), "{field}");
        }
    }

    #[test]
    fn a_placement_or_a_place_that_is_unknown_is_refused_by_name() {
        let mut text = Application::new(&present(), None).text();
        text.placement = Some("crc-32".to_owned());
        assert_eq!(
            decode(text).unwrap_err().to_string(),
            "its placement is \"crc-32\", which this program does not know"
        );
        let mut text = Application::new(&present(), None).text();
        text.generations = Some("elsewhere".to_owned());
        assert_eq!(
            decode(text).unwrap_err().to_string(),
            "its place of generations is \"elsewhere\", which this program does not know"
        );
    }

    fn present() -> Identity {
        Identity {
            placement: NO_HASH_TAGS,
            ..identity()
        }
    }

    /// Decodes a text whose checksum is right.
    fn decode(mut text: Text) -> Result<Application, Defect> {
        text.checksum = text.sum();
        let text = serde_json::to_string(&text).unwrap() + "\n";
        Application::decode(text.as_bytes())
    }

    #[test]
    fn another_application_number_or_placement_is_refused_by_name() {
        let record = Application::new(&identity(), None);
        let refusal = |identity: Identity| {
            let refused = record.admit("application", &identity, None);
            refused.unwrap_err().to_string()
        };
        assert_eq!(
            refusal(Identity {
                application: "shop".to_owned(),
                ..identity()
            }),
            r#"application: this root has application "bank \"one\"", not "shop""#
        );
        assert_eq!(
            refusal(Identity {
                partitions: 1,
                ..identity()
            }),
            "application: this root has partitions 4, not 1"
        );
        assert_eq!(
            refusal(Identity {
                buckets: 64,
                ..identity()
            }),
            "application: this root has buckets 256, not 64"
        );
        assert_eq!(
            refusal(present()),
            "application: this root has the placement xxh3, not id-md5"
        );
        let present = Application::new(&present(), None);
        let asked = Identity {
            placement: HASH_TAGS,
            ..identity()
        };
        let refused = present.admit("application", &asked, None);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "application: this root has the placement id-md5, not id-md5 with hash tags"
        );
        assert_eq!(record.admit("application", &identity(), None), Ok(()));
    }

    #[test]
    fn a_newer_root_is_refused_by_its_version() {
        assert_eq!(
            Application::decode(br#"{"format":4,"novelty":true}"#),
            Err(Defect::Version { found: 4, known: 3 })
        );
    }
}
