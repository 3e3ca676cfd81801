//! Reference of the command line, `docs/command-line.md`, generated from clap's definitions.
//!
//! The test compares the file with the definitions. `SATCHEL_UPDATE_DOCS=1 cargo test -p satchel
//! --lib reference` writes it.

use std::fmt::Write as _;
use std::path::Path;

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::Cli;

const HEAD: &str = "# Command line

<!-- Generated from the definitions: SATCHEL_UPDATE_DOCS=1 cargo test -p satchel --lib reference -->

`satchel <command> --help` shows the same texts. Every flag of `dev` and `run` has an environment
variable, which the command line overrides. Durations are written as `500ms`, `10s`, `24h` or `7d`,
sizes as `64MiB`.

| Exit code | Meaning |
|---|---|
| 0 | success, or a clean stop |
| 1 | the application answered with an error, which is on standard error |
| 2 | error in the command line or a module file |
| 3 | fenced by another owner |
| 4 | damaged or rejected durable data |
| 5 | environment: a port, credentials, a service that cannot be reached |
";

fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut cli = Cli::command();
    cli.build();
    for command in visible(&cli) {
        section(&mut text, command, command.get_name());
    }
    text
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    let commands = command.get_subcommands();
    commands.filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn section(text: &mut String, command: &Command, name: &str) {
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(plain).unwrap_or_default();
    let _ = write!(text, "\n## `satchel {name}`\n\n{about}\n");
    let mut subcommands = visible(command).peekable();
    if subcommands.peek().is_some() {
        for subcommand in subcommands {
            section(
                text,
                subcommand,
                &format!("{name} {}", subcommand.get_name()),
            );
        }
        return;
    }
    let arguments = command.get_arguments();
    let arguments: Vec<&Arg> = arguments
        .filter(|argument| !argument.is_hide_set() && argument.get_id() != "help")
        .collect();
    let mut headings: Vec<Option<&str>> = Vec::new();
    for argument in &arguments {
        let heading = argument.get_help_heading();
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    for heading in headings {
        let title = heading.unwrap_or("Arguments and flags");
        let _ = write!(text, "\n| {title} | Meaning |\n|---|---|\n");
        let under = arguments.iter();
        for argument in under.filter(|argument| argument.get_help_heading() == heading) {
            let _ = writeln!(text, "| {} | {} |", flag(argument), meaning(argument));
        }
    }
}

fn flag(argument: &Arg) -> String {
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let names = argument.get_value_names().unwrap_or_default();
    let value = names.first().map_or("", |name| name.as_str());
    match argument.get_long() {
        Some(long) if takes_value => format!("`--{long} <{value}>`"),
        Some(long) => format!("`--{long}`"),
        None => format!("`<{value}>`"),
    }
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let mut text = help.map(plain).unwrap_or_default().replace("\n\n", ". ");
    let mut facts = Vec::new();
    let values = argument.get_possible_values();
    let values: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
    if !values.is_empty() && argument.get_action().takes_values() {
        facts.push(format!("one of `{}`", values.join("`, `")));
    }
    let defaults = argument.get_default_values();
    if let (Some(default), true) = (defaults.first(), argument.get_action().takes_values()) {
        facts.push(format!("default `{}`", default.to_string_lossy()));
    }
    if let Some(variable) = argument.get_env() {
        facts.push(format!("`{}`", variable.to_string_lossy()));
    }
    if !facts.is_empty() {
        let _ = write!(text, " ({})", facts.join("; "));
    }
    text.replace('\n', " ").replace('|', "\\|")
}

fn plain(text: &StyledStr) -> String {
    text.to_string()
}

#[test]
fn the_reference_in_the_documents_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command-line.md");
    let reference = reference();
    if std::env::var_os("SATCHEL_UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &reference).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == reference,
        "{} is not current: run SATCHEL_UPDATE_DOCS=1 cargo test -p satchel --lib reference",
        file.display()
    );
}

#[test]
fn the_reference_names_every_flag_of_run() {
    let reference = reference();
    let (_, run) = reference.split_once("\n## `satchel run`\n").unwrap();
    let (run, _) = run.split_once("\n## ").unwrap();
    let cli = Cli::command();
    let command = cli.find_subcommand("run").unwrap();
    let flags: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
    assert!(flags.len() > 20, "{flags:?}");
    for flag in flags.into_iter().filter(|flag| *flag != "help") {
        assert!(run.contains(&format!("`--{flag}")), "--{flag}");
    }
}
