//! Worker process: decodes inputs.

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Target;
use crate::mutate::{Random, mutated};

/// Address space available to a decoder, in bytes, in addition to that of the process. It exceeds
/// the largest object that may be read (1 GiB, and its decompressed form) and is far below the
/// maximum of a length field.
const ADDRESS_SPACE_BYTES: u64 = 4 << 30;

/// Interval between heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Maximum number of distinct outcomes whose inputs are kept.
const SEEDS_MAX: usize = 4_000;

/// Task of a worker.
#[derive(Debug, Clone)]
pub struct Work {
    /// Seed of the mutations.
    pub seed: u64,
    /// Maximum number of inputs, after the seeds themselves.
    pub executions: u64,
    /// Maximum time.
    pub time: Duration,
    /// File into which each input is written before it is decoded.
    pub trace: PathBuf,
}

/// Decodes all seeds of `target`, then mutations of them. Each line on standard output is a
/// heartbeat: the number of inputs and of outcomes so far.
///
/// # Errors
/// When the trace, the corpus or standard output fails.
pub fn run(target: &Target, work: &Work) -> std::io::Result<()> {
    limit_address_space();
    let trace = File::create(&work.trace)?;
    let mut seeds = (target.seeds)();
    seeds.extend(corpus(target.name)?);
    let mut outcomes = HashSet::new();
    let mut executions = 0;
    for seed in &seeds {
        outcomes.insert(attempt(target, &trace, seed)?);
        executions += 1;
    }
    let mut random = Random::new(work.seed);
    let begun = Instant::now();
    let mut last_heartbeat = begun;
    for _ in 0..work.executions {
        let input = mutated(&mut random, &seeds, target.dictionary);
        let outcome = attempt(target, &trace, &input)?;
        executions += 1;
        if outcomes.len() < SEEDS_MAX && outcomes.insert(outcome) {
            seeds.push(input);
        }
        if last_heartbeat.elapsed() > HEARTBEAT {
            last_heartbeat = Instant::now();
            heartbeat(executions, outcomes.len())?;
            if begun.elapsed() > work.time {
                break;
            }
        }
    }
    heartbeat(executions, outcomes.len())
}

/// The corpus of a target: one input per file.
///
/// # Errors
/// When reading fails.
pub fn corpus(target: &str) -> std::io::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    files.iter().map(fs::read).collect()
}

fn heartbeat(executions: u64, outcomes: usize) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{executions} {outcomes}")?;
    out.flush()
}

/// Decodes one input and returns a hash of its outcome. Digits are ignored: most are offsets in the
/// input.
fn attempt(target: &Target, trace: &File, input: &[u8]) -> std::io::Result<u64> {
    let length = input.len() as u64;
    trace.write_all_at(&length.to_le_bytes(), 0)?;
    trace.write_all_at(input, 8)?;
    let outcome = (target.decode)(input);
    let mut hasher = DefaultHasher::new();
    for byte in outcome
        .bytes()
        .filter(|byte| !byte.is_ascii_digit())
        .take(200)
    {
        byte.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Limits the address space. An allocation beyond it aborts the process, which the supervisor
/// reports as a finding.
fn limit_address_space() {
    let limit = getrlimit(Resource::As);
    let wanted = limit.maximum.map_or(ADDRESS_SPACE_BYTES, |maximum| {
        maximum.min(ADDRESS_SPACE_BYTES)
    });
    // The other checks still hold on systems without this limit.
    let _ = setrlimit(
        Resource::As,
        Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        },
    );
}
