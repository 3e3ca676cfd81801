//! State of one shard's reader: its position, the gap check, and the handover of records.

use std::sync::Arc;

use aws_sdk_kinesis::Client;
use satchel_clock::{Backoff, calendar_ms};
use satchel_engine::input::{Input, Record};
use satchel_engine::position::{SequenceNumber, ShardId, ShardPosition};
use satchel_engine::source::shards::ListedShard;
use tokio::sync::{Semaphore, mpsc, watch};

use super::aggregation::{DropLog, user_records};
use super::error::Stop;
use super::pace::Denials;
use super::requests::{self, ReadFrom, RequestFailure};
use super::{ExpiredPosition, KinesisError, KinesisObserver, KinesisOptions, ReadingPort, Router};

/// Maximum size of one input to the partition, so that a pause takes effect soon.
const RECORDS_PER_INPUT: usize = 500;
const BYTES_PER_INPUT: usize = 1 << 20;

/// Interval at which it is made durable that a shard was quiet. It is much shorter than the minimum
/// retention of a stream, one day.
const QUIET_REPORT_INTERVAL_MS: u64 = 60 * 60 * 1_000;

/// Assumed maximum difference between this machine's clock and that of Kinesis.
pub(super) const CLOCK_MARGIN_MS: u64 = 60_000;

/// State that the readers of one stream share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) options: KinesisOptions,
    pub(super) router: Router,
    pub(super) observer: Arc<dyn KinesisObserver>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) reading: Arc<dyn ReadingPort>,
    /// Retention of the stream in milliseconds.
    pub(super) retention_ms: u64,
    /// ARN of the consumer for subscriptions, if fan-out is configured and available.
    pub(super) consumer: Option<String>,
    /// Limits the number of responses in memory, of all readers of the stream in this process.
    pub(super) answers: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn shard_id(&self, shard: &Arc<str>) -> ShardId {
        ShardId {
            ingress: self.options.ingress.clone(),
            stream: self.options.stream.clone(),
            shard: shard.clone(),
        }
    }

    pub(super) async fn send(&self, input: Input) -> Result<(), Stop> {
        let sent = self.inputs.send(input).await;
        sent.map_err(|_| Stop::PartitionClosed)
    }

    /// Logs and counts a retry.
    pub(super) fn report_retry(
        &self,
        operation: &'static str,
        shard: Option<&str>,
        error: &RequestFailure,
    ) {
        self.observer.retried(operation, error.is_throttling());
        let failure = format!("{operation}: {error}");
        self.observer.failed(&self.options.ingress, &failure);
        let (ingress, stream) = (&*self.options.ingress, &*self.options.stream);
        if error.is_throttling() {
            tracing::debug!(
                ingress,
                stream,
                shard,
                operation,
                %error,
                "Kinesis throttles; retrying"
            );
        } else {
            tracing::warn!(
                ingress,
                stream,
                shard,
                operation,
                %error,
                "Kinesis request failed; retrying"
            );
        }
    }

    /// Notes the outcome of a request.
    ///
    /// # Errors
    /// Kinesis has denied every such request for a while.
    pub(super) fn note_denial(
        &self,
        denials: &mut Denials,
        failure: &RequestFailure,
    ) -> Result<(), Stop> {
        match denials.note(failure.is_denied()) {
            false => Ok(()),
            true => Err(Stop::Error(KinesisError::Refused {
                ingress: self.options.ingress.to_string(),
                stream: self.options.stream.to_string(),
                reason: failure.to_string(),
            })),
        }
    }

    /// Lists the stream's shards. Retries until it succeeds.
    pub(super) async fn list(&self) -> Result<Vec<ListedShard>, Stop> {
        let mut backoff = Backoff::default();
        let mut denials = Denials::default();
        loop {
            match requests::list_shards(&self.client, &self.options.stream).await {
                // A stream always has shards, so an empty list is invalid.
                Ok(shards) if !shards.is_empty() => return Ok(shards),
                Ok(_) => {
                    let failure =
                        RequestFailure::Unavailable("the response has no shards".to_owned());
                    self.report_retry("ListShards", None, &failure);
                }
                Err(RequestFailure::Missing(_)) => {
                    return Err(Stop::Error(KinesisError::NoStream {
                        ingress: self.options.ingress.to_string(),
                        stream: self.options.stream.to_string(),
                    }));
                }
                Err(failure) => {
                    self.report_retry("ListShards", None, &failure);
                    self.note_denial(&mut denials, &failure)?;
                }
            }
            if self.inputs.is_closed() {
                return Err(Stop::PartitionClosed);
            }
            backoff.wait().await;
        }
    }
}

/// The reader of one shard.
pub(super) struct ShardReader {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ShardId,
    hash_range: Option<(u128, u128)>,
    /// Position of the last record that was handed over, or the durable one.
    position: ShardPosition,
    /// True if the first subscription starts at the newest record, because `latest` was resolved
    /// just now.
    pub(super) starts_newest: bool,
    /// Time until which nothing more had arrived, as far as this reader or a former one knows.
    quiet_until_ms: u64,
    quiet_reported_ms: u64,
    /// Record that was requested and must therefore come first. If it does not, there is a gap.
    expected: Option<SequenceNumber>,
    paused: watch::Receiver<bool>,
    drop_log: DropLog,
}

impl Drop for ShardReader {
    fn drop(&mut self) {
        self.shared.observer.reading_ended(&self.id);
    }
}

impl ShardReader {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: ShardId,
        listed: &ListedShard,
        position: ShardPosition,
    ) -> Self {
        let quiet_until_ms = match &position {
            ShardPosition::Since { time_ms } => *time_ms,
            ShardPosition::Quiet { until_ms, .. } => *until_ms,
            _ => 0,
        };
        Self {
            paused: shared.reading.paused(),
            shared,
            id,
            hash_range: listed.hash_range,
            position,
            starts_newest: false,
            quiet_until_ms,
            quiet_reported_ms: quiet_until_ms,
            expected: None,
            drop_log: DropLog::default(),
        }
    }

    /// Waits until the time at which reading starts has come. Kinesis accepts no time in the
    /// future.
    pub(super) async fn wait_for_start(&self) {
        if let ShardPosition::Since { time_ms } = self.position {
            while calendar_ms() < time_ms {
                let wait = (time_ms - calendar_ms()).min(CLOCK_MARGIN_MS);
                tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
            }
        }
    }

    /// Waits until reading is not paused.
    pub(super) async fn unpaused(&mut self) -> Result<(), Stop> {
        let waited = self.paused.wait_for(|paused| !paused).await;
        waited.map(|_| ()).map_err(|_| Stop::PartitionClosed)
    }

    /// Position at which the shard is to be read now.
    pub(super) fn read_from(&mut self) -> Result<ReadFrom, Stop> {
        self.expected = None;
        if self.starts_newest {
            return Ok(ReadFrom::Newest);
        }
        Ok(match &self.position {
            ShardPosition::Beginning => ReadFrom::Oldest,
            ShardPosition::Since { .. } => {
                if self.is_quiet_kept() {
                    ReadFrom::Time(self.quiet_until_ms)
                } else {
                    self.expired()?;
                    ReadFrom::Oldest
                }
            }
            ShardPosition::After { sequence, .. } | ShardPosition::Quiet { sequence, .. } => {
                self.expected = Some(sequence.clone());
                ReadFrom::At(sequence.clone())
            }
            ShardPosition::End | ShardPosition::Elsewhere => ReadFrom::Newest,
        })
    }

    /// Handles that Kinesis does not know the record at which reading was to continue.
    pub(super) fn position_rejected(&mut self) -> Result<(), Stop> {
        if !self.is_quiet_kept() {
            self.expired()?;
        }
        self.position = ShardPosition::Beginning;
        Ok(())
    }

    /// Hands over records that were read. `tip` is true if nothing more followed them.
    pub(super) async fn accept(
        &mut self,
        records: Vec<aws_sdk_kinesis::types::Record>,
        tip: bool,
    ) -> Result<Result<(), RequestFailure>, Stop> {
        let started_ms = calendar_ms();
        let mut batch = Vec::new();
        let mut bytes = 0;
        let empty = records.is_empty();
        let garbage =
            |text: &str| RequestFailure::Unavailable(format!("`{text}` is not a sequence number"));
        for record in records {
            let Ok(sequence) = record.sequence_number().parse::<SequenceNumber>() else {
                self.hand_over(&mut batch, bytes).await?;
                return Ok(Err(garbage(record.sequence_number())));
            };
            self.check_gap(Some(&sequence))?;
            // A record has no key if it was sent to the stream directly and without one.
            let key = record.partition_key.unwrap_or_default();
            let data = bytes::Bytes::from(record.data.into_inner());
            let aggregation = self.shared.options.aggregation;
            let unpacked = user_records(&key, &data, self.hash_range, aggregation);
            if unpacked.dropped > 0 && !self.position.covers(&sequence, 0) {
                self.shared.observer.dropped(&self.id, unpacked.dropped);
                self.drop_log.dropped(&self.id, unpacked.dropped);
            }
            for (sub_sequence, user) in unpacked.records {
                if self.position.covers(&sequence, sub_sequence) {
                    continue;
                }
                bytes += user.data.len();
                batch.push(Record {
                    sequence: sequence.clone(),
                    sub_sequence,
                    // Kinesis has no place for them in a record.
                    trace: None,
                    headers: None,
                    routed: (self.shared.router)(&user.key, &user.data),
                    key: user.key,
                });
                if batch.len() >= RECORDS_PER_INPUT || bytes >= BYTES_PER_INPUT {
                    self.hand_over(&mut batch, std::mem::take(&mut bytes))
                        .await?;
                }
            }
        }
        self.hand_over(&mut batch, bytes).await?;
        if empty && tip {
            self.record_quiet(started_ms).await?;
        }
        Ok(Ok(()))
    }

    /// Checks whether the shard has ended, after a response said so. It has ended if the stream
    /// says so too, or does not list it any more.
    pub(super) async fn is_over(&mut self) -> Result<bool, Stop> {
        let shards = self.shared.list().await?;
        let listed = shards.iter().find(|shard| shard.id == self.id.shard);
        if listed.is_some_and(|shard| !shard.closed) {
            let failure = RequestFailure::Unavailable(
                "the response says that an open shard has ended".to_owned(),
            );
            self.shared
                .report_retry("GetRecords", Some(&self.id.shard), &failure);
            return Ok(false);
        }
        self.check_gap(None)?;
        Ok(true)
    }

    /// Checks whether the shard is lost, after Kinesis said that it does not exist. Returns true if
    /// reading continues as if it had been read to its end.
    pub(super) async fn is_lost(&mut self) -> Result<bool, Stop> {
        let shards = self.shared.list().await?;
        if shards.iter().any(|shard| shard.id == self.id.shard) {
            return Ok(false);
        }
        accept_loss(&self.shared, &self.id)?;
        Ok(true)
    }

    async fn hand_over(&mut self, batch: &mut Vec<Record>, bytes: usize) -> Result<(), Stop> {
        let Some(last) = batch.last() else {
            return Ok(());
        };
        let position = ShardPosition::After {
            sequence: last.sequence.clone(),
            sub_sequence: last.sub_sequence,
        };
        self.unpaused().await?;
        self.shared
            .observer
            .read(&self.id, batch.len() as u64, bytes as u64);
        let read = Input::RecordsRead {
            shard: self.id.clone(),
            records: std::mem::take(batch),
        };
        self.shared.send(read).await?;
        self.position = position;
        Ok(())
    }

    /// Checks that the last record that was read comes again. If it does not, the retention has
    /// deleted it, and perhaps records after it.
    fn check_gap(&mut self, first: Option<&SequenceNumber>) -> Result<(), Stop> {
        match self.expected.take() {
            Some(expected) if first != Some(&expected) && !self.is_quiet_kept() => self.expired(),
            _ => Ok(()),
        }
    }

    /// True if the stream still keeps everything that arrived after the shard was last known to be
    /// quiet.
    fn is_quiet_kept(&self) -> bool {
        self.quiet_until_ms + self.shared.retention_ms > calendar_ms()
    }

    fn expired(&self) -> Result<(), Stop> {
        let error = KinesisError::ExpiredPosition {
            shard: self.id.clone(),
            position: match &self.position {
                ShardPosition::Since { time_ms } => format!("the time {time_ms} ms"),
                ShardPosition::After { sequence, .. } | ShardPosition::Quiet { sequence, .. } => {
                    sequence.to_string()
                }
                ShardPosition::Beginning | ShardPosition::End | ShardPosition::Elsewhere => {
                    "its beginning".to_owned()
                }
            },
            retention_hours: self.shared.retention_ms / 3_600_000,
        };
        match self.shared.options.on_expired {
            ExpiredPosition::Stop => Err(Stop::Error(error)),
            ExpiredPosition::Earliest => {
                tracing::error!(
                    %error,
                    "position expired; continuing with the oldest record, as configured"
                );
                Ok(())
            }
        }
    }

    /// Records that nothing had arrived behind the position at `asked_ms`. It is made durable from
    /// time to time, so that a shard that is idle for longer than the retention is not mistaken for
    /// one with a gap.
    async fn record_quiet(&mut self, asked_ms: u64) -> Result<(), Stop> {
        if self.expected.is_some() && !self.is_quiet_kept() {
            return Ok(());
        }
        let until_ms = asked_ms.saturating_sub(CLOCK_MARGIN_MS);
        self.quiet_until_ms = self.quiet_until_ms.max(until_ms);
        let due_ms = self
            .quiet_reported_ms
            .saturating_add(QUIET_REPORT_INTERVAL_MS);
        if until_ms >= due_ms {
            self.quiet_reported_ms = until_ms;
            let shard = self.id.clone();
            self.shared
                .send(Input::ShardQuiet { shard, until_ms })
                .await?;
        }
        Ok(())
    }
}

/// Handles a shard that left the stream before it was read to its end. It is an error, unless the
/// module file accepts it.
pub(super) fn accept_loss(shared: &Shared, shard: &ShardId) -> Result<(), Stop> {
    let error = KinesisError::LostShard {
        shard: shard.clone(),
    };
    match shared.options.on_expired {
        ExpiredPosition::Stop => Err(Stop::Error(error)),
        ExpiredPosition::Earliest => {
            tracing::error!(%error, "shard lost; continuing with its children, as configured");
            Ok(())
        }
    }
}
