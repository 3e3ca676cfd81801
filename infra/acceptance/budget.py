"""The bound of the run: counts every request that is made, prices it, and stops at the bound."""

import math
import threading

# Dollars, list prices of us-east-1 in November 2026. `infra/test` compares them with those of
# `satchel cost`.
S3_WRITE = 5e-6
S3_READ = 0.4e-6
DYNAMODB_WRITE = 0.625e-6
DYNAMODB_READ = 0.125e-6
KINESIS_UNIT = 0.014e-6  # 25 KB of a record that is put
SHARD_HOUR = 0.015
LAMBDA_REQUEST = 0.2e-6
LAMBDA_GB_SECOND = 1.33334e-5  # ARM
METRIC_READ = 10e-6
FARGATE_VCPU_HOUR = 0.03238  # ARM
FARGATE_GB_HOUR = 0.00356
IPV4_HOUR = 0.005

# A request and the most that one of the run's may compute: 256 MB for 5 s.
LAMBDA_INVOKE = LAMBDA_REQUEST + 0.25 * 5 * LAMBDA_GB_SECOND
# A small task with a public address.
TASK_HOUR = 0.25 * FARGATE_VCPU_HOUR + 0.5 * FARGATE_GB_HOUR + IPV4_HOUR

PRICES = {
    "s3.PutObject": S3_WRITE,
    "s3.ListObjectsV2": S3_WRITE,
    "s3.ListObjectVersions": S3_WRITE,
    "s3.GetObject": S3_READ,
    "s3.DeleteObject": 0.0,
    "s3.DeleteBucketPolicy": 0.0,
    "dynamodb.PutItem": DYNAMODB_WRITE,
    "dynamodb.DeleteItem": DYNAMODB_WRITE,
    "dynamodb.GetItem": DYNAMODB_READ,
    "kinesis.PutRecord": KINESIS_UNIT,
    "kinesis.PutRecords": 500 * KINESIS_UNIT,
    "kinesis.GetRecords": 0.0,
    "kinesis.GetShardIterator": 0.0,
    "kinesis.ListShards": 0.0,
    "lambda.Invoke": LAMBDA_INVOKE,
    "lambda.PutFunctionConcurrency": 0.0,
    "lambda.DeleteFunctionConcurrency": 0.0,
    "sts.AssumeRole": 0.0,
    "ecs.DescribeServices": 0.0,
    "ecs.DescribeTasks": 0.0,
    "ecs.ListTasks": 0.0,
    "ecs.StopTask": 0.0,
    "cloudwatch.GetMetricData": METRIC_READ,
}
# Any other request; more than the dearest of those above.
OTHER = 1e-4


class BoundReached(Exception):
    """The next request could pass the bound."""


class Budget:
    """Dollars that may be spent and dollars that were, by list price. For any number of threads."""

    def __init__(self, dollars_max):
        self.dollars_max = dollars_max
        self.dollars = 0.0
        self.requests = {}
        self.closed = False
        self.lock = threading.Lock()

    def charge(self, name, dollars):
        """Takes this much, or raises BoundReached and takes nothing."""
        with self.lock:
            if self.closed:
                raise BoundReached(f"{name} after the end of the run")
            if self.dollars + dollars > self.dollars_max:
                raise BoundReached(f"{name} would pass the bound of ${self.dollars_max:.2f}")
            self.dollars += dollars
            self.requests[name] = self.requests.get(name, 0) + 1

    def close(self):
        """Lets nothing more be spent. Threads that still work end at their next request."""
        with self.lock:
            self.closed = True

    def charge_resources(self, shards, tasks, minutes_max):
        """Takes what the resources cost until the time limit, with an hour for their end."""
        hours = math.ceil(minutes_max / 60) + 1
        self.charge("shard hours", shards * hours * SHARD_HOUR)
        # In a deployment there are twice as many.
        self.charge("task hours", 2 * tasks * hours * TASK_HOUR)

    def watch(self, session):
        """Charges each attempt of each request of this boto3 session's clients made from now on."""
        session.events.register("before-send", self.before_send)

    def before_send(self, event_name=None, **_):
        # The name of the event is before-send.SERVICE.OPERATION.
        operation = event_name.split(".", 1)[1]
        self.charge(operation, PRICES.get(operation, OTHER))
