//! `satchel validate`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::exit::Failure;
use crate::cli::output;
use crate::module::Application;

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Module files, or directories that hold a module.yaml.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Checks module files and tells what runs where.
pub(crate) fn run(args: &ValidateArgs) -> Result<(), Failure> {
    let application = Application::load(&args.files, &|name| std::env::var(name).ok())
        .map_err(|problems| Failure::usage(problems.to_string()))?;
    for line in application.summary() {
        if !output::line(line.as_bytes())? {
            break;
        }
    }
    Ok(())
}
