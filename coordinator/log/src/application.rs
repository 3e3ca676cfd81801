//! `<root>/application`: the application that a root belongs to. It is text, so that people can
//! read it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::checksum;
use crate::error::{Defect, LogError};

/// Format version of the whole root that this program writes.
const FORMAT: u32 = 1;

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
    checksum: String,
}

impl Application {
    pub(crate) fn new(identity: &Identity) -> Self {
        let mut record = Self {
            format: FORMAT,
            application: identity.application.clone(),
            partitions: identity.partitions,
            buckets: identity.buckets,
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
        if versioned.format != FORMAT {
            return Err(Defect::Version {
                found: versioned.format,
                known: FORMAT,
            });
        }
        let record: Self = serde_json::from_slice(bytes)
            .map_err(|_| Defect::Malformed("it does not have the fields of an application"))?;
        if record.checksum != record.sum() || record.encode() != bytes {
            return Err(Defect::Checksum { part: "content" });
        }
        Ok(record)
    }

    /// Checks that `identity` may use this root; `key` is the key of the record.
    pub(crate) fn admit(&self, key: &str, identity: &Identity) -> Result<(), LogError> {
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
        Ok(())
    }

    fn sum(&self) -> String {
        let fields = format!(
            "{}\n{}\n{}\n{}",
            self.format, self.application, self.partitions, self.buckets
        );
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

    #[test]
    fn the_record_reads_back_and_every_flipped_bit_in_it_is_found() {
        let record = Application::new(&identity());
        let bytes = record.encode();
        assert_eq!(Application::decode(&bytes), Ok(record));
        assert_every_flipped_bit_is_found(&bytes, |bytes| Application::decode(bytes).is_err());
    }

    #[test]
    fn another_application_or_number_is_refused_by_name() {
        let record = Application::new(&identity());
        let refusal = |identity: Identity| record.admit("application", &identity).unwrap_err();
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
        assert_eq!(record.admit("application", &identity()), Ok(()));
    }

    #[test]
    fn a_newer_root_is_refused_by_its_version() {
        assert_eq!(
            Application::decode(br#"{"format":2,"novelty":true}"#),
            Err(Defect::Version { found: 2, known: 1 })
        );
    }
}
