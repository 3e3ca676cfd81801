//! Banner of `satchel dev`: what runs where, and one command to try.

use std::fmt::Write as _;

use satchel_engine::endpoint::FunctionPattern;

use super::wiring;
use super::wiring::Handlers;
use crate::config::DevConfig;
use crate::module::Application;
use crate::runtime::node::Node;
use crate::servers::Servers;

/// Prints the banner to standard output.
pub(super) fn print(
    config: &DevConfig,
    application: &Application,
    serving: (&Servers, &Handlers),
    node: &Node,
) {
    print!("{}", text(config, application, serving, node));
}

fn text(
    config: &DevConfig,
    application: &Application,
    (servers, handlers): (&Servers, &Handlers),
    node: &Node,
) -> String {
    let mut text = format!(
        "\nsatchel dev: {} is serving\n\n",
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
        let recovered = node.recovered;
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
    if let Some(hold) = &node.held {
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
    if let Some(kinesis) = servers.kinesis {
        line("kinesis", format!("http://{kinesis}"));
    }
    if let Some(address) = handlers.invoke_api() {
        line("Lambda", format!("http://{address} (Invoke API)"));
    }
    let _ = write!(
        text,
        "\nTry:\n\n  {}\n\n",
        command(config, application, servers)
    );
    text
}

/// Returns a call to a function whose name is known: an endpoint names it, or an ingress targets
/// it.
fn command(config: &DevConfig, application: &Application, servers: &Servers) -> String {
    let named = application
        .endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.engine.functions);
    let named = named.filter_map(|pattern| match pattern {
        FunctionPattern::One(function) => Some(function.to_string()),
        FunctionPattern::Namespace(_) => None,
    });
    let targets = wiring::ingress_streams(application)
        .flat_map(|(_, _, stream)| stream.targets.iter().map(ToString::to_string));
    let function = named
        .chain(targets)
        .next()
        .unwrap_or_else(|| "<namespace>/<function>".to_owned());
    let mut curl = "curl".to_owned();
    if let Some(file) = &config.process.ports.http_token_file {
        let _ = write!(
            curl,
            " -H \"Authorization: Bearer $(cat {})\"",
            file.display()
        );
    }
    format!(
        "{curl} -d '{{\"name\":\"Alice\"}}' {}/call/{function}/alice",
        servers.traffic_url()
    )
}
