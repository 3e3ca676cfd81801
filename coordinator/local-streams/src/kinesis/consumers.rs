//! Consumers registered for enhanced fan-out.

use super::arguments::missing;
use super::error::Refusal;
use super::token::Listing;
use super::value::{Value, list, map};
use super::{ACCOUNT, Call, Service, stream_of_arn};
use crate::shards::{ChangeContext, Consumer};
use crate::{Description, Stream, StreamError, check_stream_name};

/// Maximum number of consumers of a stream.
const CONSUMERS_MAX: usize = 20;

impl Service {
    pub(super) async fn register_consumer(&self, call: &Call) -> Result<Value, Refusal> {
        let name = call.arguments.required_text("ConsumerName")?.to_owned();
        check_stream_name(&name).map_err(|_| {
            Refusal::validation(format!(
                "`{name}` is not the name of a consumer: \
                write 1 to 128 letters, digits, `_`, `.` or `-`"
            ))
        })?;
        let stream = self.stream_of_consumer(call).await?;
        let register = move |description: &mut Description, context: &mut ChangeContext| {
            if description.consumers.iter().any(|known| known.name == name) {
                return Err(StreamError::InUse(format!(
                    "Consumer {name} exists already."
                )));
            }
            if description.consumers.len() == CONSUMERS_MAX {
                return Err(StreamError::TooMany(format!(
                    "a stream has at most {CONSUMERS_MAX} consumers"
                )));
            }
            let consumer = Consumer {
                name,
                created_ms: context.now_ms,
            };
            description.consumers.push(consumer.clone());
            Ok(consumer)
        };
        let consumer = stream.change(register).await?;
        Ok(map([("Consumer", describe(call, &stream, &consumer))]))
    }

    pub(super) async fn deregister_consumer(&self, call: &Call) -> Result<Value, Refusal> {
        let (stream, consumer) = self.consumer(call).await?;
        let arn = consumer_arn(call, &stream, &consumer);
        let deregister = move |description: &mut Description, _: &mut ChangeContext| {
            description.consumers.retain(|known| *known != consumer);
            Ok(())
        };
        stream.change(deregister).await?;
        self.end_subscriptions(&arn);
        Ok(Value::Null)
    }

    pub(super) async fn describe_consumer(&self, call: &Call) -> Result<Value, Refusal> {
        let (stream, consumer) = self.consumer(call).await?;
        let Value::Map(mut members) = describe(call, &stream, &consumer) else {
            return Ok(Value::Null);
        };
        members.push((
            "StreamARN".to_owned(),
            call.stream_arn(stream.name()).into(),
        ));
        Ok(map([("ConsumerDescription", Value::Map(members))]))
    }

    pub(super) async fn list_consumers(&self, call: &Call) -> Result<Value, Refusal> {
        let limit = call
            .arguments
            .integer("MaxResults", 1..=10_000)?
            .unwrap_or(100) as usize;
        let after = match call.arguments.text("NextToken")? {
            None => None,
            Some(token) => Some(Listing::decode(token).ok_or_else(|| {
                Refusal::argument("The NextToken was not issued by ListStreamConsumers.")
            })?),
        };
        let stream = self.stream_of_consumer(call).await?;
        let mut consumers = stream.description().consumers.clone();
        consumers.sort_by(|one, other| one.name.cmp(&other.name));
        if let Some(after) = after {
            consumers.retain(|consumer| consumer.name > after.after);
        }
        let more = consumers.len() > limit;
        consumers.truncate(limit);
        let next = consumers.last().filter(|_| more).map(|last| Listing {
            stream: stream.name().to_owned(),
            after: last.name.clone(),
            filter: String::new(),
            issued_ms: crate::now_ms(),
        });
        Ok(map([
            (
                "Consumers",
                list(
                    consumers
                        .iter()
                        .map(|consumer| describe(call, &stream, consumer)),
                ),
            ),
            ("NextToken", next.map(|next| next.encode()).into()),
        ]))
    }

    /// Consumer that a request names by its ARN, or by its name and its stream's ARN.
    pub(super) async fn consumer(&self, call: &Call) -> Result<(Stream, Consumer), Refusal> {
        let arguments = &call.arguments;
        let (stream, wanted) = match arguments.text("ConsumerARN")? {
            Some(arn) => (
                self.stream_named(stream_of_arn(arn)?).await?,
                arn.to_owned(),
            ),
            None => {
                let name = arguments.required_text("ConsumerName")?.to_owned();
                (self.stream_of_consumer(call).await?, name)
            }
        };
        stream.refresh().await?;
        let description = stream.description();
        // The request may name the consumer with another region in the ARN. Name and time identify
        // it.
        let found = description.consumers.iter().find(|consumer| {
            consumer.name == wanted
                || wanted.ends_with(&format!(":stream/{}", consumer_path(&stream, consumer)))
        });
        match found {
            Some(consumer) => Ok((stream, consumer.clone())),
            None => Err(Refusal::not_found(format!(
                "Consumer {wanted} under account {ACCOUNT} not found."
            ))),
        }
    }

    async fn stream_of_consumer(&self, call: &Call) -> Result<Stream, Refusal> {
        let arn = call
            .arguments
            .text("StreamARN")?
            .ok_or_else(|| missing("StreamARN"))?;
        self.stream_named(stream_of_arn(arn)?).await
    }
}

/// ARN of a consumer. It contains the second of the registration, so that a later consumer of the
/// same name has another ARN.
pub(super) fn consumer_arn(call: &Call, stream: &Stream, consumer: &Consumer) -> String {
    let arn = call.stream_arn("");
    format!("{arn}{}", consumer_path(stream, consumer))
}

fn consumer_path(stream: &Stream, consumer: &Consumer) -> String {
    format!(
        "{}/consumer/{}:{}",
        stream.name(),
        consumer.name,
        consumer.created_ms / 1_000
    )
}

fn describe(call: &Call, stream: &Stream, consumer: &Consumer) -> Value {
    map([
        ("ConsumerName", consumer.name.as_str().into()),
        ("ConsumerARN", consumer_arn(call, stream, consumer).into()),
        ("ConsumerStatus", "ACTIVE".into()),
        (
            "ConsumerCreationTimestamp",
            Value::Time(consumer.created_ms),
        ),
    ])
}
