//! Consoles that are open: their CPU time, and calls beside many of them.
//!
//! A console does what the page does in a browser on its overview: it listens to live figures, and
//! asks for lists every few seconds. Rounds with and without consoles take turns, so that both have
//! the same share of the machine. Calls begin at fixed times, and a latency counts from the time at
//! which its call was due.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::application::{Build, Running};
use crate::calls::Connection;
use crate::{Options, Protocol};

/// Consoles beside the calls.
const CONSOLES: usize = 50;

/// Clients that call, and the time between two calls of one.
const CLIENTS: usize = 16;
const PACE: Duration = Duration::from_millis(20);

/// Addresses whose functions the lists sum up.
const ADDRESSES: usize = 2_000;

/// Interval of the lists, and of the functions in units of it.
const LISTS: Duration = Duration::from_secs(5);
const FUNCTIONS_EVERY: usize = 3;

/// Requests of each interval, as `console/pages/overview.js` and `console/app.js` make them.
const PATHS: [&str; 5] = [
    "/api/process",
    "/readyz",
    "/api/partitions",
    "/api/endpoints?limit=1000",
    "/api/ingresses?limit=1000",
];

/// Measures and prints everything.
pub(crate) fn measure(build: &Build, options: &Options) {
    let data = tempfile::tempdir().expect("a temporary directory");
    let durable = options.durable.then(|| data.path());
    let running = Running::start(build, Protocol::Lambda, durable);
    fill(&running.traffic);
    let seconds = options.call_time.as_secs_f64();
    let (mut idle, mut watched) = (Vec::new(), Vec::new());
    let (mut alone, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // Not measured: the first calls start handlers.
    calls(&running.traffic, options.call_time / 5);
    for round in 0..options.rounds {
        let cpu = |consoles| {
            with(consoles, &running.admin, || {
                let before = running.cpu();
                thread::sleep(options.call_time);
                (running.cpu() - before).coordinator / seconds / 1e4
            })
        };
        let latencies = |consoles| {
            with(consoles, &running.admin, || {
                calls(&running.traffic, options.call_time)
            })
        };
        // Which of the two comes first changes from round to round.
        let (without, within, calm, busy);
        if round % 2 == 0 {
            (without, within) = (cpu(0), cpu(1));
            calm = latencies(0);
            busy = latencies(CONSOLES);
        } else {
            within = cpu(1);
            without = cpu(0);
            busy = latencies(CONSOLES);
            calm = latencies(0);
        }
        idle.push(without);
        watched.push(within - without);
        ratios.push(busy.1 / calm.1);
        alone.push(calm);
        beside.push(busy);
    }
    let name = &build.name;
    println!(
        "consoles       {name:<8} CPU of the process at rest {:.2} % of a core, {:+.2} % with one",
        median(&idle),
        median(&watched)
    );
    let of = |runs: &[(f64, f64)], which: fn(&(f64, f64)) -> f64| {
        median(&runs.iter().map(which).collect::<Vec<_>>())
    };
    for (consoles, runs) in [(0, &alone), (CONSOLES, &beside)] {
        println!(
            "consoles       {name:<8} calls beside {consoles:>2}: p50 {:.2} ms, p99 {:.2} ms",
            of(runs, |it| it.0),
            of(runs, |it| it.1)
        );
    }
    ratios.sort_unstable_by(f64::total_cmp);
    println!(
        "consoles       {name:<8} p99 beside {CONSOLES} to p99 alone, by round: median {:.2}, \
         {:.2} to {:.2}",
        median(&ratios),
        ratios[0],
        ratios[ratios.len() - 1]
    );
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Makes addresses.
fn fill(traffic: &str) {
    let mut connection = Connection::open(traffic);
    for number in 0..ADDRESSES {
        let path = format!("/send/example/greeter/address-{number}");
        assert_eq!(connection.post(&path, "", br#"{"name":"Alice"}"#), 202);
    }
}

/// Calls at a fixed rate for `time`. Returns median and 99th percentile of the latencies, in ms.
fn calls(traffic: &str, time: Duration) -> (f64, f64) {
    let begun = Instant::now();
    let client = |client: usize| {
        let mut connection = Connection::open(traffic);
        let mut latencies = Vec::new();
        let mut due = begun + PACE * client as u32 / CLIENTS as u32;
        while due < begun + time {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let path = format!(
                "/call/example/greeter/address-{}",
                client * 100 + latencies.len() % 100
            );
            assert_eq!(connection.post(&path, "", br#"{"name":"Alice"}"#), 200);
            latencies.push(due.elapsed().as_secs_f64() * 1e3);
            due += PACE;
        }
        latencies
    };
    let mut latencies: Vec<f64> = thread::scope(|scope| {
        let client = &client;
        let threads: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client(number)))
            .collect();
        let ended = threads.into_iter();
        ended
            .flat_map(|thread| thread.join().expect("a client ends well"))
            .collect()
    });
    latencies.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    (at(0.5), at(0.99))
}

/// Does something while consoles are open.
fn with<T>(consoles: usize, admin: &str, doing: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..consoles {
            let is_over = &is_over;
            scope.spawn(move || listen(admin, is_over));
            // They were opened at different times.
            let offset = LISTS * number as u32 / consoles as u32;
            scope.spawn(move || ask_for_lists(admin, offset, is_over));
        }
        // A console that was just opened loads its lists at once.
        thread::sleep(Duration::from_millis(500));
        let _end = End(&is_over);
        doing()
    })
}

/// Ends the consoles when it is dropped, after a panic too.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads live figures, of which one comes each second.
fn listen(admin: &str, is_over: &AtomicBool) {
    let mut stream = TcpStream::connect(admin).expect("it listens");
    let request = "GET /api/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    let mut samples = 0;
    while !is_over.load(Ordering::Relaxed) {
        line.clear();
        let read = lines.read_line(&mut line).expect("it answers");
        assert!(read > 0, "live figures do not end");
        samples += usize::from(line.starts_with("data: "));
    }
    assert!(samples > 0, "live figures came");
}

/// Asks for the lists of the overview at each interval.
fn ask_for_lists(admin: &str, offset: Duration, is_over: &AtomicBool) {
    let mut connection = Connection::open(admin);
    let mut due = Instant::now() + offset;
    for turn in 0.. {
        while Instant::now() < due {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        for path in PATHS {
            connection.get(path);
        }
        if turn % FUNCTIONS_EVERY == 0 {
            connection.get("/api/functions?limit=1000");
        }
        due += LISTS;
    }
}
