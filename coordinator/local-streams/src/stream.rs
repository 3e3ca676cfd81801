//! One stream: concurrent appends that share a sync, and readers that follow it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::error::StreamError;
use crate::frame::{PAYLOAD_MAX_BYTES, Producer, frame_bytes};
use crate::log::{Append, Appended, Log, Tip};
use crate::number::SequenceNumber;
use crate::reader::{Chunk, Cursor, Limits, Reader, before, locate, read_chunk};
use crate::record::{NewRecord, ReadFrom};
use crate::shards::{ChangeContext, Description};

/// Maximum bytes of records queued for the file. Further appends wait.
const WAITING_MAX_BYTES: usize = 64 << 20;
/// Maximum bytes of one write and sync, so that the first append of a long queue does not wait for
/// the last one.
const GROUP_MAX_BYTES: usize = 16 << 20;

/// A local stream. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stream(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    name: String,
    runtime: Handle,
    log: Mutex<Log>,
    queue: Mutex<Queue>,
    room: Semaphore,
    /// Durable end of the stream.
    tip: watch::Sender<Tip>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// True while a thread serves the queue.
    serving: bool,
}

#[derive(Debug)]
struct Waiting {
    append: Append,
    bytes: usize,
    answer: oneshot::Sender<Result<Appended, StreamError>>,
}

impl Stream {
    /// Serves `log` on `runtime`.
    pub(crate) fn new(name: &str, log: Log, runtime: Handle) -> Self {
        Self(Arc::new(Shared {
            name: name.to_owned(),
            runtime,
            tip: watch::Sender::new(log.tip()),
            log: Mutex::new(log),
            queue: Mutex::default(),
            room: Semaphore::new(WAITING_MAX_BYTES),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Appends a record and returns when it is durable. Waits while the queue is full.
    ///
    /// # Errors
    /// A record that no stream accepts, or an error of the file system. The record is then not in
    /// the stream, unless the error is [`StreamError::Unsure`] or [`StreamError::Stopped`].
    pub async fn append(&self, record: NewRecord) -> Result<SequenceNumber, StreamError> {
        Ok(self.append_all(vec![record]).await?[0])
    }

    /// Appends at least one record, all or none, and returns when they are durable. The returned
    /// numbers are in the order of the records. Waits while the queue is full.
    ///
    /// # Errors
    /// As for [`Stream::append`].
    pub async fn append_all(
        &self,
        records: Vec<NewRecord>,
    ) -> Result<Vec<SequenceNumber>, StreamError> {
        let append = Append {
            producer: None,
            records,
            numbers: Vec::new(),
        };
        let bytes = check(&append)?;
        let room = self.0.room.acquire_many(bytes as u32).await;
        let room = room.map_err(|_| StreamError::Stopped)?;
        let answer = self.enqueue(append, bytes);
        let appended = answer.await.unwrap_or(Err(StreamError::Stopped));
        drop(room);
        match appended? {
            Appended::New(numbers) => Ok(numbers),
            Appended::Known => unreachable!("only a producer's records can be known"),
        }
    }

    /// Appends the records of one append call of a producer exactly once, all or none. A number
    /// that is not higher than the highest applied one of `producer` is acknowledged without an
    /// append.
    ///
    /// The call itself enqueues the append; the future only waits. A producer calls in the order of
    /// its numbers, which may have gaps, and bounds its own appends in flight.
    ///
    /// After a failure, higher numbers of the producer are rejected with
    /// [`StreamError::OutOfOrder`] until the failed number is sent again. A failed number is
    /// therefore never taken for applied.
    ///
    /// # Errors
    /// As for [`Stream::append`].
    pub fn append_from(
        &self,
        producer: &str,
        number: u64,
        records: Vec<NewRecord>,
    ) -> impl Future<Output = Result<Appended, StreamError>> + Send + use<> {
        let append = Append {
            producer: Some(Producer {
                id: producer.to_owned(),
                number,
            }),
            records,
            numbers: Vec::new(),
        };
        let answer = check(&append).map(|bytes| self.enqueue(append, bytes));
        async move { answer?.await.unwrap_or(Err(StreamError::Stopped)) }
    }

    /// Appends records of a producer that have a number each, ascending, exactly once. Records
    /// whose numbers are not higher than the highest applied one of `producer` are dropped, so
    /// calls may group the same records in different ways. The others are appended all or none.
    ///
    /// The call itself enqueues the append; the future only waits. Failures have the meaning that
    /// they have for [`Stream::append_from`].
    ///
    /// # Errors
    /// As for [`Stream::append`].
    pub fn append_numbered(
        &self,
        producer: &str,
        records: Vec<(u64, NewRecord)>,
    ) -> impl Future<Output = Result<Appended, StreamError>> + Send + use<> {
        let (numbers, records): (Vec<u64>, _) = records.into_iter().unzip();
        let append = Append {
            producer: numbers.last().map(|number| Producer {
                id: producer.to_owned(),
                number: *number,
            }),
            records,
            numbers,
        };
        let answer = check(&append).map(|bytes| self.enqueue(append, bytes));
        async move { answer?.await.unwrap_or(Err(StreamError::Stopped)) }
    }

    /// Reads all shards from a position, in the order of the appends.
    ///
    /// # Errors
    /// A number that the stream never assigned, a number whose successors the retention deleted, or
    /// an error of the file system.
    pub async fn read(&self, from: ReadFrom) -> Result<Reader, StreamError> {
        Reader::open(self.clone(), None, from).await
    }

    /// Reads one shard from a position.
    ///
    /// # Errors
    /// A number that the shard never assigned, a number whose successors the retention deleted, or
    /// an error of the file system.
    pub async fn read_shard(&self, shard: u32, from: ReadFrom) -> Result<Reader, StreamError> {
        Reader::open(self.clone(), Some(shard), from).await
    }

    /// Returns the number after which a read of a shard from `from` starts: that of a record or of
    /// the shard's closing, or none for the start of the shard.
    ///
    /// # Errors
    /// As for [`Stream::read_shard`].
    pub async fn before(
        &self,
        shard: u32,
        from: ReadFrom,
    ) -> Result<Option<SequenceNumber>, StreamError> {
        self.refresh().await?;
        let tip = self.0.tip.borrow().clone();
        let name = self.name().to_owned();
        self.blocking(move || before(&name, &tip, shard, from))
            .await
    }

    /// Shards and settings that are durable now.
    pub fn description(&self) -> Arc<Description> {
        Arc::clone(&self.0.tip.borrow().description)
    }

    /// Splits an open shard. The second child starts at the hash key `second_from`.
    ///
    /// # Errors
    /// A shard that does not exist or is closed, a hash key that does not split it, or an error of
    /// the file system.
    pub async fn split(&self, shard: u32, second_from: u128) -> Result<(), StreamError> {
        let split = move |description: &mut Description, context: &mut ChangeContext| {
            description.split(shard, second_from, context)
        };
        self.change(split).await
    }

    /// Merges two adjacent open shards.
    ///
    /// # Errors
    /// Shards that do not exist, are closed or are not adjacent, or an error of the file system.
    pub async fn merge(&self, one: u32, other: u32) -> Result<(), StreamError> {
        let merge = move |description: &mut Description, context: &mut ChangeContext| {
            description.merge(one, other, context)
        };
        self.change(merge).await
    }

    /// Changes shards or settings durably. If `change` returns an error, nothing changes.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Description, &mut ChangeContext) -> Result<T, StreamError>
        + Send
        + 'static,
    ) -> Result<T, StreamError> {
        let now_ms = crate::now_ms();
        let (changed, tip) = self
            .with_log(move |log| Ok((log.change(now_ms, change)?, log.tip())))
            .await?;
        self.publish(tip);
        Ok(changed)
    }

    /// Deletes the stream. Its readers and appenders get [`StreamError::Missing`].
    pub(crate) async fn delete(&self) -> Result<(), StreamError> {
        let tip = self
            .with_log(|log| {
                log.delete()?;
                Ok(log.tip())
            })
            .await?;
        self.publish(tip);
        Ok(())
    }

    /// True if it was deleted.
    pub(crate) fn is_deleted(&self) -> bool {
        self.0.tip.borrow().deleted
    }

    /// True if `other` is the same stream object.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Catches up with the appends of another process, and notifies the readers.
    pub(crate) async fn refresh(&self) -> Result<(), StreamError> {
        let tip = self
            .with_log(|log| {
                log.refresh()?;
                Ok(log.tip())
            })
            .await?;
        self.publish(tip);
        Ok(())
    }

    /// Subscribes to the durable end of the stream.
    pub(crate) fn watch_tip(&self) -> watch::Receiver<Tip> {
        self.0.tip.subscribe()
    }

    /// Finds the position at which reading starts.
    pub(crate) async fn locate(
        &self,
        shard: Option<u32>,
        from: ReadFrom,
    ) -> Result<Cursor, StreamError> {
        let (name, tip) = (self.name().to_owned(), self.0.tip.borrow().clone());
        self.blocking(move || locate(&name, &tip, shard, from))
            .await
    }

    /// Reads the next chunk from a position.
    pub(crate) async fn read_chunk(
        &self,
        tip: Tip,
        shard: Option<u32>,
        cursor: Cursor,
        limits: Limits,
    ) -> Result<Chunk, StreamError> {
        let name = self.name().to_owned();
        self.blocking(move || read_chunk(&name, &tip, shard, cursor, limits))
            .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StreamError> + Send + 'static,
    ) -> Result<T, StreamError> {
        let done = self.0.runtime.spawn_blocking(work);
        done.await.unwrap_or(Err(StreamError::Stopped))
    }

    /// Runs blocking work on the log outside the async workers.
    pub(crate) async fn with_log<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Log) -> Result<T, StreamError> + Send + 'static,
    ) -> Result<T, StreamError> {
        let shared = Arc::clone(&self.0);
        let done = self
            .0
            .runtime
            .spawn_blocking(move || work(&mut lock(&shared.log)));
        done.await.unwrap_or(Err(StreamError::Stopped))
    }

    fn enqueue(
        &self,
        append: Append,
        bytes: usize,
    ) -> oneshot::Receiver<Result<Appended, StreamError>> {
        let (answer, answered) = oneshot::channel();
        let mut queue = lock(&self.0.queue);
        queue.waiting.push(Waiting {
            append,
            bytes,
            answer,
        });
        if !queue.serving {
            queue.serving = true;
            let stream = self.clone();
            self.0.runtime.spawn_blocking(move || stream.serve_queue());
        }
        answered
    }

    /// Writes the queue group by group. Appends that arrive during one sync go into the next group.
    fn serve_queue(&self) {
        loop {
            let group = {
                let mut queue = lock(&self.0.queue);
                let mut bytes = 0;
                let fits = queue.waiting.iter().take_while(|waiting| {
                    let first = bytes == 0;
                    bytes += waiting.bytes;
                    first || bytes <= GROUP_MAX_BYTES
                });
                let count = fits.count();
                if count == 0 {
                    queue.serving = false;
                    return;
                }
                queue.waiting.drain(..count).collect::<Vec<_>>()
            };
            let (appends, answers): (Vec<Append>, Vec<_>) = group
                .into_iter()
                .map(|waiting| (waiting.append, waiting.answer))
                .unzip();
            let mut log = lock(&self.0.log);
            let outcome = log.append(&appends);
            let tip = log.tip();
            drop(log);
            self.publish(tip);
            let outcomes = outcome.unwrap_or_else(|error| vec![Err(error); appends.len()]);
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // A caller that no longer waits does not need the result.
                let _ = answer.send(outcome);
            }
        }
    }

    fn publish(&self, tip: Tip) {
        self.0.tip.send_if_modified(|known| {
            let reached = |tip: &Tip| {
                let last = &tip.segments[tip.segments.len() - 1];
                (tip.deleted, last.number, tip.end)
            };
            let grown = reached(&tip) > reached(known);
            if grown {
                *known = tip;
            }
            grown
        });
    }
}

/// Checks an append call, and returns its size in bytes.
fn check(append: &Append) -> Result<usize, StreamError> {
    let refused = |message: String| Err(StreamError::InvalidRecord(message));
    if append.records.is_empty() {
        return refused("there is no record".to_owned());
    }
    if let Some(producer) = &append.producer
        && !(1..=1_024).contains(&producer.id.len())
    {
        return refused("a producer's id has 1 to 1024 bytes".to_owned());
    }
    if !append.numbers.is_sorted_by(|one, next| one < next) {
        return refused("the numbers of a producer do not ascend".to_owned());
    }
    for record in &append.records {
        record.check()?;
    }
    let bytes = frame_bytes(append.producer.as_ref(), &append.records);
    if bytes > PAYLOAD_MAX_BYTES {
        return refused(format!(
            "the records of one append take {bytes} bytes; \
            at most {PAYLOAD_MAX_BYTES} are allowed"
        ));
    }
    Ok(bytes)
}

// The state behind a lock is consistent at every statement that could panic, so a poisoned lock is
// safe to use.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
