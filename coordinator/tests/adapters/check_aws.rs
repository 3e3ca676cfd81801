//! `satchel validate --check-aws` against an endpoint that denies one action at a time.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Application with everything that Satchel uses in AWS.
const MODULE: &str = "
kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: handler}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/in
  consumer: {type: fan-out, name: mine}
  streams:
    - {stream: in, valueType: example/name, targets: [example/greeter]}
---
kind: satchel.sqs.v1/ingress
spec:
  id: example/tasks
  queueUrl: https://sqs.us-east-1.amazonaws.com/1/tasks
  valueType: example/name
  targets: [example/greeter]
  targetId: $messageId
---
kind: io.statefun.kinesis.v1/egress
spec: {id: example/records, delivery: exactly-once}
---
kind: io.statefun.kinesis.v1/egress
spec: {id: example/ordered, ordering: strict}
---
kind: satchel.sqs.v1/egress
spec: {id: example/queue, queueUrl: 'https://sqs.us-east-1.amazonaws.com/1/out'}
---
kind: satchel.sns.v1/egress
spec: {id: example/topic, topicArn: 'arn:aws:sns:us-east-1:1:news'}
---
kind: satchel.eventbridge.v1/egress
spec: {id: example/bus, eventBus: orders, source: example}
---
kind: satchel.dynamodb.v1/egress
spec: {id: example/table, table: orders, partitionKey: {name: pk, from: $id}}
---
kind: satchel.lambda.v1/egress
spec:
  id: example/function
  functionName: notify
  awsCredentials: {type: assume-role, roleArn: 'arn:aws:iam::1:role/caller'}
";

/// Number of things that are checked.
const CHECKED: usize = 14;

/// Actions that a start needs, by what to look for in the line of a denial. Where several things
/// need one, the line's number is how many.
const ACTIONS: [(&str, &str, usize); 29] = [
    ("lambda:InvokeFunction handler", "Lambda handler", 1),
    ("lambda:InvokeFunction notify", "Lambda notify", 1),
    ("sts:AssumeRole", "arn:aws:iam::1:role/caller", 1),
    ("kinesis:DescribeStreamSummary", "DescribeStreamSummary", 1),
    ("kinesis:ListShards in", "ListShards", 1),
    ("kinesis:GetShardIterator in", "GetShardIterator", 1),
    ("kinesis:GetRecords in", "GetRecords", 1),
    ("kinesis:ListShards out", "ListShards", 1),
    ("kinesis:GetRecords out", "GetRecords", 1),
    (
        "kinesis:RegisterStreamConsumer",
        "RegisterStreamConsumer",
        1,
    ),
    (
        "kinesis:DescribeStreamConsumer",
        "DescribeStreamConsumer",
        1,
    ),
    ("kinesis:SubscribeToShard", "SubscribeToShard", 1),
    ("kinesis:PutRecords", "PutRecords", 1),
    ("kinesis:PutRecord", "PutRecord", 1),
    ("sqs:ReceiveMessage", "ReceiveMessage", 1),
    ("sqs:DeleteMessage", "DeleteMessage", 1),
    ("sqs:ChangeMessageVisibility", "ChangeMessageVisibility", 1),
    ("sqs:SendMessage", "SendMessage", 1),
    ("sns:Publish", "Publish", 1),
    ("events:PutEvents", "PutEvents", 1),
    ("dynamodb:PutItem orders", "table orders", 1),
    ("dynamodb:PutItem leases", "lease table leases", 1),
    ("dynamodb:GetItem leases", "lease table leases", 1),
    ("dynamodb:Query commits", "log table commits: ", 1),
    ("dynamodb:GetItem commits", "log table commits: ", 1),
    ("dynamodb:PutItem commits", "log table commits: ", 1),
    ("dynamodb:DeleteItem commits", "log table commits: ", 1),
    ("dynamodb:BatchWriteItem commits", "BatchWriteItem", 1),
    ("secretsmanager:GetSecretValue", "--admin-token-secret", 1),
];

/// Actions on the bucket, with the words of their lines.
const STATE_ACTIONS: [(&str, &str); 4] = [
    ("s3:ListBucket", "listing"),
    ("s3:GetObject", "reading"),
    ("s3:PutObject", "writing"),
    ("s3:DeleteObject", "removing"),
];

/// A stand-in for every service of AWS.
#[derive(Debug, Default)]
struct Services {
    /// Action that is denied.
    denied: String,
    /// Objects of the bucket.
    objects: BTreeMap<String, Vec<u8>>,
    /// Actions that were tried.
    tried: BTreeMap<String, u32>,
    /// Requests that changed something, or would have.
    changes: Vec<String>,
}

struct Endpoint {
    url: String,
    services: Arc<Mutex<Services>>,
}

impl Endpoint {
    async fn start() -> Self {
        let services = Arc::new(Mutex::new(Services::default()));
        let answering = Arc::clone(&services);
        let router = Router::new().fallback(async move |request: Request| {
            let (head, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            answering.lock().unwrap().answer(&head, &body)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, services }
    }
}

fn respond(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

fn json_answer(value: &Value) -> Response<Body> {
    respond(
        200,
        &[("content-type", "application/x-amz-json-1.1")],
        value.to_string(),
    )
}

fn refusal(code: &str) -> Response<Body> {
    let body = json!({"__type": code, "Message": "the stand-in refuses"});
    respond(400, &[("x-amzn-errortype", code)], body.to_string())
}

fn xml_refusal(status: u16, code: &str) -> Response<Body> {
    let body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>the stand-in refuses</Message></Error></ErrorResponse>"
    );
    respond(status, &[("content-type", "text/xml")], body)
}

impl Services {
    fn answer(&mut self, head: &axum::http::request::Parts, body: &[u8]) -> Response<Body> {
        let target = head.headers.get("x-amz-target");
        if let Some(target) = target.map(|target| target.to_str().unwrap()) {
            let (service, operation) = target.split_once('.').unwrap();
            let body: Value = serde_json::from_slice(body).unwrap();
            return self.json(service, operation, &body);
        }
        let path = head.uri.path().to_owned();
        if let Some(function) = path.strip_prefix("/2015-03-31/functions/") {
            let function = function.strip_suffix("/invocations").unwrap();
            assert_eq!(head.headers["x-amz-invocation-type"], "DryRun");
            return match self.denies(&format!("lambda:InvokeFunction {function}")) {
                true => refusal("AccessDeniedException"),
                false => respond(204, &[], ""),
            };
        }
        let text = String::from_utf8_lossy(body).into_owned();
        if head.method == Method::POST && text.contains("Action=") {
            return self.query(&text);
        }
        self.s3(head, body)
    }

    /// Counts an attempt of an action. Returns whether it is denied.
    fn denies(&mut self, action: &str) -> bool {
        *self.tried.entry(action.to_owned()).or_default() += 1;
        let bare = action.split(' ').next().unwrap();
        self.denied == action || self.denied == bare
    }

    fn json(&mut self, service: &str, operation: &str, body: &Value) -> Response<Body> {
        let name = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let prefix = match service.split('_').next().unwrap() {
            "Kinesis" => "kinesis",
            "DynamoDB" => "dynamodb",
            "AmazonSQS" => "sqs",
            "AWSEvents" => "events",
            "secretsmanager" => "secretsmanager",
            other => panic!("{other} is not known"),
        };
        let iterator = name("ShardIterator");
        let of = match operation {
            "ListShards" | "GetShardIterator" => name("StreamName"),
            "GetRecords" => iterator,
            "GetItem" | "PutItem" | "Query" | "DeleteItem" => name("TableName"),
            "BatchWriteItem" => {
                let tables = body["RequestItems"].as_object().unwrap();
                tables.keys().next().unwrap().clone()
            }
            _ => String::new(),
        };
        let action = operation.strip_suffix("Batch").unwrap_or(operation);
        let action = format!("{prefix}:{action} {of}");
        if self.denies(action.trim_end()) {
            return refusal("AccessDeniedException");
        }
        let arn = "arn:aws:kinesis:us-east-1:1:stream/in";
        match operation {
            "DescribeStreamSummary" => json_answer(&json!({"StreamDescriptionSummary": {
                "StreamName": "in",
                "StreamARN": arn,
                "StreamStatus": "ACTIVE",
                "RetentionPeriodHours": 24,
                "StreamCreationTimestamp": 1.0,
                "EnhancedMonitoring": [],
                "OpenShardCount": 1,
            }})),
            "ListShards" => json_answer(&json!({"Shards": [{
                "ShardId": "shardId-000000000007",
                "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"},
                "SequenceNumberRange": {"StartingSequenceNumber": "1"},
            }]})),
            "GetShardIterator" => json_answer(&json!({"ShardIterator": name("StreamName")})),
            "GetRecords" => json_answer(&json!({"Records": [], "MillisBehindLatest": 0})),
            "DescribeStreamConsumer" => json_answer(&json!({"ConsumerDescription": {
                "ConsumerName": "mine",
                "ConsumerARN": format!("{arn}/consumer/mine:1"),
                "ConsumerStatus": "ACTIVE",
                "ConsumerCreationTimestamp": 1.0,
                "StreamARN": arn,
            }})),
            "RegisterStreamConsumer" if ["mine", ""].contains(&&*name("ConsumerName")) => {
                refusal("ResourceInUseException")
            }
            "SubscribeToShard" if name("ShardId") != "shardId-000000000007" => {
                refusal("ResourceNotFoundException")
            }
            "PutRecords" if body["Records"][0]["PartitionKey"] == "" => {
                refusal("ValidationException")
            }
            "PutRecord" if body["PartitionKey"] == "" => refusal("ValidationException"),
            // A start needs none of these for what egresses write to.
            "DescribeTable" | "DescribeEventBus" => refusal("AccessDeniedException"),
            "GetQueueAttributes" if name("QueueUrl").ends_with("/out") => {
                refusal("AccessDeniedException")
            }
            "GetQueueAttributes" => json_answer(&json!({"Attributes": {}})),
            "ReceiveMessage" if body["MaxNumberOfMessages"] == 11 => {
                refusal("InvalidParameterValue")
            }
            "DeleteMessage" | "ChangeMessageVisibility" => refusal("ReceiptHandleIsInvalid"),
            "SendMessageBatch" if body["Entries"][0]["Id"] == body["Entries"][1]["Id"] => {
                refusal("AWS.SimpleQueueService.BatchEntryIdsNotDistinct")
            }
            "PutEvents" if body["Entries"][0]["Detail"] == "{" => json_answer(&json!({
                "FailedEntryCount": 1,
                "Entries": [{"ErrorCode": "MalformedDetail", "ErrorMessage": "not JSON"}],
            })),
            "GetItem" => json_answer(&json!({})),
            "Query" => json_answer(&json!({"Items": [], "Count": 0, "ScannedCount": 0})),
            // There is no such item.
            "BatchWriteItem" if body.to_string().contains("satchel validate") => {
                assert!(!body.to_string().contains("PutRequest"), "{body}");
                json_answer(&json!({"UnprocessedItems": {}}))
            }
            "DeleteItem" if body["ConditionExpression"].is_string() => {
                refusal("ConditionalCheckFailedException")
            }
            "PutItem" if body["ConditionExpression"].is_string() => {
                let condition = body["ConditionExpression"].as_str().unwrap();
                assert!(
                    condition.contains("attribute_") || condition.contains('='),
                    "{condition}"
                );
                refusal("ConditionalCheckFailedException")
            }
            "GetSecretValue" => json_answer(&json!({"Name": "token", "SecretString": "t"})),
            other => {
                self.changes.push(format!("{other} {body}"));
                json_answer(&json!({}))
            }
        }
    }

    /// SNS and STS.
    fn query(&mut self, text: &str) -> Response<Body> {
        if text.contains("Action=AssumeRole") {
            return match self.denies("sts:AssumeRole") {
                true => xml_refusal(403, "AccessDenied"),
                false => {
                    let body = "<AssumeRoleResponse><AssumeRoleResult><Credentials>\
                        <AccessKeyId>ASIAROLE</AccessKeyId>\
                        <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
                        <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>\
                        </AssumeRoleResult></AssumeRoleResponse>";
                    respond(200, &[("content-type", "text/xml")], body)
                }
            };
        }
        if text.contains("Action=GetTopicAttributes") {
            return xml_refusal(403, "AuthorizationError");
        }
        assert!(text.contains("Action=PublishBatch"), "{text}");
        match self.denies("sns:Publish") {
            true => xml_refusal(403, "AuthorizationError"),
            false => xml_refusal(400, "BatchEntryIdsNotDistinct"),
        }
    }

    fn s3(&mut self, head: &axum::http::request::Parts, body: &[u8]) -> Response<Body> {
        let query = head.uri.query().unwrap_or_default();
        let key = head.uri.path().trim_start_matches("/bucket/").to_owned();
        let action = match head.method {
            Method::GET if query.contains("list-type=2") => "s3:ListBucket",
            Method::GET => "s3:GetObject",
            Method::PUT => "s3:PutObject",
            _ => "s3:DeleteObject",
        };
        if self.denies(action) {
            let body = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
            return respond(403, &[("content-type", "application/xml")], body);
        }
        match action {
            "s3:ListBucket" => {
                let body = "<ListBucketResult><Name>bucket</Name><KeyCount>0</KeyCount>\
                    <MaxKeys>1</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>";
                respond(200, &[("content-type", "application/xml")], body)
            }
            "s3:GetObject" => match self.objects.get(&key) {
                Some(bytes) => respond(200, &[("etag", "\"e\"")], bytes.clone()),
                None => respond(404, &[], "<Error><Code>NoSuchKey</Code></Error>"),
            },
            "s3:PutObject" => {
                assert_eq!(head.headers["if-none-match"], "*");
                if self.objects.contains_key(&key) {
                    return respond(412, &[], "<Error><Code>PreconditionFailed</Code></Error>");
                }
                self.objects.insert(key, body.to_vec());
                respond(200, &[("etag", "\"e\"")], "")
            }
            _ => {
                let text = String::from_utf8_lossy(body).into_owned();
                self.objects.retain(|key, _| !text.contains(key.as_str()));
                let body = "<DeleteResult></DeleteResult>";
                respond(200, &[("content-type", "application/xml")], body)
            }
        }
    }
}

/// Exit code, lines of what is all right, and lines of problems.
fn validate(endpoint: &Endpoint, module: &std::path::Path) -> (Option<i32>, usize, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_satchel"));
    command.args(["validate", "--check-aws", "--state=s3://bucket/app"]);
    command.args([
        "--s3-path-style",
        "--lease-table=leases",
        "--application=orders",
    ]);
    command.arg("--commit-log=dynamodb:commits");
    command.args(["--egress-stream=out", "--admin-token-secret=token"]);
    command.arg(module).env_clear();
    let nothing = module.with_file_name("nothing");
    for (name, value) in [
        ("AWS_ENDPOINT_URL", &*endpoint.url),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDOFTHETEST"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_CONFIG_FILE", nothing.to_str().unwrap()),
        ("AWS_SHARED_CREDENTIALS_FILE", nothing.to_str().unwrap()),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ] {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let good = text(&output.stdout);
    let good = good.lines().filter(|line| line.starts_with("ok: "));
    let wrong = text(&output.stderr).lines().map(str::to_owned).collect();
    (output.status.code(), good.count(), wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_missing_permission_is_one_line_and_nothing_is_changed() {
    let endpoint = Endpoint::start().await;
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("module.yaml");
    std::fs::write(&module, MODULE).unwrap();
    std::fs::write(dir.path().join("nothing"), "").unwrap();
    let run = |denied: &str| {
        endpoint.services.lock().unwrap().denied = denied.to_owned();
        validate(&endpoint, &module)
    };
    let all_right = run("");
    assert_eq!(all_right, (Some(0), CHECKED, vec![]));

    let state = STATE_ACTIONS.map(|(action, word)| (action, word, 1));
    for (action, word, lines) in ACTIONS.into_iter().chain(state) {
        let (code, good, wrong) = run(action);
        assert_eq!(code, Some(5), "{action}: {wrong:?}");
        assert_eq!(wrong.len(), lines, "{action}: {wrong:?}");
        assert!(wrong[0].contains(word), "{action}: {wrong:?}");
        assert_eq!(good, CHECKED - 1, "{action}: {wrong:?}");
    }

    // Every action that was tried is one of those that were denied.
    let services = endpoint.services.lock().unwrap();
    let denied: Vec<&str> = ACTIONS.iter().map(|(action, ..)| *action).collect();
    let only_of_the_check = ["dynamodb:DescribeTable", "events:DescribeEventBus"];
    let twice = ["kinesis:GetShardIterator out", "sqs:GetQueueAttributes"];
    for action in services.tried.keys().map(String::as_str) {
        let known = denied.contains(&action)
            || STATE_ACTIONS.iter().any(|(known, _)| *known == action)
            || only_of_the_check.contains(&action)
            || twice.contains(&action)
            || action.ends_with("satchel validate");
        assert!(known, "{action} is tried, and its denial is not");
    }
    assert_eq!(services.changes, [] as [String; 0]);
    assert_eq!(services.objects.len(), 1, "only where removing was denied");
}
