//! Properties of module files that are met, and their settings.

use super::*;

fn settings(properties: &[(&str, &str)]) -> Settings {
    Settings::of(properties.iter().copied()).unwrap()
}

fn client(properties: &[(&str, &str)]) -> Vec<(String, String)> {
    let settings = settings(properties);
    assert_eq!(settings.warnings, [""; 0]);
    settings.client.into_iter().collect()
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> [(String, String); N] {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn refused(properties: &[(&str, &str)]) -> String {
    let refused = Settings::of(properties.iter().copied());
    refused.unwrap_err().to_string()
}

#[test]
fn names_of_librdkafka_pass_and_names_of_java_are_translated() {
    let found = client(&[
        ("bootstrap.servers", "kafka:9092"),
        ("compression.type", "zstd"),
        ("linger.ms", "20"),
        ("max.request.size", "2000000"),
        ("buffer.memory", "33554432"),
        ("ssl.endpoint.identification.algorithm", ""),
    ]);
    let expected = pairs([
        ("compression.type", "zstd"),
        ("linger.ms", "20"),
        ("message.max.bytes", "2000000"),
        ("queue.buffering.max.kbytes", "32768"),
        ("ssl.endpoint.identification.algorithm", "none"),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn a_property_without_effect_is_named_in_a_warning() {
    let found = settings(&[
        ("max.poll.records", "5"),
        ("enable.auto.commit", "true"),
        ("auto.offset.reset", "earliest"),
        ("flink.partition-discovery.interval-millis", "30000"),
        ("isolation.level", "read_uncommitted"),
    ]);
    let expected = pairs([("isolation.level", "read_uncommitted")]);
    assert_eq!(found.client, BTreeMap::from(expected));
    assert_eq!(found.discovery_interval, Some(Duration::from_secs(30)));
    let named: Vec<_> = found
        .warnings
        .iter()
        .filter_map(|warning| warning.split('`').nth(1))
        .collect();
    assert_eq!(
        named,
        [
            "auto.offset.reset",
            "enable.auto.commit",
            "max.poll.records"
        ]
    );
}

#[test]
fn a_login_of_java_becomes_user_and_password_which_are_not_shown() {
    let found = settings(&[
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        (
            "sasl.jaas.config",
            "org.apache.kafka.common.security.scram.ScramLoginModule required \
                 username=\"alice\" password=\"hunter2\";",
        ),
    ]);
    assert!(!format!("{found:?}").contains("hunter2"));
    let expected = pairs([
        ("sasl.mechanisms", "SCRAM-SHA-512"),
        ("sasl.password", "hunter2"),
        ("sasl.username", "alice"),
        ("security.protocol", "SASL_SSL"),
    ]);
    assert_eq!(found.client, BTreeMap::from(expected));
}

#[test]
fn iam_of_amazon_msk_is_a_bearer_token_with_the_identity_of_the_login_module() {
    let handler = "software.amazon.msk.auth.iam.IAMClientCallbackHandler";
    let found = settings(&[
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "AWS_MSK_IAM"),
        (
            "sasl.jaas.config",
            "software.amazon.msk.auth.iam.IAMLoginModule required \
                 awsRoleArn=\"arn:aws:iam::1:role/reader\";",
        ),
        ("sasl.client.callback.handler.class", handler),
    ]);
    assert_eq!(found.client["sasl.mechanisms"], "OAUTHBEARER");
    let role_arn = Some("arn:aws:iam::1:role/reader".to_owned());
    let iam = Iam {
        role_arn,
        ..Iam::default()
    };
    assert_eq!(found.iam, Some(iam));
}

#[test]
fn stores_of_certificates_in_pem_and_pkcs12_are_read() {
    let found = client(&[
        ("security.protocol", "SSL"),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", "/etc/kafka/ca.pem"),
        ("ssl.keystore.location", "/etc/kafka/client.p12"),
        ("ssl.keystore.password", "hunter2"),
    ]);
    let expected = pairs([
        ("security.protocol", "SSL"),
        ("ssl.ca.location", "/etc/kafka/ca.pem"),
        ("ssl.keystore.location", "/etc/kafka/client.p12"),
        ("ssl.keystore.password", "hunter2"),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn what_cannot_work_is_refused_by_name_with_what_to_do() {
    let sasl = ("security.protocol", "SASL_SSL");
    for (properties, why) in [
        (
            vec![("ssl.truststore.location", "/etc/kafka/ca.jks")],
            "`ssl.truststore.location`: a key store of Java (JKS) cannot be read",
        ),
        (
            vec![sasl],
            "`sasl.mechanism`: required with `security.protocol: SASL_SSL`",
        ),
        (
            vec![sasl, ("sasl.mechanism", "GSSAPI")],
            "`sasl.mechanism`: `GSSAPI` is not supported; use PLAIN",
        ),
        (
            vec![("sasl.mechanism", "PLAIN")],
            "`security.protocol`: `PLAIN` needs SASL_SSL",
        ),
        (
            vec![
                sasl,
                ("sasl.mechanism", "PLAIN"),
                ("sasl.username", "alice"),
            ],
            "`sasl.password`: required by PLAIN",
        ),
        (
            vec![("sasl.login.callback.handler.class", "com.example.Handler")],
            "`sasl.login.callback.handler.class`: a Java class cannot run here",
        ),
    ] {
        let error = refused(&properties);
        assert!(error.contains(why), "{error}");
    }
}
