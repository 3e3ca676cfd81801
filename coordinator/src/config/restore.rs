//! Flags about forks: applications that begin with the state of another root.

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::offline::Origin;
use crate::runtime::hold::HoldPolicy;

/// Initial state of an application, and permission of a fork to act on the outside world.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(next_help_heading = "Forks")]
pub struct RestoreArgs {
    /// Create the state from another root: its latest state, or that at a time (RFC 3339) or
    /// savepoint
    ///
    /// The state must not exist yet, and the other root is not changed. Ingresses, timers and
    /// outbox of the new root are held until a start with --resume-io.
    #[arg(long, env = "SATCHEL_RESTORE", value_name = "ROOT[@TIME|@SAVEPOINT]")]
    pub restore: Option<Origin>,

    /// Lift the hold of a fork for good: read its ingresses, fire its timers, deliver its outbox
    #[arg(
        long,
        env = "SATCHEL_RESUME_IO",
        value_parser = BoolishValueParser::new()
    )]
    pub resume_io: bool,

    /// With --resume-io: drop the content of the fork's outbox instead of delivering it
    #[arg(
        long,
        env = "SATCHEL_DROP_OUTBOX",
        value_parser = BoolishValueParser::new()
    )]
    pub drop_outbox: bool,
}

impl RestoreArgs {
    /// Returns the treatment of a held fork.
    ///
    /// # Errors
    ///
    /// The combination of flags that is wrong.
    pub fn hold_policy(&self) -> Result<HoldPolicy, String> {
        match (self.resume_io, self.drop_outbox) {
            (false, false) => Ok(HoldPolicy::Keep),
            (true, false) => Ok(HoldPolicy::Resume),
            (true, true) => Ok(HoldPolicy::ResumeWithoutOutbox),
            (false, true) => Err("--drop-outbox needs --resume-io".to_owned()),
        }
    }
}
