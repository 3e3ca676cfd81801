//! Problems of the environment or of files are reported by name at the start.

use std::path::Path;

use super::*;

pub(super) async fn rejected(setup: Setup, code: i32, named: &[&str]) {
    let ended = setup.run_to_end().await;
    assert_eq!(ended.code, Some(code), "{}", ended.printed);
    for name in named {
        assert!(ended.printed.contains(name), "{name}: {}", ended.printed);
    }
    assert!(!ended.printed.contains(SECRET), "{}", ended.printed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_resources_are_named() {
    let aws = Aws::with_greeter().await;
    let setup = || aws.setup("10s");
    let absent = setup()
        .env("SATCHEL_CREATE_LEASE_TABLE", "false")
        .env("SATCHEL_LEASE_TABLE", "no-such-table");
    rejected(absent, 5, &["--lease-table", "no-such-table"]).await;
    let bucket = setup().env("SATCHEL_STATE", "s3://no-such-bucket/app");
    rejected(bucket, 5, &["no-such-bucket"]).await;
    let token = setup().env("SATCHEL_ADMIN_TOKEN_FILE", aws.nothing());
    rejected(token, 5, &["--admin-token-file", "nothing"]).await;
    let secret = setup().env("SATCHEL_ADMIN_TOKEN_SECRET", "no-such-secret");
    rejected(secret, 5, &["--admin-token-secret", "no-such-secret"]).await;
    let no_table = setup()
        .env("SATCHEL_LEASE_TABLE", "")
        .env("SATCHEL_CREATE_LEASE_TABLE", "false");
    rejected(no_table, 2, &["--lease-table"]).await;
    aws.stop().await;
}

/// Exit code of `validate --check-aws`, its list of valid resources, and its errors.
fn validated(
    module: &Path,
    arguments: &[&str],
    environment: Vec<(&'static str, String)>,
) -> (Option<i32>, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_satchel"));
    command.arg("validate").arg(module).arg("--check-aws");
    command.args(arguments).envs(environment);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A module file with every kind of AWS resource; `name` is the name of each.
fn of_each(name: &str) -> String {
    let account = "123456789012";
    format!(
        "
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/in
  streams:
    - {{stream: {name}, valueType: example/name, targets: [example/greeter]}}
---
kind: satchel.endpoints.v1/lambda
spec: {{functions: example/*, functionName: {name}}}
---
kind: satchel.sqs.v1/egress
spec: {{id: example/queue, queueUrl: 'https://sqs.us-east-1.amazonaws.com/{account}/{name}'}}
---
kind: satchel.sns.v1/egress
spec: {{id: example/topic, topicArn: 'arn:aws:sns:us-east-1:{account}:{name}'}}
---
kind: satchel.eventbridge.v1/egress
spec: {{id: example/bus, eventBus: {name}, source: example}}
---
kind: satchel.dynamodb.v1/egress
spec: {{id: example/table, table: {name}, partitionKey: {{name: pk, from: $id}}}}
---
kind: satchel.lambda.v1/egress
spec: {{id: example/function, functionName: {name}}}
"
    )
}

/// Prefixes under which the kinds of resources are listed.
const KINDS: [&str; 7] = [
    "Kinesis stream ",
    "Lambda ",
    "queue https://sqs.us-east-1.amazonaws.com/123456789012/",
    "topic arn:aws:sns:us-east-1:123456789012:",
    "event bus ",
    "table ",
    "Lambda ",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validate_checks_each_kind_of_resource_in_its_region() {
    let aws = Aws::with_greeter().await;
    aws.create_one_of_each("greeter").await;
    let module = aws.dir.path().join("of-each.yaml");
    std::fs::write(&module, of_each("greeter")).unwrap();
    let (code, good, wrong) = validated(&module, &[], aws.environment());
    assert_eq!((code, wrong.as_str()), (Some(0), ""), "{good}");
    for kind in KINDS {
        assert!(good.contains(&format!("{kind}greeter")), "{kind}: {good}");
    }
    std::fs::write(&module, of_each("absent")).unwrap();
    let (code, _, wrong) = validated(&module, &[], aws.environment());
    assert_eq!(code, Some(5), "{wrong}");
    for kind in KINDS {
        assert!(wrong.contains(&format!("{kind}absent")), "{kind}: {wrong}");
    }
    // They do not exist in another region; our Lambda server has no regions.
    std::fs::write(&module, of_each("greeter")).unwrap();
    let elsewhere = ("AWS_REGION", "eu-west-1".to_owned());
    let environment = [aws.environment(), vec![elsewhere]].concat();
    let (code, _, wrong) = validated(&module, &[], environment);
    assert_eq!(code, Some(5), "{wrong}");
    for kind in ["Kinesis stream ", "event bus ", "table "] {
        assert!(wrong.contains(&format!("{kind}greeter")), "{kind}: {wrong}");
    }
    aws.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validate_checks_all_named_resources_before_the_start() {
    let aws = Aws::with_greeter().await;
    // The first start creates the table.
    aws.setup("10s").start().await.terminate().await;
    let module = aws.dir.path().join("other.yaml");
    let text = "
kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: greeter, qualifier: live}
---
kind: satchel.endpoints.v1/lambda
spec: {functions: other/*, functionName: absent}
";
    std::fs::write(&module, text).unwrap();
    let validate = |state: &str, table: &str| {
        let arguments = ["--state", state, "--lease-table", table];
        validated(&module, &arguments, aws.environment())
    };
    let (code, good, wrong) = validate(&format!("s3://{BUCKET}/app"), "leases");
    assert_eq!(code, Some(5), "{wrong}");
    for named in ["Lambda greeter:live", "lease table leases", "state s3://"] {
        assert!(good.contains("ok: ") && good.contains(named), "{good}");
    }
    assert!(wrong.contains("absent") && wrong.contains("ResourceNotFoundException"));
    assert!(!wrong.contains("greeter:live"), "{wrong}");

    let (code, _, wrong) = validate("s3://no-such-bucket/app", "no-such-table");
    assert_eq!(code, Some(5));
    for named in ["no-such-bucket", "no-such-table", "absent"] {
        assert!(wrong.contains(named), "{wrong}");
    }
    assert!(!wrong.contains(SECRET));
    aws.stop().await;
}
