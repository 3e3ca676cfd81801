//! Memory that the container of this process may use.

use std::path::Path;

/// Files in which Linux tells a container its memory limit: control groups of version 2, and of
/// version 1.
const FILES: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// Limits from this size on are none: version 1 writes the largest number of pages.
const NONE_FROM: u64 = 1 << 60;

/// Returns the memory limit of this process's container, in bytes. `None` without a container or
/// a limit.
pub(crate) fn memory_limit_bytes() -> Option<u64> {
    FILES.iter().find_map(|file| limit_in(Path::new(file)))
}

fn limit_in(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let bytes = text.trim().parse().ok()?;
    (bytes < NONE_FROM).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_and_none_is_told_from_a_large_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.max");
        assert_eq!(limit_in(&file), None, "there is no such file");
        for (text, limit) in [
            ("4294967296\n", Some(4 << 30)),
            ("max\n", None),
            ("9223372036854771712\n", None),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(limit_in(&file), limit, "{text:?}");
        }
    }
}
