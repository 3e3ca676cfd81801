"""Looks with the AWS SDK at what the example made in the stand-in, or left there: `made.py made` and `made.py unmade`."""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

CONFIG = Config(s3={"addressing_style": "path"})
BUCKET = "satchel-state-of-a-test"


def client(service):
    return boto3.client(service, config=CONFIG)


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, which should be {wanted!r}")


def made():
    s3 = client("s3")
    expect("versioning", s3.get_bucket_versioning(Bucket=BUCKET)["Status"], "Enabled")
    rules = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    expect(
        "lifecycle rules",
        {rule["ID"]: (rule["Filter"].get("Prefix", ""), rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays")) for rule in rules},
        {
            "abort-incomplete-uploads": ("", None),
            "forget-deleted-objects": ("", 7),
            "forget-replaced-snapshots-fraud-detection-0": ("fraud-detection/partitions/0/snapshots/", 1),
        },
    )
    policy = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
    expect("the bucket's policy", [statement["Sid"] for statement in policy["Statement"]], ["TlsOnly", "CreateOnly"])

    table = client("dynamodb").describe_table(TableName="fraud-detection-leases")["Table"]
    expect("the table's key", table["KeySchema"], [{"AttributeName": "pk", "KeyType": "HASH"}])

    streams = client("kinesis").list_streams()["StreamNames"]
    expect("streams", sorted(streams), ["alerts", "fraud-confirmations", "transactions"])

    function = client("lambda")
    alias = function.get_alias(FunctionName="fraud-detection", Name="live")
    expect("the alias's version", alias["FunctionVersion"], "1")
    version = function.get_function(FunctionName="fraud-detection", Qualifier="1")["Configuration"]
    expect("the function", (version["Runtime"], version["Architectures"]), ("provided.al2023", ["arm64"]))

    ecs = client("ecs")
    service = ecs.describe_services(cluster="fraud-detection", services=["fraud-detection"])["services"][0]
    expect("tasks", service["desiredCount"], 2)
    task = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    container = task["containerDefinitions"][0]
    expect("the command", container["command"][:5], ["run", "--module", "/etc/satchel/module.yaml", "--state", f"s3://{BUCKET}/fraud-detection"])
    expect("the container's user", container["user"], "65532:65532")

    environment = {variable["name"]: variable["value"] for variable in container["environment"]}
    expect("metrics", environment["SATCHEL_EMF"], "true")

    cloudwatch = client("cloudwatch")
    alarms = {alarm["AlarmName"]: alarm for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    names = ["commits-slow", "dead-letters", "endpoint-down", "ingress-lag", "memory", "no-owner", "restarting", "tasks-failing"]
    expect("alarms", sorted(alarms), [f"fraud-detection-{name}" for name in names])
    expect("silence", alarms["fraud-detection-no-owner"]["TreatMissingData"], "breaching")
    expect("the dimension", alarms["fraud-detection-no-owner"]["Dimensions"], [{"Name": "Application", "Value": "fraud-detection"}])
    dashboard = json.loads(cloudwatch.get_dashboard(DashboardName="fraud-detection")["DashboardBody"])
    expect("widgets", [widget["type"] for widget in dashboard["widgets"]], ["alarm"] + 8 * ["metric"])
    events = client("events")
    targets = events.list_targets_by_rule(Rule="fraud-detection-task-failures")["Targets"]
    group = client("logs").describe_log_groups(logGroupNamePrefix="/aws/events/")["logGroups"][0]
    expect("the log of ended tasks", [target["Arn"] for target in targets], [group["arn"].removesuffix(":*")])

    role = client("iam").get_role_policy(RoleName="fraud-detection-coordinator", PolicyName="coordinator")
    found = {statement["Sid"]: statement["Resource"] for statement in role["PolicyDocument"]["Statement"]}
    stream = "arn:aws:kinesis:eu-central-1:123456789012:stream/"
    expect("what may be invoked", found["Invoke"], [alias["AliasArn"]])
    expect("what is written", found["StreamsWrite"], [f"{stream}alerts"])
    expect("permissions", sorted(found), ["Invoke", "Leases", "StateList", "StateObjects", "StreamsRead", "StreamsWrite"])


def unmade():
    expect("buckets", client("s3").list_buckets()["Buckets"], [])
    expect("tables", client("dynamodb").list_tables()["TableNames"], [])
    expect("streams", client("kinesis").list_streams()["StreamNames"], [])
    expect("functions", client("lambda").list_functions()["Functions"], [])
    expect("repositories", client("ecr").describe_repositories()["repositories"], [])
    expect("log groups", client("logs").describe_log_groups()["logGroups"], [])
    expect("alarms", client("cloudwatch").describe_alarms()["MetricAlarms"], [])
    expect("dashboards", client("cloudwatch").list_dashboards()["DashboardEntries"], [])
    expect("rules", client("events").list_rules()["Rules"], [])
    expect("roles", client("iam").list_roles()["Roles"], [])
    ecs = client("ecs")
    try:
        arns = ecs.list_services(cluster="fraud-detection")["serviceArns"]
        services = ecs.describe_services(cluster="fraud-detection", services=arns)["services"] if arns else []
    except ClientError as error:
        expect("the cluster", error.response["Error"]["Code"], "ClusterNotFoundException")
        services = []
    # What was deleted goes on being listed for a while, as such.
    expect("services", [service["serviceName"] for service in services if service["status"] != "INACTIVE"], [])


if __name__ == "__main__":
    {"made": made, "unmade": unmade}[sys.argv[1]]()
