//! Form of a message about a shard between partitions: key and value of its position, as they are
//! in the log.

use super::codec::{Malformed, Reader, put_bytes};
use super::{Change, Key, Value};
use crate::position::{ShardId, ShardPosition};

/// Returns the form of a shard and its position.
pub(crate) fn encode_shard(shard: &ShardId, position: &ShardPosition) -> Vec<u8> {
    let change = Change {
        key: Key::Shard(shard.clone()),
        value: Some(Value::Shard(position.clone())),
    };
    let (mut key, mut value, mut out) = (Vec::new(), Vec::new(), Vec::new());
    change.encode_key(&mut key);
    change.encode_value(&mut value);
    put_bytes(&mut out, &key);
    put_bytes(&mut out, &value);
    out
}

/// Decodes a shard and its position.
///
/// # Errors
/// [`Malformed`]: the bytes are no such form, or a version that this software does not know.
pub(crate) fn decode_shard(bytes: &[u8]) -> Result<(ShardId, ShardPosition), Malformed> {
    let mut read = Reader(bytes);
    let (key, value) = (read.bytes()?, read.bytes()?);
    let change = Change::decode(key, Some(value))?;
    read.end()?;
    match change {
        Change {
            key: Key::Shard(shard),
            value: Some(Value::Shard(position)),
        } => Ok((shard, position)),
        _ => Err(Malformed::Unknown {
            what: "fact of a shard",
            found: key.first().copied().unwrap_or_default().into(),
        }),
    }
}
