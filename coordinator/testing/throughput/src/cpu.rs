//! CPU time of processes, from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::ops::Sub;

/// Length of a clock tick in `/proc/<pid>/stat`, the same on every Linux architecture that Rust
/// supports.
const TICK_US: f64 = 10_000.0;

/// User and system time, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// Of the coordinator.
    pub(crate) coordinator: f64,
    /// Of its descendants and of a function server that it did not start.
    pub(crate) functions: f64,
}

impl CpuTime {
    /// Reads the time that the processes have used until now.
    pub(crate) fn of(coordinator: u32, function_server: Option<u32>) -> Self {
        let processes: HashMap<u32, Process> = fs::read_dir("/proc")
            .expect("this is Linux")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, Process::of(pid)?)))
            .collect();
        let descends = |mut pid: u32| {
            while let Some(process) = processes.get(&pid) {
                pid = process.parent;
                if pid == coordinator {
                    return true;
                }
            }
            false
        };
        let mut time = Self::default();
        for (pid, process) in &processes {
            if *pid == coordinator {
                time.coordinator += process.used_us;
                time.functions += process.ended_us;
            } else if Some(*pid) == function_server || descends(*pid) {
                time.functions += process.used_us + process.ended_us;
            }
        }
        time
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            coordinator: self.coordinator - before.coordinator,
            functions: self.functions - before.functions,
        }
    }
}

struct Process {
    parent: u32,
    /// Time of the process itself.
    used_us: f64,
    /// Time of its children that have ended.
    ended_us: f64,
}

impl Process {
    /// Reads `/proc/<pid>/stat`, whose fields are in proc(5). None if the process has ended.
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything. The state follows it, and then the parent.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            used_us: (ticks(11)? + ticks(12)?) * TICK_US,
            ended_us: (ticks(13)? + ticks(14)?) * TICK_US,
        })
    }
}
