//! Reading one shard to its end, by subscriptions or by polling.

use std::sync::Arc;

use satchel_engine::input::Input;
use satchel_engine::position::ShardPosition;
use satchel_engine::source::shards::ListedShard;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::KinesisError;
use super::error::Stop;
use super::fan_out::{self, FALLBACK_POLLING, Subscribed};
use super::poll::{self, Polled};
use super::shard::{ShardReader, Shared};

/// Reads a shard from the position that the partition sends until its end is durable, and then
/// returns its id. Returns nothing if the partition has ended.
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
            read_to_end(&mut reader, fresh).await?;
            let ended = shared.reading.expect(id.clone());
            shared.send(Input::ShardEnded { shard: id.clone() }).await?;
            ended.await.map_err(|_| Stop::PartitionClosed)
        };
        match read.await {
            Ok(_) => {}
            Err(Stop::PartitionClosed) => return Ok(None),
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    Ok(Some(shard.id))
}

async fn read_to_end(reader: &mut ShardReader, mut fresh: Option<String>) -> Result<(), Stop> {
    reader.wait_for_start().await;
    loop {
        let mut until = None;
        if let Some(consumer) = reader.shared.consumer.clone() {
            reader.starts_newest = fresh.is_some();
            match fan_out::subscribe(reader, &consumer).await? {
                Subscribed::Ended => return Ok(()),
                Subscribed::FallBack => {
                    until = Some(Instant::now() + FALLBACK_POLLING);
                    reader.starts_newest = false;
                }
            }
        }
        if poll::poll(reader, fresh.take(), until).await? == Polled::Ended {
            return Ok(());
        }
    }
}
