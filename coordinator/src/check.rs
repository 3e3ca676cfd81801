//! Check that everything an application names in AWS exists and may be used
//! (`satchel validate --check-aws`).

use std::fmt::Display;

use bytes::Bytes;
use satchel_aws::config::AwsAccess;
use satchel_aws::lease::LeaseTable;

use crate::destinations::{AwsConfigs, lambda_function};
use crate::error::Failure;
use crate::module::{Application, EgressAdapter, EndpointAdapter, IngressAdapter};
use crate::random;
use crate::store::{StateLocation, StoreOptions};

/// Things to check besides the module files.
#[derive(Clone, Default)]
pub(crate) struct Further {
    /// Location of the state, with the options of its bucket.
    pub(crate) state: Option<(StateLocation, StoreOptions)>,
    /// Name of the lease table.
    pub(crate) lease_table: Option<String>,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Name of the checked thing.
    pub(crate) what: String,
    /// Problem, if there is one.
    pub(crate) problem: Option<String>,
}

/// Checks everything, one after the other, and continues after a problem.
pub(crate) async fn check(application: &Application, further: &Further) -> Vec<Finding> {
    let mut checks = Checks {
        configs: AwsConfigs::default(),
        findings: Vec::new(),
    };
    for endpoint in &application.endpoints {
        let source = &endpoint.source;
        match &endpoint.adapter {
            EndpointAdapter::Lambda(lambda) => {
                let function = lambda_function(source, lambda, &mut checks.configs).await;
                let what = match &lambda.qualifier {
                    Some(qualifier) => {
                        format!("{source}: Lambda {}:{qualifier}", lambda.function_name)
                    }
                    None => format!("{source}: Lambda {}", lambda.function_name),
                };
                let outcome = match function {
                    Ok(function) => Box::pin(function.check())
                        .await
                        .map_err(|failure| failure.message),
                    Err(failure) => Err(failure.message),
                };
                checks.note(what, outcome);
            }
            EndpointAdapter::Http(http) => {
                if let Some(auth) = &http.auth {
                    let config = checks.configs.get(&auth.access, source).await;
                    let outcome = config.map(|_| ()).map_err(|failure| failure.message);
                    checks.note(format!("{source}: signing for {}", auth.service), outcome);
                }
            }
        }
    }
    checks.streams(application).await;
    checks.egresses(application).await;
    if let Some(name) = &further.lease_table {
        checks.lease_table(name).await;
    }
    if let Some((place, options)) = &further.state {
        let outcome = state(place, options.clone()).await;
        checks.note(format!("state {place}"), outcome);
    }
    checks.findings
}

struct Checks {
    configs: AwsConfigs,
    findings: Vec<Finding>,
}

impl Checks {
    fn note(&mut self, what: impl Display, outcome: Result<(), String>) {
        self.findings.push(Finding {
            what: what.to_string(),
            problem: outcome.err(),
        });
    }

    async fn streams(&mut self, application: &Application) {
        for ingress in &application.ingresses {
            let kinesis = match &ingress.adapter {
                IngressAdapter::Kafka(_) | IngressAdapter::Playground(_) => continue,
                IngressAdapter::Kinesis(kinesis) => kinesis,
                IngressAdapter::Sqs(sqs) => {
                    let what = format!("{}: queue {}", ingress.source, sqs.options.queue_url);
                    let config = self.configs.get(&sqs.access, &ingress.source).await;
                    let outcome = match config {
                        Ok(sdk) => {
                            satchel_aws::check::sqs_queue(&sdk, &sqs.options.queue_url).await
                        }
                        Err(failure) => Err(failure.message),
                    };
                    self.note(what, outcome);
                    continue;
                }
            };
            for stream in &kinesis.streams {
                let what = format!("{}: Kinesis stream {}", stream.source, stream.stream);
                let config = self.configs.get(&kinesis.access, &stream.source).await;
                let outcome = match config {
                    Ok(sdk) => satchel_aws::check::kinesis_stream(&sdk, &stream.stream).await,
                    Err(failure) => Err(failure.message),
                };
                self.note(what, outcome);
            }
        }
    }

    async fn egresses(&mut self, application: &Application) {
        for egress in &application.egresses {
            let to = match &egress.adapter {
                EgressAdapter::Kafka(_) | EgressAdapter::Playground(_) => continue,
                EgressAdapter::Kinesis(kinesis) => kinesis.to_aws(),
                EgressAdapter::Aws(aws) => aws.clone(),
            };
            let named = satchel_aws::check::target_name(&to.destination);
            let named = named.unwrap_or_else(|| "credentials for Kinesis".to_owned());
            let what = format!("{}: {named}", egress.source);
            let config = self.configs.get(&to.access, &egress.source).await;
            let outcome = match config {
                Ok(sdk) => satchel_aws::check::egress(&sdk, &to.destination).await,
                Err(failure) => Err(failure.message),
            };
            self.note(what, outcome);
        }
    }

    async fn lease_table(&mut self, name: &str) {
        let what = format!("lease table {name}");
        let config = self.configs.get(&AwsAccess::default(), &what).await;
        let outcome = match config {
            Ok(sdk) => {
                let table = LeaseTable::new(&sdk, name, "satchel validate");
                satchel_aws::check::lease_table(&table).await
            }
            Err(failure) => Err(failure.message),
        };
        self.note(what, outcome);
    }
}

/// Lists the location, and writes and removes an object of its own there, as an owner does with
/// those of the state.
async fn state(place: &StateLocation, options: StoreOptions) -> Result<(), String> {
    let stated = |failure: Failure| failure.message;
    let opened = place.open(options).await.map_err(stated)?;
    let prefix = match opened.prefix.as_str() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let store = &opened.store;
    let told = |doing: &str, error: satchel_log::StoreError| format!("{doing}: {error}");
    store
        .list(&prefix, None, 1)
        .await
        .map_err(|error| told("listing", error))?;
    let random: [u8; 8] = random::bytes();
    let key = format!("{prefix}validate-{:016x}", u64::from_le_bytes(random));
    store
        .create(&key, Bytes::from_static(b"written by satchel validate"))
        .await
        .map_err(|error| told("writing", error))?;
    let read = store.get(&key).await;
    let removed = store.delete(std::slice::from_ref(&key)).await;
    read.map_err(|error| told("reading", error))?;
    removed.map_err(|error| told("removing", error))
}
