//! Metrics of the process: its build, its role, and what the system says about it under the names
//! that Prometheus's own clients use.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Metrics, Names};

/// Part of this process in the ownership of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It waits for the lease.
    Standby,
    /// It holds the lease, or needs none.
    Owner,
    /// It released the lease.
    Released,
}

impl Role {
    const ALL: [Self; 3] = [Self::Standby, Self::Owner, Self::Released];

    /// Name in metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Owner => "owner",
            Self::Released => "released",
        }
    }
}

impl Metrics {
    /// Sets the part of this process in the ownership of the application.
    pub fn observe_role(&self, role: Role) {
        for of in Role::ALL {
            let label = RoleLabel { role: of.as_str() };
            let gauge = self.0.process.role.get_or_create(&label);
            gauge.set(i64::from(of == role));
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    build: &'static str,
}

pub(super) struct ProcessFamilies {
    role: Family<RoleLabel, Gauge>,
    system: System,
}

impl ProcessFamilies {
    /// Registers the metrics: those of Satchel among `names`, those of the system in `registry`,
    /// which has no prefix.
    pub(super) fn register(names: &mut Names, registry: &mut Registry) -> Self {
        let build: Family<Build, Gauge> = names.add(
            "build_info",
            "Always 1; the labels name the version of the software",
        );
        let label = Build {
            version: env!("CARGO_PKG_VERSION"),
            build: env!("SATCHEL_BUILD"),
        };
        build.get_or_create(&label).set(1);
        Self {
            role: names.add(
                "lease_role",
                "1 for the present part of this process in the lease, 0 for the others",
            ),
            system: System::register(registry),
        }
    }

    /// Reads what the system says about the process. Elsewhere than on Linux it stays zero.
    pub(super) fn refresh(&self) {
        self.system.refresh();
    }

    /// Reads the resident memory of the process, in bytes. `None` elsewhere than on Linux.
    pub(super) fn resident_bytes(&self) -> Option<i64> {
        self.system.refresh();
        Some(self.system.resident_bytes.get()).filter(|bytes| *bytes > 0)
    }
}

/// Figures of the operating system.
struct System {
    cpu_seconds: Counter<f64, AtomicU64>,
    start_time_seconds: Gauge<f64, AtomicU64>,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    threads: Gauge,
    open_files: Gauge,
    open_files_max: Gauge<f64, AtomicU64>,
}

impl System {
    fn register(registry: &mut Registry) -> Self {
        let system = Self {
            cpu_seconds: Counter::default(),
            start_time_seconds: Gauge::default(),
            resident_bytes: Gauge::default(),
            virtual_bytes: Gauge::default(),
            threads: Gauge::default(),
            open_files: Gauge::default(),
            open_files_max: Gauge::default(),
        };
        registry.register(
            "process_cpu_seconds",
            "Processor time spent by the process, in seconds",
            system.cpu_seconds.clone(),
        );
        registry.register(
            "process_start_time_seconds",
            "Start of the process, in seconds since the epoch",
            system.start_time_seconds.clone(),
        );
        registry.register(
            "process_resident_memory_bytes",
            "Resident memory, in bytes",
            system.resident_bytes.clone(),
        );
        registry.register(
            "process_virtual_memory_bytes",
            "Virtual memory, in bytes",
            system.virtual_bytes.clone(),
        );
        registry.register("process_threads", "Threads", system.threads.clone());
        registry.register(
            "process_open_fds",
            "Open file descriptors",
            system.open_files.clone(),
        );
        registry.register(
            "process_max_fds",
            "Maximum number of open file descriptors",
            system.open_files_max.clone(),
        );
        system
    }

    fn refresh(&self) {
        let Some(stat) = Stat::read() else {
            return;
        };
        // A counter of this library only grows by a difference.
        let seconds = stat.cpu_seconds.to_bits();
        self.cpu_seconds.inner().store(seconds, Ordering::Relaxed);
        if let Some(boot_s) = boot_time_s() {
            self.start_time_seconds.set(boot_s + stat.started_seconds);
        }
        self.resident_bytes.set(stat.resident_bytes);
        self.virtual_bytes.set(stat.virtual_bytes);
        self.threads.set(stat.threads);
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            let open = i64::try_from(files.count()).unwrap_or(i64::MAX);
            self.open_files.set((open - 1).max(0));
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let limit = limit.current.map_or(f64::INFINITY, |limit| limit as f64);
        self.open_files_max.set(limit);
    }
}

/// Unit of times in `/proc`: `USER_HZ`, which is 100 on every platform that this software is made
/// for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Figures of `/proc/self`.
struct Stat {
    cpu_seconds: f64,
    /// Start, in seconds since boot.
    started_seconds: f64,
    threads: i64,
    virtual_bytes: i64,
    resident_bytes: i64,
}

impl Stat {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        Self::parse(&stat, &status)
    }

    /// Parses `/proc/self/stat`, whose second field is the name of the program in parentheses, and
    /// the resident memory of `/proc/self/status`. The numbers of fields are those of `man 5 proc`.
    fn parse(stat: &str, status: &str) -> Option<Self> {
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib: i64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<i64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS_PER_SECOND,
            threads: field(20)?,
            started_seconds: field(22)? as f64 / TICKS_PER_SECOND,
            virtual_bytes: field(23)?,
            resident_bytes: resident_kib * 1024,
        })
    }
}

/// Returns the time of the machine's start, in seconds since the epoch.
fn boot_time_s() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_file_is_read_whatever_the_name_of_the_program() {
        let text = "42 (a) b) c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 8 0 12345 \
                    1000000 300 18446744073709551615 1 1 0 0 0 0 0 4096 17642 0 0 0 17 1 0 0 0";
        let status = "Name:\tsatchel\nVmRSS:\t    1200 kB\nThreads:\t8\n";
        let stat = Stat::parse(text, status).unwrap();
        assert!((stat.cpu_seconds - 3.0).abs() < 1e-9);
        assert!((stat.started_seconds - 123.45).abs() < 1e-9);
        assert_eq!(stat.threads, 8);
        assert_eq!(stat.virtual_bytes, 1_000_000);
        assert_eq!(stat.resident_bytes, 1200 * 1024);
        assert!(Stat::parse("42", status).is_none());
        assert!(Stat::parse(text, "").is_none());
    }
}
