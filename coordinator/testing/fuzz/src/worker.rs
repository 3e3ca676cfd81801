//! The process that decodes.

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

/// How much address space a decoder may ask for, in bytes, besides what the process has: more than any object that may be read takes (1 GiB,
/// and its decompressed form), far less than a length field can say.
const ADDRESS_SPACE_BYTES: u64 = 4 << 30;

/// How often a sign of life is given.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// So many inputs with outcomes of their own are kept.
const SEEDS_MAX: usize = 4_000;

/// What a worker is to do.
#[derive(Debug, Clone)]
pub struct Work {
    /// The seed of the first input.
    pub seed: u64,
    /// So many inputs at most, after the seeds themselves.
    pub executions: u64,
    /// So long at most.
    pub time: Duration,
    /// Where each input is written before it is tried.
    pub trace: PathBuf,
}

/// Tries all seeds of `target`, then mutations. Each line on standard output is a sign of life: executions and outcomes so far.
///
/// # Errors
/// Those of the trace, the corpus and standard output.
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
    let mut said = begun;
    for _ in 0..work.executions {
        let input = mutated(&mut random, &seeds, target.words);
        let outcome = attempt(target, &trace, &input)?;
        executions += 1;
        if outcomes.len() < SEEDS_MAX && outcomes.insert(outcome) {
            seeds.push(input);
        }
        if said.elapsed() > HEARTBEAT {
            said = Instant::now();
            say(executions, outcomes.len())?;
            if begun.elapsed() > work.time {
                break;
            }
        }
    }
    say(executions, outcomes.len())
}

/// The corpus: one file an input.
///
/// # Errors
/// Those of reading it.
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

fn say(executions: u64, outcomes: usize) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{executions} {outcomes}")?;
    out.flush()
}

/// Decodes one input; a number for what came out. Numbers in it make no difference: most are places in the input.
fn attempt(target: &Target, trace: &File, input: &[u8]) -> std::io::Result<u64> {
    let length = input.len() as u64;
    trace.write_all_at(&length.to_le_bytes(), 0)?;
    trace.write_all_at(input, 8)?;
    let said = (target.decode)(input);
    let mut hasher = DefaultHasher::new();
    for byte in said.bytes().filter(|byte| !byte.is_ascii_digit()).take(200) {
        byte.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// An allocation over the limit ends the process, which the supervisor takes for what it is.
fn limit_address_space() {
    let limit = getrlimit(Resource::As);
    let wanted = limit.maximum.map_or(ADDRESS_SPACE_BYTES, |maximum| {
        maximum.min(ADDRESS_SPACE_BYTES)
    });
    // Without the limit (some systems have none) the other checks still hold.
    let _ = setrlimit(
        Resource::As,
        Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        },
    );
}
