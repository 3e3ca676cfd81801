//! Rebuild and replacement of handlers when a source changes.
//!
//! Sources are polled: modification times work the same on every system and every kind of mount,
//! and polling the few hundred files of an application takes a millisecond.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::function::Function;
use super::{FunctionSpec, Program, command_of};

/// Polling interval. A change counts once the sources stayed the same for an interval.
const EVERY: Duration = Duration::from_millis(500);

/// Extensions of source files. Data that a handler or satchel writes beside them must not cause a
/// restart.
const EXTENSIONS: [&str; 24] = [
    "c", "cs", "go", "gradle", "h", "jar", "java", "js", "jsx", "kt", "lock", "mjs", "cjs", "php",
    "proto", "py", "rb", "rs", "scala", "sh", "toml", "ts", "tsx", "wasm",
];

/// Directories of generated files. Hidden directories are skipped too.
const NOT_SOURCES: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// Maximum number of polled files. A larger directory is not that of an application.
const FILES_MAX: usize = 20_000;

/// Source files of a function.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    dir: PathBuf,
    /// Files that the command names.
    named: Vec<PathBuf>,
    /// File in which the compiler lists the sources of the executable, which include path
    /// dependencies elsewhere.
    dep_info: Option<PathBuf>,
}

/// Modification time and size of each file.
type Fingerprint = BTreeMap<PathBuf, (SystemTime, u64)>;

/// Fingerprint of the sources before the build of the running handlers.
#[derive(Debug)]
pub(super) struct Before {
    taken_at: SystemTime,
    files: Fingerprint,
}

/// Watches until it is aborted.
pub(super) async fn rebuild_on_change(
    function: Arc<Function>,
    mut sources: Sources,
    mut before: Before,
) {
    loop {
        sources.built(&function);
        before.add_dependencies(sources.clone().fingerprint().await);
        changed(&sources, &before).await;
        before = settled(&sources).await;
        rebuild(&function).await;
    }
}

async fn rebuild(function: &Function) {
    let name = function.name();
    let log_lines = function.log_lines();
    match command_of(&function.spec).await {
        Ok(command) => {
            let same = matches!(function.spec.program, Program::Cargo { .. })
                && function.is_made_from(&command);
            if same {
                log_lines.write(name, "no source of the handler has changed");
            } else {
                log_lines.write(name, "a source has changed; replacing the handlers");
                function.replace(command);
            }
        }
        Err(error) => {
            log_lines.write(
                name,
                &format!("build failed; the current handlers keep running: {error}"),
            );
        }
    }
}

async fn changed(sources: &Sources, before: &Before) {
    loop {
        tokio::time::sleep(EVERY).await;
        if sources.clone().fingerprint().await.files != before.files {
            return;
        }
    }
}

/// Waits until nothing changes: an editor or a checkout may be in the middle of its work.
async fn settled(sources: &Sources) -> Before {
    let mut last = sources.clone().fingerprint().await;
    loop {
        tokio::time::sleep(EVERY).await;
        let now = sources.clone().fingerprint().await;
        if now.files == last.files {
            return now;
        }
        last = now;
    }
}

impl Sources {
    pub(super) fn of(spec: &FunctionSpec) -> Self {
        let named = match &spec.program {
            Program::Cargo { .. } => Vec::new(),
            Program::Command(command) => command
                .iter()
                .map(|word| spec.dir.join(word))
                .filter(|path| path.is_file())
                .collect(),
        };
        Self {
            dir: spec.dir.clone(),
            named,
            dep_info: None,
        }
    }

    /// Notes the list of sources of the executable, which is known after the build.
    fn built(&mut self, function: &Function) {
        if let Program::Cargo { .. } = function.spec.program {
            self.dep_info = function
                .command()
                .first()
                .map(|executable| Path::new(executable).with_extension("d"));
        }
    }

    pub(super) async fn fingerprint(self) -> Before {
        let taken_at = SystemTime::now();
        let looked = tokio::task::spawn_blocking(move || {
            let mut files = Fingerprint::new();
            poll_directory(&self.dir, &mut files);
            let listed = self.dep_info.iter().flat_map(|path| dependencies(path));
            for path in listed.chain(self.named) {
                poll_file(path, &mut files);
            }
            files
        });
        // Polling does not panic. It fails only if the runtime is ending.
        let files = looked.await.unwrap_or_default();
        Before { taken_at, files }
    }
}

impl Before {
    /// Adds files that are known only after the build. Files modified since count as changed.
    fn add_dependencies(&mut self, now: Before) {
        for (path, seen) in now.files {
            if seen.0 < self.taken_at {
                self.files.entry(path).or_insert(seen);
            }
        }
    }
}

fn poll_directory(dir: &Path, files: &mut Fingerprint) {
    // An unreadable directory is polled again soon.
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if files.len() >= FILES_MAX {
            return;
        }
        if kind.is_dir() {
            if !name.starts_with('.') && !NOT_SOURCES.contains(&name.as_ref()) {
                poll_directory(&entry.path(), files);
            }
        } else if Path::new(name.as_ref())
            .extension()
            .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
        {
            poll_file(entry.path(), files);
        }
    }
}

fn poll_file(path: PathBuf, files: &mut Fingerprint) {
    if let Ok(metadata) = path.metadata()
        && let Ok(modified) = metadata.modified()
    {
        files.insert(path, (modified, metadata.len()));
    }
}

/// Parses the files after the first colon of a dep-info file. Blanks separate them; a backslash
/// escapes blanks in names.
fn dependencies(dep_info: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(dep_info).unwrap_or_default();
    let Some((_, list)) = text.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    let mut paths = vec![String::new()];
    let mut chars = list.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                if let Some(path) = paths.last_mut() {
                    path.extend(chars.next());
                }
            }
            ' ' => paths.push(String::new()),
            char => {
                if let Some(path) = paths.last_mut() {
                    path.push(char);
                }
            }
        }
    }
    paths.retain(|path| !path.is_empty());
    paths.into_iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dep_info_lists_paths_with_blanks() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("greeter.d");
        std::fs::write(
            &file,
            "/t/greeter: /a/main.rs /with\\ blank/lib.rs\n\n/a/main.rs:\n",
        )
        .unwrap();
        assert_eq!(
            dependencies(&file),
            [
                PathBuf::from("/a/main.rs"),
                PathBuf::from("/with blank/lib.rs")
            ]
        );
        assert!(dependencies(&dir.path().join("none.d")).is_empty());
    }

    #[test]
    fn sources_are_looked_at_and_products_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "src/main.rs",
            "Cargo.toml",
            "target/debug/x.rs",
            ".satchel/state.rs",
            "data/records.json",
        ] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let mut files = Fingerprint::new();
        poll_directory(dir.path(), &mut files);
        let found: Vec<_> = files.into_keys().collect();
        assert_eq!(
            found,
            [
                dir.path().join("Cargo.toml"),
                dir.path().join("src/main.rs")
            ]
        );
    }
}
