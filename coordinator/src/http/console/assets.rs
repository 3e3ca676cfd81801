//! Files of the console, within the binary.

use std::borrow::Cow;
use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// File of the console.
#[derive(Debug)]
pub(super) struct Asset {
    path: &'static str,
    pub(super) content_type: &'static str,
    plain: &'static [u8],
    /// Content compressed with gzip, once it was asked for.
    zipped: LazyLock<Vec<u8>, Box<dyn FnOnce() -> Vec<u8> + Send>>,
    digest: String,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! files {
    ($($content_type:ident $file:literal),* $(,)?) => {
        &[$((
            concat!("/console/", $file),
            $content_type,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/console/", $file)),
        )),*]
    };
}

/// Path, content type and content of each file.
const FILES: &[(&str, &str, &[u8])] = files![
    HTML "index.html",
    STYLE "style.css",
    IMAGE "icon.svg",
    SCRIPT "theme.js",
    SCRIPT "app.js",
    SCRIPT "html.js",
    SCRIPT "api.js",
    SCRIPT "live.js",
    SCRIPT "format.js",
    SCRIPT "values.js",
    SCRIPT "parts.js",
    SCRIPT "dialogs.js",
    SCRIPT "plot.js",
    SCRIPT "graph.js",
    SCRIPT "warnings.js",
    SCRIPT "warning-texts.js",
    SCRIPT "pages/overview.js",
    SCRIPT "pages/addresses.js",
    SCRIPT "pages/address.js",
    SCRIPT "pages/past.js",
    SCRIPT "pages/letters.js",
    SCRIPT "pages/letter.js",
    SCRIPT "pages/connectors.js",
    SCRIPT "pages/application.js",
    SCRIPT "pages/savepoints.js",
    SCRIPT "pages/cost.js",
    SCRIPT "pages/traces.js",
    SCRIPT "vendor/preact.js",
    SCRIPT "vendor/hooks.js",
    SCRIPT "vendor/htm.js",
    TEXT "vendor/LICENSE.preact",
    TEXT "vendor/LICENSE.htm",
];

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let files = FILES.iter();
    files
        .map(|&(path, content_type, plain)| Asset {
            path,
            content_type,
            plain,
            zipped: LazyLock::new(Box::new(move || zip(plain))),
            digest: hex(&Sha256::digest(plain)[..12]),
        })
        .collect()
});

impl Asset {
    /// Returns the file at this path of the port.
    pub(super) fn at(path: &str) -> Option<&'static Self> {
        let path = match path {
            "/" => "/console/index.html",
            path => path,
        };
        ASSETS.iter().find(|asset| asset.path == path)
    }

    /// Returns the content, compressed or not.
    pub(super) fn content(&'static self, zipped: bool) -> Cow<'static, [u8]> {
        match zipped {
            true => Cow::Borrowed(&**self.zipped),
            false => Cow::Borrowed(self.plain),
        }
    }

    /// Returns the entity tag of that content.
    pub(super) fn tag(&self, zipped: bool) -> String {
        let form = if zipped { "-gzip" } else { "" };
        format!("\"{}{form}\"", self.digest)
    }
}

fn zip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(plain);
    let zipped = written.and_then(|()| encoder.finish());
    zipped.expect("writing to memory cannot fail")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Maximum size of all files together, compressed, in bytes.
    const ZIPPED_BYTES_MAX: usize = 150_000;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("console");
        let mut folders = vec![folder.clone()];
        let mut files = BTreeSet::new();
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path: PathBuf = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let within = path.strip_prefix(&folder).unwrap();
                files.insert(format!("/console/{}", within.display()));
            }
        }
        files.remove("/console/README.md");
        let served: BTreeSet<String> = FILES.iter().map(|(path, ..)| path.to_string()).collect();
        assert_eq!(served, files);
    }

    #[test]
    fn all_files_together_are_small() {
        let zipped: usize = ASSETS.iter().map(|asset| asset.zipped.len()).sum();
        assert!(zipped <= ZIPPED_BYTES_MAX, "{zipped} bytes");
    }

    /// The policy of the page forbids what these would do. A text that reached one of them would be
    /// read as markup or code.
    #[test]
    fn the_page_makes_neither_markup_nor_code_of_texts() {
        let own = FILES.iter().filter(|(path, ..)| !path.contains("/vendor/"));
        for (path, _, content) in own {
            let text = std::str::from_utf8(content).unwrap();
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "dangerouslySetInnerHTML",
                "eval(",
                "new Function",
                "style=\"",
                "javascript:",
                "onclick=\"",
                "://",
            ] {
                let allowed = word == "://" && path.ends_with(".svg");
                assert!(allowed || !text.contains(word), "{path} contains {word}");
            }
            assert!(
                text.lines().all(|line| line.chars().count() <= 100),
                "{path}"
            );
        }
    }
}
