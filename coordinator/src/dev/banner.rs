//! Banner of `satchel dev`: what runs where, and one command to try.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use satchel_engine::address::FunctionType;
use satchel_engine::endpoint::FunctionPattern;

use super::connectors;
use super::console_token::ConsoleToken;
use super::wiring::Handlers;
use crate::assemble::Process;
use crate::config::DevConfig;
use crate::module::Application;
use crate::runtime::partitions::Partitions;
use crate::servers::Servers;

/// Prints the banner to standard output.
pub(super) async fn print(
    config: &DevConfig,
    process: &Process,
    serving: (&Servers, &Handlers, &ConsoleToken),
    partitions: &Partitions,
) {
    let status = process.metrics.status();
    let declared = status.observe(|partition| partition.declared_states());
    let declared = declared.await.into_iter().flat_map(|(_, of)| of);
    let declared: BTreeSet<FunctionType> = declared.map(|(function, _)| function).collect();
    let declared: Vec<FunctionType> = declared.into_iter().collect();
    let application = &process.application;
    print!(
        "{}",
        text(config, application, serving, partitions, &declared)
    );
}

fn text(
    config: &DevConfig,
    application: &Application,
    (servers, handlers, console_token): (&Servers, &Handlers, &ConsoleToken),
    partitions: &Partitions,
    declared: &[FunctionType],
) -> String {
    let held = match partitions.held {
        Some(_) => ", and its ingresses, timers and outbox are held",
        None => "",
    };
    let mut text = format!(
        "\nsatchel dev: {} is serving{held}\n\n",
        config.process.application
    );
    for summary in application.summary() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {summary}");
    }
    let mut line = |what: &str, how: String| {
        let _ = writeln!(text, "  {what:<10} {how}");
    };
    let state = if config.ephemeral {
        "in memory, lost when the process ends".to_owned()
    } else {
        let recovered = partitions.recovered;
        let read = match recovered.bytes {
            0 => "new".to_owned(),
            bytes => format!(
                "{bytes} bytes read, {} commits replayed",
                recovered.replayed
            ),
        };
        format!("{} (epoch {}, {read})", config.state(), recovered.epoch)
    };
    line("state", state);
    if let Some(hold) = &partitions.held {
        let origin = &hold.origin;
        line(
            "held",
            format!(
                "a fork of {origin}: ingresses, timers and outbox are held \
                 until a start with --resume-io"
            ),
        );
    }
    line("traffic", servers.traffic_url());
    line("admin", servers.admin_url());
    let is_open = config.process.ports.admin_token_file.is_none();
    let console = match is_open && servers.admin.ip().is_loopback() {
        true => console_token.link(&servers.admin_url()),
        false => format!("{}/", servers.admin_url()),
    };
    line("console", console);
    if let Some(kinesis) = servers.kinesis {
        line("kinesis", format!("http://{kinesis}"));
    }
    if let Some(address) = handlers.invoke_api() {
        line("Lambda", format!("http://{address} (Invoke API)"));
    }
    for hint in connectors::hints(config, application) {
        line("stream", hint);
    }
    let (command, note) = command(config, application, servers, declared);
    let _ = write!(text, "\nTry:\n\n  {command}\n\n{note}\n\n");
    text
}

/// Returns a call to a function of this application, and what to replace in it. Nothing here knows
/// the messages of a function, and an example that it refuses would be a dead letter.
fn command(
    config: &DevConfig,
    application: &Application,
    servers: &Servers,
    declared: &[FunctionType],
) -> (String, String) {
    let mut curl = "curl".to_owned();
    if let Some(file) = &config.process.ports.http_token_file {
        let _ = write!(
            curl,
            " -H \"Authorization: Bearer $(cat {})\"",
            file.display()
        );
    }
    let url = servers.traffic_url();
    let function = tried(application, declared);
    let call = format!("{curl} -d 'MESSAGE' {url}/call/{function}/ID");
    let name = match function.split_once("FUNCTION") {
        Some(_) => "FUNCTION by the name of a function, ",
        None => "",
    };
    let note = format!("  Replace {name}MESSAGE by JSON that the function takes, ID by any name.");
    (call, note)
}

/// Returns the function of the example: one that an endpoint or an ingress names, else one that has
/// declared its states, else a gap in the namespace of an endpoint.
fn tried(application: &Application, declared: &[FunctionType]) -> String {
    let patterns = application
        .endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.engine.functions);
    let named = patterns.clone().filter_map(|pattern| match pattern {
        FunctionPattern::One(function) => Some(function.to_string()),
        FunctionPattern::Namespace(_) => None,
    });
    let ingresses = application.ingresses.iter();
    let streams = ingresses.flat_map(|ingress| ingress.adapter.streams());
    let targets = streams.flat_map(|stream| stream.targets.iter().map(ToString::to_string));
    let served = |function: &&FunctionType| {
        let namespace = function.namespace();
        patterns.clone().any(|pattern| match pattern {
            FunctionPattern::One(one) => one == *function,
            FunctionPattern::Namespace(of) => of == namespace,
        })
    };
    let declared = declared.iter().filter(served).map(ToString::to_string);
    let gaps = patterns.clone().filter_map(|pattern| match pattern {
        FunctionPattern::One(_) => None,
        FunctionPattern::Namespace(namespace) => Some(format!("{namespace}/FUNCTION")),
    });
    let mut known = named.chain(targets).chain(declared).chain(gaps);
    known
        .next()
        .unwrap_or_else(|| "NAMESPACE/FUNCTION".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn tried_in(module: &str, declared: &[&str]) -> String {
        let application = Application::parse(Path::new("module.yaml"), module, &|_| None).unwrap();
        let declared: Vec<FunctionType> = declared.iter().map(|it| it.parse().unwrap()).collect();
        tried(&application, &declared)
    }

    #[test]
    fn the_example_calls_a_function_of_this_application_or_says_what_is_missing() {
        let endpoint = |functions: &str| {
            format!(
                "kind: satchel.endpoints.v1/lambda\n\
                 spec: {{functions: {functions}, functionName: handler}}\n"
            )
        };
        let ingress = "---\nkind: io.statefun.kinesis.v1/ingress\nspec:\n  id: example/names\n  \
                       streams:\n    - {stream: names, valueType: example/name, \
                       targets: [example/greeter]}\n";
        assert_eq!(tried_in(&endpoint("example/one"), &[]), "example/one");
        let namespace = endpoint("example/*");
        assert_eq!(
            tried_in(&(namespace.clone() + ingress), &["example/other"]),
            "example/greeter"
        );
        assert_eq!(
            tried_in(&namespace, &["gone/function", "example/other"]),
            "example/other",
            "one that is still served"
        );
        assert_eq!(tried_in(&namespace, &["gone/function"]), "example/FUNCTION");
    }
}
