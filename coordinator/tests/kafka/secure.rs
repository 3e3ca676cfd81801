//! TLS with an own authority, client certificates, SCRAM, and access that is denied.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use reqwest::Method;
use satchel_testkit::{KAFKA_USER, Kafka, SecureListener};
use serde_json::json;

use super::client::{committed_when, produce, sent, values};
use super::{EARLIEST, EXACTLY_ONCE, World, prints, stopped};

/// Certificate and key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // Another name than that of the certificates that it signs.
    params
        .distinguished_name
        .push(DnType::CommonName, "authority of the test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn signed(
    authority: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
) -> Pair {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![purpose];
    let certificate = params.signed_by(&key, authority).unwrap();
    Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_a_certificate_signs_in_and_a_denied_topic_stops_until_it_is_permitted() {
    let authority = authority();
    let broker = signed(&authority, "127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    let client = signed(&authority, "client", ExtendedKeyUsagePurpose::ClientAuth);
    let kafka = Kafka::start_secure(&SecureListener {
        certificate: broker.certificate,
        key: broker.key,
        client_authority: authority.pem(),
    });
    let world = World::of(kafka).await;
    world.kafka.create("names", 1, &[]);
    world.kafka.create("greetings", 1, &[]);
    world.kafka.allow(KAFKA_USER.0, "greetings");
    let file = |name: &str, content: &str| {
        let path = world.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (user, password) = KAFKA_USER;
    let properties = format!(
        "  properties:
    - security.protocol: SASL_SSL
    - sasl.mechanism: SCRAM-SHA-512
    - sasl.jaas.config: org.apache.kafka.common.security.scram.ScramLoginModule required
        username=\"{user}\" password=\"{password}\";
    - ssl.truststore.type: PEM
    - ssl.truststore.location: {}
    - ssl.certificate.location: {}
    - ssl.key.location: {}
",
        file("ca.pem", &authority.pem()),
        file("client.pem", &client.certificate),
        file("client.key", &client.key),
    );
    let documents = super::ingress(&format!("{EARLIEST}{properties}"))
        + &super::egress(&format!("{EXACTLY_ONCE}{properties}"));
    let documents = documents.replace("BROKERS", &world.kafka.secure_address());
    let without_authority = documents.replace("    - ssl.truststore.location", "    # ");
    let without_authority = without_authority.replace("    - ssl.truststore.type", "    # ");
    let app = world.setup(&without_authority).start().await;
    let source = stopped(&app).await;
    assert_eq!(source["problem"], "forbidden");
    prints(&app, "certificate verify failed").await;
    drop(app);

    let app = world.setup(&documents).start().await;
    let source = stopped(&app).await;
    assert_eq!(source["problem"], "forbidden");
    prints(&app, "deny access to the topic `names`").await;
    world.kafka.allow(user, "names");
    produce(&world.kafka, "names", &[sent("ann", "hello")]);
    let resume = "/api/ingresses/example/names/resume";
    let resumed = app.client.admin(Method::POST, resume).await;
    assert_eq!(resumed.json(), json!({"resumed": 1}));
    let got = committed_when(&world.kafka, "greetings", 1).await;
    assert_eq!(values(&got), ["hello #1"]);
    assert!(
        !app.printed().contains(password),
        "the password is not shown"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_refused_at_the_start_by_name() {
    let world = World::start().await;
    for (properties, why) in [
        (
            "    - fetch.max.bites: 5\n",
            "module.yaml:8: the property `fetch.max.bites`: No such configuration property",
        ),
        (
            "    - ssl.truststore.location: /etc/ca.jks\n",
            "module.yaml:8: the property `ssl.truststore.location`: a key store of Java",
        ),
        (
            "    - security.protocol: SASL_SSL\n",
            "module.yaml:8: the property `sasl.mechanism`: required",
        ),
    ] {
        let documents = super::ingress(&format!("  properties:\n{properties}"));
        let ended = world.setup(&documents).run_to_end().await;
        assert_eq!(ended.code, Some(2), "{}", ended.printed);
        assert!(ended.printed.contains(why), "{why}: {}", ended.printed);
    }
}
