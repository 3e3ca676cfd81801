//! Module files: the description of an application.
//!
//! ```yaml
//! kind: satchel.endpoints.v1/lambda
//! spec:
//!   functions: example/*
//!   functionName: greeter
//! ---
//! kind: io.statefun.kinesis.v1/ingress
//! spec:
//!   id: example/names
//!   streams:
//!     - stream: names
//!       valueType: example/name
//!       targets: [example/greeter]
//! ```
//!
//! The form and most kinds are those of StateFun 3.3: YAML documents, each with a `kind` and a
//! `spec`. All problems of an application's files are reported together, each with its file and
//! line. Unknown kinds and fields are refused, never ignored.
//!
//! ```text
//!  text ─► yaml ─► placeholder ─► document ─► the kind's file ─► check ─► Application
//!                                              └─ reads its table through `fields`
//! ```
//!
//! Kinds and fields are declared in tables (`table.rs`), from which the parser, the reference
//! (`coordinator/docs/module-files.md`) and the JSON Schema (`coordinator/docs/module.schema.json`)
//! are made.

mod aws;
mod check;
mod date;
mod document;
mod duration;
mod egress;
mod egress_dynamodb;
mod egress_eventbridge;
mod egress_kafka;
mod egress_kinesis;
mod egress_lambda;
mod egress_sns;
mod egress_sqs;
mod endpoint;
mod fields;
mod http_endpoint;
mod identifier;
mod ingress;
mod ingress_kafka;
mod ingress_kinesis;
mod ingress_sqs;
mod ingress_stream;
mod kafka;
mod pairs;
mod placeholder;
mod playground;
mod problem;
mod redaction;
mod reference;
mod schema;
mod shown;
mod summary;
mod table;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use satchel_aws::config::{AwsAccess, AwsCredentials, AwsRegion};
pub use satchel_aws::secret::Secret;

pub use crate::module::date::{format_rfc3339, parse_date, parse_rfc3339};
pub use crate::module::duration::{format_duration, parse_bytes, parse_duration};
pub use crate::module::egress::{EgressAdapter, EgressSpec};
pub use crate::module::egress_kafka::{KafkaDelivery, KafkaEgress};
pub use crate::module::egress_kinesis::KinesisEgress;
pub use crate::module::endpoint::{EndpointAdapter, EndpointSpec, LambdaEndpoint};
pub use crate::module::http_endpoint::{ClientCertificate, HttpAuth, HttpEndpoint, Tls};
pub use crate::module::identifier::Identifier;
pub use crate::module::ingress::{IngressAdapter, IngressSpec};
pub use crate::module::ingress_kafka::{
    AutoOffsetReset, KafkaIngress, KafkaStartup, PartitionOffset,
};
pub use crate::module::ingress_kinesis::{Consumer, KinesisIngress, StartupPosition};
pub use crate::module::ingress_sqs::SqsIngress;
pub use crate::module::ingress_stream::{IngressStream, RecordId};
pub use crate::module::kafka::KafkaProperties;
pub use crate::module::playground::{PlaygroundEgress, PlaygroundIngress};
pub use crate::module::problem::{Place, Problem, Problems, Source};
pub use crate::module::reference::reference;
pub use crate::module::schema::schema;
pub use crate::module::shown::ShownFile;

use crate::bounded::{TEXT_BYTES_MAX, read_text};
use crate::module::fields::Reading;
use crate::module::placeholder::Environment;

/// An application as its module files describe it.
///
/// Components are in the order of the files and documents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Application {
    /// Endpoints, which serve its functions.
    pub endpoints: Vec<EndpointSpec>,
    /// Ingresses, the sources of its messages.
    pub ingresses: Vec<IngressSpec>,
    /// Egresses, the destinations of its records.
    pub egresses: Vec<EgressSpec>,
    /// Settings that are accepted and have no effect, ordered by position.
    pub warnings: Vec<Problem>,
    /// The files that were read, as people may see them.
    pub files: Vec<ShownFile>,
}

impl Application {
    /// Reads the module files that `paths` name.
    ///
    /// A path is a module file, or a directory that stands for its `module.yaml` and every
    /// `*.module.yaml` in it. A file that is named twice is read once. `environment` returns the
    /// values of `${NAME}` placeholders.
    ///
    /// # Errors
    /// All problems of the files, with their positions.
    pub fn load(
        paths: &[PathBuf],
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut application = Self::default();
        let mut seen = HashSet::new();
        for path in paths {
            for file in module_files(path, &mut problems) {
                let identity = file.canonicalize().unwrap_or_else(|_| file.clone());
                if seen.insert(identity) {
                    application.read_file(&file, environment, &mut problems);
                }
            }
        }
        application.check(problems)
    }

    /// Lists the module files that `paths` name. What cannot be read is left out.
    pub fn files(paths: &[PathBuf]) -> Vec<PathBuf> {
        let mut problems = Problems::default();
        let files = paths.iter();
        files
            .flat_map(|path| module_files(path, &mut problems))
            .collect()
    }

    /// Reads one module file's `text`; `file` is its name in messages.
    ///
    /// # Errors
    /// All problems of the text, with their positions.
    pub fn parse(
        file: &Path,
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut application = Self::default();
        application.read_text(file, text, environment, &mut problems);
        application.check(problems)
    }

    /// Describes each endpoint, each stream of an ingress and each egress in one line.
    pub fn summary(&self) -> Vec<String> {
        summary::lines(self)
    }

    fn check(mut self, mut problems: Problems) -> Result<Self, Problems> {
        check::check(&self, &mut problems);
        self.warnings = problems.take_warnings();
        problems.or(self)
    }

    fn read_file(&mut self, file: &Path, environment: Environment<'_>, problems: &mut Problems) {
        match read_text(file, TEXT_BYTES_MAX) {
            Ok(text) => {
                self.read_text(file, &text, environment, problems);
                self.files.extend(ShownFile::of(file, &text));
            }
            Err(error) => problems.push(
                Place::Path(file.to_owned()),
                format!("cannot be read: {error}"),
            ),
        }
    }

    fn read_text(
        &mut self,
        file: &Path,
        text: &str,
        environment: Environment<'_>,
        problems: &mut Problems,
    ) {
        let mut reading = Reading {
            file: Arc::from(file),
            problems: std::mem::take(problems),
        };
        match yaml::parse(text) {
            Ok(documents) if documents.is_empty() => reading.problem(1, "the file is empty"),
            Ok(documents) => {
                for mut document in documents {
                    placeholder::resolve(&mut document, environment, &mut reading);
                    document::read(&mut reading, &document, self);
                }
            }
            Err(error) => reading.problem(error.line, format!("invalid YAML: {}", error.message)),
        }
        *problems = reading.problems;
    }
}

/// Lists the module files that `path` stands for.
fn module_files(path: &Path, problems: &mut Problems) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let found = std::fs::read_dir(path).and_then(|entries| {
        let files = entries.map(|entry| entry.map(|entry| entry.path()));
        files.collect::<Result<Vec<PathBuf>, std::io::Error>>()
    });
    match found {
        Ok(mut files) => {
            files.retain(|file| is_module_file(file) && file.is_file());
            files.sort();
            if files.is_empty() {
                let message = "the directory contains neither module.yaml nor *.module.yaml";
                problems.push(Place::Path(path.to_owned()), message);
            }
            files
        }
        Err(error) => {
            let message = format!("the directory cannot be read: {error}");
            problems.push(Place::Path(path.to_owned()), message);
            Vec::new()
        }
    }
}

fn is_module_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| {
        let stem = name
            .strip_suffix(".yaml")
            .or_else(|| name.strip_suffix(".yml"));
        stem.is_some_and(|stem| stem == "module" || stem.ends_with(".module"))
    })
}
