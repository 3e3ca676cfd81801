//! Flags about the location of the commit log.

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::store::{LogLocation, StateLocation};

/// Location of the log of a new root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(next_help_heading = "Commit log")]
pub struct CommitLogArgs {
    /// Keep the commit log of a new root in a bucket in this DynamoDB table: dynamodb:TABLE
    /// [default: in the bucket]
    ///
    /// The table has the partition key `log` and the sort key `object`, both strings. A commit then
    /// is an item, which DynamoDB stores sooner than S3 an object. A million small ones cost
    /// $0.625, and as much again for their deletion, instead of $5. The root remembers the table:
    /// later starts and all offline commands find it, and refuse another one.
    #[arg(long, env = "SATCHEL_COMMIT_LOG", value_name = "LOCATION")]
    pub commit_log: Option<LogLocation>,

    /// Create the table of --commit-log if it does not exist
    #[arg(
        long,
        env = "SATCHEL_CREATE_COMMIT_LOG_TABLE",
        requires = "commit_log",
        value_parser = BoolishValueParser::new()
    )]
    pub create_commit_log_table: bool,
}

impl CommitLogArgs {
    /// Checks that the state at `state` can have its log elsewhere. `None` is the memory of the
    /// process.
    ///
    /// # Errors
    /// The flags that do not fit.
    pub(crate) fn validate(&self, state: Option<&StateLocation>) -> Result<(), String> {
        match (&self.commit_log, state) {
            (None, _) | (Some(_), Some(StateLocation::S3(_))) => Ok(()),
            (Some(log), state) => {
                let place = state.map_or("memory".to_owned(), ToString::to_string);
                Err(format!(
                    "--commit-log {log} needs state in a bucket (--state s3://bucket/prefix): \
                     the log of state in {place} lies there too"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_needs_state_in_a_bucket() {
        let args = CommitLogArgs {
            commit_log: Some("dynamodb:logs".parse().unwrap()),
            create_commit_log_table: false,
        };
        assert_eq!(args.validate(Some(&"s3://bucket".parse().unwrap())), Ok(()));
        let directory: StateLocation = "some/state".parse().unwrap();
        let refused = args.validate(Some(&directory)).unwrap_err();
        assert!(
            refused.contains("dynamodb:logs") && refused.contains("some/state"),
            "{refused}"
        );
        assert!(args.validate(None).unwrap_err().contains("memory"));
        assert_eq!(CommitLogArgs::default().validate(None), Ok(()));
    }
}
