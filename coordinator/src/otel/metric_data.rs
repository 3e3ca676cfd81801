//! Metrics of the process in OTLP's form, made of their text for Prometheus: the registry shows its
//! values in no other way.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};

use super::spans::text;

/// Beginning and end of the time that values cover, in ns since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Covered {
    pub(super) since: u64,
    pub(super) until: u64,
}

/// Samples of one metric, in the order of the text.
#[derive(Default)]
struct Described {
    kind: String,
    help: String,
    samples: Vec<Sample>,
}

/// Value under a name and labels.
struct Sample {
    /// End of its name behind that of the metric, such as `_bucket`.
    suffix: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Converts the OpenMetrics text of the process. Lines that are not of its form are left out.
pub(super) fn metrics_of(openmetrics: &str, covered: Covered) -> Vec<Metric> {
    let mut found: Vec<(String, Described)> = Vec::new();
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (Some(what), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            if found.last().is_none_or(|(known, _)| known != name) {
                found.push((name.to_owned(), Described::default()));
            }
            let value = words.next().unwrap_or_default().to_owned();
            if let Some((_, described)) = found.last_mut() {
                match what {
                    "HELP" => described.help = value,
                    "TYPE" => described.kind = value,
                    _ => {}
                }
            }
        } else if let Some((name, described)) = found.last_mut()
            && let Some(sample) = Sample::parse(name, line)
        {
            described.samples.push(sample);
        }
    }
    let metrics = found.into_iter();
    metrics
        .filter_map(|(name, described)| described.into_metric(name, covered))
        .collect()
}

impl Sample {
    fn parse(name: &str, line: &str) -> Option<Self> {
        let rest = line.strip_prefix(name)?;
        let (suffix, labels, value) = match rest.find(['{', ' '])? {
            at if rest[at..].starts_with('{') => {
                let (labels, value) = labels(&rest[at + 1..])?;
                (&rest[..at], labels, value)
            }
            at => (&rest[..at], Vec::new(), &rest[at..]),
        };
        let value = value.split_whitespace().next()?;
        let value = match value {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            value => value.parse().ok()?,
        };
        Some(Self {
            suffix: suffix.to_owned(),
            labels,
            value,
        })
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let labels = self.labels.iter().filter(|(name, _)| name != "le");
        labels
            .map(|(name, value)| text(name, value.as_str()))
            .collect()
    }
}

/// Labels of a sample, and what follows them.
type LabelsAndRest<'a> = (Vec<(String, String)>, &'a str);

/// Parses labels up to their closing brace.
fn labels(text: &str) -> Option<LabelsAndRest<'_>> {
    let mut labels = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        rest = &quoted[end + 1..];
    }
}

impl Described {
    fn into_metric(self, name: String, covered: Covered) -> Option<Metric> {
        let data = match self.kind.as_str() {
            "counter" => Data::Sum(Sum {
                data_points: self.numbers(&["_total", ""], covered),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            }),
            "histogram" => Data::Histogram(Histogram {
                data_points: self.histograms(covered),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            }),
            "gauge" | "unknown" | "info" => Data::Gauge(Gauge {
                data_points: self.numbers(&["", "_info"], covered),
            }),
            _ => return None,
        };
        let unit = match name.rsplit('_').next() {
            Some("seconds") => "s",
            Some("bytes") => "By",
            Some("ratio") => "1",
            _ => "",
        };
        Some(Metric {
            unit: unit.to_owned(),
            description: self.help.trim_end_matches('.').to_owned(),
            name,
            data: Some(data),
            ..Metric::default()
        })
    }

    fn numbers(&self, suffixes: &[&str], covered: Covered) -> Vec<NumberDataPoint> {
        let samples = self.samples.iter();
        samples
            .filter(|sample| suffixes.contains(&&*sample.suffix))
            .map(|sample| NumberDataPoint {
                attributes: sample.attributes(),
                start_time_unix_nano: covered.since,
                time_unix_nano: covered.until,
                value: Some(Value::AsDouble(sample.value)),
                ..NumberDataPoint::default()
            })
            .collect()
    }

    fn histograms(&self, covered: Covered) -> Vec<HistogramDataPoint> {
        let mut points: BTreeMap<Vec<(String, String)>, HistogramDataPoint> = BTreeMap::new();
        for sample in &self.samples {
            let mut key = sample.labels.clone();
            key.retain(|(name, _)| name != "le");
            let point = points.entry(key).or_insert_with(|| HistogramDataPoint {
                attributes: sample.attributes(),
                start_time_unix_nano: covered.since,
                time_unix_nano: covered.until,
                ..HistogramDataPoint::default()
            });
            match sample.suffix.as_str() {
                "_sum" => point.sum = Some(sample.value),
                "_count" => point.count = sample.value as u64,
                "_bucket" => {
                    let bound = sample.labels.iter().find(|(name, _)| name == "le");
                    let bound = bound.and_then(|(_, bound)| bound.parse::<f64>().ok());
                    // The text counts everything up to a bound; the last one is infinite.
                    let below: u64 = point.bucket_counts.iter().sum();
                    let upto = sample.value as u64;
                    point.bucket_counts.push(upto.saturating_sub(below));
                    if let Some(bound) = bound.filter(|bound| bound.is_finite()) {
                        point.explicit_bounds.push(bound);
                    }
                }
                _ => {}
            }
        }
        points.into_values().collect()
    }
}
