//! Access control on the ports of the real binary: tokens, and TLS with a certificate of the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use satchel_testkit::{Dev, Setup, satchel, until};
use tempfile::TempDir;

/// Files with a certificate for localhost, its key, and two secrets.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = [
            ("cert.pem", cert.pem()),
            ("key.pem", signing_key.serialize_pem()),
            (
                "other-key.pem",
                KeyPair::generate().unwrap().serialize_pem(),
            ),
            ("traffic", "traffic-s3cret\n".to_owned()),
            ("admin", "admin-s3cret\n".to_owned()),
            (
                "module.yaml",
                "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: example/*\n  \
                 urlPathTemplate: http://127.0.0.1:9/\n"
                    .to_owned(),
            ),
        ];
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn flag(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.path(name).display())
    }

    /// An application without a handler, whose streams can be used.
    fn setup(&self) -> Setup {
        Setup::of(self.path("module.yaml"))
    }

    /// All access restrictions enabled.
    fn closed(&self) -> Setup {
        self.setup()
            .arg(self.flag("tls-cert", "cert.pem"))
            .arg(self.flag("tls-key", "key.pem"))
            .arg("--admin-tls")
            .arg(self.flag("http-token-file", "traffic"))
            .arg(self.flag("admin-token-file", "admin"))
    }
}

/// URL of a port in the banner, with the host name of the certificate.
async fn url(app: &Dev, port: &str) -> String {
    let find = || {
        let printed = app.printed();
        let mut lines = printed.lines();
        let url = lines.find_map(|line| line.strip_prefix(&format!("  {port} ")))?;
        Some(url.trim().replace("127.0.0.1", "localhost"))
    };
    until("the banner is printed", async || find()).await
}

/// Runs satchel as a client that trusts `authority`.
fn client(authority: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(satchel());
    command.args(arguments).env("SSL_CERT_FILE", authority);
    for variable in ["SATCHEL_TOKEN_FILE", "SATCHEL_ADMIN_TOKEN_FILE"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

fn parts(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_and_administration_require_a_trusted_certificate_and_a_token() {
    let files = Files::new();
    let mut app = files.closed().begin();
    let (traffic, admin) = (url(&app, "traffic").await, url(&app, "admin").await);
    assert!(traffic.starts_with("https://"), "{traffic}");
    assert!(admin.starts_with("https://"), "{admin}");
    let authority = files.path("cert.pem");
    let (right, wrong) = (files.path("traffic"), files.path("admin"));
    let put = |token: Option<&Path>, authority: &Path, traffic: &str| {
        let mut arguments = vec![
            "stream", "put", "names", "--key", "a", "--data", "b", "--url", traffic,
        ];
        arguments.extend(token.map(|_| "--token-file"));
        arguments.extend(token.map(|token| token.to_str().unwrap()));
        parts(&client(authority, &arguments))
    };

    let (code, text) = put(None, &authority, &traffic);
    assert!(
        code == Some(1) && text.contains("(unauthorized, HTTP 401)"),
        "{text}"
    );
    let (code, text) = put(Some(&wrong), &authority, &traffic);
    assert!(
        code == Some(1) && text.contains("the token is wrong"),
        "{text}"
    );
    let stranger = Files::new();
    let (code, text) = put(Some(&right), &stranger.path("cert.pem"), &traffic);
    assert!(code == Some(5) && text.contains("ertificate"), "{text}");
    let plain = traffic.replace("https://", "http://");
    let (code, text) = put(Some(&right), &authority, &plain);
    assert!(code == Some(5), "{text}");
    let (code, text) = put(Some(&right), &authority, &traffic);
    assert_eq!(code, Some(0), "{text}");

    // Exactly the accepted record is stored.
    let token = right.to_str().unwrap();
    let tail = [
        "stream",
        "tail",
        "names",
        "--no-follow",
        "--url",
        &traffic,
        "--token-file",
        token,
    ];
    assert_eq!(
        parts(&client(&authority, &tail)),
        (Some(0), "a\tb\n".to_owned())
    );

    let health = ["health", "--admin-url", &admin];
    assert_eq!(
        parts(&client(&authority, &health)),
        (Some(0), String::new())
    );
    let letter = "00".repeat(16);
    let drop_one = ["dead-letters", "drop", &letter, "--admin-url", &admin];
    let (code, text) = parts(&client(&authority, &drop_one));
    assert!(
        code == Some(1) && text.contains("(unauthorized, HTTP 401)"),
        "{text}"
    );
    let token = files.path("admin");
    let with_token = [
        &drop_one[..],
        &["--admin-token-file", token.to_str().unwrap()],
    ]
    .concat();
    let (code, text) = parts(&client(&authority, &with_token));
    assert!(
        code == Some(1) && text.contains("(not_found, HTTP 404)"),
        "{text}"
    );

    let printed = app.printed();
    assert!(!printed.contains("s3cret"), "{printed}");
    assert_eq!(app.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_of_the_banner_lets_a_page_change_things_and_is_nowhere_else() {
    let files = Files::new();
    let mut app = files.setup().begin();
    let admin = url(&app, "admin").await;
    let link = url(&app, "console").await;
    let (at, token) = link.split_once("/#token=").expect("a link with a token");
    assert_eq!(at, admin);
    assert_eq!(token.len(), 40);
    // As a page of this port sends it.
    let drop_one = async |token: Option<&str>, origin: Option<&str>| {
        let path = format!("{admin}/api/dead-letters/{}", "00".repeat(16));
        let mut request = reqwest::Client::new().delete(path);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.send().await.unwrap().status().as_u16()
    };
    let page = Some(admin.as_str());
    assert_eq!(drop_one(None, page).await, 401);
    assert_eq!(drop_one(Some("wrong"), page).await, 401);
    assert_eq!(
        drop_one(Some(token), page).await,
        404,
        "there is no such dead letter"
    );
    assert_eq!(drop_one(None, None).await, 404, "a program needs none");
    let printed = app.printed();
    assert_eq!(printed.matches(token).count(), 1, "{printed}");
    assert_eq!(app.terminate().await.code, Some(0));

    let mut other = files.setup().begin();
    let again = url(&other, "console").await;
    assert!(!again.contains(token), "each start has a token of its own");
    assert_eq!(other.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_files_are_named_without_revealing_their_content() {
    let files = Files::new();
    let cert = files.flag("tls-cert", "cert.pem");
    let key = files.flag("tls-key", "key.pem");
    fs::write(files.path("empty"), "\n").unwrap();
    let cases = [
        (
            [files.flag("tls-cert", "none.pem"), key.clone()],
            "--tls-cert",
        ),
        (
            [files.flag("tls-cert", "key.pem"), key.clone()],
            "--tls-cert",
        ),
        (
            [cert.clone(), files.flag("tls-key", "cert.pem")],
            "--tls-key",
        ),
        (
            [cert.clone(), files.flag("tls-key", "other-key.pem")],
            "--tls-key",
        ),
        (
            [
                files.flag("http-token-file", "empty"),
                "--ephemeral".to_owned(),
            ],
            "--http-token-file",
        ),
    ];
    for (flags, named) in cases {
        let mut setup = files.setup();
        for flag in &flags {
            setup = setup.arg(flag);
        }
        let ended = setup.run_to_end().await;
        assert_eq!(ended.code, Some(5), "{flags:?}: {}", ended.printed);
        assert!(
            ended.printed.contains(named),
            "{flags:?}: {}",
            ended.printed
        );
        assert!(
            !ended.printed.contains("PRIVATE KEY-----\n"),
            "{}",
            ended.printed
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_that_other_machines_reach_without_a_token_is_warned_of() {
    const WARNING: &str = "traffic port is open: every machine that reaches it may call";
    let files = Files::new();
    let token = files.flag("http-token-file", "traffic");
    for (address, token, warns) in [
        ("0.0.0.0", None, true),
        ("0.0.0.0", Some(token), false),
        ("127.0.0.1", None, false),
    ] {
        let setup = files.setup().arg(format!("--http={address}:0"));
        let setup = token.iter().fold(setup, |setup, token| setup.arg(token));
        let mut app = setup.begin();
        until("the ports are open", async || {
            app.has_opened().then_some(())
        })
        .await;
        assert_eq!(
            app.printed().contains(WARNING),
            warns,
            "{address} {token:?}"
        );
        app.kill9().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_token_file_is_refused_by_its_limit() {
    let files = Files::new();
    let setup = files.setup().arg("--http-token-file=/dev/zero");
    let ended = setup.run_to_end().await;
    assert_eq!(ended.code, Some(5), "{}", ended.printed);
    assert!(
        ended
            .printed
            .contains("--http-token-file /dev/zero: the file is larger than 65536 bytes"),
        "{}",
        ended.printed
    );
}
