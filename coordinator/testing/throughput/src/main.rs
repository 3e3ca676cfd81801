//! Throughput, latency and CPU time of `satchel dev` from outside, on a durable directory.
//!
//! ```text
//! cargo run --release -p satchel-throughput -- \
//!     [WORK…] [--seconds N] [--records N] [--rounds N] [--ephemeral] \
//!     [--partitions N,N…] [--build NAME=DIRECTORY]… [--other NAME=COMMAND]…
//! ```
//!
//! | Work | What happens |
//! |---|---|
//! | `lambda-10000`, `lambda-100` | stream → Lambda handler processes → stream, that many keys |
//! | `http-10000`, `http-100` | stream → StateFun's protocol over HTTP → stream |
//! | `call-1`, `call-64`, `call-256` | `/call` by that many clients, each with keys of its own |
//! | `call-one-key` | `/call` by 64 clients, all with the same key |
//! | `consoles` | a console that is open, and calls beside fifty: see [`consoles`] |
//!
//! Every message reads and writes a state of its address, and its effect waits for its commit. The
//! binary, the handlers (the example `greeter`), the clients and the disk share this machine. CPU
//! time is user and system time of the processes, from `/proc`, so other load on the machine
//! changes it far less than it changes the rates.
//!
//! `--ephemeral` keeps the state of calls in memory. Records are in the stream before the
//! coordinator starts. The measurement covers the time from when it serves to the last hundredth of
//! the records.
//!
//! `--partitions` runs each build with these numbers of partitions. The records of a stream are
//! read by one partition and forwarded to the owners of their keys; a call goes to its owner.
//!
//! `--build` names another build to measure: a directory with the binaries `satchel` and `greeter`.
//! `--other` names a shell command that measures another system; `coordinator/benches/compare` has
//! such commands, and [`other`] says how they are run. All that are named take turns, and the last
//! column is the ratio of a message's CPU time to that of the first.

mod application;
mod calls;
mod consoles;
mod cpu;
mod other;
mod streams;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use application::Build;
use other::Other;

/// Everything that the command line says.
struct Options {
    works: Vec<Work>,
    call_time: Duration,
    records: Option<usize>,
    rounds: usize,
    durable: bool,
    contenders: Vec<Contender>,
    /// True if consoles are measured.
    consoles: bool,
}

/// A system or build that is measured.
enum Contender {
    Build(Build),
    Other(Other),
}

impl Contender {
    fn name(&self) -> &str {
        match self {
            Self::Build(build) => &build.name,
            Self::Other(other) => &other.name,
        }
    }
}

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Stream { keys: usize, over: Protocol },
    Calls { clients: usize, one_key: bool },
}

/// Protocol between coordinator and function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Lambda's Invoke, with handler processes of this machine.
    Lambda,
    /// StateFun's request-reply protocol, with one function server of this machine.
    Http,
}

/// Result of one run.
#[derive(Debug, Clone, Default)]
struct Measured {
    per_second: f64,
    coordinator_us: f64,
    functions_us: f64,
    /// Median and 99th percentile, of calls.
    latency_ms: Option<(f64, f64)>,
}

const WORKS: [(&str, Work); 8] = [
    ("lambda-10000", Work::stream(10_000, Protocol::Lambda)),
    ("lambda-100", Work::stream(100, Protocol::Lambda)),
    ("http-10000", Work::stream(10_000, Protocol::Http)),
    ("http-100", Work::stream(100, Protocol::Http)),
    ("call-1", Work::calls(1, false)),
    ("call-64", Work::calls(64, false)),
    ("call-256", Work::calls(256, false)),
    ("call-one-key", Work::calls(64, true)),
];

impl Work {
    const fn stream(keys: usize, over: Protocol) -> Self {
        Self::Stream { keys, over }
    }

    const fn calls(clients: usize, one_key: bool) -> Self {
        Self::Calls { clients, one_key }
    }

    fn name(self) -> &'static str {
        let known = WORKS.iter().find(|(_, work)| *work == self);
        known.map_or("", |(name, _)| name)
    }

    /// Number of records of a run of some seconds.
    fn records(keys: usize, over: Protocol) -> usize {
        match (keys, over) {
            (10_000, Protocol::Lambda) => 400_000,
            (_, Protocol::Lambda) => 1_500_000,
            (10_000, Protocol::Http) => 200_000,
            (_, Protocol::Http) => 600_000,
        }
    }

    fn run(self, contender: &Contender, options: &Options) -> Measured {
        let build = match contender {
            Contender::Build(build) => build,
            Contender::Other(other) => return other.measure(self, options),
        };
        match self {
            Self::Stream { keys, over } => {
                let records = options.records.unwrap_or(Self::records(keys, over));
                streams::measure(build, (keys, records), over)
            }
            Self::Calls { clients, one_key } => calls::measure(
                build,
                (clients, one_key),
                options.call_time,
                options.durable,
            ),
        }
    }
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("load") {
        return other::load();
    }
    let options = options();
    if options.consoles {
        for contender in &options.contenders {
            if let Contender::Build(build) = contender {
                consoles::measure(build, &options);
            }
        }
    }
    if options.works.is_empty() {
        return;
    }
    println!(
        "{:<14} {:<8} {:>10} {:>12} {:>12} {:>8} {:>8} {:>7}",
        "work", "of", "per second", "coordinator", "functions", "p50 ms", "p99 ms", "ratio"
    );
    for work in &options.works {
        let name = work.name();
        let mut runs = vec![Vec::new(); options.contenders.len()];
        for _ in 0..options.rounds {
            for (contender, runs) in options.contenders.iter().zip(&mut runs) {
                runs.push(work.run(contender, &options));
            }
        }
        let mut first = None;
        for (contender, runs) in options.contenders.iter().zip(&runs) {
            let measured = median(runs);
            let cpu = measured.coordinator_us + measured.functions_us;
            let (p50, p99) = match measured.latency_ms {
                Some((p50, p99)) => (format!("{p50:.2}"), format!("{p99:.2}")),
                None => Default::default(),
            };
            println!(
                "{name:<14} {:<8} {:>10.0} {:>9.1} µs {:>9.1} µs {p50:>8} {p99:>8} {:>7.2}",
                contender.name(),
                measured.per_second,
                measured.coordinator_us,
                measured.functions_us,
                cpu / *first.get_or_insert(cpu),
            );
        }
    }
}

/// Median of each figure.
fn median(runs: &[Measured]) -> Measured {
    let of = |figure: fn(&Measured) -> f64| {
        let mut figures: Vec<f64> = runs.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    Measured {
        per_second: of(|run| run.per_second),
        coordinator_us: of(|run| run.coordinator_us),
        functions_us: of(|run| run.functions_us),
        latency_ms: runs[0].latency_ms.is_some().then(|| {
            let latency = |run: &Measured| run.latency_ms.unwrap_or_default();
            let mut p50: Vec<f64> = runs.iter().map(|run| latency(run).0).collect();
            let mut p99: Vec<f64> = runs.iter().map(|run| latency(run).1).collect();
            p50.sort_unstable_by(f64::total_cmp);
            p99.sort_unstable_by(f64::total_cmp);
            (p50[runs.len() / 2], p99[runs.len() / 2])
        }),
    }
}

fn options() -> Options {
    let mut options = Options {
        works: Vec::new(),
        call_time: Duration::from_secs(5),
        records: None,
        rounds: 1,
        durable: true,
        contenders: Vec::new(),
        consoles: false,
    };
    let mut partitions = vec![None];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = |option: &str| -> usize {
            let text = arguments.next().unwrap_or_default();
            let number = text.parse();
            number.unwrap_or_else(|_| panic!("{option} takes a number, not `{text}`"))
        };
        match argument.as_str() {
            "--seconds" => options.call_time = Duration::from_secs(number("--seconds") as u64),
            "--records" => options.records = Some(number("--records")),
            "--rounds" => options.rounds = number("--rounds").max(1),
            "--ephemeral" => options.durable = false,
            "--partitions" => {
                let text = arguments.next().unwrap_or_default();
                let numbers = text.split(',').map(|number| {
                    let number = number.parse::<u16>();
                    Some(number.unwrap_or_else(|_| panic!("--partitions takes N,N…, not `{text}`")))
                });
                partitions = numbers.collect();
            }
            "--build" => {
                let text = arguments.next().unwrap_or_default();
                let (name, directory) = text.split_once('=').expect("--build takes NAME=DIRECTORY");
                let directory = Path::new(directory);
                options.contenders.push(Contender::Build(Build {
                    name: name.to_owned(),
                    satchel: directory.join("satchel"),
                    greeter: directory.join("greeter"),
                    partitions: None,
                }));
            }
            "--other" => {
                let text = arguments.next().unwrap_or_default();
                let (name, command) = text.split_once('=').expect("--other takes NAME=COMMAND");
                let (name, command) = (name.to_owned(), command.to_owned());
                let other = Other { name, command };
                options.contenders.push(Contender::Other(other));
            }
            "consoles" => options.consoles = true,
            name => {
                let known = WORKS.iter().find(|(known, _)| *known == name);
                let known = known.unwrap_or_else(|| panic!("`{name}` is not the name of a work"));
                options.works.push(known.1);
            }
        }
    }
    if options.works.is_empty() && !options.consoles {
        options.works = WORKS.iter().map(|(_, work)| *work).collect();
    }
    if !options
        .contenders
        .iter()
        .any(|it| matches!(it, Contender::Build(_)))
    {
        let this = Contender::Build(this_build());
        options.contenders.insert(0, this);
    }
    let contenders = std::mem::take(&mut options.contenders).into_iter();
    let divided = contenders.flat_map(|contender| match contender {
        Contender::Build(build) => {
            let builds = partitions.iter().map(|number| build.of(*number));
            builds.map(Contender::Build).collect()
        }
        other @ Contender::Other(_) => vec![other],
    });
    options.contenders = divided.collect();
    options
}

/// The binary, without the connections to AWS that nothing here uses, and the example's handler.
fn this_build() -> Build {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--no-default-features"])
        .args(["--package", "satchel", "--package", "greeter"])
        .current_dir(workspace)
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the binaries build");
    // This program is in the same directory.
    let this = std::env::current_exe().expect("this program has a path");
    Build {
        name: "this".to_owned(),
        satchel: this.with_file_name("satchel"),
        greeter: this.with_file_name("greeter"),
        partitions: None,
    }
}
