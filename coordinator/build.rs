//! Facts about the build: for `satchel --version`, and for the handlers that `satchel dev` builds.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let variable = |name| std::env::var(name).unwrap_or_default();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SATCHEL_COMMIT");
    let profile = profile(Path::new(&variable("OUT_DIR")));
    let commit = match variable("SATCHEL_COMMIT") {
        commit if !commit.is_empty() => Some(commit),
        // Other builds would begin anew after every commit.
        _ if profile == "release" => commit_of_checkout(),
        _ => None,
    };
    let commit = commit.map_or("development build".to_owned(), |commit| {
        format!("commit {commit}")
    });
    println!(
        "cargo::rustc-env=SATCHEL_BUILD={commit}, {}",
        variable("TARGET")
    );
    println!("cargo::rustc-env=SATCHEL_PROFILE={profile}");
}

/// Returns the name of cargo's profile, by the directory `target/[TRIPLE/]PROFILE/build/…/out`.
fn profile(out_dir: &Path) -> String {
    let directory = out_dir.ancestors().nth(3).and_then(Path::file_name);
    let name = directory.map(|name| name.to_string_lossy().into_owned());
    match name.as_deref() {
        None | Some("debug") => "dev".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// Returns the commit of the checkout, if this is one and git is installed.
fn commit_of_checkout() -> Option<String> {
    let head = PathBuf::from(git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    if head.is_file() {
        println!("cargo::rerun-if-changed={}", head.display());
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
