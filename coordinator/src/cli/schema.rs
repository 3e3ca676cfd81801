//! `satchel schema`.

use clap::{Args, ValueEnum};

use crate::cli::output;
use crate::error::Failure;
use crate::module::{reference, schema};

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Form of the description
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = SchemaFormat::Json)]
    format: SchemaFormat,
}

/// Form of the description of module files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaFormat {
    /// JSON Schema (draft 7), for editors
    Json,
    /// Reference of all kinds and fields, for readers
    Markdown,
}

/// Prints the description of module files.
pub(crate) fn run(args: &SchemaArgs) -> Result<(), Failure> {
    let text = match args.format {
        SchemaFormat::Json => schema(),
        SchemaFormat::Markdown => reference(),
    };
    output::line(text.as_bytes()).map(drop)
}
