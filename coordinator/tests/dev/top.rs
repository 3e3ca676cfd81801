//! `satchel top` in a pseudo terminal, beside a real application.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use satchel_testkit::{Dev, Setup, python_with, satchel, until, until_true};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Emulator of a terminal.
const PYTE: &str = "pyte==0.8.2";

const CONTROL_C: &str = "\u{3}";

/// `satchel top` in a terminal.
struct Terminal {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Terminal {
    fn start(columns: u16, rows: u16, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev/top/terminal.py");
        let mut command = Command::new(python_with(&[PYTE]));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SATCHEL_")) {
            command.env_remove(name);
        }
        let mut process = command
            .arg("-B")
            .arg(script)
            .args([columns.to_string(), rows.to_string()])
            .arg(satchel())
            .arg("top")
            .args(arguments)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: process.stdin.take().unwrap(),
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    fn ask(&mut self, what: &Value) -> Value {
        writeln!(self.input, "{what}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn press(&mut self, keys: &str) {
        self.ask(&json!({"keys": keys}));
    }

    fn screen(&mut self) -> String {
        let shown = self.ask(&json!({"show": true}));
        let lines = shown["screen"].as_array().unwrap().iter();
        let lines: Vec<&str> = lines.map(|line| line.as_str().unwrap()).collect();
        lines.join("\n")
    }

    /// Waits until the screen has all of these texts.
    async fn shows(&mut self, texts: &[&str]) -> String {
        until(&format!("the screen shows {texts:?}"), async || {
            let screen = self.screen();
            texts
                .iter()
                .all(|text| screen.contains(text))
                .then_some(screen)
        })
        .await
    }

    /// Waits until the command has ended. Returns its exit code and all that it wrote.
    async fn ended(&mut self) -> (i64, String) {
        let last = until("the command ends", async || {
            let shown = self.ask(&json!({"show": true}));
            (!shown["ended"].is_null()).then_some(shown)
        })
        .await;
        assert_eq!(
            last["cooked"], true,
            "the modes of the terminal are restored"
        );
        // The terminal may still have something of it.
        let last = match self.ask(&json!({"show": true})) {
            later if later["written"] != last["written"] => later,
            _ => last,
        };
        let written = last["written"].as_str().unwrap().to_owned();
        (last["ended"].as_i64().unwrap(), written)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asserts that the second screen was left and the cursor is visible.
fn assert_left(written: &str) {
    let last = |sequence: &str| written.rfind(sequence);
    let (entered, left) = (last("\u{1b}[?1049h").unwrap(), last("\u{1b}[?1049l"));
    assert!(left > Some(entered), "{written:?}");
    assert!(last("\u{1b}[?25h") > last("\u{1b}[?25l"), "{written:?}");
}

/// An application whose only endpoint is not there, at a port that stays over restarts.
struct Shop {
    app: Dev,
    url: String,
    _dir: TempDir,
}

impl Shop {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let module = dir.path().join("module.yaml");
        let text = "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: shop/*\n  \
                    urlPathTemplate: http://127.0.0.1:9/\n";
        std::fs::write(&module, text).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = free.local_addr().unwrap();
        drop(free);
        let setup = Setup::of(module)
            .arg(format!("--admin={admin}"))
            .arg("--application=shop")
            .arg("--partitions=2");
        Self {
            app: setup.start().await,
            url: format!("http://{admin}"),
            _dir: dir,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn top_follows_an_application_over_its_death_in_a_window_of_any_size() {
    let mut shop = Shop::start().await;
    let evil = "shop/order/%1B%5D0%3Bowned%07%1B%5B2J%E6%97%A5%E6%9C%AC";
    assert_eq!(
        shop.app
            .client
            .send(evil, &json!({"item": "pear"}))
            .await
            .status,
        202
    );
    let mut top = Terminal::start(100, 30, &["--admin-url", &shop.url, "--interval", "200ms"]);
    let shown = top
        .shows(&[
            "Endpoint http://127.0.0.1:9/ is down. Messages for its functions wait.",
            "Messages 0 /s",
            "unavailable: cannot",
            "this process",
        ])
        .await;
    assert!(shown.starts_with("shop serving · "), "{shown}");
    top.press("2");
    top.shows(&["shop/order", "endpoint down"]).await;
    top.press("/nothing");
    top.shows(&["filter: nothing█", "None of 1 matches the filter."])
        .await;
    top.press("\u{1b}");
    top.shows(&["shop/order", "? help"]).await;
    top.press("1");

    top.ask(&json!({"resize": [20, 5]}));
    let small = top.shows(&["shop serving", "? help"]).await;
    assert_eq!(small.lines().count(), 5, "{small}");
    top.ask(&json!({"resize": [300, 100]}));
    top.shows(&["Deliveries continue by themselves once it answers.", "1023"])
        .await;
    top.ask(&json!({"resize": [100, 30]}));

    shop.app.kill9().await;
    let lost = top.shows(&["shop unreachable", "cannot be reached"]).await;
    assert!(lost.contains("512 – 1023"), "what was loaded stays: {lost}");
    shop.app.restart().await;
    top.shows(&["shop serving", "Messages 0 /s"]).await;

    top.press("q");
    let (code, written) = top.ended().await;
    assert_eq!(code, 0, "{written:?}");
    assert_left(&written);
    for evil in ["\u{1b}]", "owned\u{7}", "\u{9b}"] {
        assert!(!written.contains(evil), "{written:?}");
    }
    assert_eq!(shop.app.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_end_top_restores_the_terminal() {
    let mut shop = Shop::start().await;
    let url = shop.url.clone();
    let (hangup, quit, terminate) = (1, 3, 15);
    for end in [
        json!({"keys": "q"}),
        json!({"keys": CONTROL_C}),
        json!({"keys": format!("/q{CONTROL_C}")}),
        json!({"signal": terminate}),
        json!({"signal": hangup}),
        json!({"signal": quit}),
    ] {
        let mut top = Terminal::start(80, 24, &["--admin-url", &url]);
        top.shows(&["shop serving"]).await;
        top.ask(&end);
        let (code, written) = top.ended().await;
        assert_eq!(code, 0, "{end}: {written:?}");
        assert_left(&written);
    }
    // A port at which nothing answers is an error before the screen is entered.
    assert_eq!(shop.app.terminate().await.code, Some(0));
    let mut top = Terminal::start(80, 24, &["--admin-url", &url]);
    let (code, written) = top.ended().await;
    assert_eq!(code, 5, "{written:?}");
    assert!(
        written.starts_with(&format!("satchel: {url} cannot be reached")),
        "{written:?}"
    );
    assert!(!written.contains('\u{1b}'), "{written:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_gets_one_plain_snapshot() {
    let mut shop = Shop::start().await;
    let sent = shop.app.client.send("shop/order/alice", &json!({})).await;
    assert_eq!(sent.status, 202);
    until_true("the endpoint is known to be down", async || {
        let mut command = Command::new(satchel());
        let output = command
            .args(["top", "--admin-url", &shop.url])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(
            text.starts_with("shop: serving, satchel 0.1.0, up "),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
        for part in [
            "\nMessages 0 /s · Calls 0 /s · ",
            "\nEndpoints\nENDPOINT  ",
            "\nFunctions\nFUNCTION    STATE",
            "\nEgresses\nNo module file names an egress.\n",
            "\nDead letters\nThere is no dead letter.\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        text.contains(
            "\n!! Endpoint http://127.0.0.1:9/ is down. Messages for its functions wait. See ",
        )
    })
    .await;
    assert_eq!(shop.app.terminate().await.code, Some(0));
}
