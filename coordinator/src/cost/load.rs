//! The load whose cost is asked for.

/// Processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// AWS Graviton.
    Arm,
    /// Intel and AMD.
    X86,
}

/// Store of the commit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitLog {
    /// One object in S3 for each commit.
    S3,
    /// One item in DynamoDB for each commit, deleted later.
    DynamoDb,
}

/// Kinesis streams that are read or written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Streams {
    /// Number of streams.
    pub count: u32,
    /// Shards of each stream, if it is provisioned; `None` for on-demand streams.
    pub shards: Option<u32>,
    /// Records read per second, of all streams.
    pub records_in: f64,
    /// Records written by functions per second, to all streams.
    pub records_out: f64,
    /// Size of a record in bytes.
    pub record_bytes: f64,
    /// Minimum time between two reads of a shard, in ms.
    pub read_interval_ms: f64,
}

/// Processes of the coordinator on Fargate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tasks {
    /// Number of tasks: the owner and its standbys.
    pub count: u32,
    /// vCPU of each.
    pub vcpu: f64,
    /// Memory of each, in GB.
    pub memory_gb: f64,
    /// Architecture of tasks and functions.
    pub architecture: Architecture,
    /// True for Fargate Spot.
    pub spot: bool,
    /// True if each has a public IPv4 address.
    pub public_address: bool,
    /// True for a network load balancer in front of them.
    pub load_balancer: bool,
    /// True if they forward requests to each other, so that each renews an item of its own.
    pub peer: bool,
    /// True if they write metrics into their log, from which CloudWatch takes them.
    pub emf: bool,
}

/// Load and settings of an application.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Calls and sends per second whose answer a client waits for.
    pub calls: f64,
    /// Size of a call's body and of its answer together, in bytes.
    pub call_bytes: f64,
    /// Streams.
    pub streams: Streams,
    /// Time that a function needs for a request, in ms.
    pub function_ms: f64,
    /// Memory of the function in MB.
    pub function_memory_mb: f64,
    /// Bytes that a request to a function writes to its log.
    pub function_log_bytes: f64,
    /// Bytes of changes that a message adds to a commit, compressed.
    pub message_bytes: f64,
    /// Size of all state in bytes, compressed.
    pub state_bytes: f64,
    /// Store of the commit log.
    pub log: CommitLog,
    /// Time of a commit's request in ms.
    pub store_ms: f64,
    /// Minimum time between two commits under load, in ms.
    pub commit_pace_ms: f64,
    /// Maximum time that a change waits for its commit if nothing waits for that, in ms.
    pub commit_interval_ms: f64,
    /// Maximum number of commits in flight.
    pub commit_depth: f64,
    /// Maximum time for which messages gather for a request, in ms.
    pub max_linger_ms: f64,
    /// Interval at which the owner renews its lease, and the standbys read it, in ms.
    pub lease_renewal_ms: f64,
    /// Interval at which a standby reads the lease, or each process the roster, in ms.
    pub lease_poll_ms: f64,
    /// Number of partitions.
    pub partitions: u32,
    /// Processes.
    pub tasks: Tasks,
}

impl Load {
    /// Messages per second.
    pub fn messages(&self) -> f64 {
        self.calls + self.streams.records_in
    }

    /// True if the partitions are spread over the tasks.
    pub(super) fn is_spread(&self) -> bool {
        self.partitions > 1 && self.tasks.peer
    }

    /// Number of tasks that own partitions.
    pub(super) fn owners(&self) -> f64 {
        match self.is_spread() {
            true => f64::from(self.tasks.count.min(self.partitions).max(1)),
            false => 1.0,
        }
    }

    /// Load of one partition, as if there were no other: the load is spread evenly. The pace of a
    /// partition is that of its process, times the partitions that commit there.
    pub(super) fn of_one_partition(&self) -> Self {
        let partitions = f64::from(self.partitions.max(1));
        let streams = Streams {
            records_in: self.streams.records_in / partitions,
            records_out: self.streams.records_out / partitions,
            ..self.streams
        };
        Self {
            calls: self.calls / partitions,
            streams,
            commit_pace_ms: self.commit_pace_ms * (partitions / self.owners()).max(1.0),
            partitions: 1,
            ..*self
        }
    }

    /// Checks that a load makes sense.
    ///
    /// # Errors
    ///
    /// The part that makes no sense, and what to change.
    pub fn validate(&self) -> Result<(), String> {
        let streams = &self.streams;
        if streams.count == 0 && streams.records_in + streams.records_out > 0.0 {
            return Err("records need a stream: set --streams".to_owned());
        }
        if let Some(shards) = streams.shards {
            let shards = f64::from(shards) * f64::from(streams.count);
            // Of two streams, each may carry all records of its direction.
            let most = streams.records_in.max(streams.records_out);
            let (records, bytes) = (shards * 1_000.0, shards * 1_048_576.0);
            if most > records || most * streams.record_bytes > bytes {
                return Err(format!(
                    "{shards} shards take at most {records} records and {bytes} bytes a second: \
                     raise --shards"
                ));
            }
        }
        if self.messages() > 0.0 && self.function_ms <= 0.0 {
            return Err("a function needs some time: set --function-ms above 0".to_owned());
        }
        Ok(())
    }
}
