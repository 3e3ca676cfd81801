//! `io.statefun.kinesis.v1/egress`: records go to streams. In `dev` they are local streams.

use std::time::Duration;

use satchel_aws::config::AwsAccess;
use satchel_aws::egress::destination::{AwsEgress, Delivery, Destination};
use satchel_aws::egress::kinesis::envelope::Envelope;
use satchel_aws::egress::kinesis::{KinesisSettings, Ordering, RECORD_BYTES_MAX_LARGE};

use crate::module::aws;
use crate::module::egress::{EgressAdapter, EgressSpec};
use crate::module::fields::Fields;
use crate::module::identifier::{ID, identifier};
use crate::module::ingress_kinesis::STREAM_NAME;
use crate::module::table::{Field, Form, Kind, Word};
use crate::streams::check_stream_name;

/// The kind `io.statefun.kinesis.v1/egress`.
pub(crate) static EGRESS: Kind = Kind {
    name: "io.statefun.kinesis.v1/egress",
    summary: "Records for Kinesis streams. Each record names its stream and its partition key. \
              With `satchel dev` the streams are local.",
    example: "kind: io.statefun.kinesis.v1/egress
spec:
  id: example/greetings
  awsRegion: {type: default}
  delivery: exactly-once
",
    fields: &[
        ID,
        aws::REGION,
        aws::CREDENTIALS,
        Field::with_default(
            "maxOutstandingRecords",
            Form::Whole(1, 1_000_000),
            "1000",
            "Maximum number of records in flight.",
        ),
        Field::with_default(
            "delivery",
            Form::Choice(&[
                Word {
                    word: "at-least-once",
                    meaning: "A record can appear again after a lost answer or a crash.",
                },
                Word {
                    word: "exactly-once",
                    meaning: "A new owner searches the stream for the records whose outcome it \
                              does not know before it sends them.",
                },
            ]),
            "at-least-once",
            "Number of times a record appears in its stream. Local streams are always exactly \
             once.",
        )
        .extension(),
        Field::with_default(
            "envelope",
            Form::Choice(&[
                Word {
                    word: "none",
                    meaning: "The bytes of the record alone.",
                },
                Word {
                    word: "json",
                    meaning: "`{\"satchel\":1,\"id\":…,\"data\":…}`, or `base64` in place of \
                              `data` where the bytes are not JSON. The id is the same whenever the \
                              record is sent again.",
                },
            ]),
            "none",
            "Envelope around the bytes of each record.",
        )
        .extension(),
        Field::with_default(
            "ordering",
            Form::Choice(&[
                Word {
                    word: "coarse",
                    meaning: "Records of a partition key are put one after the other, up to 500 \
                              keys in a request. Kinesis orders them coarsely by their arrival.",
                },
                Word {
                    word: "strict",
                    meaning: "Each record is put by a request of its own that names the record \
                              before it (`SequenceNumberForOrdering`). A new owner puts nothing \
                              in its first 10 s.",
                },
            ]),
            "coarse",
            "Order of the records of a partition key. Local streams are always in order.",
        )
        .extension(),
        Field::with_default(
            "maxRecordBytes",
            Form::Bytes(1_024, RECORD_BYTES_MAX_LARGE as u64),
            "1MiB",
            "Maximum size of a record, its partition key included. Raise it together with the \
             stream's own limit.",
        )
        .extension(),
        Field::with_default(
            "requestTimeout",
            // A new owner waits this long, and more, before it searches for records in doubt.
            Form::Duration(Duration::from_secs(1), Duration::from_secs(60)),
            "5s",
            "Maximum duration of a request that puts records. With `exactly-once`, a takeover \
             waits longer than this before it searches the stream.",
        )
        .extension(),
        Field::optional(
            "streamName",
            Form::Format(&STREAM_NAME),
            "no effect",
            "Name of the stream, a field of StateFun's fork for Flink 2. Accepted with a warning: \
             each record names its stream.",
        )
        .extension(),
        aws::CLIENT_PROPERTIES,
    ],
    read: |fields, application| application.egresses.push(egress(fields)),
};

/// Streams to write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KinesisEgress {
    /// Region and credentials.
    pub access: AwsAccess,
    /// Maximum number of records in flight.
    pub outstanding_records_max: usize,
    /// Number of times a record appears in its stream.
    pub delivery: Delivery,
    /// Envelope around the bytes of each record.
    pub envelope: Envelope,
    /// Order of the records of a partition key.
    pub ordering: Ordering,
    /// Maximum size of a record in bytes, its partition key included.
    pub record_bytes_max: usize,
    /// Maximum duration of a request.
    pub request_timeout: Duration,
}

/// Reads the spec of an `io.statefun.kinesis.v1/egress`.
fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    fields.warn_of("streamName", "each record names its stream");
    fields.parsed("streamName", check_stream_name);
    EgressSpec {
        source: fields.source(),
        id: identifier(&mut fields),
        adapter: EgressAdapter::Kinesis(KinesisEgress {
            access: aws::access_with_properties(&mut fields),
            outstanding_records_max: fields.whole("maxOutstandingRecords") as usize,
            delivery: match fields.choice("delivery") {
                "exactly-once" => Delivery::ExactlyOnce,
                _ => Delivery::AtLeastOnce,
            },
            envelope: match fields.choice("envelope") {
                "json" => Envelope::Json,
                _ => Envelope::None,
            },
            ordering: match fields.choice("ordering") {
                "strict" => Ordering::Strict,
                _ => Ordering::Coarse,
            },
            record_bytes_max: fields.bytes("maxRecordBytes") as usize,
            request_timeout: fields.duration("requestTimeout"),
        }),
    }
}

impl KinesisEgress {
    /// The egress to real Kinesis.
    pub fn to_aws(&self) -> AwsEgress {
        let settings = KinesisSettings {
            outstanding_records_max: self.outstanding_records_max,
            record_bytes_max: self.record_bytes_max,
            request_timeout: self.request_timeout,
            envelope: self.envelope,
            ordering: self.ordering,
        };
        AwsEgress {
            access: self.access.clone(),
            destination: Destination::Kinesis(settings, self.delivery),
        }
    }
}
