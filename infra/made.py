"""Looks with the AWS SDK at what an example made in the stand-in, or left there.

  made.py made EXAMPLE      what examples/EXAMPLE makes is there
  made.py scaled EXAMPLE    its number of tasks follows the load, up to eight
  made.py scale-out EXAMPLE sets its number of tasks to five, as scaling would
  made.py unmade EXAMPLE    nothing of it is left
"""

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


# What the examples differ in. The name of an example is that of its application too.
EXAMPLES = {
    "fraud-detection": {
        "zones": 2,
        "tasks": 2,
        "partitions": None,
        "stop_timeout": 35,
        "streams": ["alerts", "fraud-confirmations", "transactions"],
        "permissions": ["StreamsRead", "StreamsWrite"],
        "alarms": [],
    },
    "spread": {
        "zones": 3,
        "tasks": 3,
        "partitions": 8,
        "stop_timeout": 70,
        "streams": [],
        "permissions": [],
        "alarms": ["partitions-failing", "partitions-unowned"],
    },
}


def made(name):
    example = EXAMPLES[name]
    made_data(name, example)
    alias = made_function(name)
    made_service(name, example)
    made_alarms(name, example)
    made_permissions(name, example, alias)


def made_data(name, example):
    s3 = client("s3")
    expect("versioning", s3.get_bucket_versioning(Bucket=BUCKET)["Status"], "Enabled")
    rules = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    expect(
        "lifecycle rules",
        {
            rule["ID"]: (
                rule["Filter"].get("Prefix", ""),
                rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"),
            )
            for rule in rules
        },
        {
            "abort-incomplete-uploads": ("", None),
            "forget-deleted-objects": ("", 7),
            **{
                f"forget-replaced-snapshots-{name}-{partition}": (
                    f"{name}/partitions/{partition}/snapshots/",
                    1,
                )
                for partition in range(example["partitions"] or 1)
            },
        },
    )
    policy = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
    sids = [statement["Sid"] for statement in policy["Statement"]]
    expect("the bucket's policy", sids, ["TlsOnly", "CreateOnly"])

    table = client("dynamodb").describe_table(TableName=f"{name}-leases")["Table"]
    expect("the table's key", table["KeySchema"], [{"AttributeName": "pk", "KeyType": "HASH"}])

    streams = client("kinesis").list_streams()["StreamNames"]
    expect("streams", sorted(streams), example["streams"])


def made_function(name):
    """Checks the function. Returns its alias."""
    function = client("lambda")
    alias = function.get_alias(FunctionName=name, Name="live")
    expect("the alias's version", alias["FunctionVersion"], "1")
    version = function.get_function(FunctionName=name, Qualifier="1")["Configuration"]
    found = (version["Runtime"], version["Architectures"])
    expect("the function", found, ("provided.al2023", ["arm64"]))
    return alias["AliasArn"]


def made_service(name, example):
    ecs = client("ecs")
    service = ecs.describe_services(cluster=name, services=[name])["services"][0]
    expect("tasks", service["desiredCount"], example["tasks"])
    network = service["networkConfiguration"]["awsvpcConfiguration"]
    expect("zones", len(network["subnets"]), example["zones"])

    definition = service["taskDefinition"]
    task = ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]
    container = task["containerDefinitions"][0]
    command = container["command"]
    wanted = ["run", "--module", "/etc/satchel/module.yaml", "--state", f"s3://{BUCKET}/{name}"]
    expect("the command", command[:5], wanted)
    expect("the peer port", value_of(command, "--peer"), "0.0.0.0:8082")
    partitions = value_of(command, "--partitions")
    expect("partitions", partitions and int(partitions), example["partitions"])
    expect("the time to stop", container["stopTimeout"], example["stop_timeout"])
    expect("the container's user", container["user"], "65532:65532")
    environment = {variable["name"]: variable["value"] for variable in container["environment"]}
    expect("metrics", environment["SATCHEL_EMF"], "true")

    (group,) = network["securityGroups"]
    rules = client("ec2").describe_security_group_rules(
        Filters=[{"Name": "group-id", "Values": [group]}]
    )["SecurityGroupRules"]
    among = [
        (rule["FromPort"], rule["ToPort"])
        for rule in rules
        if not rule["IsEgress"] and rule.get("ReferencedGroupInfo", {}).get("GroupId") == group
    ]
    expect("ports between tasks", among, [(8080, 8082)])

    (target_group,) = client("elbv2").describe_target_groups()["TargetGroups"]
    found = (target_group["HealthCheckPath"], target_group["HealthCheckPort"])
    expect("the balancer's health check", found, ("/readyz/traffic", "8081"))


def value_of(command, flag):
    return command[command.index(flag) + 1] if flag in command else None


def made_alarms(name, example):
    cloudwatch = client("cloudwatch")
    alarms = {alarm["AlarmName"]: alarm for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    names = [
        "commits-slow",
        "dead-letters",
        "endpoint-down",
        "ingress-lag",
        "memory",
        "no-owner",
        "restarting",
        "tasks-failing",
        *example["alarms"],
    ]
    expect("alarms", sorted(alarms), sorted(f"{name}-{alarm}" for alarm in names))
    no_owner = alarms[f"{name}-no-owner"]
    expect("silence", no_owner["TreatMissingData"], "breaching")
    dimensions = [{"Name": "Application", "Value": name}]
    expect("the dimension", no_owner["Dimensions"], dimensions)
    expect("starts", alarms[f"{name}-restarting"]["Threshold"], 3 * example["tasks"])
    filters = client("logs").describe_metric_filters()["metricFilters"]
    counted = [
        (transformation["metricNamespace"], transformation["metricName"], found["logGroupName"])
        for found in filters
        for transformation in found["metricTransformations"]
    ]
    wanted = [(f"Satchel/{name}", "PartitionsFailed", f"/satchel/{name}")]
    expect("what is counted in the log", counted, wanted if example["partitions"] else [])
    dashboard = json.loads(cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"])
    kinds = [widget["type"] for widget in dashboard["widgets"]]
    expect("widgets", kinds, ["alarm"] + 8 * ["metric"])
    events = client("events")
    targets = events.list_targets_by_rule(Rule=f"{name}-task-failures")["Targets"]
    group = client("logs").describe_log_groups(logGroupNamePrefix="/aws/events/")["logGroups"][0]
    found = [target["Arn"] for target in targets]
    expect("the log of ended tasks", found, [group["arn"].removesuffix(":*")])


def made_permissions(name, example, alias):
    role = client("iam").get_role_policy(RoleName=f"{name}-coordinator", PolicyName="coordinator")
    statements = role["PolicyDocument"]["Statement"]
    found = {statement["Sid"]: statement for statement in statements}
    expect("what may be invoked", found["Invoke"]["Resource"], [alias])
    # The lease, the roster and the items of the tasks.
    keys = found["Leases"]["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
    expect("items of the lease table", keys, [f"{name}#*"])
    if "StreamsWrite" in example["permissions"]:
        stream = "arn:aws:kinesis:eu-central-1:123456789012:stream/"
        expect("what is written", found["StreamsWrite"]["Resource"], [f"{stream}alerts"])
    wanted = ["Invoke", "Leases", "StateList", "StateObjects", *example["permissions"]]
    expect("permissions", sorted(found), wanted)


def scaled(name):
    scaling = client("application-autoscaling")
    targets = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    found = [
        (target["ResourceId"], target["MinCapacity"], target["MaxCapacity"]) for target in targets
    ]
    expect("what is scaled", found, [(f"service/{name}/{name}", EXAMPLES[name]["tasks"], 8)])
    policies = scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
    found = [
        policy["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"]
        for policy in policies
    ]
    expect("by what", found, [{"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}])


def scale_out(name):
    client("ecs").update_service(cluster=name, service=name, desiredCount=5)


def unmade(name):
    expect("buckets", client("s3").list_buckets()["Buckets"], [])
    expect("tables", client("dynamodb").list_tables()["TableNames"], [])
    expect("streams", client("kinesis").list_streams()["StreamNames"], [])
    expect("functions", client("lambda").list_functions()["Functions"], [])
    expect("repositories", client("ecr").describe_repositories()["repositories"], [])
    expect("log groups", client("logs").describe_log_groups()["logGroups"], [])
    expect("alarms", client("cloudwatch").describe_alarms()["MetricAlarms"], [])
    expect("dashboards", client("cloudwatch").list_dashboards()["DashboardEntries"], [])
    scaling = client("application-autoscaling")
    targets = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    expect("scaled services", targets, [])
    expect("rules", client("events").list_rules()["Rules"], [])
    expect("roles", client("iam").list_roles()["Roles"], [])
    ecs = client("ecs")
    try:
        arns = ecs.list_services(cluster=name)["serviceArns"]
        described = ecs.describe_services(cluster=name, services=arns) if arns else {}
        services = described.get("services", [])
    except ClientError as error:
        expect("the cluster", error.response["Error"]["Code"], "ClusterNotFoundException")
        services = []
    # A deleted service is listed for a while, as such.
    left = [service["serviceName"] for service in services if service["status"] != "INACTIVE"]
    expect("services", left, [])


if __name__ == "__main__":
    CHECKS = {"made": made, "scaled": scaled, "scale-out": scale_out, "unmade": unmade}
    CHECKS[sys.argv[1]](sys.argv[2])
