//! Settings of OpenTelemetry: the variables of its specification.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use satchel_engine::story::Sampling;

/// Default of `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Default of `OTEL_METRIC_EXPORT_INTERVAL`.
const METRICS_INTERVAL: Duration = Duration::from_secs(60);

/// Default of `OTEL_BSP_SCHEDULE_DELAY`. It is shorter than that of the specification, because the
/// spans that wait are lost when a process is killed.
const SPANS_DELAY: Duration = Duration::from_secs(1);

/// Default of `OTEL_BSP_MAX_QUEUE_SIZE`.
const QUEUE_SPANS_MAX: usize = 8_192;

/// Default of `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
const BATCH_SPANS_MAX: usize = 512;

/// Settings of the exporters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// Collector of traces, if they are exported.
    pub(super) traces: Option<Collector>,
    /// Collector of metrics, if they are exported.
    pub(super) metrics: Option<Collector>,
    /// Attributes of the resource, with `service.name`.
    pub(super) resource: Vec<(String, String)>,
    /// Traces that are sampled.
    pub(super) sampling: Option<Sampling>,
    /// Maximum time for which a span waits for others.
    pub(super) spans_delay: Duration,
    /// Maximum number of spans that wait.
    pub(super) queue_spans_max: usize,
    /// Maximum number of spans of a request.
    pub(super) batch_spans_max: usize,
    /// Interval of metrics.
    pub(super) metrics_interval: Duration,
}

/// A collector, for one signal.
#[derive(Clone, PartialEq)]
pub(super) struct Collector {
    pub(super) url: Url,
    /// Headers of requests: secrets.
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    /// True if bodies are compressed with gzip.
    pub(super) gzip: bool,
}

impl Collector {
    /// The address, without what may be a secret.
    pub(super) fn shown(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or(0);
        format!("{}://{host}:{port}{}", self.url.scheme(), self.url.path())
    }
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Reads variables of the environment.
struct Reader<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl Settings {
    /// Reads the settings, with the problems of variables that are ignored because of them. There
    /// are none unless a variable names a collector or asks for one.
    pub(super) fn read(
        application: &str,
        get: &dyn Fn(&str) -> Option<String>,
    ) -> (Option<Self>, Vec<String>) {
        let mut reader = Reader {
            get,
            problems: Vec::new(),
        };
        if reader.flag("OTEL_SDK_DISABLED") {
            return (None, reader.problems);
        }
        let traces = reader.collector("TRACES", "v1/traces");
        let metrics = reader.collector("METRICS", "v1/metrics");
        if traces.is_none() && metrics.is_none() {
            return (None, reader.problems);
        }
        let settings = Self {
            traces,
            metrics,
            resource: reader.resource(application),
            sampling: reader.sampling(),
            spans_delay: reader.millis("OTEL_BSP_SCHEDULE_DELAY", SPANS_DELAY),
            queue_spans_max: reader.count("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_SPANS_MAX),
            batch_spans_max: reader.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_SPANS_MAX),
            metrics_interval: reader.millis("OTEL_METRIC_EXPORT_INTERVAL", METRICS_INTERVAL),
        };
        (Some(settings), reader.problems)
    }
}

impl Reader<'_> {
    /// Returns the value of a variable. An empty one counts as none.
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.trim().is_empty())
    }

    /// Returns the value of a variable of one signal, or of all.
    fn otlp(&self, signal: &str, name: &str) -> Option<(String, String)> {
        let of_signal = format!("OTEL_EXPORTER_OTLP_{signal}_{name}");
        let of_all = format!("OTEL_EXPORTER_OTLP_{name}");
        [of_signal, of_all]
            .into_iter()
            .find_map(|variable| Some((self.text(&variable)?, variable)))
    }

    fn flag(&self, name: &str) -> bool {
        self.text(name)
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }

    fn count(&mut self, name: &str, default: usize) -> usize {
        self.number(name, default as u64) as usize
    }

    fn millis(&mut self, name: &str, default: Duration) -> Duration {
        Duration::from_millis(self.number(name, default.as_millis() as u64))
    }

    /// Returns a number that is not zero.
    fn number(&mut self, name: &str, default: u64) -> u64 {
        let Some(text) = self.text(name) else {
            return default;
        };
        match text.trim().parse::<u32>() {
            Ok(number) if number > 0 => number.into(),
            _ => {
                let problem = format!("{name} is not a positive number; {default} is used");
                self.problems.push(problem);
                default
            }
        }
    }

    /// Returns the collector of a signal, if its exporter is wanted.
    fn collector(&mut self, signal: &str, path: &str) -> Option<Collector> {
        let exporter = self.text(&format!("OTEL_{signal}_EXPORTER"));
        let exporter = exporter.as_deref().map(str::trim);
        if exporter == Some("none") {
            return None;
        }
        if let Some(other) = exporter.filter(|exporter| *exporter != "otlp") {
            let problem =
                format!("OTEL_{signal}_EXPORTER={other} is not supported; `otlp` and `none` are");
            self.problems.push(problem);
            return None;
        }
        let of_signal = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        let url = match (self.text(&of_signal), exporter) {
            (Some(url), _) => self.url(&of_signal, &url)?,
            (None, asked) => {
                let name = "OTEL_EXPORTER_OTLP_ENDPOINT";
                let base = match (self.text(name), asked) {
                    (Some(base), _) => base,
                    (None, Some(_)) => "http://localhost:4318".to_owned(),
                    (None, None) => return None,
                };
                self.url(name, &format!("{}/{path}", base.trim_end_matches('/')))?
            }
        };
        if let Some((protocol, variable)) = self.otlp(signal, "PROTOCOL")
            && protocol.trim() != "http/protobuf"
        {
            let problem = format!(
                "{variable}={} is not supported, so nothing is exported; `http/protobuf` is",
                protocol.trim()
            );
            self.problems.push(problem);
            return None;
        }
        let timeout = match self.otlp(signal, "TIMEOUT") {
            Some((_, variable)) => self.millis(&variable, TIMEOUT),
            None => TIMEOUT,
        };
        let gzip = match self.otlp(signal, "COMPRESSION") {
            Some((value, _)) if value.trim() == "gzip" => true,
            Some((value, _)) if value.trim() == "none" => false,
            Some((value, variable)) => {
                let value = value.trim();
                let problem = format!("{variable}={value} is not supported; `gzip` and `none` are");
                self.problems.push(problem);
                false
            }
            None => false,
        };
        Some(Collector {
            url,
            headers: self.headers(signal),
            timeout,
            gzip,
        })
    }

    fn url(&mut self, variable: &str, text: &str) -> Option<Url> {
        let url = Url::parse(text.trim()).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if url.is_none() {
            // It may have a password.
            let problem = format!(
                "{variable} is not a URL such as http://localhost:4318, so nothing is exported"
            );
            self.problems.push(problem);
        }
        url
    }

    fn headers(&mut self, signal: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some((text, variable)) = self.otlp(signal, "HEADERS") else {
            return headers;
        };
        for (name, value) in pairs(&text) {
            let named = HeaderName::try_from(name.as_str());
            let valued = HeaderValue::try_from(value.as_str());
            match (named, valued) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.append(name, value);
                }
                _ => {
                    // Neither is shown: the name may be a value that was written without one.
                    let problem = format!("{variable} has an entry that is not a header");
                    self.problems.push(problem);
                }
            }
        }
        headers
    }

    fn resource(&mut self, application: &str) -> Vec<(String, String)> {
        let text = self.text("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let mut attributes = pairs(&text);
        if let Some(name) = self.text("OTEL_SERVICE_NAME") {
            attributes.retain(|(known, _)| known != "service.name");
            attributes.push(("service.name".to_owned(), name.trim().to_owned()));
        }
        for (name, value) in [
            ("service.name", application),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("telemetry.sdk.name", "satchel"),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ] {
            if !attributes.iter().any(|(known, _)| known == name) {
                attributes.push((name.to_owned(), value.to_owned()));
            }
        }
        attributes
    }

    /// Returns the traces to be sampled: all of them unless a variable says otherwise.
    fn sampling(&mut self) -> Option<Sampling> {
        let argument = self.text("OTEL_TRACES_SAMPLER_ARG");
        let mut share = || {
            let Some(text) = argument.as_deref() else {
                return 1.0;
            };
            let share: Option<f64> = text.trim().parse().ok();
            share
                .filter(|share| (0.0..=1.0).contains(share))
                .unwrap_or_else(|| {
                    let problem = "OTEL_TRACES_SAMPLER_ARG is not a share from 0 to 1; 1 is used";
                    self.problems.push(problem.to_owned());
                    1.0
                })
        };
        let sampler = (self.get)("OTEL_TRACES_SAMPLER").unwrap_or_default();
        match sampler.trim() {
            "" | "parentbased_always_on" => Some(Sampling::of_share(1.0)),
            "parentbased_traceidratio" => Some(Sampling::of_share(share())),
            // Only traces that a context from outside says are sampled.
            "parentbased_always_off" => Some(Sampling::of_share(0.0)),
            "always_on" => Some(Sampling::of_share(1.0).without_contexts()),
            "traceidratio" => Some(Sampling::of_share(share()).without_contexts()),
            "always_off" => None,
            other => {
                let problem = format!(
                    "OTEL_TRACES_SAMPLER={other} is not known; parentbased_always_on is used"
                );
                self.problems.push(problem);
                Some(Sampling::of_share(1.0))
            }
        }
    }
}

/// Parses `name=value,name=value`, whose values are percent-encoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').map(str::trim);
    pairs
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| {
                let decoded = percent_decode_str(text.trim());
                decoded.decode_utf8_lossy().into_owned()
            };
            (decoded(name), decoded(value))
        })
        .collect()
}
