//! `satchel.eventbridge.v1/egress`: records become events of a bus.

use satchel_aws::egress::content::Selector;
use satchel_aws::egress::destination::{AwsEgress, Destination};
use satchel_aws::egress::eventbridge::EventBridgeSettings;

use crate::module::aws;
use crate::module::egress::{EgressAdapter, EgressSpec};
use crate::module::egress_sqs::SELECTOR;
use crate::module::fields::Fields;
use crate::module::identifier::{ID, identifier};
use crate::module::table::{Field, Form, Format, Kind};

/// The kind `satchel.eventbridge.v1/egress`.
pub(crate) static EGRESS: Kind = Kind {
    name: "satchel.eventbridge.v1/egress",
    summary: "Records as events of an EventBridge bus, at least once.",
    example: "kind: satchel.eventbridge.v1/egress
spec:
  id: example/events
  eventBus: orders
  source: shop.orders
  detailType: /kind
",
    fields: &[
        ID,
        aws::REGION,
        aws::CREDENTIALS,
        Field::with_default(
            "eventBus",
            Form::Text,
            "default",
            "Name or ARN of the event bus.",
        ),
        Field::required(
            "source",
            Form::Format(&SOURCE),
            "Source of the `source` of each event. A constant does not begin with `aws.`.",
        ),
        Field::with_default(
            "detailType",
            SELECTOR,
            "$typename",
            "Source of the `detail-type` of each event.",
        ),
    ],
    read: |fields, application| application.egresses.push(egress(fields)),
};

static SOURCE: Format = Format {
    name: "source of a text",
    pattern: r"\$id|\$typename|\$egress|[^$][\s\S]*",
    check: |text| parse_source(text).map(drop),
};

fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let event_source = fields.parsed("source", parse_source);
    let detail_type = fields.parsed("detailType", str::parse);
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Aws(AwsEgress {
            access: aws::access(&mut fields),
            destination: Destination::EventBridge(EventBridgeSettings {
                event_bus: fields.text("eventBus"),
                source: event_source.unwrap_or(Selector::Egress),
                detail_type: detail_type.unwrap_or(Selector::Typename),
            }),
        }),
    }
}

fn parse_source(text: &str) -> Result<Selector, String> {
    if text.starts_with("aws.") {
        return Err(format!(
            "`{text}` is reserved: sources that begin with `aws.` belong to AWS"
        ));
    }
    text.parse()
}
