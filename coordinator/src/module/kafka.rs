//! Fields that both Kafka kinds share: the brokers, and properties of the client.

use std::fmt;

use crate::module::fields::Fields;
use crate::module::pairs::{PROPERTIES, properties};
use crate::module::table::{Field, Form, Format};

/// Property of the client that stands for `address`.
const BOOTSTRAP_SERVERS: &str = "bootstrap.servers";

/// The field `address`.
pub(crate) const ADDRESS: Field = Field::optional(
    "address",
    Form::Format(&BROKERS),
    "the property `bootstrap.servers`",
    "Brokers to connect to first: `host:port`, or several with commas between them. Takes \
     precedence over the property `bootstrap.servers`.",
);

static BROKERS: Format = Format {
    name: "list of `host:port`",
    pattern: r"\s*[^\s,]+:[0-9]+\s*(,\s*[^\s,]+:[0-9]+\s*)*",
    check: |text| parse_brokers(text).map(drop),
};

/// The field `properties` of an ingress or egress.
pub(crate) const fn properties_field(meaning: &'static str) -> Field {
    Field::optional("properties", PROPERTIES, "no properties", meaning)
}

/// Properties of a Kafka client, in order. `Debug` hides the values, which may be secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaProperties(Vec<(String, String)>);

impl KafkaProperties {
    /// Value of the property `name`; the last one counts, as in a map.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Iterates over names and values, in the order of the module file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let properties = self.0.iter();
        properties.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for KafkaProperties {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(properties: I) -> Self {
        Self(properties.into_iter().collect())
    }
}

impl fmt::Debug for KafkaProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// Reads `properties` and `address`, which a property may stand for.
pub(crate) fn connection(fields: &mut Fields<'_, '_>) -> (String, KafkaProperties) {
    let properties = KafkaProperties(properties(fields, "properties"));
    let address = match fields.is_present("address") {
        true => fields.parsed("address", parse_brokers),
        false => match properties.get(BOOTSTRAP_SERVERS) {
            Some(brokers) => match parse_brokers(brokers) {
                Ok(brokers) => Some(brokers),
                Err(message) => {
                    let message = format!("`{BOOTSTRAP_SERVERS}`: {message}");
                    fields.problem_with("properties", message);
                    None
                }
            },
            None => {
                let message = "required without the property `bootstrap.servers`";
                fields.require("address", message);
                None
            }
        },
    };
    (address.unwrap_or_default(), properties)
}

/// Reads addresses of brokers, `host:port` with commas between them.
fn parse_brokers(text: &str) -> Result<String, String> {
    let parts = text.split(',');
    let parts = parts.map(|broker| broker.trim_matches(|c: char| c.is_ascii_whitespace()));
    let brokers: Vec<&str> = parts.collect();
    let is_broker = |broker: &&str| {
        let Some((host, port)) = broker.rsplit_once(':') else {
            return false;
        };
        let is_host = !host.is_empty() && !host.contains(char::is_whitespace);
        is_host && port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    match brokers.iter().find(|broker| !is_broker(broker)) {
        None => Ok(brokers.join(",")),
        Some(wrong) => Err(format!(
            "`{wrong}` is not the address of a broker: write host:port, such as kafka:9092"
        )),
    }
}
