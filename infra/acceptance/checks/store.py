"""S3: conditional creates, their races and their tail, as the commit log relies on them."""

import time

from botocore.exceptions import ClientError

from checks import together

WRITERS = 8
BODY_BYTES = 4096


def check(context):
    bucket = context.made["bucket"]
    clients = [context.client("s3") for _ in range(WRITERS)]
    if context.stand_in:
        context.figures.skip("S3", "races: the stand-in looks and writes in two steps")
    else:
        races(context, bucket, clients)
    tail(context, bucket, clients)
    single_cases(context, bucket, clients[0])


def create(client, bucket, key, body):
    """Creates an object unless there is one. Returns the HTTP status and the error's code."""
    try:
        answer = client.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
        return answer["ResponseMetadata"]["HTTPStatusCode"], None
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]


def races(context, bucket, clients):
    """Eight writers create one object at the same time, many times over: one of them wins."""
    rounds = context.samples(200, least=5)
    several, none, others, lost_bytes, statuses = 0, 0, 0, 0, {}
    for number in range(rounds):
        key = f"acceptance/races/{number:05}"
        bodies = [f"{number} {writer}".encode() for writer in range(WRITERS)]
        answers = together(
            WRITERS, lambda writer: create(clients[writer], bucket, key, bodies[writer])
        )
        winners = [writer for writer, (status, _) in enumerate(answers) if status == 200]
        several += len(winners) > 1
        none += not winners
        for status, code in answers:
            if status != 200:
                name = f"{status} {code}"
                statuses[name] = statuses.get(name, 0) + 1
                others += status not in (409, 412)
        body = clients[0].get_object(Bucket=bucket, Key=key)["Body"].read()
        lost_bytes += bool(winners) and body != bodies[winners[0]]
    figures = context.figures
    figures.add("S3", f"races of {WRITERS} conditional creates", rounds)
    figures.expect("S3", "races with several winners", several, 0)
    # Losers may all be told to try again (409), so that nobody has won.
    figures.add("S3", "races without a winner", none)
    figures.expect("S3", "races whose winner's bytes are not there", lost_bytes, 0)
    figures.expect("S3", "losers with another status than 412 or 409", others, 0)
    for name, count in sorted(statuses.items()):
        figures.add("S3", f"losers with {name}", count)


def tail(context, bucket, clients):
    """Latency of conditional creates of 4 KiB, four at a time."""
    each = context.samples(1000, least=10)
    body = b"x" * BODY_BYTES

    def work(writer):
        seconds = []
        for number in range(each):
            begun = time.monotonic()
            status, code = create(
                clients[writer], bucket, f"acceptance/tail/{writer}/{number:06}", body
            )
            seconds.append(time.monotonic() - begun)
            if status != 200:
                raise AssertionError(f"a create without a rival failed: {status} {code}")
        return seconds

    seconds = [second for part in together(4, work) for second in part]
    context.figures.latencies("S3", "create of 4 KiB", seconds)


def single_cases(context, bucket, client):
    figures = context.figures
    key = "acceptance/single"
    figures.expect("S3", "first create", create(client, bucket, key, b"one")[0], 200)
    figures.expect("S3", "second create, same bytes", create(client, bucket, key, b"one")[0], 412)
    listed = client.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
    figures.expect("S3", "a listing right after the create has it", len(listed), 1)
    client.delete_object(Bucket=bucket, Key=key)
    listed = client.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
    figures.expect("S3", "a listing right after the delete has it", len(listed), 0)
    figures.expect("S3", "create after a delete", create(client, bucket, key, b"two")[0], 200)
    if context.stand_in:
        figures.skip(
            "S3",
            "the bucket's policy: the stand-in follows no conditions",
        )
        return
    try:
        client.put_object(Bucket=bucket, Key=f"{key}-plain", Body=b"one")
        status = 200
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    figures.expect("S3", "write without a condition", status, 403)
