"""Lambda: how Invoke says that it throttles, that a function failed, and what is too large."""

import json
import time

from botocore.exceptions import ClientError

MEGABYTE = 1_000_000


def check(context):
    if context.stand_in:
        context.figures.skip("Lambda", "Invoke: the stand-in runs no functions")
        return
    # The dispatcher retries, not the SDK, so errors are looked at one by one here too.
    client = context.client("lambda", retries={"total_max_attempts": 1}, read_timeout=30)
    answers(context, client)
    sizes(context, client)
    latency(context, client)
    throttling(context, client)


def invoke(client, made, event, qualifier=None):
    """The HTTP status, FunctionError, and payload or the error's code."""
    payload = event if isinstance(event, bytes) else json.dumps(event).encode()
    try:
        answer = client.invoke(
            FunctionName=made["function"], Qualifier=qualifier or made["alias"], Payload=payload
        )
        return (
            answer["StatusCode"],
            answer.get("FunctionError"),
            json.loads(answer["Payload"].read() or b"null"),
        )
    except ClientError as error:
        return (
            error.response["ResponseMetadata"]["HTTPStatusCode"],
            None,
            error.response["Error"]["Code"],
        )


def answers(context, client):
    figures, made = context.figures, context.made
    figures.expect("Lambda", "an answer", invoke(client, made, {})[:2], (200, None))
    status, kind, payload = invoke(client, made, {"fail": True})
    figures.expect(
        "Lambda",
        "a function that raises",
        (status, kind, payload.get("errorType")),
        (200, "Unhandled", "ValueError"),
    )
    status, kind, payload = invoke(client, made, {"exit": True})
    figures.expect("Lambda", "a function that exits", (status, kind), (200, "Unhandled"))
    figures.add("Lambda", "its errorType", payload.get("errorType"))
    status, kind, payload = invoke(client, made, {"sleep_seconds": 60})
    figures.expect("Lambda", "a function that takes too long", (status, kind), (200, "Unhandled"))
    figures.add("Lambda", "its error", payload.get("errorType") or payload.get("errorMessage"))
    status, _, code = invoke(client, made, {}, qualifier="nowhere")
    figures.expect(
        "Lambda", "an alias that does not exist", (status, code), (404, "ResourceNotFoundException")
    )


def sizes(context, client):
    figures, made = context.figures, context.made
    largest = json.dumps({"text": "x" * (6 * 1024 * 1024 - 100)}).encode()
    figures.expect(
        "Lambda", "a request just under 6 MiB", invoke(client, made, largest)[:2], (200, None)
    )
    too_large = json.dumps({"text": "x" * (6 * 1024 * 1024 + 100)}).encode()
    status, _, code = invoke(client, made, too_large)
    figures.expect("Lambda", "a request just over 6 MiB", status, 413)
    figures.add("Lambda", "its error", code)
    status, kind, payload = invoke(client, made, {"answer_bytes": 7 * MEGABYTE})
    figures.expect("Lambda", "an answer over 6 MB", (status, kind), (200, "Unhandled"))
    figures.add("Lambda", "its errorType", (payload or {}).get("errorType"))


def latency(context, client):
    seconds = []
    for _ in range(context.samples(200, least=5)):
        begun = time.monotonic()
        invoke(client, context.made, {})
        seconds.append(time.monotonic() - begun)
    context.figures.latencies("Lambda", "Invoke, one after the other", seconds)


def throttling(context, client):
    """A function whose reserved concurrency is 0 throttles everything and costs nothing."""
    name = context.made["function"]
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    try:
        until = time.monotonic() + 60
        status, code = 200, None
        while status == 200 and time.monotonic() < until:
            status, _, code = invoke(client, context.made, {})
            time.sleep(0.5)
        figures = context.figures
        figures.expect(
            "Lambda",
            "a request over the concurrency",
            (status, code),
            (429, "TooManyRequestsException"),
        )
    finally:
        client.delete_function_concurrency(FunctionName=name)
