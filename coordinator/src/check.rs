//! Check that everything an application names in AWS exists, and that a start may do with it what
//! it will do (`satchel validate --check-aws`).

use std::collections::HashSet;
use std::fmt::Display;

use bytes::Bytes;
use satchel_aws::check as aws;
use satchel_aws::config::AwsAccess;
use satchel_aws::egress::destination::{AwsEgress, Destination};
use satchel_aws::lambda::LambdaFunction;
use satchel_aws::lease::LeaseTable;
use satchel_aws::log_table::{self, DynamoLogTable};
use satchel_log::{Created, ObjectStore, StoreError};

use crate::destinations::AwsConfigs;
use crate::module::{
    Application, Consumer, EgressAdapter, EndpointAdapter, IngressAdapter, LambdaEndpoint,
};
use crate::random;
use crate::store::{StateLocation, StateStore, StoreOptions};

/// Maximum duration of a request to a function.
const ANSWER_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// Things to check besides the module files.
#[derive(Clone, Default)]
pub(crate) struct Further {
    /// Name of the application.
    pub(crate) application: String,
    /// Location of the state, with the options of its bucket.
    pub(crate) state: Option<(StateLocation, StoreOptions)>,
    /// Name of the lease table.
    pub(crate) lease_table: Option<String>,
    /// Streams that Kinesis egresses write to.
    pub(crate) egress_streams: Vec<String>,
    /// Secrets with tokens, each with its flag.
    pub(crate) secrets: Vec<(&'static str, String)>,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Name of the checked thing.
    pub(crate) what: String,
    /// Problems, if there are some.
    pub(crate) problems: Vec<String>,
}

/// Checks everything, one after the other, and continues after a problem.
pub(crate) async fn check(application: &Application, further: &Further) -> Vec<Finding> {
    let mut checks = Checks::default();
    checks.endpoints(application).await;
    checks.ingresses(application, &further.application).await;
    for egress in &application.egresses {
        let to = match &egress.adapter {
            EgressAdapter::Kafka(_) | EgressAdapter::Playground(_) => continue,
            EgressAdapter::Kinesis(kinesis) => kinesis.to_aws(),
            EgressAdapter::Aws(aws) => aws.clone(),
        };
        checks.egress(&egress.source, &to, further).await;
    }
    checks.lease_table(further).await;
    checks.secrets(further).await;
    checks.state(further).await;
    checks.findings
}

#[derive(Default)]
struct Checks {
    configs: AwsConfigs,
    /// Accesses without credentials or region. What needs them is not checked.
    unusable: HashSet<AwsAccess>,
    findings: Vec<Finding>,
}

impl Checks {
    fn note(&mut self, what: impl Display, problems: Vec<String>) {
        self.findings.push(Finding {
            what: what.to_string(),
            problems,
        });
    }

    /// Configuration for requests. If there are no credentials, this is a problem of its own, once.
    async fn sdk(
        &mut self,
        access: &AwsAccess,
        source: &dyn Display,
    ) -> Option<aws_config::SdkConfig> {
        if self.unusable.contains(access) {
            return None;
        }
        match self.configs.get(access, source).await {
            Ok(sdk) => Some(sdk),
            Err(failure) => {
                self.unusable.insert(access.clone());
                self.note(&access.credentials, vec![failure.message]);
                None
            }
        }
    }

    async fn endpoints(&mut self, application: &Application) {
        for endpoint in &application.endpoints {
            let source = &endpoint.source;
            match &endpoint.adapter {
                EndpointAdapter::Lambda(lambda) => self.function(source, lambda).await,
                EndpointAdapter::Http(http) => {
                    if let Some(auth) = &http.auth
                        && self.sdk(&auth.access, source).await.is_some()
                    {
                        let what = format!("{source}: signing for {}", auth.service);
                        self.note(what, Vec::new());
                    }
                }
            }
        }
    }

    async fn function(&mut self, source: &dyn Display, lambda: &LambdaEndpoint) {
        let Some(sdk) = self.sdk(&lambda.access, source).await else {
            return;
        };
        let name = &lambda.function_name;
        let what = match &lambda.qualifier {
            Some(qualifier) => format!("{source}: Lambda {name}:{qualifier}"),
            None => format!("{source}: Lambda {name}"),
        };
        let function = LambdaFunction::new(&sdk, name, lambda.qualifier.clone(), ANSWER_MAX);
        let checked = Box::pin(function.check()).await;
        let problem = checked.err().map(|failure| failure.message);
        self.note(what, problem.into_iter().collect());
    }

    async fn ingresses(&mut self, application: &Application, name: &str) {
        for ingress in &application.ingresses {
            match &ingress.adapter {
                IngressAdapter::Kafka(_) | IngressAdapter::Playground(_) => {}
                IngressAdapter::Kinesis(kinesis) => {
                    let consumer = match &kinesis.consumer {
                        Consumer::Polling => None,
                        Consumer::FanOut { name: Some(name) } => Some(name.clone()),
                        Consumer::FanOut { name: None } => {
                            // Its own name ends with the id of the root.
                            Some(format!("{name}-validate"))
                        }
                    };
                    for stream in &kinesis.streams {
                        let source = &stream.source;
                        if let Some(sdk) = self.sdk(&kinesis.access, source).await {
                            let what = format!("{source}: Kinesis stream {}", stream.stream);
                            let consumer = consumer.as_deref();
                            let problems =
                                aws::kinesis_stream(&sdk, &stream.stream, consumer).await;
                            self.note(what, problems);
                        }
                    }
                }
                IngressAdapter::Sqs(sqs) => {
                    let (source, url) = (&ingress.source, &sqs.options.queue_url);
                    if let Some(sdk) = self.sdk(&sqs.access, source).await {
                        let problems = aws::sqs_queue(&sdk, url).await;
                        self.note(format!("{source}: queue {url}"), problems);
                    }
                }
            }
        }
    }

    async fn egress(&mut self, source: &dyn Display, to: &AwsEgress, further: &Further) {
        let Some(sdk) = self.sdk(&to.access, source).await else {
            return;
        };
        let Destination::Kinesis(settings, delivery) = &to.destination else {
            let target = aws::target_name(&to.destination).unwrap_or_default();
            let problems = aws::egress(&sdk, &to.destination).await;
            return self.note(format!("{source}: {target}"), problems);
        };
        if further.egress_streams.is_empty() {
            let what = format!("{source}: credentials for Kinesis (no --egress-stream to check)");
            self.note(what, Vec::new());
        }
        for stream in &further.egress_streams {
            let problems = aws::kinesis_egress(&sdk, stream, settings, *delivery).await;
            self.note(format!("{source}: Kinesis stream {stream}"), problems);
        }
    }

    async fn lease_table(&mut self, further: &Further) {
        let Some(name) = &further.lease_table else {
            return;
        };
        let what = format!("lease table {name}");
        if let Some(sdk) = self.sdk(&AwsAccess::default(), &what).await {
            // The key begins as those of the application, to which its permission may be limited.
            let key = format!("{}#validate#0", further.application);
            let table = LeaseTable::new(&sdk, name, key);
            let problems = aws::lease_table(&table).await;
            self.note(what, problems);
        }
    }

    async fn state(&mut self, further: &Further) {
        let Some((place, options)) = &further.state else {
            return;
        };
        let opened = place.open(options.clone()).await;
        // The root knows where its log is. A new one will have it where the options say.
        let log = match (&opened, place) {
            (Ok(opened), _) => opened.store.table_location().cloned(),
            (Err(_), StateLocation::S3(url)) => options.log.as_ref().map(|log| log.of_root(url)),
            (Err(_), StateLocation::Directory(_)) => None,
        };
        let problems = match opened {
            Ok(opened) => objects(&opened).await,
            Err(failure) => vec![format!("reading the root: {}", failure.message)],
        };
        self.note(format!("state {place}"), problems);
        let Some(location) = log else {
            return;
        };
        let what = format!("commit log table {}", location.table);
        if let Some(sdk) = self.sdk(&AwsAccess::default(), &what).await {
            let table = DynamoLogTable::new(&sdk, &location.table, log_table::unobserved());
            let problems = aws::log_table(&table, &location.key).await;
            self.note(what, problems);
        }
    }

    async fn secrets(&mut self, further: &Further) {
        for (flag, name) in &further.secrets {
            let what = format!("{flag} {name}");
            if let Some(sdk) = self.sdk(&AwsAccess::default(), &what).await {
                let fetched = Box::pin(satchel_aws::secrets::fetch(&sdk, name)).await;
                self.note(what, fetched.err().into_iter().collect());
            }
        }
    }
}

/// Lists the location, and creates, reads and removes an object of its own there, as an owner does
/// with those of the state.
async fn objects(opened: &StateStore) -> Vec<String> {
    let prefix = match opened.prefix.as_str() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let random: [u8; 8] = random::bytes();
    let key = format!("{prefix}validate-{:016x}", u64::from_le_bytes(random));
    let store: &dyn ObjectStore = &*opened.objects();
    let mut problems = Vec::new();
    let mut note = |doing: &str, error: StoreError| problems.push(format!("{doing}: {error}"));
    if let Err(error) = store.list(&prefix, None, 1).await {
        let is_denied = aws::is_permission(&error.to_string());
        note("listing", error);
        if !is_denied {
            // Without the bucket, every other request would fail for the same reason.
            return problems;
        }
    }
    let bytes = Bytes::from_static(b"written by satchel validate");
    match store.create(&key, bytes.clone()).await {
        Err(error) => note("writing", error),
        Ok(_) => {
            if let Err(error) = store.get(&key).await {
                note("reading", error);
            }
            if let Ok(Created::Stored) = store.create(&key, bytes.clone()).await {
                problems.push(format!(
                    "writing: {key} was replaced, though it existed: two owners could both commit"
                ));
            }
        }
    }
    // Also if the answer to its creation was lost.
    if let Err(error) = store.delete(std::slice::from_ref(&key)).await {
        problems.push(format!("removing: {error}"));
    }
    problems
}
