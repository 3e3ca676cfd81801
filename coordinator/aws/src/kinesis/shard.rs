//! Reading one shard: where it goes on, what is checked, and how its records are handed over.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_kinesis::Client;
use satchel_engine::input::{Input, Record};
use satchel_engine::position::{SequenceNumber, ShardId, ShardPosition};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::aggregation::user_records;
use super::backoff::Backoff;
use super::error::Stop;
use super::fan_out::{self, Subscribed};
use super::poll;
use super::requests::{self, From, Trouble};
use super::{ExpiredPosition, KinesisError, KinesisObserver, KinesisOptions, ReadingPort, Router};
use satchel_engine::source::shards::ListedShard;

/// How much is handed to the partition at once, so that a pause takes effect soon.
const RECORDS_PER_INPUT: usize = 500;
const BYTES_PER_INPUT: usize = 1 << 20;

/// How often it is made durable that a shard was quiet. Much less than a day, which a stream keeps records for at least.
const QUIET_TOLD_EVERY_MS: u64 = 60 * 60 * 1_000;

/// How far this machine's clock is trusted to agree with Kinesis's.
pub(super) const CLOCK_MARGIN_MS: u64 = 60_000;

/// What the readers of one stream share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) options: KinesisOptions,
    pub(super) router: Router,
    pub(super) observer: Arc<dyn KinesisObserver>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) reading: Arc<dyn ReadingPort>,
    /// For how long the stream keeps records.
    pub(super) retention_ms: u64,
    /// The consumer by which shards are subscribed to, if that is wanted and possible.
    pub(super) consumer: Option<String>,
    /// So many answers may be in memory at once.
    pub(super) answers: Semaphore,
}

impl Shared {
    pub(super) fn shard_id(&self, shard: &Arc<str>) -> ShardId {
        ShardId {
            ingress: self.options.ingress.clone(),
            stream: self.options.stream.clone(),
            shard: shard.clone(),
        }
    }

    pub(super) async fn tell(&self, input: Input) -> Result<(), Stop> {
        self.inputs.send(input).await.map_err(|_| Stop::Gone)
    }

    /// Logs and counts that a request is repeated.
    pub(super) fn repeat(&self, operation: &'static str, shard: Option<&str>, trouble: &Trouble) {
        self.observer.repeated(operation, trouble.is_throttling());
        let (ingress, stream) = (&*self.options.ingress, &*self.options.stream);
        if trouble.is_throttling() {
            tracing::debug!(ingress, stream, shard, operation, error = %trouble, "Kinesis asks for fewer requests");
        } else {
            tracing::warn!(ingress, stream, shard, operation, error = %trouble, "Kinesis did not answer well; the request is repeated");
        }
    }

    /// Lists the stream's shards, however often that takes.
    pub(super) async fn list(&self) -> Result<Vec<ListedShard>, Stop> {
        let mut backoff = Backoff::default();
        loop {
            match requests::list_shards(&self.client, &self.options.stream).await {
                // A stream has shards: an answer without any is not one.
                Ok(shards) if !shards.is_empty() => return Ok(shards),
                Ok(_) => {
                    let trouble = Trouble::Unanswered("the answer has no shards in it".to_owned());
                    self.repeat("ListShards", None, &trouble);
                }
                Err(Trouble::Missing(_)) => {
                    return Err(Stop::Error(KinesisError::NoStream {
                        ingress: self.options.ingress.to_string(),
                        stream: self.options.stream.to_string(),
                    }));
                }
                Err(trouble) => self.repeat("ListShards", None, &trouble),
            }
            if self.inputs.is_closed() {
                return Err(Stop::Gone);
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
    /// What was handed over so far, or what is durable.
    position: ShardPosition,
    /// Whether the first subscription begins at the newest record, `latest` having been resolved just now.
    pub(super) begins_newest: bool,
    /// Until when nothing more had arrived, as far as this reader or a former one knows.
    quiet_until_ms: u64,
    quiet_told_ms: u64,
    /// The record that must come first, because it was asked for; there is a gap if it does not.
    expected: Option<SequenceNumber>,
    paused: watch::Receiver<bool>,
}

/// Reads a shard from where the partition says until its end is durable, and returns its id then; nothing if the partition is gone.
pub(super) async fn read_shard(
    shared: Arc<Shared>,
    shard: ListedShard,
    fresh: Option<String>,
    started: oneshot::Receiver<ShardPosition>,
) -> Result<Option<Arc<str>>, KinesisError> {
    let Ok(position) = started.await else {
        return Ok(None);
    };
    let id = shared.shard_id(&shard.id);
    if position != ShardPosition::End {
        let mut reader = ShardReader::new(shared.clone(), id.clone(), &shard, position);
        let read = async {
            reader.read(fresh).await?;
            let ended = shared.reading.expect(id.clone());
            shared.tell(Input::ShardEnded { shard: id.clone() }).await?;
            ended.await.map_err(|_| Stop::Gone)
        };
        let read = read.await;
        shared.observer.reading_ended(&id);
        match read {
            Ok(_) => {}
            Err(Stop::Gone) => return Ok(None),
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    Ok(Some(shard.id))
}

impl ShardReader {
    fn new(
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
            begins_newest: false,
            quiet_until_ms,
            quiet_told_ms: quiet_until_ms,
            expected: None,
        }
    }

    /// Reads to the end of the shard.
    async fn read(&mut self, mut fresh: Option<String>) -> Result<(), Stop> {
        if let ShardPosition::Since { time_ms } = self.position {
            // Kinesis knows no time that is still to come.
            while now_ms() < time_ms {
                let wait = (time_ms - now_ms()).min(CLOCK_MARGIN_MS);
                tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
            }
        }
        loop {
            let mut until = None;
            if let Some(consumer) = self.shared.consumer.clone() {
                self.begins_newest = fresh.is_some();
                match fan_out::subscribe(self, &consumer).await? {
                    Subscribed::Ended => return Ok(()),
                    Subscribed::FallBack => {
                        until = Some(Instant::now() + fan_out::POLLED_INSTEAD);
                        self.begins_newest = false;
                    }
                }
            }
            if poll::poll(self, fresh.take(), until).await? == poll::Polled::Ended {
                return Ok(());
            }
        }
    }

    /// Waits until reading is not paused.
    pub(super) async fn unpaused(&mut self) -> Result<(), Stop> {
        let waited = self.paused.wait_for(|paused| !paused).await;
        waited.map(|_| ()).map_err(|_| Stop::Gone)
    }

    /// From where on the shard is to be read now.
    pub(super) fn from(&mut self) -> Result<From, Stop> {
        self.expected = None;
        if self.begins_newest {
            return Ok(From::Newest);
        }
        Ok(match &self.position {
            ShardPosition::Beginning => From::Oldest,
            ShardPosition::Since { .. } => {
                if self.is_quiet_kept() {
                    From::Time(self.quiet_until_ms)
                } else {
                    self.expired()?;
                    From::Oldest
                }
            }
            ShardPosition::After { sequence, .. } | ShardPosition::Quiet { sequence, .. } => {
                self.expected = Some(sequence.clone());
                From::At(sequence.clone())
            }
            ShardPosition::End => From::Newest,
        })
    }

    /// Kinesis does not know the record at which reading was to go on.
    pub(super) fn refused(&mut self) -> Result<(), Stop> {
        if !self.is_quiet_kept() {
            self.expired()?;
        }
        self.position = ShardPosition::Beginning;
        Ok(())
    }

    /// Hands over what was read. `tip` says that there was nothing more behind it.
    pub(super) async fn take(
        &mut self,
        records: Vec<aws_sdk_kinesis::types::Record>,
        tip: bool,
    ) -> Result<Result<(), Trouble>, Stop> {
        let began_ms = now_ms();
        let mut batch = Vec::new();
        let mut bytes = 0;
        let empty = records.is_empty();
        let garbage = |text: &str| Trouble::Unanswered(format!("`{text}` is no sequence number"));
        for record in records {
            let Ok(sequence) = record.sequence_number().parse::<SequenceNumber>() else {
                self.hand_over(&mut batch, bytes).await?;
                return Ok(Err(garbage(record.sequence_number())));
            };
            self.check_gap(Some(&sequence))?;
            // A record that was sent to the stream itself, and by no key, has none.
            let key = record.partition_key.unwrap_or_default();
            let data = bytes::Bytes::from(record.data.into_inner());
            for (sub_sequence, user) in user_records(&key, &data, self.hash_range) {
                if self.position.covers(&sequence, sub_sequence) {
                    continue;
                }
                bytes += user.data.len();
                batch.push(Record {
                    sequence: sequence.clone(),
                    sub_sequence,
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
            self.quiet(began_ms).await?;
        }
        Ok(Ok(()))
    }

    /// The shard seems to have ended: the answer says so, and the stream too, or the stream does not know it any more.
    pub(super) async fn is_over(&mut self) -> Result<bool, Stop> {
        let shards = self.shared.list().await?;
        let listed = shards.iter().find(|shard| shard.id == self.id.shard);
        if listed.is_some_and(|shard| !shard.closed) {
            let trouble =
                Trouble::Unanswered("the answer says that an open shard has ended".to_owned());
            self.shared
                .repeat("GetRecords", Some(&self.id.shard), &trouble);
            return Ok(false);
        }
        self.check_gap(None)?;
        Ok(true)
    }

    /// Kinesis says that there is no such shard. Returns whether to go on as if it had been read to its end.
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
        self.shared.tell(read).await?;
        self.position = position;
        Ok(())
    }

    /// What was read up to is expected to come again: if it does not, the stream has forgotten it, and perhaps what came after it.
    fn check_gap(&mut self, first: Option<&SequenceNumber>) -> Result<(), Stop> {
        match self.expected.take() {
            Some(expected) if first != Some(&expected) && !self.is_quiet_kept() => self.expired(),
            _ => Ok(()),
        }
    }

    /// Whether everything that arrived after it was last known to be quiet is still kept.
    fn is_quiet_kept(&self) -> bool {
        self.quiet_until_ms + self.shared.retention_ms > now_ms()
    }

    fn expired(&self) -> Result<(), Stop> {
        let error = KinesisError::ExpiredPosition {
            shard: self.id.clone(),
            position: match &self.position {
                ShardPosition::Since { time_ms } => format!("the time {time_ms} ms"),
                ShardPosition::After { sequence, .. } | ShardPosition::Quiet { sequence, .. } => {
                    sequence.to_string()
                }
                ShardPosition::Beginning | ShardPosition::End => "its beginning".to_owned(),
            },
            retention_hours: self.shared.retention_ms / 3_600_000,
        };
        match self.shared.options.on_expired {
            ExpiredPosition::Stop => Err(Stop::Error(error)),
            ExpiredPosition::Earliest => {
                tracing::error!(%error, "a position has expired; reading goes on with the oldest record, as the module file says");
                Ok(())
            }
        }
    }

    /// Nothing had arrived behind the position when this was asked. Durable from time to time, so that a shard that is idle for longer than
    /// its stream keeps records is not taken for one with a gap.
    async fn quiet(&mut self, asked_ms: u64) -> Result<(), Stop> {
        if self.expected.is_some() && !self.is_quiet_kept() {
            return Ok(());
        }
        let until_ms = asked_ms.saturating_sub(CLOCK_MARGIN_MS);
        self.quiet_until_ms = self.quiet_until_ms.max(until_ms);
        if until_ms >= self.quiet_told_ms.saturating_add(QUIET_TOLD_EVERY_MS) {
            self.quiet_told_ms = until_ms;
            let shard = self.id.clone();
            self.shared
                .tell(Input::ShardQuiet { shard, until_ms })
                .await?;
        }
        Ok(())
    }
}

/// A shard has left the stream before it was read to its end: an error, unless the module file says that this is accepted.
pub(super) fn accept_loss(shared: &Shared, shard: &ShardId) -> Result<(), Stop> {
    let error = KinesisError::LostShard {
        shard: shard.clone(),
    };
    match shared.options.on_expired {
        ExpiredPosition::Stop => Err(Stop::Error(error)),
        ExpiredPosition::Earliest => {
            tracing::error!(%error, "a shard is lost; reading goes on with its children, as the module file says");
            Ok(())
        }
    }
}

/// The calendar clock, in ms since the epoch.
pub(super) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
