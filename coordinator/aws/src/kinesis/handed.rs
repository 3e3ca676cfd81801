//! Reading shards of a stream whose plan is in another partition: those that it hands over.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use satchel_engine::input::Input;
use satchel_engine::position::ShardPosition;
use satchel_engine::source::shards::ListedShard;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::error::Stop;
use super::ingress::{KinesisIngress, Read, ended};
use super::reading::read_shard;
use super::shard::Shared;
use super::{HandedShard, HandedShards, KinesisError, ReadingPort};

impl KinesisIngress {
    /// Reads the shards that the home of the stream hands to this partition, until the partition
    /// ends.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_handed(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Arc<dyn ReadingPort>,
        handed: HandedShards,
    ) -> Result<(), KinesisError> {
        let closed = inputs.clone();
        // Boxed, because the future that reads is large.
        let read = Box::pin(self.read_handed(inputs, reading, handed));
        Self::until_closed(closed, read).await
    }

    async fn read_handed(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Arc<dyn ReadingPort>,
        handed: HandedShards,
    ) -> Result<(), Stop> {
        let listed = self.list_first().await?;
        let shared = self.share(inputs, reading).await;
        let mut readers = Readers {
            shared,
            read: HashSet::new(),
            readers: JoinSet::new(),
        };
        let outcome = readers.run(listed, handed).await;
        readers.readers.shutdown().await;
        outcome
    }
}

/// Number of lists that may be older than that of the home.
const OLD_LISTS_MAX: usize = 3;

const BETWEEN_LISTS: Duration = Duration::from_secs(1);

/// Readers of the shards that were handed over.
struct Readers {
    shared: Arc<Shared>,
    /// Shards that are being read.
    read: HashSet<Arc<str>>,
    readers: JoinSet<Read>,
}

impl Readers {
    async fn run(
        &mut self,
        listed: Vec<ListedShard>,
        HandedShards { known, mut more }: HandedShards,
    ) -> Result<(), Stop> {
        self.start(listed, known).await?;
        loop {
            tokio::select! {
                Some(read) = self.readers.join_next() => {
                    if let Some(shard) = ended(read)? {
                        self.read.remove(&shard);
                    }
                }
                shard = more.recv() => {
                    let mut shards = vec![shard.ok_or(Stop::PartitionClosed)?];
                    while let Ok(another) = more.try_recv() {
                        shards.push(another);
                    }
                    let listed = self.shared.list().await?;
                    self.start(listed, shards).await?;
                }
            }
        }
    }

    async fn start(
        &mut self,
        mut listed: Vec<ListedShard>,
        shards: Vec<HandedShard>,
    ) -> Result<(), Stop> {
        // A list may be older than that of the home. Without its range, a shard would keep what
        // producers send again to other shards.
        let is_listed =
            |listed: &[ListedShard], shard: &Arc<str>| listed.iter().any(|it| it.id == *shard);
        for _ in 0..OLD_LISTS_MAX {
            if shards.iter().all(|(shard, _)| is_listed(&listed, shard)) {
                break;
            }
            tokio::time::sleep(BETWEEN_LISTS).await;
            listed = self.shared.list().await?;
        }
        let listed = listed.into_iter().map(|shard| (shard.id.clone(), shard));
        let mut listed: HashMap<_, _> = listed.collect();
        for (shard, position) in shards {
            if position == ShardPosition::End || !self.read.insert(shard.clone()) {
                continue;
            }
            tracing::info!(
                shard = %self.shared.shard_id(&shard),
                start = ?position,
                "reading a shard for the partition that plans its stream"
            );
            // The reader of a shard that has left the stream finds that out.
            let listed = listed.remove(&shard).unwrap_or(ListedShard {
                id: shard,
                parents: Vec::new(),
                closed: true,
                hash_range: None,
            });
            let (start, started) = oneshot::channel();
            // The receiver is here.
            let _ = start.send(position);
            let reader = read_shard(self.shared.clone(), listed, None, started);
            self.readers.spawn(reader);
        }
        Ok(())
    }
}
