//! Test of the arrows between the top-level modules of this crate.
//!
//! A module may use the modules that its line in [`ALLOWED`] lists, and no others. A line lists
//! only modules of earlier lines, so there are no cycles. A new arrow is a decision: add it to the
//! line, or move the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules in an order in which each uses only earlier ones, with the modules that it may use.
const ALLOWED: &[(&str, &str)] = &[
    ("bounded", ""),
    ("clock", ""),
    ("container", ""),
    ("cost", ""),
    ("log_limit", ""),
    ("open_files", ""),
    ("random", ""),
    ("readiness", ""),
    ("streams", ""),
    ("typed_json", ""),
    ("error", "streams"),
    ("invoker", "bounded error"),
    ("module", "bounded streams"),
    ("kafka", "error module"),
    ("store", "clock cost error"),
    ("status", "clock log_limit module"),
    ("metrics", "clock cost readiness status store"),
    ("sources", "metrics"),
    ("offline", "clock error module random store typed_json"),
    (
        "egress",
        "clock error kafka metrics module random sources streams",
    ),
    (
        "ingress",
        "clock error kafka metrics module sources streams",
    ),
    ("requests", "metrics random"),
    ("stories", "metrics module status"),
    ("otel", "error log_limit metrics status stories"),
    ("without_otel", "metrics stories"),
    (
        "http",
        "bounded clock cost egress error log_limit metrics module offline readiness requests \
         sources status stories streams",
    ),
    (
        "runtime",
        "clock egress error ingress invoker metrics random readiness requests sources status \
         store stories",
    ),
    (
        "peer",
        "clock cost error http log_limit metrics readiness requests runtime sources stories",
    ),
    ("config", "error module offline runtime store"),
    ("destinations", "error invoker module runtime"),
    ("check", "destinations module random store"),
    ("servers", "bounded config error http metrics"),
    (
        "assemble",
        "config container cost egress error http ingress metrics module offline otel random \
         readiness requests runtime servers sources store stories",
    ),
    (
        "dev",
        "assemble clock config destinations egress error http ingress invoker log_limit \
         metrics module open_files random readiness runtime servers store streams",
    ),
    (
        "run",
        "assemble clock config destinations egress error http ingress metrics module peer random \
         readiness runtime servers",
    ),
    (
        "replay",
        "clock config dev error invoker module offline typed_json",
    ),
    (
        "cli",
        "bounded check clock config cost destinations error module offline replay store streams \
         typed_json",
    ),
];

/// Files that join the modules instead of belonging to one.
const ROOTS: [&str; 3] = ["arrows", "lib", "main"];

#[test]
fn modules_use_only_what_is_allowed_and_never_in_a_cycle() {
    let arrows = arrows();
    let mut earlier = BTreeSet::new();
    let mut problems = Vec::new();
    for (module, allowed) in ALLOWED {
        let used = arrows.get(*module).cloned().unwrap_or_default();
        let allowed: BTreeSet<String> = allowed.split_whitespace().map(str::to_owned).collect();
        for other in used.difference(&allowed) {
            problems.push(format!(
                "{module} uses {other}, which its line does not list"
            ));
        }
        for other in allowed.difference(&used) {
            problems.push(format!(
                "{module} does not use {other}, which its line lists"
            ));
        }
        for other in allowed.difference(&earlier) {
            problems.push(format!(
                "{module} lists {other}, which is not an earlier line"
            ));
        }
        earlier.insert((*module).to_owned());
    }
    for module in arrows.keys().filter(|module| !earlier.contains(*module)) {
        problems.push(format!("{module} has no line"));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Modules that each top-level module uses, by the paths `crate::…` in its files.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files(&source) {
        let within = file.strip_prefix(&source).expect("the walk begins there");
        let first = within.iter().next().expect("a file has a name");
        let module = first.to_string_lossy().trim_end_matches(".rs").to_owned();
        if ROOTS.contains(&module.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file is text");
        let used = arrows.entry(module.clone()).or_default();
        for line in text.lines() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for path in line.split("crate::").skip(1) {
                let end = path.find(|c: char| !c.is_ascii_lowercase() && c != '_');
                let name = &path[..end.unwrap_or(path.len())];
                assert!(!name.is_empty(), "{}: {line}", within.display());
                if name != module {
                    used.insert(name.to_owned());
                }
            }
        }
    }
    arrows
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory exists") {
        let path = entry.expect("the directory is readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
