//! `io.statefun.playground.v1/ingress` and `/egress`: HTTP ports for a first application.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use crate::module::egress::{EgressAdapter, EgressSpec};
use crate::module::fields::Fields;
use crate::module::identifier::Identifier;
use crate::module::ingress::{IngressAdapter, IngressSpec};
use crate::module::table::{Field, Form, Format, Kind};

/// The kind `io.statefun.playground.v1/ingress`.
pub(crate) static INGRESS: Kind = Kind {
    name: "io.statefun.playground.v1/ingress",
    summary: "The HTTP ingress of StateFun's playground: `PUT /{namespace}/{function}/{id}` sends \
              the body to an address, and is answered when the message is durable. The content \
              type `application/vnd.<typename>` names its type; without one, the body is text and \
              becomes a `io.statefun.types/string`. Its id is `io.statefun.playground/ingress`.",
    example: "kind: io.statefun.playground.v1/ingress
spec:
  port: 8090
",
    fields: &[
        Field::with_default("port", PORT, "8090", "Port of the ingress."),
        ADDRESS,
    ],
    read: |fields, application| application.ingresses.push(ingress(fields)),
};

/// The kind `io.statefun.playground.v1/egress`.
pub(crate) static EGRESS: Kind = Kind {
    name: "io.statefun.playground.v1/egress",
    summary: "The HTTP egress of StateFun's playground: `GET /{topic}` takes the oldest record of \
              a topic, and waits for one if there is none. Its id is \
              `io.statefun.playground/egress`, and its records are of the type \
              `io.statefun.playground/EgressRecord`, JSON with `topic` and `payload`. Records that \
              were not taken stay in the outbox. It may share its port with the ingress.",
    example: "kind: io.statefun.playground.v1/egress
spec:
  port: 8091
  topics:
    - greetings
",
    fields: &[
        Field::with_default("port", PORT, "8091", "Port of the egress."),
        ADDRESS,
        Field::required(
            "topics",
            Form::List(&Form::Format(&TOPIC), 1),
            "Topics of the records.",
        ),
    ],
    read: |fields, application| application.egresses.push(egress(fields)),
};

const PORT: Form = Form::Whole(1, 65_535);

const ADDRESS: Field = Field::with_default(
    "address",
    Form::Format(&IP_ADDRESS),
    "127.0.0.1",
    "IP address to listen on. The playground listens on every one; the default is reached from \
     this machine only.",
)
.extension();

static IP_ADDRESS: Format = Format {
    name: "IP address",
    pattern: r"[0-9A-Fa-f.:]{2,45}",
    check: |text| parse_address(text).map(drop),
};

static TOPIC: Format = Format {
    name: "name of a topic",
    pattern: r"[^/]+",
    check: |text| parse_topic(text).map(drop),
};

/// The port to which messages are put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaygroundIngress {
    /// Address to listen on.
    pub address: SocketAddr,
}

/// The port from which records are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaygroundEgress {
    /// Address to listen on.
    pub address: SocketAddr,
    /// Topics of the records; at least one.
    pub topics: Vec<String>,
}

fn ingress(mut fields: Fields<'_, '_>) -> IngressSpec {
    IngressSpec {
        source: fields.source(),
        id: identifier("ingress"),
        adapter: IngressAdapter::Playground(PlaygroundIngress {
            address: address(&mut fields),
        }),
    }
}

fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let mut seen = HashSet::new();
    let mut topics = Vec::new();
    for node in fields.list("topics") {
        let Some(topic) = fields.parse_of("topics", Some(node), parse_topic) else {
            continue;
        };
        if seen.insert(topic.clone()) {
            topics.push(topic);
        } else {
            fields.problem(node.line, format!("the topic `{topic}` appears twice"));
        }
    }
    EgressSpec {
        source,
        id: identifier("egress"),
        adapter: EgressAdapter::Playground(PlaygroundEgress {
            address: address(&mut fields),
            topics,
        }),
    }
}

fn address(fields: &mut Fields<'_, '_>) -> SocketAddr {
    let port = u16::try_from(fields.whole("port")).unwrap_or_default();
    let address = fields.parsed("address", parse_address);
    SocketAddr::new(address.unwrap_or(IpAddr::from([127, 0, 0, 1])), port)
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not an IP address: write 127.0.0.1, or 0.0.0.0 for every one")
    })
}

fn parse_topic(text: &str) -> Result<String, String> {
    match text.contains('/') {
        true => Err(format!(
            "`{text}` is not the name of a topic: it contains a `/`"
        )),
        false => Ok(text.to_owned()),
    }
}

/// Id that the playground gives its only ingress or egress.
fn identifier(name: &str) -> Identifier {
    Identifier {
        namespace: "io.statefun.playground".to_owned(),
        name: name.to_owned(),
    }
}
