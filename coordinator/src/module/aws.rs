//! What the kinds of all AWS services write alike: where a service is, and who asks.

use std::path::PathBuf;

use satchel_aws::config::{AwsAccess, AwsCredentials, AwsRegion};
use satchel_aws::secret::Secret;

use crate::module::fields::Fields;
use crate::module::problem::hint;
use crate::module::yaml::{Node, Value};

/// Reads `awsRegion` and `awsCredentials`, StateFun's fields; each may be absent.
pub(crate) fn access(fields: &mut Fields<'_, '_>) -> AwsAccess {
    AwsAccess {
        region: region(fields),
        credentials: credentials(fields),
    }
}

fn region(fields: &mut Fields<'_, '_>) -> AwsRegion {
    let Some(node) = fields.optional("awsRegion") else {
        return AwsRegion::Default;
    };
    let mut fields = fields.inside(node, "awsRegion");
    let kinds = ["default", "specific", "custom-endpoint"];
    let region = match variant(&mut fields, &kinds) {
        Some("specific") => AwsRegion::Specific(fields.text("id")),
        Some("custom-endpoint") => AwsRegion::CustomEndpoint {
            endpoint: fields
                .parsed("endpoint", parse_endpoint)
                .unwrap_or_default(),
            region: fields.text("id"),
        },
        Some(_) => AwsRegion::Default,
        None => return AwsRegion::Default,
    };
    fields.finish();
    region
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not a http:// or https:// URL")),
    }
}

fn credentials(fields: &mut Fields<'_, '_>) -> AwsCredentials {
    let Some(node) = fields.optional("awsCredentials") else {
        return AwsCredentials::Default;
    };
    let mut fields = fields.inside(node, "awsCredentials");
    let kinds = ["default", "basic", "profile", "assume-role"];
    let credentials = match variant(&mut fields, &kinds) {
        Some("basic") => AwsCredentials::Basic {
            access_key_id: fields.text("accessKeyId"),
            secret_access_key: Secret::new(fields.text("secretAccessKey")),
        },
        Some("profile") => AwsCredentials::Profile {
            name: fields.text("profileName"),
            path: fields.optional_text("profilePath").map(PathBuf::from),
        },
        Some("assume-role") => AwsCredentials::AssumeRole {
            role_arn: fields.parsed("roleArn", parse_role).unwrap_or_default(),
            session_name: fields.optional_text("sessionName"),
            external_id: fields.optional_text("externalId"),
        },
        Some(_) => AwsCredentials::Default,
        None => return AwsCredentials::Default,
    };
    fields.finish();
    credentials
}

fn parse_role(text: &str) -> Result<String, String> {
    let is_role = text.starts_with("arn:") && text.contains(":role/");
    is_role.then(|| text.to_owned()).ok_or_else(|| {
        format!("`{text}` is not the ARN of a role: write arn:aws:iam::<account>:role/<name>")
    })
}

/// Reads `type`, which says which other fields there are.
pub(crate) fn variant(fields: &mut Fields<'_, '_>, known: &[&'static str]) -> Option<&'static str> {
    fields.parsed("type", |text| {
        let kind = known.iter().copied().find(|kind| *kind == text);
        kind.ok_or_else(|| {
            let hint = hint(text, known.iter().copied());
            format!("`{text}` is none of {}{hint}", known.join(", "))
        })
    })
}

/// Reads `clientConfigProperties`: a list of mappings with one entry each, as in StateFun.
pub(crate) fn client_properties(fields: &mut Fields<'_, '_>) -> Vec<(String, String)> {
    let name = "clientConfigProperties";
    let mut properties = Vec::new();
    for node in fields.optional_list(name) {
        properties.extend(client_property(fields, name, node));
    }
    properties
}

fn client_property(
    fields: &mut Fields<'_, '_>,
    name: &str,
    node: &Node,
) -> Option<(String, String)> {
    match &node.value {
        Value::Map(entries) if entries.len() == 1 => {
            let value = fields.text_of(name, Some(&entries[0].value))?;
            Some((entries[0].key.clone(), value))
        }
        _ => {
            let message = format!("an element of '{name}' must be one `property: value`");
            fields.problem(node.line, message);
            None
        }
    }
}
