//! Operations that change streams: creation, deletion, shards, retention, tags.

use super::arguments::{missing, not_one_of};
use super::error::Refusal;
use super::reading::known_shard;
use super::value::{Value, list, map};
use super::{Call, Service};
use crate::shards::{
    ChangeContext, ON_DEMAND_SHARDS, RECORD_KIB_MAX, RECORD_KIB_MIN, RETENTION_HOURS_MAX,
    RETENTION_HOURS_MIN, SHARDS_MAX,
};
use crate::{Description, StreamError, check_stream_name, parse_hash_key};

/// Values of the maximum size of a record, in KiB.
const RECORD_KIB: std::ops::RangeInclusive<i64> = RECORD_KIB_MIN as i64..=RECORD_KIB_MAX as i64;

/// Maximum number of tags of a stream.
const TAGS_MAX: usize = 50;

impl Service {
    pub(super) async fn create_stream(&self, mut call: Call) -> Result<Value, Refusal> {
        let name = call.arguments.required_text("StreamName")?.to_owned();
        check_stream_name(&name).map_err(Refusal::validation)?;
        let on_demand = match call.arguments.structure("StreamModeDetails")? {
            None => false,
            Some(details) => match details.required_text("StreamMode")? {
                "PROVISIONED" => false,
                "ON_DEMAND" => true,
                other => {
                    return Err(not_one_of(
                        "StreamMode",
                        other,
                        &["PROVISIONED", "ON_DEMAND"],
                    ));
                }
            },
        };
        let shards = call
            .arguments
            .integer("ShardCount", 1..=i64::from(u32::MAX))?;
        let shards = match (shards, on_demand) {
            (Some(shards), false) => shards as usize,
            (None, true) => ON_DEMAND_SHARDS,
            (None, false) => return Err(missing("ShardCount")),
            (Some(_), true) => {
                return Err(Refusal::argument(
                    "ShardCount cannot be given for an on-demand stream.",
                ));
            }
        };
        let record_kib = call.arguments.integer("MaxRecordSizeInKiB", RECORD_KIB)?;
        let tags = call.arguments.take_tags("Tags")?;
        let stream = self.streams.create(&name, shards, on_demand).await?;
        if tags.is_some() || record_kib.is_some() {
            stream
                .change(move |description, _| {
                    if let Some(kib) = record_kib {
                        description.max_record_kib = kib as u32;
                    }
                    add_tags(description, tags.unwrap_or_default())
                })
                .await?;
        }
        Ok(Value::Null)
    }

    pub(super) async fn delete_stream(&self, call: &Call) -> Result<Value, Refusal> {
        let stream = self.stream(call).await?;
        let enforced = call.arguments.flag("EnforceConsumerDeletion")?;
        if !enforced && !stream.description().consumers.is_empty() {
            return Err(Refusal::in_use(format!(
                "Stream {} has consumers: deregister them or set EnforceConsumerDeletion.",
                stream.name()
            )));
        }
        self.streams.delete(stream.name()).await?;
        Ok(Value::Null)
    }

    pub(super) async fn split_shard(&self, call: &Call) -> Result<Value, Refusal> {
        let stream = self.stream(call).await?;
        let arguments = &call.arguments;
        let shard = known_shard(
            &stream,
            &stream.description(),
            arguments.required_text("ShardToSplit")?,
        )?
        .index;
        let second_from = parse_hash_key(arguments.required_text("NewStartingHashKey")?);
        let second_from = second_from.map_err(Refusal::argument)?;
        stream.split(shard, second_from).await?;
        Ok(Value::Null)
    }

    pub(super) async fn merge_shards(&self, call: &Call) -> Result<Value, Refusal> {
        let stream = self.stream(call).await?;
        let description = stream.description();
        let shard = |name| -> Result<u32, Refusal> {
            Ok(known_shard(&stream, &description, call.arguments.required_text(name)?)?.index)
        };
        stream
            .merge(shard("ShardToMerge")?, shard("AdjacentShardToMerge")?)
            .await?;
        Ok(Value::Null)
    }

    pub(super) async fn update_shard_count(&self, call: &Call) -> Result<Value, Refusal> {
        let arguments = &call.arguments;
        let target =
            arguments.required_integer("TargetShardCount", 1..=i64::from(u32::MAX))? as usize;
        match arguments.required_text("ScalingType")? {
            "UNIFORM_SCALING" => {}
            other => return Err(not_one_of("ScalingType", other, &["UNIFORM_SCALING"])),
        }
        let stream = self.stream(call).await?;
        let scale = move |description: &mut Description, context: &mut ChangeContext| {
            scale(description, target, context)
        };
        let before = stream.change(scale).await?;
        Ok(map([
            ("StreamName", stream.name().into()),
            ("StreamARN", call.stream_arn(stream.name()).into()),
            ("CurrentShardCount", before.into()),
            ("TargetShardCount", target.into()),
        ]))
    }

    pub(super) async fn update_max_record_size(&self, call: &Call) -> Result<Value, Refusal> {
        let arguments = &call.arguments;
        let kib = arguments.required_integer("MaxRecordSizeInKiB", RECORD_KIB)? as u32;
        let stream = self.stream(call).await?;
        let change = move |description: &mut Description, _: &mut ChangeContext| {
            description.max_record_kib = kib;
            Ok(())
        };
        stream.change(change).await?;
        Ok(Value::Null)
    }

    pub(super) async fn change_retention(
        &self,
        call: &Call,
        longer: bool,
    ) -> Result<Value, Refusal> {
        let hours = call
            .arguments
            .required_integer("RetentionPeriodHours", 0..=i64::from(u32::MAX))?;
        let hours = hours as u32;
        let stream = self.stream(call).await?;
        let refused = |message: String| Err(Refusal::argument(message));
        if !(RETENTION_HOURS_MIN..=RETENTION_HOURS_MAX).contains(&hours) {
            return refused(format!(
                "The retention period must be {RETENTION_HOURS_MIN} to {RETENTION_HOURS_MAX} \
                hours, not {hours}."
            ));
        }
        let now = stream.description().retention_hours;
        let fits = if longer { hours >= now } else { hours <= now };
        if !fits {
            let than = if longer { "shorter" } else { "longer" };
            return refused(format!(
                "Requested retention period ({hours} hours) for stream {} is {than} than its \
                current one ({now} hours).",
                stream.name()
            ));
        }
        let change = move |description: &mut Description, _: &mut ChangeContext| {
            description.retention_hours = hours;
            Ok(())
        };
        stream.change(change).await?;
        Ok(Value::Null)
    }

    pub(super) async fn add_tags(&self, mut call: Call) -> Result<Value, Refusal> {
        let tags = call.arguments.take_tags("Tags")?;
        let tags = tags.ok_or_else(|| missing("Tags"))?;
        let stream = self.stream(&call).await?;
        stream
            .change(move |description, _| add_tags(description, tags))
            .await?;
        Ok(Value::Null)
    }

    pub(super) async fn remove_tags(&self, mut call: Call) -> Result<Value, Refusal> {
        let keys = call.arguments.take_texts("TagKeys")?;
        let keys = keys.ok_or_else(|| missing("TagKeys"))?;
        let stream = self.stream(&call).await?;
        let remove = move |description: &mut Description, _: &mut ChangeContext| {
            description.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        };
        stream.change(remove).await?;
        Ok(Value::Null)
    }

    pub(super) async fn list_tags(&self, call: &Call) -> Result<Value, Refusal> {
        let limit = call.arguments.integer("Limit", 1..=50)?.unwrap_or(50) as usize;
        let after = call.arguments.text("ExclusiveStartTagKey")?;
        let stream = self.stream(call).await?;
        let description = stream.description();
        let tags = description
            .tags
            .iter()
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let tags: Vec<_> = tags.take(limit + 1).collect();
        let listed = tags.iter().take(limit).map(|(key, value)| {
            map([
                ("Key", key.as_str().into()),
                ("Value", value.as_str().into()),
            ])
        });
        Ok(map([
            ("Tags", list(listed)),
            ("HasMoreTags", (tags.len() > limit).into()),
        ]))
    }
}

fn scale(
    description: &mut Description,
    target: usize,
    context: &mut ChangeContext,
) -> Result<usize, StreamError> {
    if description.on_demand {
        return Err(StreamError::InvalidChange(
            "UpdateShardCount cannot be used on an on-demand stream.".to_owned(),
        ));
    }
    let open = description.open_shards().len();
    let refused = |bound: String| {
        Err(StreamError::InvalidChange(format!(
            "UpdateShardCount cannot scale {bound} your current open shard count. \
            Current open shard count: {open} Target shard count: {target}"
        )))
    };
    if target > SHARDS_MAX {
        return Err(StreamError::TooMany(format!(
            "a stream has at most {SHARDS_MAX} open shards"
        )));
    }
    if target > open * 2 {
        return refused("up over double".to_owned());
    }
    if target < open.div_ceil(2) {
        return refused("down below half".to_owned());
    }
    description.scale(target, context)?;
    Ok(open)
}

fn add_tags(description: &mut Description, tags: Vec<(String, String)>) -> Result<(), StreamError> {
    for (key, value) in tags {
        let (key_chars, value_chars) = (key.chars().count(), value.chars().count());
        if !(1..=128).contains(&key_chars) || value_chars > 256 {
            return Err(StreamError::InvalidChange(
                "a tag has a key of 1 to 128 and a value of at most 256 characters".to_owned(),
            ));
        }
        description.tags.insert(key, value);
    }
    if description.tags.len() > TAGS_MAX {
        return Err(StreamError::InvalidChange(format!(
            "a stream has at most {TAGS_MAX} tags"
        )));
    }
    Ok(())
}
