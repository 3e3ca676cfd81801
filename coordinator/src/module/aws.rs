//! Fields that the kinds of all AWS services share: region and credentials.

use std::path::PathBuf;

use satchel_aws::config::{AwsAccess, AwsCredentials, AwsRegion};
use satchel_aws::secret::Secret;

use crate::module::fields::Fields;
use crate::module::pairs::{PROPERTIES, properties};
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
    "Properties of the Java client, as `property: value`. Accepted for compatibility; Satchel has \
     no use for them.",
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
                Field::required("profileName", Form::Text, "Name of the profile."),
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
            name: fields.text("profileName"),
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

fn parse_role(text: &str) -> Result<String, String> {
    let is_role = text.starts_with("arn:") && text.contains(":role/");
    is_role.then(|| text.to_owned()).ok_or_else(|| {
        format!("`{text}` is not the ARN of a role: write arn:aws:iam::<account>:role/<name>")
    })
}

/// Reads `clientConfigProperties`.
pub(crate) fn client_properties(fields: &mut Fields<'_, '_>) -> Vec<(String, String)> {
    properties(fields, "clientConfigProperties")
}
