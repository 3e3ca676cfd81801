//! Fields that the kinds of all AWS services share: region and credentials.

use std::path::PathBuf;

use satchel_aws::config::{AwsAccess, AwsCredentials, AwsRegion};
use satchel_aws::secret::Secret;

use crate::module::fields::Fields;
use crate::module::pairs::{PROPERTIES, Pair, pairs};
use crate::module::table::{Field, Form, Format, Tagged, Variant};

/// The field `awsRegion`.
pub(crate) const REGION: Field = Field::with_default(
    "awsRegion",
    Form::Tagged(&AWS_REGION),
    "default",
    "Region of the AWS service.",
);

/// The field `awsCredentials`.
pub(crate) const CREDENTIALS: Field = Field::with_default(
    "awsCredentials",
    Form::Tagged(&AWS_CREDENTIALS),
    "default",
    "Credentials for the AWS service.",
);

/// The field `clientConfigProperties` of StateFun's kinds.
pub(crate) const CLIENT_PROPERTIES: Field = Field::optional(
    "clientConfigProperties",
    PROPERTIES,
    "no properties",
    "Properties of the Java client, as `property: value`. `aws.endpoint` is the URL of the service \
     and `aws.region` its region. Others are accepted with a warning, and have no effect.",
);

static AWS_REGION: Tagged = Tagged {
    title: "AWS region",
    untagged: None,
    variants: &[
        Variant {
            word: "default",
            fields: &[],
            meaning: "The region of the environment: `AWS_REGION` or the AWS profile.",
        },
        Variant {
            word: "specific",
            fields: &[Field::required(
                "id",
                Form::Text,
                "Region, such as `eu-central-1`.",
            )],
            meaning: "The region `id`.",
        },
        Variant {
            word: "custom-endpoint",
            fields: &[
                Field::required("endpoint", Form::Format(&ENDPOINT), "URL of the service."),
                Field::required("id", Form::Text, "Region for which requests are signed."),
            ],
            meaning: "A service at another URL, such as an emulator.",
        },
    ],
};

static AWS_CREDENTIALS: Tagged = Tagged {
    title: "AWS credentials",
    untagged: None,
    variants: &[
        Variant {
            word: "default",
            fields: &[],
            meaning: "The credentials of the environment: its variables, the AWS profile, single \
                      sign-on, or the role of the container or machine.",
        },
        Variant {
            word: "basic",
            fields: &[
                Field::required("accessKeyId", Form::Text, "Access key."),
                Field::required(
                    "secretAccessKey",
                    Form::Text,
                    "Secret of the access key. Use a placeholder such as `${AWS_SECRET}` to keep \
                     it out of the module file.",
                ),
            ],
            meaning: "An access key.",
        },
        Variant {
            word: "profile",
            fields: &[
                Field::optional(
                    "profileName",
                    Form::Text,
                    "`profile`",
                    "Name of the profile. Required without `profile`.",
                ),
                Field::optional(
                    "profile",
                    Form::Text,
                    "`profileName`",
                    "The same, as StateFun's fork for Flink 2 writes it.",
                ),
                Field::optional(
                    "profilePath",
                    Form::Text,
                    "the files that AWS tools use",
                    "File that contains the profile.",
                ),
            ],
            meaning: "A profile of the AWS configuration files.",
        },
        Variant {
            word: "assume-role",
            fields: &[
                Field::required("roleArn", Form::Format(&ROLE), "ARN of the role."),
                Field::optional(
                    "sessionName",
                    Form::Text,
                    "`satchel`",
                    "Name of the session in the role's logs.",
                ),
                Field::optional(
                    "externalId",
                    Form::Text,
                    "none",
                    "External id that the role's trust policy requires.",
                ),
            ],
            meaning: "A role, assumed with the credentials of the environment. Satchel's addition.",
        },
    ],
};

static ENDPOINT: Format = Format {
    name: "URL",
    pattern: r"https?://[\s\S]+",
    check: |text| parse_endpoint(text).map(drop),
};

static ROLE: Format = Format {
    name: "ARN of a role",
    pattern: r"arn:[\s\S]*:role/[\s\S]*",
    check: |text| parse_role(text).map(drop),
};

/// Reads `awsRegion` and `awsCredentials`.
pub(crate) fn access(fields: &mut Fields<'_, '_>) -> AwsAccess {
    AwsAccess {
        region: region(fields),
        credentials: credentials(fields),
    }
}

fn region(fields: &mut Fields<'_, '_>) -> AwsRegion {
    let (kind, mut fields) = fields.tagged("awsRegion");
    match kind {
        "specific" => AwsRegion::Specific(fields.text("id")),
        "custom-endpoint" => AwsRegion::CustomEndpoint {
            endpoint: fields
                .parsed("endpoint", parse_endpoint)
                .unwrap_or_default(),
            region: fields.text("id"),
        },
        _ => AwsRegion::Default,
    }
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not an http:// or https:// URL")),
    }
}

fn credentials(fields: &mut Fields<'_, '_>) -> AwsCredentials {
    let (kind, mut fields) = fields.tagged("awsCredentials");
    match kind {
        "basic" => AwsCredentials::Basic {
            access_key_id: fields.text("accessKeyId"),
            secret_access_key: Secret::new(fields.text("secretAccessKey")),
        },
        "profile" => AwsCredentials::Profile {
            name: profile_name(&mut fields),
            path: fields.optional_text("profilePath").map(PathBuf::from),
        },
        "assume-role" => AwsCredentials::AssumeRole {
            role_arn: fields.parsed("roleArn", parse_role).unwrap_or_default(),
            session_name: fields.optional_text("sessionName"),
            external_id: fields.optional_text("externalId"),
        },
        _ => AwsCredentials::Default,
    }
}

fn profile_name(fields: &mut Fields<'_, '_>) -> String {
    match (
        fields.optional_text("profileName"),
        fields.optional_text("profile"),
    ) {
        (Some(_), Some(_)) => {
            let message = "stands beside 'profileName': remove one of the two";
            fields.problem_with("profile", message);
            String::new()
        }
        (None, None) => {
            fields.require("profileName", "required");
            String::new()
        }
        (name, profile) => name.or(profile).unwrap_or_default(),
    }
}

fn parse_role(text: &str) -> Result<String, String> {
    let is_role = text.starts_with("arn:") && text.contains(":role/");
    is_role.then(|| text.to_owned()).ok_or_else(|| {
        format!("`{text}` is not the ARN of a role: write arn:aws:iam::<account>:role/<name>")
    })
}

/// Property of Flink's connectors for the URL of a service.
const ENDPOINT_PROPERTY: &str = "aws.endpoint";

/// Property of Flink's connectors for a region.
const REGION_PROPERTY: &str = "aws.region";

/// Reads `awsRegion`, `awsCredentials`, and the `clientConfigProperties` that have an effect on
/// them. Warns of the others.
pub(crate) fn access_with_properties(fields: &mut Fields<'_, '_>) -> AwsAccess {
    let mut access = access(fields);
    let name = "clientConfigProperties";
    let (mut endpoint, mut region) = (None, None);
    for Pair {
        name: key,
        value,
        line,
    } in pairs(fields, name, "property: value")
    {
        match key {
            ENDPOINT_PROPERTY => endpoint = fields.parse_of(name, Some(value), parse_endpoint),
            REGION_PROPERTY => region = fields.text_of(name, Some(value)),
            _ => {
                fields.text_of(name, Some(value));
                let message = format!(
                    "the property `{key}` of '{name}' has no effect: it belongs to the client of \
                     Java; `{ENDPOINT_PROPERTY}` and `{REGION_PROPERTY}` have one"
                );
                fields.warn(line, message);
            }
        }
    }
    let taken = matches!(access.region, AwsRegion::CustomEndpoint { .. });
    let named = match &access.region {
        AwsRegion::Specific(id) => Some(id.clone()),
        _ => None,
    };
    access.region = match (endpoint, named.or(region)) {
        (Some(_), _) if taken => {
            let message = "`aws.endpoint` and the endpoint of 'awsRegion': remove one of the two";
            fields.problem_with(name, message);
            AwsRegion::Default
        }
        (Some(endpoint), Some(region)) => AwsRegion::CustomEndpoint { endpoint, region },
        (Some(_), None) => {
            let message = "`aws.endpoint` needs a region: write `aws.region` beside it";
            fields.problem_with(name, message);
            AwsRegion::Default
        }
        (None, Some(region)) if !taken => AwsRegion::Specific(region),
        (None, _) => return access,
    };
    access
}
