//! Stories of messages: the fraud example over its four functions, through a kill of the owner.

use std::collections::BTreeMap;
use std::process::Command;

use reqwest::Method;
use satchel_testkit::{Dev, HeldService, Setup, example, satchel, until};
use serde_json::{Value, json};

/// Answer of the scoring service for a merchant that is not trusted.
const TRUST: &str = r#"{"trust":5.0}"#;

/// Outline of the tree of a transaction that raises an alert, if the merchant's score came last and
/// caused the question to the model.
const WHOLE: &str = "\
fraud/transaction-manager/tx-1 done
  fraud/count/acc-1 done
    fraud/transaction-manager/tx-1 done
  fraud/merchant-scorer/shady-goods done
    fraud/transaction-manager/tx-1 done
      fraud/model/tx-1 done
        fraud/transaction-manager/tx-1 done
          CALLER replied
          fraud/alerts left
";

/// The same if the account's count came last.
const COUNTED_LAST: &str = "\
fraud/transaction-manager/tx-1 done
  fraud/count/acc-1 done
    fraud/transaction-manager/tx-1 done
      fraud/model/tx-1 done
        fraud/transaction-manager/tx-1 done
          CALLER replied
          fraud/alerts left
  fraud/merchant-scorer/shady-goods done
    fraud/transaction-manager/tx-1 done
";

/// Part of the first tree from the merchant on, as a process knows it that took over meanwhile.
const REST: &str = "\
fraud/merchant-scorer/shady-goods done
  fraud/transaction-manager/tx-1 done
    fraud/model/tx-1 done
      fraud/transaction-manager/tx-1 done
        CALLER replied
        fraud/alerts left
";

fn shady() -> Value {
    json!({"account": "acc-1", "merchant": "shady-goods", "amount_cents": 900_000})
}

async fn started(service: &HeldService) -> Dev {
    let setup = Setup::of(example("fraud-detection"));
    let setup = setup.env("SCORING_SERVICE_URL", service.url());
    setup.start().await
}

async fn trace(app: &Dev, id: &str) -> Value {
    let reply = app
        .client
        .admin(Method::GET, &format!("/api/traces/{id}"))
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// Hops as lines, children below their parents in the order of their targets. A hop whose parent is
/// not known stands at the top.
fn outline(trace: &Value) -> String {
    let hops = trace["hops"].as_array().unwrap();
    let spans: Vec<&str> = hops
        .iter()
        .map(|hop| hop["span"].as_str().unwrap())
        .collect();
    let mut children: BTreeMap<Option<&str>, Vec<&Value>> = BTreeMap::new();
    for hop in hops {
        let parent = hop["parent"].as_str().filter(|it| spans.contains(it));
        children.entry(parent).or_default().push(hop);
    }
    let mut text = String::new();
    write(&children, None, 0, &mut text);
    assert_eq!(
        text.lines().count(),
        hops.len(),
        "no hop is its own ancestor"
    );
    text
}

fn write(
    children: &BTreeMap<Option<&str>, Vec<&Value>>,
    parent: Option<&str>,
    depth: usize,
    text: &mut String,
) {
    let mut hops = children.get(&parent).cloned().unwrap_or_default();
    let target = |hop: &Value| {
        let target = hop["target"].as_str().unwrap();
        match target.starts_with("satchel/call/") {
            true => "CALLER".to_owned(),
            false => target.to_owned(),
        }
    };
    hops.sort_by_key(|hop| target(hop));
    for hop in hops {
        let state = hop["state"].as_str().unwrap();
        let indent = "  ".repeat(depth);
        text.push_str(&format!("{indent}{} {state}\n", target(hop)));
        write(children, hop["span"].as_str(), depth + 1, text);
    }
}

/// Waits until all hops of a trace are concluded, durably, and their number is this.
async fn concluded(app: &Dev, id: &str, hops: usize) -> Value {
    until("the trace is concluded", async || {
        let trace = trace(app, id).await;
        let known = trace["hops"].as_array().unwrap();
        let durable = known.iter().filter(|hop| hop["durable"] == true);
        (durable.count() == hops && known.len() == hops).then_some(trace)
    })
    .await
}

/// Prints a trace by the command line.
fn printed(app: &Dev, arguments: &[&str]) -> String {
    let output = Command::new(satchel())
        .arg("trace")
        .args(arguments)
        .env("SATCHEL_ADMIN_URL", app.client.admin_url())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_call_over_four_functions_is_one_tree_that_its_request_names() {
    let service = HeldService::answering(TRUST).await;
    service.release();
    let mut app = started(&service).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/call/fraud/transaction-manager/tx-1", app.client.url());
    let answer = client
        .post(url)
        .body(shady().to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let request = answer.headers()["satchel-request-id"].to_str().unwrap();
    let whole = concluded(&app, request, 9).await;
    let tree = outline(&whole);
    assert!([WHOLE, COUNTED_LAST].contains(&&*tree), "{tree}");
    let root = &whole["hops"][0];
    assert_eq!(
        (&root["id"], &root["parent"]),
        (&whole["trace"], &Value::Null)
    );
    for hop in whole["hops"].as_array().unwrap() {
        let steps = hop["steps"].as_array().unwrap();
        assert!(
            steps.is_sorted_by_key(|step| step["at_us"].as_u64()),
            "{hop}"
        );
        let by_message = trace(&app, hop["id"].as_str().unwrap()).await;
        assert_eq!(by_message["trace"], whole["trace"]);
    }
    let names: Vec<_> = root["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["step"])
        .collect();
    let ends = (names[0], names[names.len() - 1]);
    assert_eq!(ends, (&json!("received"), &json!("committed")));
    assert!(names.contains(&&json!("requested")), "{names:?}");

    let id = whole["trace"].as_str().unwrap();
    let tree = printed(&app, &[id]);
    assert!(tree.starts_with(&format!("{id}: 9 hops, ")), "{tree}");
    assert!(tree.contains("└ fraud/model/tx-1  done"), "{tree}");
    let as_json: Value = serde_json::from_str(&printed(&app, &[request, "--json"])).unwrap();
    assert_eq!(as_json, whole);
    let list = printed(&app, &["--function", "fraud/model", "--json"]);
    let entry: Value = serde_json::from_str(list.trim()).unwrap();
    let fields = ["trace", "hops", "pending", "failed", "first"].map(|name| entry[name].clone());
    let expected = json!([id, 9, 0, false, "fraud/transaction-manager/tx-1"]);
    assert_eq!(json!(fields), expected);
    assert_eq!(printed(&app, &["--failed"]), "");
    assert_eq!(app.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_tree_goes_on_under_the_next_owner_with_the_same_spans_and_parents() {
    let service = HeldService::answering(TRUST).await;
    let mut app = started(&service).await;
    let client = app.client.clone();
    let call = client
        .to_call("fraud/transaction-manager/tx-1")
        .json(&shady())
        .key("judge");
    let calling = tokio::spawn(async move { call.send_until_answered().await });
    // The scorer waits for its service, and all else is concluded, durably.
    let before = until("the scorer waits", async || {
        let list = app.client.admin(Method::GET, "/api/traces").await.json();
        let id = list["traces"][0]["trace"].as_str()?.to_owned();
        let trace = trace(&app, &id).await;
        let hops = trace["hops"].as_array()?;
        let count = hops.len();
        let durable = hops.iter().filter(|hop| hop["durable"] == true).count();
        let is_waiting = service.asked() > 0 && count == 4 && durable == 3;
        is_waiting.then_some(trace)
    })
    .await;
    app.kill9().await;
    service.release();
    app.restart().await;
    let answer = calling.await.unwrap();
    assert_eq!(answer.json()["alert"], true, "{answer:?}");
    let id = before["trace"].as_str().unwrap();
    let after = concluded(&app, id, 6).await;
    assert_eq!(outline(&after), REST);
    let scorer = |trace: &Value| {
        let hops = trace["hops"].as_array().unwrap();
        let found = hops
            .iter()
            .find(|hop| hop["target"] == "fraud/merchant-scorer/shady-goods");
        ["id", "span", "parent"].map(|name| found.unwrap()[name].clone())
    };
    assert_eq!(scorer(&after), scorer(&before));
    assert_eq!(scorer(&after)[2], before["hops"][0]["span"]);
    let recovered = after["hops"][0]["steps"].as_array().unwrap();
    assert!(recovered.iter().any(|step| step["step"] == "recovered"));
    let tree = printed(&app, &[id]);
    let parent = before["hops"][0]["span"].as_str().unwrap();
    assert!(
        tree.contains(&format!("span {parent} (not known here")),
        "{tree}"
    );
    assert_eq!(app.client.records_when("alerts", 1).await.len(), 1);
    assert_eq!(app.terminate().await.code, Some(0));
}
