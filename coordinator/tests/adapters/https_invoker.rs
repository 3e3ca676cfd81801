//! The HTTP invoker over TLS: trusted authorities and client certificates.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::serve::Listener;
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{LineEnding, PrivateKeyInfoRef};
use prost::Message as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedKey, IsCa, KeyPair, generate_simple_self_signed,
};
use satchel::invoker::http::{ClientCertificate, HttpEndpoint, HttpInvoker};
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::invocation::{
    AttemptId, Batch, Bundle, BundleId, BundleOutcome, EndpointIndex, Failure, FailureKind,
};
use satchel_protocol::reqreply::{FromFunction, from_function};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

const ATTEMPT: AttemptId = AttemptId {
    partition: 0,
    epoch: 1,
    number: 1,
};

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.tcp.accept().await.unwrap();
            // A client that does not trust this server ends the handshake, which its test checks.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

fn answer() -> FromFunction {
    FromFunction {
        response: Some(from_function::Response::InvocationResult(
            from_function::InvocationResponse::default(),
        )),
    }
}

/// Serves an empty answer as `localhost`, to all clients or only to those with the certificate
/// `client`.
async fn serve(server: &CertifiedKey<KeyPair>, client: Option<&CertifiedKey<KeyPair>>) -> String {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match client {
        None => config.with_no_client_auth(),
        Some(client) => {
            let mut roots = RootCertStore::empty();
            roots.add(client.cert.der().clone()).unwrap();
            let provider = Arc::new(default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(server.signing_key.serialize_der()).unwrap();
    let config = config
        .with_single_cert(vec![server.cert.der().clone()], key)
        .unwrap();
    let listener = Tls {
        tcp: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        acceptor: TlsAcceptor::from(Arc::new(config)),
    };
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(async || {
        let headers = [("content-type", "application/octet-stream")];
        (headers, answer().encode_to_vec())
    });
    tokio::spawn(axum::serve(listener, router).into_future());
    format!("https://localhost:{port}/{{function.name}}")
}

async fn invoke(endpoint: HttpEndpoint) -> BundleOutcome {
    let batch = Batch {
        attempt: ATTEMPT,
        target: Address::new(FunctionType::new("example", "greeter"), "alice"),
        state: vec![],
        messages: vec![],
        declarations: [].into(),
        bytes: 0,
    };
    let bundle = Bundle {
        id: BundleId(1),
        endpoint: EndpointIndex(0),
        batches: vec![Arc::new(batch)],
        new_connection: false,
    };
    HttpInvoker::new(&endpoint).unwrap().invoke(bundle).await
}

/// Certificates and keys in files, as a module file names them.
struct Files(tempfile::TempDir);

impl Files {
    fn write(&self, name: &str, pem: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    }
}

fn certificate(name: &str) -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([name.to_owned()]).unwrap()
}

#[tokio::test]
async fn only_servers_of_a_trusted_authority_are_invoked() {
    let files = Files(tempfile::tempdir().unwrap());
    let (trusted, other) = (certificate("localhost"), certificate("localhost"));
    let endpoint = |url| HttpEndpoint {
        trust_cacerts: Some(files.write("authorities.pem", &trusted.cert.pem())),
        ..HttpEndpoint::new(url)
    };
    assert_eq!(
        invoke(endpoint(serve(&trusted, None).await)).await,
        BundleOutcome::Answered(vec![(ATTEMPT, Ok(answer()))])
    );
    let outcome = invoke(endpoint(serve(&other, None).await)).await;
    let BundleOutcome::Failed(Failure { kind, message, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(kind, FailureKind::Unavailable);
    assert!(
        message.starts_with("cannot connect: ") && message.contains("certificate"),
        "{message}"
    );
}

#[tokio::test]
async fn a_client_certificate_is_presented_to_a_server_that_requests_it() {
    let files = Files(tempfile::tempdir().unwrap());
    let (server, client) = (certificate("localhost"), certificate("satchel"));
    let url = serve(&server, Some(&client)).await;
    let anonymous = HttpEndpoint {
        trust_cacerts: Some(files.write("authorities.pem", &server.cert.pem())),
        ..HttpEndpoint::new(url)
    };
    let known = HttpEndpoint {
        client_cert: Some(ClientCertificate {
            certificate: files.write("client.pem", &client.cert.pem()),
            key: files.write("client.key", &client.signing_key.serialize_pem()),
            password: None,
        }),
        ..anonymous.clone()
    };
    assert_eq!(
        invoke(known).await,
        BundleOutcome::Answered(vec![(ATTEMPT, Ok(answer()))])
    );
    assert!(
        matches!(invoke(anonymous).await, BundleOutcome::Failed(_)),
        "the server accepted a client without a certificate"
    );
}

/// The key of a certificate, encrypted as `openssl pkcs8 -topk8 -v2 aes-256-cbc` does.
fn encrypted(certificate: &CertifiedKey<KeyPair>, password: &str) -> String {
    let der = certificate.signing_key.serialize_der();
    let key = PrivateKeyInfoRef::try_from(der.as_slice()).unwrap();
    let parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(1000, b"saltsalt", [7; 16]);
    let key = key.encrypt_with_params(parameters.unwrap(), password);
    let pem = key.unwrap().to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF);
    pem.unwrap().to_string()
}

#[tokio::test]
async fn a_client_key_may_be_encrypted() {
    let files = Files(tempfile::tempdir().unwrap());
    let (server, client) = (certificate("localhost"), certificate("satchel"));
    let endpoint = HttpEndpoint {
        trust_cacerts: Some(files.write("authorities.pem", &server.cert.pem())),
        client_cert: Some(ClientCertificate {
            certificate: files.write("client.pem", &client.cert.pem()),
            key: files.write("client.key", &encrypted(&client, "secret")),
            password: Some(files.write("password.txt", "secret\n")),
        }),
        ..HttpEndpoint::new(serve(&server, Some(&client)).await)
    };
    assert_eq!(
        invoke(endpoint).await,
        BundleOutcome::Answered(vec![(ATTEMPT, Ok(answer()))])
    );
}

#[test]
fn what_is_wrong_with_a_client_certificate_is_named() {
    let files = Files(tempfile::tempdir().unwrap());
    let (client, other) = (certificate("satchel"), certificate("other"));
    let plain = client.signing_key.serialize_pem();
    // The version is the first field; the signature is not checked by the client.
    let mut der = client.cert.der().to_vec();
    let version = der.windows(5).position(|five| five == [0xa0, 3, 2, 1, 2]);
    der[version.unwrap() + 4] = 0;
    let first = pkcs8::der::pem::encode_string("CERTIFICATE", LineEnding::LF, &der).unwrap();
    let cert = client.cert.pem();
    let openssl = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n";
    let convert = "convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`";
    let secret = encrypted(&client, "secret");
    let other = other.signing_key.serialize_pem();
    let (pem, key, password) = ("client.pem", "client.key", "password.txt");
    for (certificate, private, given, file, problem) in [
        (
            &cert,
            secret.as_str(),
            None,
            key,
            "it is encrypted: name the file of its password in \
            'client_key_password'"
                .to_owned(),
        ),
        (
            &cert,
            secret.as_str(),
            Some("wrong"),
            key,
            "it cannot be decrypted: is the password in \
            'client_key_password' its own?"
                .to_owned(),
        ),
        (
            &cert,
            plain.as_str(),
            Some("secret"),
            key,
            "it is not encrypted: remove \
            'client_key_password'"
                .to_owned(),
        ),
        (
            &cert,
            openssl,
            None,
            key,
            format!("its encryption is the older one of OpenSSL: {convert}"),
        ),
        (
            &first,
            plain.as_str(),
            None,
            pem,
            "it is an X.509 certificate of version 1, and TLS needs \
            version 3: issue it again with extensions, as `openssl x509 -req -extfile` \
            does"
                .to_owned(),
        ),
        (
            &cert,
            other.as_str(),
            None,
            pem,
            format!(
                "the key in {} does not belong to it",
                files.0.path().join(key).display()
            ),
        ),
    ] {
        let endpoint = HttpEndpoint {
            client_cert: Some(ClientCertificate {
                certificate: files.write(pem, certificate),
                key: files.write(key, private),
                password: given.map(|given| files.write(password, given)),
            }),
            ..HttpEndpoint::new("https://functions")
        };
        let error = HttpInvoker::new(&endpoint).unwrap_err().to_string();
        let file = files.0.path().join(file);
        assert_eq!(error, format!("{}: {problem}", file.display()));
    }
}

#[tokio::test]
async fn an_authoritys_certificate_in_the_servers_place_is_named_with_what_to_do() {
    let files = Files(tempfile::tempdir().unwrap());
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signing_key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    let authority = CertifiedKey { cert, signing_key };
    let endpoint = HttpEndpoint {
        trust_cacerts: Some(files.write("authorities.pem", &authority.cert.pem())),
        ..HttpEndpoint::new(serve(&authority, None).await)
    };
    let outcome = invoke(endpoint).await;
    let BundleOutcome::Failed(Failure { kind, message, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(kind, FailureKind::Unavailable);
    let advice = "the server presents the certificate of an authority as its own; issue a server \
        certificate with that authority (basicConstraints CA:FALSE), and trust the authority by \
        'trust_cacerts'";
    assert!(message.ends_with(advice), "{message}");
}
