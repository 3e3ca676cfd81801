"""Tests of the acceptance run: that its checks notice what they are there for, and that it leaves
nothing behind. They need boto3 and, for the ends of a run, a stand-in at AWS_ENDPOINT_URL.

  python3 -m unittest tests
"""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

import boto3
from botocore.exceptions import ClientError

import budget
from checks import Context, function, leases, permissions, service, store, stream
from figures import Figures, percentile

HERE = Path(__file__).resolve().parent
MADE = {
    "application": "a",
    "bucket": "b",
    "lease_table": "t",
    "stream": "s",
    "function": "f",
    "alias": "live",
    "probe_role": "r",
    "cluster": "c",
    "service": "v",
    "tasks": 2,
    "lease_item": "a#0",
    "stop_seconds": 35,
    "task_policy": json.dumps({"Statement": [{"Action": ["s3:GetObject"]}]}),
}


def refused(code, status):
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Operation")


def found(check, client, **more):
    """The figures of a check with this client for every service: name to row."""
    figures = Figures()
    context = Context(
        made=MADE,
        figures=figures,
        budget=budget.Budget(2),
        client=lambda _service, **_options: client,
        share=0.01,
        **more,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        check(context)
    return {row["figure"]: row for row in figures.rows}


def wrong(rows):
    return sorted(name for name, row in rows.items() if row["right"] is False)


class Store:
    """A bucket in memory, as S3 promises it to be, or with a fault."""

    def __init__(self, fault=None):
        self.objects, self.lock, self.fault = {}, threading.Lock(), fault

    def put_object(self, Bucket, Key, Body, IfNoneMatch=None):
        with self.lock:
            if IfNoneMatch is None and self.fault != "policy":
                raise refused("AccessDenied", 403)
            taken = Key in self.objects
            if self.fault == "several" and "races" in Key:
                taken = False
            if self.fault == "status" and taken:
                raise refused("InternalError", 500)
            if taken and IfNoneMatch is not None:
                raise refused("PreconditionFailed", 412)
            self.objects[Key] = Body if self.fault != "bytes" else b""
        return {"ResponseMetadata": {"HTTPStatusCode": 200}}

    def get_object(self, Bucket, Key):
        return {"Body": io.BytesIO(self.objects[Key])}

    def delete_object(self, Bucket, Key):
        if self.fault != "deletion":
            self.objects.pop(Key, None)

    def list_objects_v2(self, Bucket, Prefix):
        keys = [key for key in self.objects if key.startswith(Prefix)]
        if self.fault == "listing":
            keys = []
        return {"Contents": [{"Key": key} for key in keys]}


class StoreTests(unittest.TestCase):
    def test_a_store_as_promised_is_right(self):
        self.assertEqual(wrong(found(store.check, Store())), [])

    def test_each_fault_is_noticed_by_its_name(self):
        for fault, figures in {
            "several": ["races with several winners"],
            "status": [
                "losers with another status than 412 or 409",
                "second create, same bytes",
            ],
            "bytes": ["races whose winner's bytes are not there"],
            "listing": ["a listing right after the create has it"],
            "deletion": ["a listing right after the delete has it", "create after a delete"],
            "policy": ["write without a condition"],
        }.items():
            with self.subTest(fault):
                self.assertLessEqual(set(figures), set(wrong(found(store.check, Store(fault)))))


class Table:
    """A table in memory, with conditions or without."""

    def __init__(self, conditions=True):
        self.items, self.lock, self.conditions = {}, threading.Lock(), conditions

    def put_item(self, TableName, Item, ExpressionAttributeValues, **_):
        with self.lock:
            old = self.items.get(Item["pk"]["S"])
            counter = int(ExpressionAttributeValues[":counter"]["N"])
            if self.conditions and old is not None and int(old["counter"]["N"]) >= counter:
                raise refused("ConditionalCheckFailedException", 400)
            self.items[Item["pk"]["S"]] = Item

    def get_item(self, TableName, Key, ConsistentRead):
        return {"Item": self.items[Key["pk"]["S"]]}


class LeaseTests(unittest.TestCase):
    def test_a_table_as_promised_is_right(self):
        self.assertEqual(wrong(found(leases.check, Table())), [])

    def test_a_table_without_conditions_is_noticed(self):
        rows = found(leases.check, Table(conditions=False))
        self.assertIn("races with several winners", wrong(rows))


class Stream:
    """A shard in memory that numbers records in order, or now and then not."""

    def __init__(self, inverted=False, loses=False):
        self.records, self.lock = [], threading.Lock()
        self.inverted, self.loses = inverted, loses

    def list_shards(self, StreamName):
        return {"Shards": [{"ShardId": "0"}]}

    def put_record(self, StreamName, Data, PartitionKey, SequenceNumberForOrdering=None):
        with self.lock:
            number = 10 * (len(self.records) + 1)
            if self.inverted and len(self.records) % 4 == 3:
                number -= 15
            self.records.append((number, Data, datetime.now(timezone.utc)))
        return {"SequenceNumber": f"{number}", "ShardId": "0"}

    def put_records(self, StreamName, Records):
        answers = [self.put_record(StreamName, **record) for record in Records]
        return {"FailedRecordCount": 0, "Records": answers}

    def get_shard_iterator(self, StreamName, ShardId, ShardIteratorType, Timestamp):
        return {"ShardIterator": f"{Timestamp}"}

    def get_records(self, ShardIterator, Limit):
        moment = datetime.fromtimestamp(float(ShardIterator), timezone.utc)
        kept = [record for record in self.records if record[2] >= moment]
        kept = sorted(record for record in kept if not (self.loses and record[1] == b"3 0"))
        records = [
            {"SequenceNumber": f"{number}", "Data": data, "ApproximateArrivalTimestamp": time_}
            for number, data, time_ in kept
        ]
        return {"Records": records, "NextShardIterator": None, "MillisBehindLatest": 0}


class StreamTests(unittest.TestCase):
    def setUp(self):
        pause, stream.time.sleep = stream.time.sleep, lambda _: None
        self.addCleanup(setattr, stream.time, "sleep", pause)

    def test_a_stream_in_order_is_right(self):
        rows = found(stream.check, Stream())
        self.assertEqual(wrong(rows), [])
        self.assertEqual(rows["inversions within a PutRecords request"]["value"], 0)

    def test_inversions_are_counted_and_wrong_only_where_order_is_promised(self):
        rows = found(stream.check, Stream(inverted=True))
        self.assertEqual(wrong(rows), ["inversions with SequenceNumberForOrdering"])
        self.assertGreater(rows["inversions within a PutRecords request"]["value"], 0)

    def test_a_lost_record_is_noticed(self):
        self.assertIn(
            "of these, not read under their number", wrong(found(stream.check, Stream(loses=True)))
        )


class Functions:
    """Answers as Lambda documents them, or as a handler that hides its failures."""

    def __init__(self, hides=False):
        self.hides, self.concurrency = hides, None

    def put_function_concurrency(self, FunctionName, ReservedConcurrentExecutions):
        self.concurrency = ReservedConcurrentExecutions

    def delete_function_concurrency(self, FunctionName):
        self.concurrency = None

    def invoke(self, FunctionName, Qualifier, Payload):
        if Qualifier != "live":
            raise refused("ResourceNotFoundException", 404)
        if self.concurrency == 0:
            raise refused("TooManyRequestsException", 429)
        if len(Payload) > 6 * 1024 * 1024:
            raise refused("RequestEntityTooLargeException", 413)
        event = json.loads(Payload)
        kind = {"fail": "ValueError", "exit": "Runtime.ExitError"}
        kind |= {
            "sleep_seconds": "Sandbox.Timedout",
            "answer_bytes": "Function.ResponseSizeTooLarge",
        }
        error = next((kind[name] for name in event if name in kind), None)
        body = io.BytesIO(json.dumps({"errorType": error} if error else {}).encode())
        answer = {"StatusCode": 200, "Payload": body}
        return {**answer, "FunctionError": "Unhandled"} if error and not self.hides else answer


class FunctionTests(unittest.TestCase):
    def test_answers_as_documented_are_right(self):
        functions = Functions()
        self.assertEqual(wrong(found(function.check, functions)), [])
        self.assertIsNone(functions.concurrency, "the function stays throttled")

    def test_a_failure_that_looks_like_an_answer_is_noticed(self):
        self.assertIn("a function that raises", wrong(found(function.check, Functions(hides=True))))

    def test_the_handler_answers_a_bundle_and_misbehaves_as_asked(self):
        sys.path.insert(0, str(HERE))
        import handler

        bundle = {"satchel": 1, "bundle": "7", "batches": [{"attempt": "a", "to": ""}]}
        answer = handler.handler(bundle, None)
        self.assertEqual(answer["results"], [{"attempt": "a", "from": "ogYA"}])
        self.assertEqual(answer["bundle"], "7")
        self.assertEqual(len(handler.handler({"answer_bytes": 10}, None)["text"]), 10)
        with self.assertRaises(ValueError):
            handler.handler({"fail": True}, None)


class Roles:
    def assume_role(self, **given):
        denied = json.loads(given["Policy"])["Statement"][1:]
        name = denied[0]["Action"] if denied else "nothing"
        return {"Credentials": {"AccessKeyId": name, "SecretAccessKey": "s", "SessionToken": "t"}}


class PermissionTests(unittest.TestCase):
    def check(self, script):
        """Runs the check with a binary that is this script."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        binary = Path(folder) / "satchel"
        binary.write_text(f"#!/bin/sh\n{script}\n")
        binary.chmod(0o755)
        environment = {"PATH": os.environ["PATH"]}
        return found(
            permissions.check,
            Roles(),
            satchel=str(binary),
            environment=environment,
            module_file="m",
        )

    def test_a_binary_that_names_what_is_missing_is_right(self):
        rows = self.check(
            '[ "$AWS_ACCESS_KEY_ID" = nothing ] || { echo "reading: denied" >&2; exit 5; }'
        )
        self.assertEqual(wrong(rows), [])
        self.assertEqual(rows["without s3:GetObject"]["value"], "noticed, lines: 1")

    def test_a_binary_that_notices_nothing_is_wrong(self):
        self.assertEqual(wrong(self.check("exit 0")), ["without s3:GetObject"])

    def test_a_binary_that_names_something_else_is_wrong(self):
        rows = self.check('[ "$AWS_ACCESS_KEY_ID" = nothing ] || { echo no network >&2; exit 5; }')
        self.assertEqual(wrong(rows), ["without s3:GetObject"])

    def test_a_policy_that_grants_too_little_is_wrong(self):
        rows = self.check("echo reading: denied >&2; exit 5")
        self.assertEqual(wrong(rows), ["validate --check-aws with the coordinator's policy"])


class Cloud:
    """A cluster of two tasks and their lease. Stopping the owner hands over, or not."""

    def __init__(self, hands_over=True):
        self.hands_over, self.owner, self.epoch, self.released = hands_over, 1, 1, False
        self.looks = 0

    def get_item(self, TableName, Key, ConsistentRead):
        if self.released and self.hands_over:
            self.looks += 1
            if self.looks > 1:
                self.owner, self.epoch, self.released = self.owner + 1, self.epoch + 1, False
        return {
            "Item": {
                "owner": {"S": f"process {self.owner}"},
                "epoch": {"N": f"{self.epoch}"},
                "released": {"BOOL": self.released},
                "address": {"S": f"http://10.0.0.{self.owner}:8081"},
            }
        }

    def describe_services(self, cluster, services):
        return {"services": [{"runningCount": 2}]}

    def list_tasks(self, cluster, serviceName):
        return {"taskArns": [f"task-{self.owner}", f"task-{self.owner + 10}"]}

    def describe_tasks(self, cluster, tasks):
        return {"tasks": [self.task(arn) for arn in tasks]}

    def task(self, arn):
        address = {"name": "privateIPv4Address", "value": f"10.0.0.{arn.removeprefix('task-')}"}
        attachments = [{"details": [address]}]
        return {"taskArn": arn, "healthStatus": "HEALTHY", "attachments": attachments}

    def stop_task(self, cluster, task, reason):
        if task != f"task-{self.owner}":
            raise AssertionError(f"{task} is not the owner")
        self.released, self.looks = True, 0

    def get_metric_data(self, **_):
        return {"MetricDataResults": [{"Values": [1.0]}]}


class ServiceTests(unittest.TestCase):
    def test_a_handover_is_measured(self):
        rows = found(service.check, Cloud())
        self.assertEqual(wrong(rows), [])
        self.assertEqual(rows["epochs gained"]["value"], 1)

    def test_a_standby_that_does_not_take_over_is_noticed(self):
        clock = iter(range(0, 100_000, 20))
        names = ["sleep", "monotonic"]
        for name, fake in zip(names, [lambda _: None, lambda: float(next(clock))]):
            self.addCleanup(setattr, service.time, name, getattr(service.time, name))
            setattr(service.time, name, fake)
        with self.assertRaisesRegex(AssertionError, "no standby took over"):
            found(service.check, Cloud(hands_over=False))


def free_port(address):
    with socket.create_server((address, 0)) as server:
        return server.getsockname()[1]


class Tasks:
    """ECS with processes instead of containers: each task is a coordinator on an address of its own
    of this machine, and the service starts another one when one ends."""

    def __init__(self, begin):
        self.begin, self.processes, self.ports, self.count = begin, {}, {}, 0
        for _ in range(MADE["tasks"]):
            self.start()

    def start(self):
        self.count += 1
        address = f"127.0.1.{self.count}"
        self.ports[address] = free_port(address)
        self.processes[address] = self.begin(address, self.ports[address])

    def describe_services(self, cluster, services):
        for address, process in list(self.processes.items()):
            if process.poll() is not None:
                del self.processes[address]
                self.start()
        return {"services": [{"runningCount": len(self.processes)}]}

    def list_tasks(self, cluster, serviceName):
        return {"taskArns": list(self.processes)}

    def describe_tasks(self, cluster, tasks):
        return {"tasks": [self.task(address) for address in tasks]}

    def task(self, address):
        try:
            url = f"http://{address}:{self.ports[address]}/healthz"
            urllib.request.urlopen(url, timeout=5).close()
            health = "HEALTHY"
        except OSError:
            health = "UNKNOWN"
        attachments = [{"details": [{"name": "privateIPv4Address", "value": address}]}]
        return {"taskArn": address, "healthStatus": health, "attachments": attachments}

    def stop_task(self, cluster, task, reason):
        self.processes[task].send_signal(signal.SIGTERM)

    def get_metric_data(self, **_):
        return {"MetricDataResults": [{"Values": [1.0]}]}

    def kill(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


@unittest.skipUnless(
    "AWS_ENDPOINT_URL" in os.environ and "SATCHEL_BINARY" in os.environ,
    "no stand-in at AWS_ENDPOINT_URL, or no coordinator at SATCHEL_BINARY",
)
class CoordinatorTests(unittest.TestCase):
    """The check of handovers, with real coordinators and their real lease."""

    def test_a_stopped_owner_hands_over(self):
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        bucket, table = f"handover-{time.time_ns()}", f"handover-{time.time_ns()}"
        region = {"LocationConstraint": boto3.Session().region_name}
        boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=region)
        dynamodb = boto3.client("dynamodb")
        dynamodb.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.addCleanup(dynamodb.delete_table, TableName=table)
        module = folder / "module.yaml"
        module.write_text((HERE / "module.yaml").read_text().split("---")[0])

        def begin(address, port):
            command = [os.environ["SATCHEL_BINARY"], "run", "--module", str(module)]
            command += ["--state", f"s3://{bucket}/a", "--application", "a"]
            command += ["--lease-table", table, "--lease-time", "10s", "--stop-timeout", "25s"]
            command += ["--http", f"{address}:0", "--admin", f"{address}:{port}"]
            log = open(folder / f"{address}.log", "w", encoding="utf-8")
            self.addCleanup(log.close)
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        tasks = Tasks(begin)
        self.addCleanup(lambda: tasks.kill())
        # The name of the lease as Terraform tells it to the run.
        outputs = (HERE / "outputs.tf").read_text().splitlines()
        output = next(line for line in outputs if "lease_item" in line)
        name = output.split('"')[1]
        name = name.replace("${var.name}", "a").replace("${module.state_bucket.name}", bucket)
        figures = Figures()
        context = Context(
            made={**MADE, "lease_table": table, "lease_item": name},
            figures=figures,
            budget=budget.Budget(2),
            client=lambda service, **_: dynamodb if service == "dynamodb" else tasks,
            share=0.34,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            service.check(context)
        rows = {row["figure"]: row for row in figures.rows}
        self.assertEqual(wrong(rows), [], rows)
        self.assertEqual(rows["epochs gained"]["value"], 1)


class BudgetTests(unittest.TestCase):
    def test_the_request_that_could_pass_the_bound_is_not_made(self):
        bound = budget.Budget(3 * budget.S3_WRITE)
        for _ in range(3):
            bound.charge("s3.PutObject", budget.S3_WRITE)
        with self.assertRaises(budget.BoundReached):
            bound.charge("s3.PutObject", budget.S3_WRITE)
        self.assertEqual(bound.requests, {"s3.PutObject": 3})

    def test_nothing_is_spent_after_the_end(self):
        bound = budget.Budget(1)
        bound.close()
        with self.assertRaises(budget.BoundReached):
            bound.charge("s3.GetObject", 0)

    def test_a_full_run_stays_far_below_the_bound(self):
        bound = budget.Budget(2)
        bound.charge_resources(shards=1, tasks=2, minutes_max=45)
        self.assertLess(bound.dollars, 0.25)

    def test_percentiles_are_values_that_were_measured(self):
        values = [float(value) for value in range(1, 101)]
        self.assertEqual([percentile(values, share) for share in (0.5, 0.99, 1.0)], [50, 99, 100])
        self.assertEqual(percentile([7.0], 0.5), 7.0)


# Says what it does in a file instead of doing it.
TERRAFORM = """#!{python}
import json, sys, time
with open("{log}", "a") as log:
    log.write(sys.argv[1] + "\\n")
if sys.argv[1] == "apply":
    with open("{state}", "w") as state:
        state.write('{{"resources": [1]}}')
    {during_apply}
if sys.argv[1] == "output":
    print(json.dumps({{"made": {{"value": {made}}}}}))
if sys.argv[1] == "destroy":
    {during_destroy}
    with open("{state}", "w") as state:
        state.write('{{"resources": []}}')
"""


@unittest.skipUnless("AWS_ENDPOINT_URL" in os.environ, "no stand-in at AWS_ENDPOINT_URL")
class EndTests(unittest.TestCase):
    """However a run ends, what was made is destroyed."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        s3, dynamodb = boto3.client("s3"), boto3.client("dynamodb")
        self.made = {**MADE, "bucket": f"acceptance-{time.time_ns()}"}
        region = {"LocationConstraint": boto3.Session().region_name}
        s3.create_bucket(Bucket=self.made["bucket"], CreateBucketConfiguration=region)
        self.addCleanup(dynamodb.delete_table, TableName=MADE["lease_table"])
        dynamodb.create_table(
            TableName=MADE["lease_table"],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def begin(self, *arguments, during_apply="pass", during_destroy="pass"):
        terraform = self.folder / "terraform"
        self.log = self.folder / "log"
        terraform.write_text(
            TERRAFORM.format(
                python=sys.executable,
                log=self.log,
                state=self.folder / "terraform.tfstate",
                made=json.dumps(self.made),
                during_apply=during_apply,
                during_destroy=during_destroy,
            )
        )
        terraform.chmod(0o755)
        command = [sys.executable, str(HERE / "run"), "--region", "eu-central-1"]
        command += ["--stand-in", os.environ["AWS_ENDPOINT_URL"], "--work", str(self.folder)]
        command += ["--terraform", str(terraform), "--only", "s3", "--only", "dynamodb"]
        return subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def ended(self, process):
        said, _ = process.communicate(timeout=120)
        self.assertEqual(self.log.read_text().split()[-1], "destroy", said)
        return process.returncode, said, json.loads((self.folder / "figures.json").read_text())

    def test_a_run_to_the_end(self):
        code, said, figures = self.ended(self.begin("--share", "0.01"))
        self.assertEqual((code, figures["end"], figures["destroyed"]), (0, "finished", True), said)
        self.assertGreaterEqual(figures["requests"]["s3.PutObject"], 5 * store.WRITERS)

    def test_a_run_that_reaches_its_bound(self):
        code, said, figures = self.ended(self.begin("--dollars-max", "0.0305"))
        self.assertEqual(code, 3, said)
        self.assertIn("would pass the bound", figures["end"])
        self.assertLessEqual(figures["dollars_at_most"], 0.0305)

    def test_a_run_that_reaches_its_time_limit(self):
        code, said, figures = self.ended(self.begin("--minutes-max", "0.1"))
        self.assertEqual(code, 3, said)
        self.assertIn("minutes was reached", figures["end"])

    def test_a_run_that_is_interrupted_while_it_checks(self):
        process = self.begin()
        while "output" not in (self.log.read_text() if self.log.exists() else ""):
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        code, said, figures = self.ended(process)
        self.assertEqual((code, figures["end"]), (130, "interrupted"), said)

    def test_a_run_that_is_interrupted_while_it_makes_things(self):
        process = self.begin(during_apply="time.sleep(20)")
        while "apply" not in (self.log.read_text() if self.log.exists() else ""):
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        code, said, _ = self.ended(process)
        self.assertEqual(code, 130, said)

    def test_things_that_cannot_be_made(self):
        code, said, figures = self.ended(self.begin(during_apply="sys.exit('no such quota')"))
        self.assertEqual(code, 2, said)
        self.assertIn("no such quota", figures["end"])

    def test_things_that_cannot_be_destroyed_are_named_until_they_are(self):
        process = self.begin("--share", "0.01", during_destroy="sys.exit('in use')")
        code, said, figures = self.ended(process)
        self.assertEqual((code, figures["destroyed"]), (4, False), said)
        self.assertIn("--destroy", said)
        second = self.begin("--share", "0.01")
        said, _ = second.communicate(timeout=60)
        self.assertEqual(second.returncode, 2, f"it hides what the first one left: {said}")
        third = self.begin("--destroy")
        said, _ = third.communicate(timeout=60)
        self.assertEqual(third.returncode, 0, said)


if __name__ == "__main__":
    unittest.main()
