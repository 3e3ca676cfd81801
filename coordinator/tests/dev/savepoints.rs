//! Savepoints over the administration port, of an application of two partitions.

use reqwest::Method;
use satchel_testkit::{Reply, Setup};
use serde_json::{Value, json};

use crate::offline::roots::state_of;
use crate::offline::tool::tool;

const MODULE: &str = "kind: io.statefun.endpoints.v2/http
spec: {functions: example/*, urlPathTemplate: 'http://127.0.0.1:9/'}
";

fn refused(reply: &Reply) -> (u16, String) {
    (reply.status, reply.error_code())
}

#[tokio::test(flavor = "multi_thread")]
async fn savepoints_are_made_listed_and_deleted_and_the_tools_on_the_root_see_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("module.yaml");
    std::fs::write(&file, MODULE).unwrap();
    let setup = Setup::of(&file).env("SATCHEL_PARTITIONS", "2");
    let mut app = setup.start().await;
    let client = app.client.clone();
    let ask = async |method: Method, path: &str| {
        let path = format!("/api/savepoints{path}");
        client.admin(method, &path).await
    };
    let list = async || ask(Method::GET, "").await.json();
    let nothing = json!({"savepoints": [], "creating": null, "failed": null});
    assert_eq!(list().await, nothing);
    for id in 0..8 {
        let sent = client
            .send(&format!("example/greeter/{id}"), &json!(id))
            .await;
        assert_eq!(sent.status, 202);
    }

    let made = ask(Method::POST, "?name=monday&comment=before%20the%20change").await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    assert_eq!(made["savepoint"], "monday");
    assert_eq!(made["comment"], "before the change");
    assert_eq!(
        (&made["partitions"], &made["complete"]),
        (&json!([0, 1]), &json!(true))
    );
    let again = ask(Method::POST, "?name=monday").await;
    assert_eq!(refused(&again), (409, "refused".to_owned()));
    let listed = list().await;
    assert_eq!(listed["savepoints"], json!([made]), "the first one stays");
    assert_eq!(listed["failed"]["savepoint"], "monday");
    assert_eq!(ask(Method::POST, "?name=tuesday").await.status, 201);

    // As the tools see it, while the application is running.
    let printed = tool(&state_of(&setup), &["savepoint", "list"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let lines = printed
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let names: Vec<_> = lines
        .map(|line| (line["savepoint"].clone(), line["partition"].clone()))
        .collect();
    let expected = [("monday", 0), ("monday", 1), ("tuesday", 0), ("tuesday", 1)];
    assert_eq!(
        names,
        expected.map(|(name, partition)| (json!(name), json!(partition)))
    );

    assert_eq!(ask(Method::DELETE, "/monday").await.status, 200);
    let gone = ask(Method::DELETE, "/monday").await;
    assert_eq!(refused(&gone), (404, "not_found".to_owned()));
    // What a creator that died has left in one partition.
    std::fs::remove_file(state_of(&setup).join("partitions/1/savepoints/tuesday")).unwrap();
    let listed = list().await;
    let left = &listed["savepoints"][0];
    assert_eq!(
        (&left["savepoint"], &left["complete"]),
        (&json!("tuesday"), &json!(false))
    );
    assert_eq!(ask(Method::DELETE, "/tuesday").await.status, 200);
    assert_eq!(list().await["savepoints"], json!([]));
    let log = app.printed();
    assert!(log.contains("savepoint created"), "{log}");
    assert_eq!(app.terminate().await.code, Some(0));
}
