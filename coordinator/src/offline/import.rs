//! Creating a new root from states that were exported as lines of NDJSON.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use satchel_engine::address::{FunctionType, RESERVED_NAMESPACE};
use satchel_engine::durable::{Change, Key, Value};
use xxhash_rust::xxh3::xxh3_128;

use super::line::StateLine;
use super::new_root::{NewRoot, begin, create_failure};
use crate::error::{Exit, Failure};
use crate::store::{AskedPlacement, StateLocation, StoreOptions};

/// Maximum length of a line in bytes. A delta must be able to hold the state, and the engine to
/// send it.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Result of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Number of states.
    pub states: u64,
    /// Number of addresses that have these states.
    pub addresses: u64,
}

/// Creates a root of `application` at `place` from the states in `file`, one JSON object per line.
///
/// The import checks the whole file before it writes anything. It resumes a root that was left
/// unfinished. The addresses of a new root are placed as `placement` says. A state counts as
/// undeclared until its function declares it, with the same typename.
///
/// # Errors
/// [`Exit::Usage`] names the line that is wrong; [`Exit::Damaged`] if there is a root already;
/// [`Exit::Environment`] if the file or the store fails.
pub async fn import(
    file: &Path,
    place: &StateLocation,
    options: StoreOptions,
    application: &str,
    placement: AskedPlacement,
) -> Result<Imported, Failure> {
    let mut lines = Lines::open(file)?;
    let mut check = Check::default();
    while let Some((number, line)) = lines.next()? {
        check
            .take(number, &line)
            .map_err(|problem| lines.problem(number, &problem))?;
    }
    lines.rewind()?;
    let opened = place.open_new(options).await?;
    let division = opened.division(placement).await?;
    let generation = division.generation();
    let name = place.to_string();
    let mut writer = begin(NewRoot {
        opened: &opened,
        place: &name,
        application,
        placement: division.placement,
        partitions: division.partitions.into(),
        making: format!("an import of {}", lines.name),
        not_before_ms: 0,
    })
    .await?;
    while let Some((_, line)) = lines.next()? {
        let key_group = division.placement.key_group(&line.address);
        let owner = generation.as_ref().map_or(0, |generation| {
            generation.partitions.partition_of(key_group)
        });
        let pushed = writer.push(owner, &change(line)).await;
        pushed.map_err(|error| create_failure(&name, error))?;
    }
    let finished = writer.finish(None).await;
    finished.map_err(|error| create_failure(&name, error))?;
    Ok(check.imported())
}

/// Lines of a file with their numbers. Empty lines are skipped.
struct Lines {
    name: String,
    reader: BufReader<File>,
    number: u64,
}

impl Lines {
    fn open(file: &Path) -> Result<Self, Failure> {
        let name = file.display().to_string();
        let opened = File::open(file).map_err(|error| unreadable(&name, &error))?;
        Ok(Self {
            name,
            reader: BufReader::new(opened),
            number: 0,
        })
    }

    fn next(&mut self) -> Result<Option<(u64, StateLine)>, Failure> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut self.reader).take(LINE_BYTES_MAX as u64 + 1);
            let read = bounded.read_until(b'\n', &mut line);
            if read.map_err(|error| unreadable(&self.name, &error))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            let number = self.number;
            if line.len() > LINE_BYTES_MAX {
                let problem = format!("the line is longer than {LINE_BYTES_MAX} bytes");
                return Err(self.problem(number, &problem));
            }
            let text = line.trim_ascii();
            if !text.is_empty() {
                let parsed = StateLine::parse(text);
                let parsed = parsed.map_err(|problem| self.problem(number, &problem))?;
                return Ok(Some((number, parsed)));
            }
        }
    }

    fn rewind(&mut self) -> Result<(), Failure> {
        self.number = 0;
        let rewound = self.reader.seek(SeekFrom::Start(0));
        rewound.map_err(|error| unreadable(&self.name, &error))?;
        Ok(())
    }

    fn problem(&self, number: u64, problem: &str) -> Failure {
        Failure::new(Exit::Usage, format!("{}:{number}: {problem}", self.name))
    }
}

/// Check of lines against each other. It remembers keys as hashes of 128 bits, because there may be
/// millions.
#[derive(Default)]
struct Check {
    seen: HashMap<u128, u64>,
    addresses: HashSet<u128>,
    typenames: HashMap<(FunctionType, Arc<str>), (Arc<str>, u64)>,
}

impl Check {
    fn take(&mut self, number: u64, line: &StateLine) -> Result<(), String> {
        let address = &line.address;
        if address.function.namespace() == RESERVED_NAMESPACE {
            return Err(format!(
                "{address}: the namespace {RESERVED_NAMESPACE:?} is reserved for outside callers"
            ));
        }
        let name = &line.name;
        let (change, mut key) = (change(line.clone()), Vec::new());
        change.encode_key(&mut key);
        if let Some(first) = self.seen.insert(xxh3_128(&key), number) {
            return Err(format!(
                "{address}: its state {name:?} is on line {first} already"
            ));
        }
        let parts = [
            address.function.namespace(),
            address.function.name(),
            &*address.id,
        ];
        let parts = serde_json::to_vec(&parts).expect("texts are always JSON");
        self.addresses.insert(xxh3_128(&parts));
        let typename = &line.state.typename;
        let of_function = (address.function.clone(), name.clone());
        let (first, at) = self
            .typenames
            .entry(of_function)
            .or_insert_with(|| (typename.clone(), number));
        if first != typename {
            return Err(format!(
                "the state {name:?} of {} has the typename {typename}, but {first} on line {at}",
                address.function
            ));
        }
        Ok(())
    }

    fn imported(&self) -> Imported {
        Imported {
            states: self.seen.len() as u64,
            addresses: self.addresses.len() as u64,
        }
    }
}

fn change(line: StateLine) -> Change {
    Change {
        key: Key::State {
            address: line.address,
            name: line.name,
        },
        value: Some(Value::State(line.state)),
    }
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Environment, format!("{name}: {error}"))
}
