//! Reading shards of a local stream that its home hands to another partition, as in Kinesis.

use std::collections::HashSet;

use satchel_aws::kinesis::HandedShards;
use satchel_engine::input::Input;
use satchel_engine::position::{ShardId, ShardPosition};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Ended, Readers, StreamError};
use crate::ingress::reading::Reading;
use crate::streams::shards::parse_shard_id;

type Reads = JoinSet<Result<Option<Ended>, StreamError>>;

impl Readers {
    /// Reads what is handed over until the partition is gone.
    pub(super) async fn run_handed(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
        handed: HandedShards,
    ) -> Result<(), StreamError> {
        let mut readers = JoinSet::new();
        let outcome = self.read_handed(&mut readers, inputs, reading, handed);
        let outcome = outcome.await;
        readers.shutdown().await;
        outcome
    }

    async fn read_handed(
        &self,
        readers: &mut Reads,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
        HandedShards { known, mut more }: HandedShards,
    ) -> Result<(), StreamError> {
        let mut shards = known;
        let mut read = HashSet::new();
        loop {
            for (shard, after) in std::mem::take(&mut shards) {
                if after == ShardPosition::End || !read.insert(shard.clone()) {
                    continue;
                }
                let index = parse_shard_id(&shard);
                let index = index.ok_or_else(|| self.unknown_position(&shard))?;
                let id = ShardId {
                    ingress: self.ingress.ingress.as_str().into(),
                    stream: self.stream.name().into(),
                    shard,
                };
                let reader = self.clone();
                let (inputs, reading) = (inputs.clone(), reading.clone());
                readers.spawn(async move {
                    let found = (id, index);
                    reader
                        .read_after(found, &after, false, inputs, reading)
                        .await
                });
            }
            tokio::select! {
                Some(outcome) = readers.join_next() => match outcome {
                    Ok(outcome) => match outcome? {
                        Some(_) => {}
                        None => return Ok(()),
                    },
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                },
                shard = more.recv() => match shard {
                    Some(shard) => shards.push(shard),
                    None => return Ok(()),
                },
                () = inputs.closed() => return Ok(()),
            }
        }
    }
}
