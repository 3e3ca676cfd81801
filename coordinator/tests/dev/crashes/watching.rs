//! `--watch`: the code of a running application changes.

use std::fs;
use std::path::{Path, PathBuf};

use satchel_testkit::{Setup, example, until_true, workspace};
use serde_json::json;

#[tokio::test]
async fn a_changed_source_is_built_and_served_and_the_state_is_kept() {
    let package = Package::copied_from_the_greeter();
    let app = Setup::of(&package.dir)
        .arg("--watch")
        // The dependencies are already built there.
        .env("CARGO_TARGET_DIR", target_dir().to_str().unwrap())
        .start()
        .await;
    let greeted = async |id: &str| {
        let address = format!("example/greeter/{id}");
        let reply = app.client.call(&address, &json!({"name": "Alice"})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        (
            reply.json()["greeting"].as_str().unwrap().to_owned(),
            reply.json()["seen"].as_i64().unwrap(),
        )
    };
    let before = "Hello Alice, nice to meet you.".to_owned();
    assert_eq!(greeted("alice").await, (before, 1));

    package.replace("nice to meet you", "how good to see you");
    let mut strangers = 0;
    until_true("the new code answers", async || {
        strangers += 1;
        let (greeting, _) = greeted(&format!("stranger-{strangers}")).await;
        greeting == "Hello Alice, how good to see you."
    })
    .await;
    let again = "Hello again Alice.".to_owned();
    assert_eq!(greeted("alice").await, (again, 2));
}

/// A copy of the greeter, always in the same place, so that cargo finds earlier builds of it.
struct Package {
    dir: PathBuf,
}

impl Package {
    fn copied_from_the_greeter() -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("watched");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("src")).unwrap();
        fs::write(dir.join("Cargo.toml"), manifest()).unwrap();
        fs::copy(workspace().join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
        let module = fs::read_to_string(example("greeter").join("module.yaml")).unwrap();
        let module = module.replace("functionName: greeter", "functionName: watched");
        fs::write(dir.join("module.yaml"), module).unwrap();
        let functions = fs::read_to_string(example("greeter").join("src/lib.rs")).unwrap();
        let main = "fn main() -> std::process::ExitCode {
    satchel_function_handler::run(functions())
}
";
        fs::write(dir.join("src/main.rs"), format!("{functions}\n{main}")).unwrap();
        Self { dir }
    }

    fn replace(&self, old: &str, new: &str) {
        let main = self.dir.join("src/main.rs");
        let source = fs::read_to_string(&main).unwrap();
        assert!(source.contains(old));
        fs::write(main, source.replace(old, new)).unwrap();
    }
}

fn manifest() -> String {
    let workspace = workspace().canonicalize().unwrap();
    let root = fs::read_to_string(workspace.join("Cargo.toml")).unwrap();
    // The same profiles, so that the dependencies need not be rebuilt.
    let profiles = &root[root.find("[profile.").unwrap()..];
    format!(
        r#"[package]
name = "watched"
version = "0.1.0"
edition = "2024"

[dependencies]
satchel-function-handler = {{ path = {handler:?} }}
satchel-sdk = {{ path = {sdk:?} }}
serde = {{ version = "1", features = ["derive"] }}

[workspace]

{profiles}"#,
        handler = workspace.join("function-handler"),
        sdk = workspace.join("sdk"),
    )
}

/// Target directory of this test.
fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}
