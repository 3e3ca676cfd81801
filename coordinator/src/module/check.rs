//! Checks that span all module files of an application.

use std::collections::HashMap;
use std::hash::Hash;

use satchel_engine::address::{FunctionType, RESERVED_NAMESPACE};
use satchel_engine::endpoint::{Endpoints, FunctionPattern};

use crate::module::problem::{Problems, Source};
use crate::module::{Application, IngressAdapter};

/// Records contradictions between the components of an application.
///
/// After other problems, targets are not compared with the endpoints, some of which may be missing.
pub(crate) fn check(application: &Application, problems: &mut Problems) {
    let all_read = problems.is_empty();
    check_patterns(application, problems);
    let ids = application.ingresses.iter();
    check_unique("ingress", ids.map(|one| (&one.id, &one.source)), problems);
    let ids = application.egresses.iter();
    check_unique("egress", ids.map(|one| (&one.id, &one.source)), problems);
    check_targets(application, all_read, problems);
}

fn check_patterns(application: &Application, problems: &mut Problems) {
    let patterns = application.endpoints.iter().flat_map(|endpoint| {
        endpoint
            .engine
            .functions
            .iter()
            .map(|it| (it, &endpoint.source))
    });
    let mut written = Vec::new();
    for (pattern, source) in patterns {
        let (text, namespace) = match pattern {
            FunctionPattern::One(function) => (function.to_string(), function.namespace()),
            FunctionPattern::Namespace(namespace) => (format!("{namespace}/*"), namespace.as_str()),
        };
        if namespace == RESERVED_NAMESPACE {
            problems.at(
                source,
                format!(
                    "functions `{text}`: the namespace '{RESERVED_NAMESPACE}' is reserved for \
                     external callers"
                ),
            );
        }
        written.push((text, source));
    }
    let texts = written.iter().map(|(text, source)| (text, *source));
    check_unique("functions pattern", texts, problems);
}

fn check_unique<'a, T: Eq + Hash + std::fmt::Display + 'a>(
    what: &str,
    named: impl Iterator<Item = (&'a T, &'a Source)>,
    problems: &mut Problems,
) {
    let mut first: HashMap<&T, &Source> = HashMap::new();
    for (name, source) in named.filter(|(name, _)| is_written(*name)) {
        match first.get(name) {
            Some(at) => problems.at(
                source,
                format!("the {what} `{name}` is already declared at {at}"),
            ),
            None => {
                first.insert(name, source);
            }
        }
    }
}

/// Returns true for a name that was read. One that could not be read is reported already.
fn is_written(name: &impl std::fmt::Display) -> bool {
    !matches!(name.to_string().as_str(), "" | "/")
}

fn check_targets(application: &Application, all_read: bool, problems: &mut Problems) {
    let endpoints = Endpoints::new(
        application
            .endpoints
            .iter()
            .map(|spec| spec.engine.clone())
            .collect(),
    );
    for ingress in &application.ingresses {
        let serving = all_read.then_some(&endpoints);
        if let IngressAdapter::Sqs(sqs) = &ingress.adapter {
            for target in &sqs.targets {
                check_target(target, serving, &ingress.source, problems);
            }
        }
        let streams = ingress.adapter.streams();
        for stream in streams {
            for target in &stream.targets {
                check_target(target, serving, &stream.source, problems);
            }
        }
        let what = match &ingress.adapter {
            IngressAdapter::Kafka(_) => "topic of this ingress",
            _ => "stream of this ingress",
        };
        let names = streams.iter();
        let names = names.map(|stream| (&stream.stream, &stream.source));
        check_unique(what, names, problems);
    }
}

fn check_target(
    target: &FunctionType,
    endpoints: Option<&Endpoints>,
    source: &Source,
    problems: &mut Problems,
) {
    if target.namespace() == RESERVED_NAMESPACE {
        let message = format!(
            "target `{target}`: the namespace '{RESERVED_NAMESPACE}' is reserved for external \
             callers"
        );
        problems.at(source, message);
    } else if endpoints.is_some_and(|endpoints| endpoints.serving(target).is_none()) {
        let message = format!(
            "no endpoint serves the target `{target}`: add it to the 'functions' of an endpoint"
        );
        problems.at(source, message);
    }
}
