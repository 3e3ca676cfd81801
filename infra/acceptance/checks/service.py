"""ECS: two tasks come up, a stopped owner hands over, and CloudWatch has the metrics."""

import time
from datetime import datetime, timedelta, timezone

POLL_SECONDS = 0.25


def check(context):
    made = context.made
    if context.stand_in:
        context.figures.skip("ECS", "a handover: the stand-in runs no tasks")
        return
    if made["tasks"] == 0:
        context.figures.skip("ECS", "a handover: no image, name one with --image")
        return
    ecs = context.client("ecs")
    lease = Lease(context.client("dynamodb"), made["lease_table"], made["lease_item"])
    first = come_up(context, ecs, lease)
    for _ in range(context.samples(3, least=1)):
        first = hand_over(context, ecs, lease, first)
    metrics(context, context.client("cloudwatch"))


class Lease:
    """The item that says who owns the application."""

    def __init__(self, client, table, key):
        self.client, self.table, self.key = client, table, key

    def read(self):
        """Owner, address and whether it is released, or None."""
        answer = self.client.get_item(
            TableName=self.table, Key={"pk": {"S": self.key}}, ConsistentRead=True
        )
        item = answer.get("Item")
        if item is None:
            return None
        return {
            "owner": item["owner"]["S"],
            "epoch": int(item["epoch"]["N"]),
            "released": item["released"]["BOOL"],
            "address": item.get("address", {}).get("S", ""),
        }

    def wait(self, wanted, seconds_max):
        """The item once it is as wanted, and the seconds that it took; None after the limit."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds_max:
            item = self.read()
            if item is not None and wanted(item):
                return item, time.monotonic() - begun
            time.sleep(POLL_SECONDS)
        return None, seconds_max


def come_up(context, ecs, lease):
    made = context.made
    begun = time.monotonic()
    item, _ = lease.wait(lambda item: not item["released"], 600)
    if item is None:
        raise AssertionError("no coordinator owned the application within 10 minutes; see its log")
    context.figures.add(
        "ECS", "first owner after the run began", round(time.monotonic() - begun), "s"
    )
    wait_for_tasks(ecs, made, made["tasks"])
    return item


def wait_for_tasks(ecs, made, count, seconds_max=600):
    until = time.monotonic() + seconds_max
    while time.monotonic() < until:
        (service,) = ecs.describe_services(cluster=made["cluster"], services=[made["service"]])[
            "services"
        ]
        healthy = [task for task in tasks(ecs, made) if task.get("healthStatus") == "HEALTHY"]
        if service["runningCount"] == count and len(healthy) == count:
            return
        time.sleep(3)
    raise AssertionError(f"there were not {count} healthy tasks within {seconds_max} s")


def tasks(ecs, made):
    arns = ecs.list_tasks(cluster=made["cluster"], serviceName=made["service"])["taskArns"]
    return ecs.describe_tasks(cluster=made["cluster"], tasks=arns)["tasks"] if arns else []


def hand_over(context, ecs, lease, owner):
    """Stops the owner's task. Returns the next owner."""
    made = context.made
    (task,) = [task for task in tasks(ecs, made) if is_at(task, owner["address"])]
    ecs.stop_task(cluster=made["cluster"], task=task["taskArn"], reason="acceptance: handover")
    released, waited = lease.wait(
        lambda item: item["released"] or item["owner"] != owner["owner"], 60 + made["stop_seconds"]
    )
    if released is None:
        raise AssertionError("the stopped owner did not release its lease")
    item, gap = lease.wait(
        lambda item: item["owner"] != owner["owner"] and not item["released"], 60
    )
    figures = context.figures
    figures.add(
        "ECS",
        "from StopTask to the release",
        round(waited, 1),
        "s",
        f"at most {made['stop_seconds']}",
        waited <= made["stop_seconds"],
    )
    figures.add(
        "ECS",
        "from the release to the next owner",
        round(gap, 1),
        "s",
        "at most 2",
        item is not None and gap <= 2,
    )
    if item is None:
        raise AssertionError("no standby took over within 60 s")
    figures.expect("ECS", "epochs gained", item["epoch"] - owner["epoch"], 1)
    wait_for_tasks(ecs, made, made["tasks"])
    return item


def is_at(task, url):
    """Tells whether a task has the address of this URL."""
    for attachment in task.get("attachments", []):
        for detail in attachment.get("details", []):
            if detail["name"] == "privateIPv4Address" and f"//{detail['value']}:" in url:
                return True
    return False


def metrics(context, cloudwatch):
    """The owner reports each minute; CloudWatch needs one or two more."""
    query = {
        "Id": "owners",
        "MetricStat": {
            "Metric": {
                "Namespace": "Satchel",
                "MetricName": "Owners",
                "Dimensions": [{"Name": "Application", "Value": context.made["application"]}],
            },
            "Period": 60,
            "Stat": "Maximum",
        },
    }
    until = time.monotonic() + 300
    values = []
    while not values and time.monotonic() < until:
        now = datetime.now(timezone.utc)
        answer = cloudwatch.get_metric_data(
            MetricDataQueries=[query], StartTime=now - timedelta(minutes=15), EndTime=now
        )
        values = answer["MetricDataResults"][0]["Values"]
        if not values:
            time.sleep(15)
    context.figures.add(
        "ECS",
        "owners that CloudWatch knows of",
        max(values, default=None),
        "",
        "1.0",
        bool(values) and max(values) == 1.0,
    )
