//! Fuzz targets.

mod durable;
mod frames;
mod functions;
mod http;
mod records;
mod text;

use std::fmt;

use crate::Target;

/// All targets.
pub const TARGETS: &[Target] = &[
    text::MODULE,
    text::IMPORT,
    text::WORDS,
    http::REQUEST,
    records::AGGREGATE,
    functions::BUNDLE_ANSWER,
    functions::FROM_FUNCTION,
    functions::BUNDLE_REQUEST,
    durable::RECORD,
    durable::ENTRIES,
    durable::SEGMENT,
    durable::MANIFEST,
    durable::ROOT,
    frames::FRAME,
    frames::ANSWER,
];

/// Targets that are broken on purpose, which prove that the fuzzer detects defects.
pub const BROKEN: &[Target] = &[
    Target {
        name: "broken-panic",
        dictionary: &[],
        seeds: || vec![b"seed".to_vec()],
        decode: |input| match input.first() {
            Some(b'S') => panic!("planted"),
            first => format!("{first:?}"),
        },
    },
    Target {
        name: "broken-memory",
        dictionary: &[],
        seeds: || vec![vec![4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]],
        decode: |input| {
            let Some((length, rest)) = input.split_first_chunk::<8>() else {
                return "short".to_owned();
            };
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let mut out: Vec<u8> = Vec::with_capacity(length.min(usize::MAX >> 8));
            out.extend_from_slice(rest);
            format!("{}", out.capacity() > rest.len())
        },
    },
    Target {
        name: "broken-hang",
        dictionary: &["hang"],
        seeds: || vec![b"go".to_vec()],
        decode: |input| {
            while input.starts_with(b"hang") {
                std::thread::park();
            }
            String::new()
        },
    },
];

/// Finds a target by name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS
        .iter()
        .chain(BROKEN)
        .find(|target| target.name == name)
}

/// Describes an outcome by its kind of error; the decoded value does not matter.
fn outcome<T, E: fmt::Display>(result: &Result<T, E>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}
