//! The log of an owned partition: a handle to commit with, notices of the results, and the driver
//! between both and the store.
//!
//! ```text
//! Log::commit ─► Driver ─► Writer ─────┐
//!                   │  └─► Snapshotter ├─► concurrent store requests ─► answers ─► Driver
//!                   ├────► Collector ──┤                                             │
//!    Log::load ─────┴────► loading ────┘                                             └─► Notice
//! ```

use std::sync::Arc;

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, select_biased};

use crate::archiver::Archiver;
use crate::background::{Pacer, put_own, take_inventory};
use crate::clock::Now;
use crate::codec::checksum;
use crate::collector::Collector;
use crate::condenser::{Condenser, Copy};
use crate::control::Condemned;
use crate::deletion::{Deletion, perform};
use crate::entries::Entries;
use crate::error::LogError;
use crate::hedge::{self, CreateTimes};
use crate::io::{Io, Retry, StoreFailure};
use crate::keys::Layout;
use crate::loading::{self, Load, Loaded, Offload};
use crate::segment::{BucketImage, SegmentName};
use crate::snapshotter::retained::Inventory;
use crate::snapshotter::{Snapshot, Snapshotter, Step};
use crate::store::Created;
use crate::takeover::Ownership;
use crate::writer::{Action, Committed, CommittedKind, Delta, Writer};

/// Something that happened to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This delta and all before it are durable. Whatever waited for it may be released.
    Durable {
        /// Sequence of the delta.
        sequence: u64,
        /// Number of its log object.
        number: u64,
        /// Size of its log object in bytes.
        stored_bytes: u64,
    },
    /// A snapshot begins. The caller hands over one image of each of these buckets ([`Log::keep`]):
    /// a few at each seal, in any order. No other images are requested until all of these were
    /// handed over.
    WantImages(Vec<u16>),
    /// A snapshot is finished and in effect.
    Snapshot(Snapshot),
    /// The image that [`Log::load`] requested.
    Loaded {
        /// The bucket.
        bucket: u16,
        /// Every entry of the image, in one buffer: `entries.as_bytes().slice_ref(value)` shares
        /// it.
        entries: Entries,
        /// Log number that the image equals. Changes of later numbers must be applied over it.
        number: u64,
    },
    /// Less is deleted than could be, because this object cannot be read and its needs are unknown.
    /// While it is a savepoint, nothing is deleted. While it is a former manifest, the orphans
    /// found at the beginning of this epoch are not deleted. Commits continue.
    NothingDeleted(LogError),
    /// A store request failed and is being retried.
    StoreFailure(StoreFailure),
}

/// Commits deltas of an owned partition. Dropping it ends the [`Driver`] once everything handed
/// over is durable.
#[derive(Debug)]
pub struct Log {
    commands: UnboundedSender<Command>,
}

#[derive(Debug)]
enum Command {
    Commit(Delta),
    Keep(BucketImage),
    Load(u16),
    WantSnapshot,
}

impl Log {
    /// Hands over the next delta. The caller bounds the amount handed over and not yet durable.
    pub fn commit(&self, delta: Delta) {
        self.send(Command::Commit(delta));
    }

    /// Hands over a requested image, taken at the seal of the last delta handed over.
    pub fn keep(&self, image: BucketImage) {
        self.send(Command::Keep(image));
    }

    /// Requests the image of a bucket from its location in the manifest in effect. A bucket without
    /// an image is empty.
    ///
    /// Each call is answered by one [`Notice::Loaded`], in any order. A damaged or missing image
    /// ends the [`Driver`] with an error that names it. The caller bounds the number of concurrent
    /// loads.
    pub fn load(&self, bucket: u16) {
        self.send(Command::Load(bucket));
    }

    /// Requests a snapshot as soon as possible, whatever the size of the log.
    ///
    /// Several requests count as one. A request during a snapshot is for the next one. If nothing
    /// changed, the snapshot begins after the next change.
    pub fn want_snapshot(&self) {
        self.send(Command::WantSnapshot);
    }

    fn send(&self, command: Command) {
        // The result of the driver tells the caller that it ended. A command sent later is lost, as
        // are commands that were still queued.
        let _ = self.commands.unbounded_send(command);
    }
}

/// Notices of one partition, in order. The stream ends when the driver does.
pub type Notices = UnboundedReceiver<Notice>;

/// Does the work of a [`Log`]: poll [`Driver::run`] until it ends. Dropping it stops all work at
/// once, as a crash would.
pub struct Driver {
    io: Io,
    layout: Layout,
    partition: u32,
    buckets: u16,
    epoch: u64,
    writer: Writer,
    snapshotter: Snapshotter,
    condenser: Condenser,
    collector: Collector,
    archiver: Archiver,
    commands: UnboundedReceiver<Command>,
    notices: UnboundedSender<Notice>,
    requests: FuturesUnordered<BoxFuture<'static, Result<Answer, LogError>>>,
    waiting_for_grace: bool,
    create_times: CreateTimes,
    pacer: Pacer,
    offload: Offload,
}

enum Answer {
    /// Number, result and duration in ms.
    Created(u64, Created, u64),
    Fetched(u64, Option<Bytes>),
    NextEpoch(bool),
    SegmentStored(SegmentName),
    Inventory(Inventory, Option<LogError>),
    ManifestStored(u64),
    /// Number of reads that a stored copy of log objects saves.
    Condensed(u64),
    Deleted(Deletion),
    Archived,
    GraceOver,
    Loaded(Loaded),
}

impl Ownership {
    /// Begins to write. Long computations run inside [`Driver::run`], between two requests.
    #[must_use]
    pub fn start(self) -> (Log, Notices, Driver) {
        self.start_with(loading::inline())
    }

    /// Begins to write. Long computations are handed to `offload`, so commits do not wait for them.
    #[must_use]
    pub fn start_with(self, offload: Offload) -> (Log, Notices, Driver) {
        let (commands_in, commands) = unbounded();
        let (notices, notices_out) = unbounded();
        let start = self.start_of_epoch();
        let options = self.contender.options;
        let partition = self.contender.identity.partition;
        let now = self.contender.clock.now();
        let on_store_failure = self.contender.on_store_failure.clone();
        let failures = notices.clone();
        // Without retention, nothing needs the log before a snapshot but savepoints.
        let archives = options.retention_ms > 0 && self.contender.store.table_location().is_some();
        let archiver = Archiver::new(archives, options.grace_ms);
        let driver = Driver {
            io: Io {
                store: self.contender.store,
                clock: self.contender.clock,
                retry: Retry {
                    give_up_ms: None,
                    ..options.retry
                },
                on_store_failure: Arc::new(move |failure| {
                    on_store_failure(failure.clone());
                    let _ = failures.unbounded_send(Notice::StoreFailure(failure));
                }),
            },
            writer: Writer::new(
                self.layout.clone(),
                partition,
                &start,
                options.depth,
                options.window_ms,
            ),
            snapshotter: Snapshotter::new(
                partition,
                self.owner,
                self.takeover,
                options.snapshots,
                options.retention_ms,
                &self.base,
            ),
            condenser: Condenser::new(self.owner.epoch, options.condensation),
            collector: Collector::new(options.grace_ms, self.base.condemned, now),
            archiver,
            layout: self.layout,
            partition,
            buckets: self.contender.identity.buckets,
            epoch: self.owner.epoch,
            commands,
            notices,
            requests: FuturesUnordered::new(),
            waiting_for_grace: false,
            create_times: CreateTimes::default(),
            pacer: Pacer::new(options.snapshots.bytes_per_second),
            offload,
        };
        (
            Log {
                commands: commands_in,
            },
            notices_out,
            driver,
        )
    }
}

impl Driver {
    /// Works until the [`Log`] is dropped and everything handed over is durable, or until this
    /// process no longer owns the partition.
    ///
    /// # Errors
    /// The reason the epoch ended. A delta that was not reported durable does not count, and
    /// nothing that waits for it may be released.
    pub async fn run(mut self) -> Result<(), LogError> {
        let mut open = true;
        loop {
            self.drain()?;
            if !open && self.writer.is_idle() {
                return Ok(());
            }
            // One of the two always makes progress: a writer that is not idle has a request in
            // flight.
            select_biased! {
                answer = self.requests.select_next_some() => self.answer(answer?)?,
                // A fused stream: after its end it is not polled again.
                command = self.commands.next() => match command {
                    Some(command) => self.command(command)?,
                    None => open = false,
                },
            }
        }
    }

    fn command(&mut self, command: Command) -> Result<(), LogError> {
        match command {
            Command::Commit(delta) => {
                self.writer.append(&delta);
                self.snapshotter.sealed(delta.sequence, &delta.entries);
            }
            Command::Keep(image) => self.snapshotter.imaged(&image),
            Command::Load(bucket) => self.load(bucket)?,
            Command::WantSnapshot => self.snapshotter.want(),
        }
        Ok(())
    }

    fn load(&mut self, bucket: u16) -> Result<(), LogError> {
        let Some(at) = self.snapshotter.bucket(bucket).copied() else {
            let reason = format!("bucket {bucket} does not exist");
            return Err(LogError::Misuse(reason));
        };
        let number = at.number;
        match at.image {
            None => self.notify(Notice::Loaded {
                bucket,
                entries: Entries::empty(),
                number,
            }),
            Some(placed) => {
                let (io, layout) = (self.io.clone(), self.layout.clone());
                let offload = self.offload.clone();
                let load = Load {
                    bucket,
                    number,
                    placed,
                };
                self.request(async move {
                    let loaded = loading::load(&io, &layout, &offload, load).await?;
                    Ok(Answer::Loaded(loaded))
                });
            }
        }
        Ok(())
    }

    fn loaded(&mut self, loaded: Loaded) -> Result<(), LogError> {
        match loaded {
            Loaded::Image(load, entries) => self.notify(Notice::Loaded {
                bucket: load.bucket,
                entries,
                number: load.number,
            }),
            Loaded::Gone(load) => {
                let at = self.snapshotter.bucket(load.bucket);
                if at.is_none_or(|at| at.image != Some(load.placed)) {
                    return self.load(load.bucket);
                }
                let (io, layout, epoch) = (self.io.clone(), self.layout.clone(), self.epoch);
                self.request(
                    async move { Err(loading::explain_gone(&io, &layout, epoch, load).await) },
                );
            }
        }
        Ok(())
    }

    /// Starts everything that can be started.
    fn drain(&mut self) -> Result<(), LogError> {
        let now = self.io.clock.now();
        loop {
            if let Some(action) = self.writer.poll(now) {
                self.act(action, now)?;
            } else if let Some(step) = self.snapshotter.poll() {
                self.step(step, now);
            } else if self.archiver.is_idle()
                && let Some(condemned) = self.collector.poll(now)
            {
                self.delete(condemned);
            } else if self.collector.is_idle()
                && let Some(below) = self.archiver.poll(now)
            {
                self.archive(below);
            } else {
                break;
            }
        }
        // What waits for the other, or for another one of its kind, is started when that ends.
        let is_idle = self.collector.is_idle() && self.archiver.is_idle();
        let waits = [self.collector.wait_ms(now), self.archiver.wait_ms(now)];
        let waits = waits.into_iter().flatten().filter(|_| is_idle);
        if let Some(wait_ms) = waits.min()
            && !self.waiting_for_grace
        {
            self.waiting_for_grace = true;
            let sleep = self.io.clock.sleep(wait_ms.max(1));
            self.request(sleep.map(|()| Ok(Answer::GraceOver)));
        }
        Ok(())
    }

    fn answer(&mut self, answer: Answer) -> Result<(), LogError> {
        let now = self.io.clock.now();
        match answer {
            Answer::Created(number, created, took_ms) => {
                self.create_times.observe(took_ms);
                self.writer.created(number, created, now);
            }
            Answer::Fetched(number, found) => self.writer.fetched(number, found, now),
            Answer::NextEpoch(present) => self.writer.next_epoch_read(present, now),
            Answer::SegmentStored(name) => self.snapshotter.segment_stored(&name),
            Answer::Inventory(inventory, unreadable) => {
                if let Some(unreadable) = unreadable {
                    self.notify(Notice::NothingDeleted(unreadable));
                }
                self.snapshotter.inventory_taken(inventory);
            }
            Answer::Condensed(saved_reads) => self.snapshotter.condensed(saved_reads),
            Answer::ManifestStored(sum) => self.snapshotter.manifest_stored(sum),
            Answer::Deleted(deletion) => {
                self.collector.performed(deletion.held);
                if let Some(unreadable) = deletion.unreadable {
                    self.notify(Notice::NothingDeleted(unreadable));
                }
            }
            Answer::Archived => self.archiver.performed(),
            Answer::GraceOver => self.waiting_for_grace = false,
            Answer::Loaded(loaded) => self.loaded(loaded)?,
        }
        Ok(())
    }

    fn act(&mut self, action: Action, now: Now) -> Result<(), LogError> {
        let io = self.io.clone();
        match action {
            Action::Put { number, key, bytes } => {
                self.condenser.sealed(number, &bytes);
                let second_after_ms = self.create_times.second_after_ms();
                self.request(async move {
                    let (created, took_ms) =
                        hedge::create(&io, &key, &bytes, second_after_ms).await?;
                    Ok(Answer::Created(number, created, took_ms))
                });
            }
            Action::Get { number, key } => {
                self.request(async move { Ok(Answer::Fetched(number, io.get(&key).await?)) });
            }
            Action::ReadNextEpoch { key } => {
                self.request(async move { Ok(Answer::NextEpoch(io.get(&key).await?.is_some())) });
            }
            Action::Durable(committed) => self.durable(committed, now),
            Action::End(error) => return Err(error),
        }
        Ok(())
    }

    fn durable(&mut self, committed: Committed, now: Now) {
        let Committed {
            kind,
            number,
            stored_bytes,
        } = committed;
        match kind {
            CommittedKind::Delta { sequence } => {
                self.notify(Notice::Durable {
                    sequence,
                    number,
                    stored_bytes,
                });
                self.snapshotter
                    .durable(Some(sequence), number, stored_bytes);
            }
            CommittedKind::Control => {
                if let Some((snapshot, condemned)) = self.snapshotter.took_effect() {
                    self.collector.condemned(condemned, now);
                    self.archiver.took_effect(snapshot.replay_from, now);
                    self.notify(Notice::Snapshot(snapshot));
                }
                self.snapshotter.durable(None, number, stored_bytes);
            }
        }
        if let Some(copy) = self.condenser.durable(number) {
            self.condense(copy);
        }
    }

    /// Stores a copy of durable log objects, beside the commits.
    fn condense(&mut self, copy: Copy) {
        let (io, partition, epoch) = (self.io.clone(), self.partition, self.epoch);
        let key = self.layout.condensed(&copy.name);
        self.request(async move {
            let bytes = copy.name.encode(partition, &copy.objects);
            match put_own(&io, &key, &bytes, epoch).await {
                Ok(()) => Ok(Answer::Condensed(copy.saves)),
                // A copy is deleted with the log that it holds, by this owner too.
                Err(LogError::Fenced { .. }) => Ok(Answer::Condensed(0)),
                Err(error) => Err(error),
            }
        });
    }

    fn step(&mut self, step: Step, now: Now) {
        let io = self.io.clone();
        let epoch = self.epoch;
        match step {
            Step::Want(buckets) => self.notify(Notice::WantImages(buckets)),
            Step::PutSegment { name, bytes } => {
                let key = self.layout.segment(&name);
                let pause = self.pacer.pause_ms(bytes.len() as u64, now);
                let pause = (pause > 0).then(|| io.clock.sleep(pause));
                self.request(async move {
                    if let Some(pause) = pause {
                        pause.await;
                    }
                    put_own(&io, &key, &bytes, epoch).await?;
                    Ok(Answer::SegmentStored(name))
                });
            }
            Step::TakeInventory { manifests } => {
                let (layout, identity) = (self.layout.clone(), (self.partition, self.buckets));
                self.request(async move {
                    let (inventory, unreadable) =
                        take_inventory(&io, &layout, identity, manifests).await?;
                    Ok(Answer::Inventory(inventory, unreadable))
                });
            }
            Step::Publish => {
                let carried = self.collector.standing();
                let partition_ms = self.writer.committed_at_ms();
                self.snapshotter
                    .publish(&carried, now.wall_ms, partition_ms);
            }
            Step::PutManifest { number, bytes } => {
                let key = self.layout.manifest(number);
                self.request(async move {
                    put_own(&io, &key, &bytes, epoch).await?;
                    Ok(Answer::ManifestStored(checksum(&bytes)))
                });
            }
            Step::Commit(control) => {
                // Nothing is committed after the last delta of a clean stop: this snapshot never
                // takes effect.
                self.writer.append_control(&control);
            }
        }
    }

    fn delete(&mut self, condemned: Condemned) {
        let (io, layout, partition) = (self.io.clone(), self.layout.clone(), self.partition);
        self.request(async move {
            let deletion = perform(&io, &layout, partition, condemned).await?;
            Ok(Answer::Deleted(deletion))
        });
    }

    fn archive(&self, below: u64) {
        let (io, prefix) = (self.io.clone(), self.layout.log_prefix());
        self.request(async move {
            io.archive(&prefix, below).await?;
            Ok(Answer::Archived)
        });
    }

    fn request(&self, request: impl Future<Output = Result<Answer, LogError>> + Send + 'static) {
        self.requests.push(Box::pin(request));
    }

    fn notify(&self, notice: Notice) {
        // A caller may drop the notices. The log continues without them.
        let _ = self.notices.unbounded_send(notice);
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("partition", &self.partition)
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}
