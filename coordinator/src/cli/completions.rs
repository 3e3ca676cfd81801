//! `satchel completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::{Cli, output};
use crate::error::Failure;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell to complete commands in
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints a script that completes the command line in a shell.
pub(crate) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "satchel", &mut script);
    output::line(&script)?;
    Ok(())
}
