//! `satchel new`: a project of one's own, outside this repository.

mod language;
mod source;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use self::language::Language;
use self::source::{Source, absolute};
use crate::cli::output;
use crate::error::{Exit, Failure};

/// Maximum length of a name: the load balancer that Terraform makes is named after the project.
const NAME_CHARS_MAX: usize = 32;

/// Arguments of `new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Directory of the project; its last part is the project's name
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Language of the functions
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    language: Language,

    /// Write the files only; do not install the packages of a project in Python or JavaScript
    #[arg(long)]
    no_install: bool,

    /// Source of the crates, packages and Terraform modules: a checkout of Satchel's repository, or
    /// a git URL [default: the checkout that this binary was built from]
    #[arg(long, env = "SATCHEL_SOURCE", value_name = "PATH|URL")]
    satchel: Option<String>,

    /// Commit, tag or branch, with a git URL
    #[arg(long, value_name = "REVISION", requires = "satchel")]
    revision: Option<String>,
}

/// Creates the project.
pub(crate) fn run(args: &NewArgs) -> Result<(), Failure> {
    let name = project_name(&args.path)?;
    let source = Source::new(args.satchel.as_deref(), args.revision.as_deref())?;
    source.serves(args.language)?;
    if args.path.exists() {
        return Err(Failure::usage(format!(
            "{} exists already: name a directory that does not",
            args.path.display()
        )));
    }
    let project = absolute(&args.path)?;
    for (path, template) in args.language.templates() {
        let path = project.join(path);
        let content = source.fill(&project, &name, args.language, template);
        write(&path, &content).map_err(|error| environment(&path, error))?;
    }
    let shown = args.path.display();
    let test = args.language.test_command();
    let mut lines = vec![format!("Created {shown}.")];
    let mut next = vec![format!("  cd {shown}")];
    for command in args.language.install_commands() {
        let command = command.join(" ");
        if args.no_install {
            next.push(format!("  {command}"));
        } else {
            lines.push(format!("Installing its packages: {command}"));
        }
    }
    next.push(format!("  {test:<31} # the functions, without any server"));
    next.push("  satchel dev                     # the application on this machine".to_owned());
    show(&lines)?;
    if !args.no_install {
        install(&project, args.language)?;
    }
    show(&["Next:".to_owned()])?;
    show(&next)
}

fn show(lines: &[String]) -> Result<(), Failure> {
    for line in lines {
        if !output::line(line.as_bytes())? {
            break;
        }
    }
    Ok(())
}

fn write(path: &Path, content: &str) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, content)?;
    if content.starts_with("#!") {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Installs the packages of a project.
fn install(project: &Path, language: Language) -> Result<(), Failure> {
    for command in language.install_commands() {
        let shown = command.join(" ");
        let failed = |why: String| {
            let project = project.display();
            Failure::new(
                Exit::Environment,
                format!("{why}; the files are in {project}: repair it, and run `{shown}` there"),
            )
        };
        let [program, arguments @ ..] = command else {
            continue;
        };
        // A relative program is one of the project.
        let program = match program.contains('/') {
            true => project.join(program),
            false => PathBuf::from(program),
        };
        let status = Command::new(program)
            .args(arguments)
            .current_dir(project)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|error| failed(format!("`{shown}` cannot be run: {error}")))?;
        if !status.success() {
            return Err(failed(format!("`{shown}` failed ({status})")));
        }
    }
    Ok(())
}

/// The name of a project is that of its package, its Lambda function, its bucket prefix and its
/// functions' namespace, so it fits all of them.
fn project_name(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.unwrap_or_default();
    let fits = name.len() <= NAME_CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit())
        && name
            .chars()
            .all(|each| each.is_ascii_lowercase() || each.is_ascii_digit() || each == '-');
    if fits && !["test", "core", "std", "alloc", "proc-macro"].contains(&name) {
        return Ok(name.to_owned());
    }
    Err(Failure::usage(format!(
        "`{name}` cannot be the name of a project: use 1 to {NAME_CHARS_MAX} lowercase letters, \
         digits and hyphens that begin with a letter and do not end with a hyphen, such as `my-app`"
    )))
}

fn environment(path: &Path, error: std::io::Error) -> Failure {
    Failure::caused(Exit::Environment, path.display().to_string(), error)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn a_name_fits_everything_that_is_named_after_the_project() {
        for name in ["a", "my-app", "dir/orders2"] {
            assert!(project_name(Path::new(name)).is_ok(), "{name}");
        }
        let long = "a".repeat(NAME_CHARS_MAX + 1);
        for name in [
            "", "-a", "a-", "2a", "A", "a_b", "a b", "test", "..", &long, "ü",
        ] {
            let refused = project_name(Path::new(name)).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{name}");
        }
    }

    #[test]
    fn nothing_of_a_template_stays_open() {
        let source = Source::Checkout(PathBuf::from("/satchel"));
        for language in Language::value_variants() {
            for (path, template) in language.templates() {
                let filled = source.fill(Path::new("/app"), "my-app", *language, template);
                let open = filled.split_whitespace().find(|word| {
                    word.contains('@') && word.chars().any(|each| each.is_ascii_uppercase())
                });
                assert_eq!(open, None, "{path}");
                let wide = filled.lines().find(|line| line.chars().count() > 100);
                assert_eq!(wide, None, "{path}");
            }
        }
    }
}
