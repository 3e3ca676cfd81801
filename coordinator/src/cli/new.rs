//! `satchel new`: a project of one's own, outside this repository.

use std::fs;
use std::path::{Component, Path, PathBuf};

use clap::Args;

use crate::cli::output;
use crate::error::{Exit, Failure};

/// The files of a new project: path in the project, and template. `@NAME@` and the like are
/// replaced.
const TEMPLATE: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("new/template/Cargo.toml.in")),
    ("src/lib.rs", include_str!("new/template/src/lib.rs.in")),
    ("src/main.rs", include_str!("new/template/src/main.rs.in")),
    ("module.yaml", include_str!("new/template/module.yaml.in")),
    ("README.md", include_str!("new/template/README.md.in")),
    (".gitignore", include_str!("new/template/gitignore.in")),
    (
        "infra/main.tf",
        include_str!("new/template/infra/main.tf.in"),
    ),
    (
        "infra/variables.tf",
        include_str!("new/template/infra/variables.tf.in"),
    ),
    (
        "infra/outputs.tf",
        include_str!("new/template/infra/outputs.tf.in"),
    ),
    (
        "infra/Dockerfile",
        include_str!("new/template/infra/Dockerfile.in"),
    ),
];

/// Maximum length of a name: the load balancer that Terraform makes is named after the project.
const NAME_CHARS_MAX: usize = 32;

/// The checkout that this binary was built from.
const BUILT_FROM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Arguments of `new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Directory of the project; its last part is the project's name
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Source of the crates and Terraform modules: a checkout of Satchel's repository, or a git URL
    /// [default: the checkout that this binary was built from]
    #[arg(long, env = "SATCHEL_SOURCE", value_name = "PATH|URL")]
    satchel: Option<String>,

    /// Commit, tag or branch, with a git URL
    #[arg(long, value_name = "REVISION", requires = "satchel")]
    revision: Option<String>,
}

/// Source of the crates and Terraform modules.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// Absolute path of a checkout.
    Checkout(PathBuf),
    /// A git repository, and what to use of it; without a revision the default branch.
    Git {
        url: String,
        revision: Option<String>,
    },
}

/// Creates the project.
pub(crate) fn run(args: &NewArgs) -> Result<(), Failure> {
    let name = project_name(&args.path)?;
    let source = Source::new(args.satchel.as_deref(), args.revision.as_deref())?;
    if args.path.exists() {
        return Err(Failure::usage(format!(
            "{} exists already: name a directory that does not",
            args.path.display()
        )));
    }
    let project = absolute(&args.path)?;
    for (path, template) in TEMPLATE {
        let path = project.join(path);
        let content = source.fill(&project, &name, template);
        let dir = path.parent().unwrap_or(&project);
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(&path, content))
            .map_err(|error| environment(&path, error))?;
    }
    let shown = args.path.display();
    for line in [
        format!("Created {shown}. Next:"),
        format!("  cd {shown}"),
        "  cargo test      # the functions, without any server".to_owned(),
        "  satchel dev     # the application on this machine".to_owned(),
    ] {
        if !output::line(line.as_bytes())? {
            break;
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

impl Source {
    fn new(named: Option<&str>, revision: Option<&str>) -> Result<Self, Failure> {
        let named = named.filter(|named| !named.is_empty());
        if let Some(url) = named.filter(|named| named.contains("://") || named.contains('@')) {
            let quoted = [url, revision.unwrap_or_default()].concat();
            if quoted.contains(['"', '\\', '$', '\n']) {
                return Err(Failure::usage(format!(
                    "--satchel {url} and its revision cannot contain quotes, `\\` or `$`"
                )));
            }
            return Ok(Self::Git {
                url: url.to_owned(),
                revision: revision.map(str::to_owned),
            });
        }
        if revision.is_some() {
            return Err(Failure::usage(
                "--revision is for a git URL: check the revision out in the directory instead",
            ));
        }
        let checkout = absolute(Path::new(named.unwrap_or(BUILT_FROM)))?;
        if checkout.join("sdk/Cargo.toml").is_file() {
            return Ok(Self::Checkout(checkout));
        }
        Err(Failure::usage(match named {
            Some(named) => format!(
                "--satchel {named} is not a checkout of Satchel's repository: it has no \
                 sdk/Cargo.toml"
            ),
            None => "the checkout that this binary was built from is gone: name a checkout of \
                     Satchel's repository, or its git URL, with --satchel"
                .to_owned(),
        }))
    }

    /// Replaces what a template leaves open.
    fn fill(&self, project: &Path, name: &str, template: &str) -> String {
        let (shown, modules, reference) = match self {
            Self::Checkout(checkout) => {
                let from = project.join("infra");
                let modules = relative(&from, &checkout.join("infra/modules"));
                let shown = relative(project, checkout);
                (shown, format!("{modules}/"), String::new())
            }
            Self::Git { url, revision } => {
                let reference = revision.as_ref().map(|it| format!("?ref={it}"));
                let modules = format!("git::{url}//infra/modules/");
                (url.clone(), modules, reference.unwrap_or_default())
            }
        };
        template
            .replace("@SATCHEL_SDK@", &self.dependency(project, "sdk"))
            .replace(
                "@SATCHEL_FUNCTION_HANDLER@",
                &self.dependency(project, "function-handler"),
            )
            .replace("@SATCHEL@", &shown)
            .replace("@MODULES@", &modules)
            .replace("@REFERENCE@", &reference)
            .replace("@CRATE@", &name.replace('-', "_"))
            .replace("@NAME@", name)
    }

    /// The keys of a dependency on a crate of the repository.
    fn dependency(&self, project: &Path, dir: &str) -> String {
        match self {
            Self::Checkout(checkout) => {
                let path = relative(project, &checkout.join(dir));
                format!("path = \"{path}\"")
            }
            Self::Git { url, revision } => match revision {
                Some(revision) => format!("git = \"{url}\", rev = \"{revision}\""),
                None => format!("git = \"{url}\""),
            },
        }
    }
}

/// An absolute path without `.` and `..`, also of what does not exist yet; symbolic links of what
/// exists are followed.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path).map_err(|error| environment(path, error))?;
    let mut resolved = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                resolved.pop();
            }
            other => resolved.push(other),
        }
        if let Ok(followed) = resolved.canonicalize() {
            resolved = followed;
        }
    }
    Ok(resolved)
}

/// The way from one absolute directory to another, with slashes; it begins with `../` or `./`.
fn relative(from: &Path, to: &Path) -> String {
    let shared = from
        .components()
        .zip(to.components())
        .take_while(|(from, to)| from == to)
        .count();
    let up = from.components().skip(shared).map(|_| "..".to_owned());
    let down = to.components().skip(shared);
    let down = down.map(|component| component.as_os_str().to_string_lossy().into_owned());
    let parts: Vec<String> = up.chain(down).collect();
    match parts.first() {
        Some(first) if first == ".." => parts.join("/"),
        Some(_) => format!("./{}", parts.join("/")),
        None => ".".to_owned(),
    }
}

fn environment(path: &Path, error: std::io::Error) -> Failure {
    Failure::caused(Exit::Environment, path.display().to_string(), error)
}

#[cfg(test)]
mod tests {
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
    fn paths_lead_from_the_project_to_the_checkout() {
        let relative = |from, to| super::relative(Path::new(from), Path::new(to));
        assert_eq!(relative("/a/b/app", "/a/satchel/sdk"), "../../satchel/sdk");
        assert_eq!(relative("/a", "/a/satchel"), "./satchel");
        assert_eq!(relative("/a", "/a"), ".");
    }

    #[test]
    fn a_git_url_is_used_by_cargo_and_by_terraform() {
        let url = "https://example.com/satchel.git";
        let source = Source::new(Some(url), Some("v1")).unwrap();
        let project = Path::new("/app");
        let filled = |text| source.fill(project, "app", text);
        assert_eq!(
            filled("{ @SATCHEL_SDK@ }"),
            "{ git = \"https://example.com/satchel.git\", rev = \"v1\" }"
        );
        assert_eq!(
            filled("@MODULES@network@REFERENCE@"),
            "git::https://example.com/satchel.git//infra/modules/network?ref=v1"
        );
        assert!(Source::new(Some("ssh://a\"b"), None).is_err());
        assert!(Source::new(Some("/nowhere"), None).is_err());
    }

    #[test]
    fn nothing_of_a_template_stays_open() {
        let source = Source::Checkout(PathBuf::from("/satchel"));
        for (path, template) in TEMPLATE {
            let filled = source.fill(Path::new("/app"), "my-app", template);
            let open = filled.split_whitespace().find(|word| {
                word.contains('@') && word.chars().any(|each| each.is_ascii_uppercase())
            });
            assert_eq!(open, None, "{path}");
        }
    }
}
