"""Puts names and reads greetings through the Kinesis API with unmodified boto3, while it reshards.

Prints one line of JSON: for each person, the greetings in shard order.
"""

import json
import sys
import time

import boto3
from botocore.config import Config

PEOPLE = [f"person-{number}" for number in range(20)]

kinesis = boto3.client(
    "kinesis",
    endpoint_url=sys.argv[1],
    region_name="us-east-1",
    aws_access_key_id="id",
    aws_secret_access_key="secret",
    config=Config(retries={"mode": "standard", "max_attempts": 10}),
)


def put(people):
    records = [
        {"Data": json.dumps({"name": person}).encode(), "PartitionKey": person}
        for person in people
    ]
    put = kinesis.put_records(StreamName="names", Records=records)
    assert put["FailedRecordCount"] == 0, put


def shards(stream):
    pages = kinesis.get_paginator("list_shards").paginate(StreamName=stream)
    return [shard for page in pages for shard in page["Shards"]]


def read(stream, count):
    found = []
    waiter = {"Delay": 1, "MaxAttempts": 60}
    kinesis.get_waiter("stream_exists").wait(StreamName=stream, WaiterConfig=waiter)
    iterators = [
        kinesis.get_shard_iterator(
            StreamName=stream,
            ShardId=shard["ShardId"],
            ShardIteratorType="TRIM_HORIZON",
        )["ShardIterator"]
        for shard in shards(stream)
    ]
    while len(found) < count:
        following = []
        for iterator in iterators:
            got = kinesis.get_records(ShardIterator=iterator)
            records = got["Records"]
            found += [(record["PartitionKey"], json.loads(record["Data"])) for record in records]
            if got.get("NextShardIterator"):
                following.append(got["NextShardIterator"])
        iterators = following
        time.sleep(0.25)
    return found


put(PEOPLE)
[only] = shards("names")
kinesis.split_shard(
    StreamName="names",
    ShardToSplit=only["ShardId"],
    NewStartingHashKey=str(2**127),
)
kinesis.get_waiter("stream_exists").wait(StreamName="names")
put(PEOPLE)
children = [shard for shard in shards("names") if shard.get("ParentShardId") == only["ShardId"]]
[low, high] = [shard["ShardId"] for shard in children]
kinesis.merge_shards(StreamName="names", ShardToMerge=low, AdjacentShardToMerge=high)
for person in PEOPLE:
    kinesis.put_record(StreamName="names", PartitionKey=person, Data=json.dumps({"name": person}))

greetings = {person: [] for person in PEOPLE}
for key, greeting in read("greetings", 3 * len(PEOPLE)):
    greetings[key].append(greeting)
try:
    kinesis.describe_stream_summary(StreamName="missing")
except kinesis.exceptions.ResourceNotFoundException:
    pass
else:
    raise AssertionError("a missing stream was described")
print(json.dumps(greetings))
