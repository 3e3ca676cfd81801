//! Beginning with the state of another root, on the command line.

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::offline::Origin;
use crate::runtime::node::OnHold;

/// What an application begins with, and whether a fork may touch the world outside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(next_help_heading = "Forks")]
pub struct RestoreArgs {
    /// Make the state, which must not exist yet, of that of another root: its latest, or as it was at a time (RFC 3339) or at a savepoint. The other
    /// stays as it is. The fork's ingresses, timers and outbox are held until a start with --resume-io.
    #[arg(long, env = "SATCHEL_RESTORE", value_name = "ROOT[@TIME|@SAVEPOINT]")]
    pub restore: Option<Origin>,

    /// Let a fork that is held go on for good: read its ingresses, fire its timers, deliver its outbox.
    #[arg(long, env = "SATCHEL_RESUME_IO", value_parser = BoolishValueParser::new())]
    pub resume_io: bool,

    /// With --resume-io: forget what the outbox of the fork holds, instead of delivering it.
    #[arg(long, env = "SATCHEL_DROP_OUTBOX", value_parser = BoolishValueParser::new())]
    pub drop_outbox: bool,
}

impl RestoreArgs {
    /// Checks what no single flag shows, and says what happens to a fork that is held.
    ///
    /// # Errors
    /// What does not fit together, naming the flags.
    pub fn on_hold(&self) -> Result<OnHold, String> {
        match (self.resume_io, self.drop_outbox) {
            (false, false) => Ok(OnHold::Stay),
            (true, false) => Ok(OnHold::Resume),
            (true, true) => Ok(OnHold::ResumeWithoutOutbox),
            (false, true) => Err("--drop-outbox is for --resume-io only".to_owned()),
        }
    }
}
