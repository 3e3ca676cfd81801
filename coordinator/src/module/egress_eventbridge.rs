//! `satchel.eventbridge.v1/egress`: records become events of a bus.
//!
//! ```yaml
//! kind: satchel.eventbridge.v1/egress
//! spec:
//!   id: example/events
//!   eventBus: orders                 # default: default
//!   source: shop.orders              # a constant, a JSON pointer, $typename or $egress
//!   detailType: /kind                # likewise; default: $typename
//! ```

use satchel_aws::egress::content::Selector;
use satchel_aws::egress::destination::{AwsEgress, Destination};
use satchel_aws::egress::eventbridge::EventBridgeSettings;

use crate::module::aws::access;
use crate::module::egress_sqs::selector;
use crate::module::fields::Fields;
use crate::module::kinesis::{EgressAdapter, EgressSpec, identifier};

/// Reads the spec.
pub(crate) fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let access = access(&mut fields);
    let event_bus = fields.optional_text("eventBus");
    let events_source = fields.parsed("source", parse_source);
    let detail_type = selector(&mut fields, "detailType");
    fields.finish();
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Aws(AwsEgress {
            access,
            destination: Destination::EventBridge(EventBridgeSettings {
                event_bus: event_bus.unwrap_or_else(|| "default".to_owned()),
                source: events_source.unwrap_or(Selector::Egress),
                detail_type: detail_type.unwrap_or(Selector::Typename),
            }),
        }),
    }
}

fn parse_source(text: &str) -> Result<Selector, String> {
    if text.starts_with("aws.") {
        return Err(format!(
            "`{text}`: sources that begin with `aws.` are those of AWS"
        ));
    }
    text.parse()
}
