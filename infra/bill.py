"""Computes what the resources of a Terraform plan cost a month while the application is idle.

  terraform show -json PLAN | bill.py          prints the bill by position
  import bill; bill.positions(plan)            the positions, {name: dollars a month}

List prices of us-east-1, without free tiers, discounts and taxes. Only what is paid for while
nothing happens: commits, requests to functions, records and stored bytes are not in it; `satchel
cost` has those. A resource of a type that is not known here is an error and not free.
"""

import json
import math
import sys

HOURS = 730  # a month
SECONDS = HOURS * 3600

# Dollars, as of November 2026, from the price pages of the services
# (aws.amazon.com/SERVICE/pricing). The price of Spot is that of the page of Fargate, and changes.
FARGATE = {  # an hour: a vCPU, a GB of memory
    ("FARGATE", "ARM64"): (0.03238, 0.00356),
    ("FARGATE", "X86_64"): (0.04048, 0.004445),
    ("FARGATE_SPOT", "ARM64"): (0.01030969, 0.00113349),
    ("FARGATE_SPOT", "X86_64"): (0.01288871, 0.00141527),
}
PUBLIC_IPV4 = 0.005  # an address and hour
DYNAMODB_WRITE = 0.625e-6  # a request of up to 1 KB
DYNAMODB_READ = 0.125e-6  # a strongly consistent request of up to 4 KB
LOG_INGESTION = 0.50  # a GB
METRIC = 0.30  # a custom metric
ALARM = 0.10  # an alarm of standard resolution
DASHBOARD = 3.00
SHARD = 0.015  # an hour of a provisioned shard
STREAM_ON_DEMAND = 0.04  # an hour
NETWORK_LOAD_BALANCER = 0.0225  # an hour
NAT_GATEWAY = 0.045  # an hour
INTERFACE_ENDPOINT = 0.01  # an hour and zone
IMAGE_STORAGE = 0.10  # a GB
KMS_KEY = 1.00
SECRET = 0.40

# Behaviour of the coordinator: engine/src/lease.rs, src/run/spread.rs, and the metrics of its
# documentation.
RENEWAL_SECONDS_MAX = 10 / 3
POLL_SECONDS_MAX = 1.0
MEMBER_SECONDS = 10.0
READ_UNIT_BYTES = 4096
ROSTER_MEMBER_BYTES = 250  # of the roster, by task
ROSTER_PARTITION_BYTES = 180  # of the roster, by partition
METRICS = 10
METRIC_LINES_BYTES = 1200  # a minute and task
LOG_BYTES_IDLE = 1e6  # a month and task: starts and deployments
IMAGE_BYTES = 100e6

FREE = {
    "aws_cloudwatch_event_rule",  # events of AWS
    "aws_cloudwatch_event_target",
    "aws_appautoscaling_target",
    "aws_cloudwatch_log_group",  # what is written into it is paid for
    "aws_cloudwatch_log_metric_filter",  # its metric has values only when something fails
    "aws_cloudwatch_log_resource_policy",
    "aws_dynamodb_table",  # on demand: by request, see the leases
    "aws_ecs_cluster_capacity_providers",
    "aws_ecs_task_definition",
    "aws_iam_role",
    "aws_iam_role_policy",
    "aws_internet_gateway",
    "aws_lambda_alias",
    "aws_lambda_function",  # by request
    "aws_lb_listener",
    "aws_lb_target_group",
    "aws_route",
    "aws_route_table",
    "aws_route_table_association",
    "aws_s3_bucket",  # by request and stored byte
    "aws_s3_bucket_lifecycle_configuration",
    "aws_s3_bucket_ownership_controls",
    "aws_s3_bucket_policy",
    "aws_s3_bucket_public_access_block",
    "aws_s3_bucket_server_side_encryption_configuration",
    "aws_s3_bucket_versioning",
    "aws_security_group",
    "aws_sns_topic",
    "aws_subnet",
    "aws_vpc",
    "aws_vpc_security_group_egress_rule",
    "aws_vpc_security_group_ingress_rule",
    "aws_ecr_lifecycle_policy",
}


class Unknown(Exception):
    """The plan has something whose price is not known here."""


def positions(plan):
    """The positions of the bill: their names and dollars a month, in the order of the plan."""
    resources = list(resources_below(plan["planned_values"]["root_module"]))
    if not resources:
        raise Unknown("the plan has no resources")
    bill = {}
    for address, kind, values in resources:
        if kind == "aws_ecs_service":
            prices = service(plan, address, values, resources)
        elif kind in PRICED:
            prices = PRICED[kind](address, values)
        elif kind in FREE:
            prices = {}
        else:
            raise Unknown(f"{address}: bill.py knows no price of {kind}")
        for name, dollars in prices.items():
            bill[name] = bill.get(name, 0) + dollars
    return bill


def resources_below(module):
    """Address, type and values of all managed resources."""
    for resource in module.get("resources", []):
        if resource["mode"] == "managed":
            yield resource["address"], resource["type"], resource.get("values", {})
    for child in module.get("child_modules", []):
        yield from resources_below(child)


def service(plan, address, values, resources):
    """What tasks cost: cores, memory, addresses, leases, log."""
    module = address.rpartition(".aws_ecs_service")[0]
    task = only(resources, module, "aws_ecs_task_definition")
    tasks = values["desired_count"]
    architecture = task["runtime_platform"][0]["cpu_architecture"]
    on = capacity(values, tasks)
    cores, gigabytes = int(task["cpu"]) / 1024, int(task["memory"]) / 1024
    fargate = 0
    for provider, count in on.items():
        core, gigabyte = FARGATE[provider, architecture]
        fargate += count * HOURS * (cores * core + gigabytes * gigabyte)
    prices = {"Fargate": fargate}
    if values["network_configuration"][0]["assign_public_ip"]:
        prices["public IPv4"] = tasks * HOURS * PUBLIC_IPV4
    prices["leases"] = leases(plan, module, tasks)
    log = LOG_BYTES_IDLE
    metrics = argument(plan, module, "metrics")
    if metrics or (metrics is None and argument(plan, module, "size") != "small"):
        prices["metrics"] = METRICS * METRIC
        log += METRIC_LINES_BYTES * SECONDS / 60
    prices["log"] = tasks * log / 1e9 * LOG_INGESTION
    return prices


def leases(plan, module, tasks):
    """What the lease table costs."""
    lease = argument(plan, module, "lease_time_seconds")
    renewal = min(lease / 3, RENEWAL_SECONDS_MAX)
    look = min(lease / 4, POLL_SECONDS_MAX)
    forwarding = argument(plan, module, "forwarding")
    partitions = argument(plan, module, "partitions") or 1
    if partitions > 1 and forwarding:
        # Each task renews its item, and looks at the roster and at the items of all tasks.
        roster = tasks * ROSTER_MEMBER_BYTES + partitions * ROSTER_PARTITION_BYTES
        read_units = math.ceil(roster / READ_UNIT_BYTES) + tasks
        writes, reads = tasks / renewal, tasks * read_units / look
    else:
        # The owner renews the lease, the others look at it.
        writes, reads = 1 / renewal, (tasks - 1) / look
        if forwarding:
            writes += tasks / MEMBER_SECONDS
    return SECONDS * (DYNAMODB_WRITE * writes + DYNAMODB_READ * reads)


def capacity(values, tasks):
    """Number of tasks by capacity provider."""
    strategy = {
        item["capacity_provider"]: item["base"] for item in values["capacity_provider_strategy"]
    }
    if not strategy:
        return {"FARGATE": tasks}
    stay = min(strategy.get("FARGATE", 0), tasks)
    return {"FARGATE": stay, "FARGATE_SPOT": tasks - stay}


def argument(plan, module, name):
    """Value of a variable of a module that the root calls with a constant, a variable, or not."""
    call = plan["configuration"]["root_module"]["module_calls"][
        module.removeprefix("module.").split("[")[0]
    ]
    given = call.get("expressions", {}).get(name)
    if given is None:
        return call["module"]["variables"].get(name, {}).get("default")
    if "constant_value" in given:
        return given["constant_value"]
    (reference,) = given["references"]
    value = plan["variables"][reference.removeprefix("var.")].get("value")
    # The plan has what a command line gives as text.
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def only(resources, module, kind):
    (values,) = [
        values
        for address, found, values in resources
        if found == kind and address.startswith(f"{module}.")
    ]
    return values


def cluster(address, values):
    for setting in values["setting"]:
        if setting["name"] == "containerInsights" and setting["value"] != "disabled":
            raise Unknown(f"{address}: bill.py knows no price of container insights")
    return {}


def stream(_address, values):
    shards = values["shard_count"]
    return {"streams": HOURS * (STREAM_ON_DEMAND if shards is None else shards * SHARD)}


def endpoint(_address, values):
    if values["vpc_endpoint_type"] == "Gateway":
        return {}
    return {
        "interface endpoints": HOURS
        * INTERFACE_ENDPOINT
        * max(1, len(values.get("subnet_ids") or []))
    }


PRICED = {
    # Target tracking makes two alarms.
    "aws_appautoscaling_policy": lambda _address, _values: {"alarms": 2 * ALARM},
    "aws_cloudwatch_dashboard": lambda _address, _values: {"dashboard": DASHBOARD},
    "aws_cloudwatch_metric_alarm": lambda _address, _values: {"alarms": ALARM},
    "aws_ecr_repository": lambda _address, _values: {"image": IMAGE_BYTES / 1e9 * IMAGE_STORAGE},
    "aws_ecs_cluster": cluster,
    "aws_kinesis_stream": stream,
    "aws_kms_key": lambda _address, _values: {"keys": KMS_KEY},
    "aws_lb": lambda _address, _values: {"load balancer": HOURS * NETWORK_LOAD_BALANCER},
    "aws_nat_gateway": lambda _address, _values: {"NAT gateway": HOURS * NAT_GATEWAY},
    "aws_secretsmanager_secret": lambda _address, _values: {"secrets": SECRET},
    "aws_vpc_endpoint": endpoint,
}


def text(bill):
    lines = [f"{name:<20} {dollars:8.2f}" for name, dollars in bill.items()]
    return "\n".join([*lines, f"{'in all, $ a month':<20} {sum(bill.values()):8.2f}"])


if __name__ == "__main__":
    try:
        print(text(positions(json.load(sys.stdin))))
    except Unknown as unknown:
        sys.exit(f"bill: {unknown}")
