//! Location of the log of a root, apart from the root's other objects.

use std::fmt;
use std::str::FromStr;

use satchel_log::TableLocation;

/// Kind of a table in DynamoDB, in the record of an application.
const DYNAMODB: &str = "dynamodb";

/// Location of the log, as `--commit-log` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogLocation {
    /// Table in DynamoDB: `dynamodb:TABLE`.
    DynamoDb(String),
}

impl LogLocation {
    /// Returns how the record of the application in the root at `root` names this location.
    #[must_use]
    pub fn of_root(&self, root: &impl fmt::Display) -> TableLocation {
        let Self::DynamoDb(table) = self;
        TableLocation {
            kind: DYNAMODB.to_owned(),
            table: table.clone(),
            key: root.to_string(),
        }
    }

    /// Returns the location that a record names, or `None` if this program does not know its kind.
    #[must_use]
    pub fn from_record(record: &TableLocation) -> Option<Self> {
        (record.kind == DYNAMODB).then(|| Self::DynamoDb(record.table.clone()))
    }
}

impl FromStr for LogLocation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(table) = text.strip_prefix("dynamodb:") else {
            return Err("write dynamodb:TABLE".to_owned());
        };
        // DynamoDB's rule for names of tables.
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !(3..=255).contains(&table.len()) || !table.chars().all(allowed) {
            return Err(format!(
                "`{table}` is not the name of a table in DynamoDB: 3 to 255 characters of \
                 A-Z a-z 0-9 _ . -"
            ));
        }
        Ok(Self::DynamoDb(table.to_owned()))
    }
}

impl fmt::Display for LogLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::DynamoDb(table) = self;
        write!(f, "{DYNAMODB}:{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_in_a_table_that_the_record_names_with_the_root() {
        let log: LogLocation = "dynamodb:my-logs".parse().unwrap();
        assert_eq!(log.to_string(), "dynamodb:my-logs");
        let record = log.of_root(&"s3://bucket/root");
        assert_eq!(record.key, "s3://bucket/root");
        assert_eq!(LogLocation::from_record(&record), Some(log));
        let other = TableLocation {
            kind: "spanner".to_owned(),
            ..record
        };
        assert_eq!(LogLocation::from_record(&other), None);
    }

    #[test]
    fn other_locations_are_refused_with_the_right_form() {
        for (text, named) in [
            ("dynamodb", "write dynamodb:TABLE"),
            ("s3://bucket", "write dynamodb:TABLE"),
            ("dynamodb:", "not the name of a table"),
            ("dynamodb:a/b", "`a/b`"),
        ] {
            let refused = text.parse::<LogLocation>().unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
