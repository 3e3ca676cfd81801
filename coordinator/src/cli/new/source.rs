//! Source of the crates, packages and Terraform modules of a new project.

use std::path::{Component, Path, PathBuf};

use super::environment;
use super::language::Language;
use crate::error::Failure;

/// The checkout that this binary was built from.
const BUILT_FROM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Source of the crates, packages and Terraform modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Absolute path of a checkout.
    Checkout(PathBuf),
    /// A git repository, and what to use of it; without a revision the default branch.
    Git {
        /// URL of the repository.
        url: String,
        /// Commit, tag or branch.
        revision: Option<String>,
    },
}

impl Source {
    pub(super) fn new(named: Option<&str>, revision: Option<&str>) -> Result<Self, Failure> {
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

    /// Checks that the package manager of the language can install from this source.
    pub(super) fn serves(&self, language: Language) -> Result<(), Failure> {
        match (self, language) {
            (Self::Git { url, .. }, Language::JavaScript) => Err(Failure::usage(format!(
                "--language javascript needs a checkout, and --satchel {url} is a git URL: npm \
                 cannot install a package from a directory of a git repository"
            ))),
            _ => Ok(()),
        }
    }

    /// Replaces what a template leaves open.
    pub(super) fn fill(
        &self,
        project: &Path,
        name: &str,
        language: Language,
        template: &str,
    ) -> String {
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
            .replace("@SATCHEL_SDK@", &self.crate_keys(project, "sdk"))
            .replace(
                "@SATCHEL_FUNCTION_HANDLER@",
                &self.crate_keys(project, "function-handler"),
            )
            .replace("@SATCHEL_PYTHON@", &self.python_requirement(project))
            .replace("@SATCHEL_JS@", &self.npm_version(project))
            .replace("@SATCHEL@", &shown)
            .replace("@MODULES@", &modules)
            .replace("@REFERENCE@", &reference)
            .replace("@FUNCTION@", language.terraform_arguments())
            .replace("@PACKAGE@", language.package_command())
            .replace("@CRATE@", &name.replace('-', "_"))
            .replace("@NAME@", name)
    }

    /// The keys of a dependency on a crate of the repository.
    fn crate_keys(&self, project: &Path, dir: &str) -> String {
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

    /// The requirement of the Python package, as pip reads it.
    fn python_requirement(&self, project: &Path) -> String {
        match self {
            Self::Checkout(checkout) => {
                let path = relative(project, &checkout.join("function-handler/python"));
                format!("{path}[zstd]")
            }
            Self::Git { url, revision } => {
                let at = revision.as_ref().map(|revision| format!("@{revision}"));
                let at = at.unwrap_or_default();
                format!("satchel-python[zstd] @ git+{url}{at}#subdirectory=function-handler/python")
            }
        }
    }

    /// The version of the npm package in a `package.json`. Empty if npm cannot install it.
    fn npm_version(&self, project: &Path) -> String {
        match self {
            Self::Checkout(checkout) => {
                let path = relative(project, &checkout.join("function-handler/js"));
                format!("file:{path}")
            }
            Self::Git { .. } => String::new(),
        }
    }
}

/// An absolute path without `.` and `..`, also of what does not exist yet; symbolic links of what
/// exists are followed.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_from_the_project_to_the_checkout() {
        let relative = |from, to| super::relative(Path::new(from), Path::new(to));
        assert_eq!(relative("/a/b/app", "/a/satchel/sdk"), "../../satchel/sdk");
        assert_eq!(relative("/a", "/a/satchel"), "./satchel");
        assert_eq!(relative("/a", "/a"), ".");
    }

    #[test]
    fn a_git_url_is_used_by_cargo_pip_and_terraform() {
        let url = "https://example.com/satchel.git";
        let source = Source::new(Some(url), Some("v1")).unwrap();
        let project = Path::new("/app");
        let filled = |text| source.fill(project, "app", Language::Rust, text);
        assert_eq!(
            filled("{ @SATCHEL_SDK@ }"),
            "{ git = \"https://example.com/satchel.git\", rev = \"v1\" }"
        );
        assert_eq!(
            filled("@SATCHEL_PYTHON@"),
            "satchel-python[zstd] @ git+https://example.com/satchel.git@v1\
             #subdirectory=function-handler/python"
        );
        assert_eq!(
            filled("@MODULES@network@REFERENCE@"),
            "git::https://example.com/satchel.git//infra/modules/network?ref=v1"
        );
        assert!(source.serves(Language::Python).is_ok());
        assert!(source.serves(Language::JavaScript).is_err());
        assert!(Source::new(Some("ssh://a\"b"), None).is_err());
        assert!(Source::new(Some("/nowhere"), None).is_err());
    }

    #[test]
    fn a_checkout_is_used_by_every_package_manager() {
        let source = Source::Checkout(PathBuf::from("/satchel"));
        let filled = |text| source.fill(Path::new("/work/app"), "app", Language::Rust, text);
        assert_eq!(filled("@SATCHEL_SDK@"), "path = \"../../satchel/sdk\"");
        let python = "../../satchel/function-handler/python[zstd]";
        assert_eq!(filled("@SATCHEL_PYTHON@"), python);
        assert_eq!(
            filled("@SATCHEL_JS@"),
            "file:../../satchel/function-handler/js"
        );
    }
}
